"""The documentation beside the demos, before anybody has built it: all pages are there, all links lead somewhere."""

import posixpath
import re
from html import unescape

import httpx
import pytest

from freshet.demos import documents
from tests.demos.pages import Page
from tests.demos.test_pages import BOTH_THEMES, WIDTHS
from tests.tools.accessibility import load_axe, violations
from tests.tools.need import ROOT
from tests.tools.serving import Server

PAGES = [name for pages in documents.navigation().values() for name in pages.values()]
TARGET = re.compile(r'(?:href|src)="([^"]+)"')
unbuilt = pytest.mark.skipif(
    (ROOT / "build" / "docs").exists(), reason="`make docs` has made the pages that are served"
)


def page(name: str) -> str:
    text = documents.text_of(name)
    assert text is not None
    return documents.html_of(text)


def ids(html: str) -> set[str]:
    return set(re.findall(r'id="([^"]+)"', html))


@pytest.mark.parametrize("name", PAGES)
def test_every_link_of_a_page_leads_to_a_page_and_a_place_in_it(name: str) -> None:
    html = page(name)
    for target in TARGET.findall(html):
        path, _, anchor = target.partition("#")
        if ":" in path:
            continue
        to = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
        assert to in documents.PICTURES or not anchor or anchor in ids(page(to)), target


@pytest.mark.parametrize("name", PAGES)
def test_nothing_of_how_a_page_is_written_is_shown(name: str) -> None:
    text = re.sub(r'<pre tabindex="0">.*?</pre>', "", page(name), flags=re.DOTALL)
    assert text.startswith("<h1")
    for mark in ("&lt;!--", "--8&lt;--", "=== &quot;", "!!! ", "??? ", "\n| ", "```", "<pre>"):
        assert mark not in text, mark


def test_a_file_that_a_page_shows_is_shown_whole() -> None:
    code = unescape(re.sub(r"<[^>]+>", "", page("guide/deployment.md")))
    assert (ROOT / "deploy" / "systemd" / "freshet.service").read_text() in code


def test_tabs_notes_and_definitions_are_told_apart() -> None:
    assert "<p><strong>freshet.toml</strong></p>" in page("guide/channels.md")
    assert "<blockquote>\n<p><strong>Warning</strong></p>" in page("guide/measuring.md")
    assert re.search(r"<p><code>presence</code></p>\n<p>Freshet knows", page("guide/channels.md"))
    assert '<div class="file">app.py</div><pre tabindex="0"><code><span class="code-keyword">from' in page("index.md")


@unbuilt
def test_pages_and_pictures_are_served(gallery: Server) -> None:
    with httpx.Client(base_url=gallery.http("")) as client:
        home = client.get("/docs/").text
        assert home.index("First steps") < home.index("Concepts") < home.index("Configuration")
        assert '<a href="/docs/index.md" aria-current="page">Home</a>' in home
        assert client.get("/docs/assets/architecture.svg").headers["content-type"] == "image/svg+xml"
        assert "FRESHET_" in client.get("/docs/reference/configuration.md").text
        for name in ("nothing.md", "generate.py", "about", "codes", "codes.md", "reference/codes"):
            assert client.get(f"/docs/{name}").status_code == 404, name


@unbuilt
@pytest.mark.parametrize("name", ["", "guide/channels.md", "reference/configuration.md"])
def test_a_page_fits_a_phone_and_a_desk_and_is_accessible_in_both_themes(page: Page, name: str) -> None:
    page.browser.get(page.url(f"/docs/{name}"))
    load_axe(page.browser)
    for theme in BOTH_THEMES:
        media = [{"name": "prefers-color-scheme", "value": theme}]
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        for width in WIDTHS:
            page.use_width(width)
            assert page.run("return document.documentElement.scrollWidth") <= width
            assert violations(page.browser) == []
