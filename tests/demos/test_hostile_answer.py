"""A model writes what somebody has talked it into: its answer is shown as text, runs nothing, and loads nothing."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium import webdriver

from tests.demos.pages import PATHS, Page
from tests.demos.test_assistant import begin, wait_for_end
from tests.tools.browser import console_errors
from tests.tools.patience import wait_until
from tests.tools.serving import Server, serving

ELSEWHERE = "http://198.51.100.7"  # nobody is there (RFC 5737)
HOSTILE = f"""<script>window.ran = "a script"</script><img src=x onerror="window.ran='an image'">

<svg onload="window.ran='svg'"><foreignObject><body onload="window.ran='a body'"></foreignObject></svg>

<iframe src="javascript:parent.ran='a frame'"></iframe><base href="{ELSEWHERE}/">
<meta http-equiv="refresh" content="0;url=/">

[run](javascript:window.ran='a_link') [data](data:text/html,<script>opener.ran=1</script>) [vb](vbscript:x)
[ upper](JaVaScRiPt:alert(1)) [quote](https://example.org/"onmouseover="window.ran=1) ![pixel]({ELSEWHERE}/pixel.png)

`<b>code</b>` **<i>bold</i>** *<u>soft</u>* \u202eexe.fdp\u202c \u2066isolated

> <style>* {{ display: none }}</style><link rel=stylesheet href="{ELSEWHERE}/style.css">

| <script>window.ran = "a table"</script> | {"| " * 50}
|---|
{"| <td><img src=x onerror=alert(1)> " * 200}

- <form action="{ELSEWHERE}"><input name=secret autofocus onfocus="window.ran='a form'"></form>

{"[" * 50_000}

{"[a](https://" * 5_000}

The last words.

```html"><script>window.ran="a language"</script>
</pre></div><script>window.ran = "code"</script>
"""
MODEL = """
import pathlib
from types import SimpleNamespace as Has

TEXT = pathlib.Path(__file__).with_name("answer.txt").read_text()


async def create(**asked):
    async def pieces():
        for at in range(0, len(TEXT), 4000):
            yield Has(choices=[Has(delta=Has(content=TEXT[at : at + 4000]))])

    return pieces()


class AsyncOpenAI:
    chat = Has(completions=Has(create=create))
"""
ELEMENTS = "return [...new Set([...document.querySelectorAll('.answer *')].map((it) => it.localName))]"
ATTRIBUTES = "return [...new Set([...document.querySelectorAll('.answer *')].flatMap((it) => it.getAttributeNames()))]"
LINKS = "return [...document.querySelectorAll('.answer a')].map((it) => it.protocol)"
LOADED = "return performance.getEntriesByType('resource').map((it) => new URL(it.name).host)"


@pytest.fixture
def misled(tmp_path: Path) -> Iterator[Server]:
    """The gallery, with a model that answers so."""
    (tmp_path / "openai.py").write_text(MODEL)
    (tmp_path / "answer.txt").write_text(HOSTILE)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with serving(command="demo", env={"OPENAI_API_KEY": "none", "PYTHONPATH": path}) as server:
        yield server


@pytest.mark.timeout(120)
def test_an_answer_that_is_hostile_is_text_and_the_page_goes_on(misled: Server, browser: webdriver.Chrome) -> None:
    page = begin(Page(browser, misled), "What is new?")
    wait_until(lambda: any("a language" in each for each in page.texts(".answer")), 30, "the answer")
    wait_for_end(page)
    shown = page.texts(".answer")[-1]
    for text in ('<script>window.ran = "a script"</script>', "onerror=", "The last words.", "javascript:"):
        assert text in shown
    assert set(page.run(ELEMENTS)) <= {
        *("p", "div", "span", "button", "pre", "code", "strong", "em", "a", "h3", "blockquote"),
        *("ul", "ol", "li", "table", "tbody", "tr", "td", "th"),
    }
    assert set(page.run(ATTRIBUTES)) <= {"class", "type", "tabindex", "href", "rel", "target"}
    assert set(page.run(LINKS)) <= {"http:", "https:"}
    assert page.run("return window.ran ?? null") is None
    assert set(page.run(LOADED)) == {httpx.URL(page.url("/")).netloc.decode()}
    page.element("text").send_keys("And now?")
    page.element("send").click()
    wait_until(lambda: page.texts(".bubble")[-1:] == ["And now?"], 10, "the next question")
    wait_for_end(page)
    assert console_errors(browser) == []


@pytest.mark.parametrize("path", PATHS)
def test_every_page_says_that_it_loads_and_runs_nothing_of_others(gallery: Server, path: str) -> None:
    policy = httpx.get(gallery.http(path)).headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'; object-src 'none'; base-uri 'none'")
    assert "unsafe" not in policy
