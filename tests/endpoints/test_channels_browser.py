"""A channel's URL in a page of another origin: the browser's own `EventSource` and `fetch`."""

from pathlib import Path

import pytest
from selenium import webdriver

from tests.tools.browser import console_errors
from tests.tools.pages import serving_files
from tests.tools.patience import wait_until
from tests.tools.relay import relaying
from tests.tools.serving import serving

PAGE = """
window.got = [];
window.opened = 0;
window.source = new EventSource(arguments[0], { withCredentials: true });
source.onopen = () => { opened += 1; };
source.onmessage = ({ data }) => got.push(JSON.parse(data));
source.addEventListener("price", ({ data }) => got.push({ price: JSON.parse(data) }));
"""
PUBLISH = """
const [url, value, done] = arguments;
const body = JSON.stringify(value);
fetch(url, { method: "POST", body, headers: { "Content-Type": "application/json" } })
  .then((answer) => answer.json()).then(done, (error) => done(String(error)));
"""
READ = "const [url, done] = arguments; fetch(url).then((answer) => answer.json()).then(done, (e) => done(String(e)));"


def config(origin: str) -> str:
    return f"""
origins = ["{origin}"]
[tokens]
anonymous = true
[[channels]]
match = "*"
history = {{ size = 100, ttl = 60 }}
publish = "client"
"""


def test_a_page_hears_publishes_reads_and_comes_back(browser: webdriver.Chrome, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<!doctype html><title>page</title><link rel="icon" href="data:,">')
    settings = tmp_path / "freshet.toml"
    with serving_files(tmp_path) as page:
        settings.write_text(config(page.rstrip("/")))
        with serving("--config", str(settings)) as server, relaying(server.port) as line:
            url = server.http("/channels/news")
            browser.get(page)
            browser.execute_script(PAGE, url.replace(str(server.port), str(line.port)))
            wait_until(lambda: browser.execute_script("return opened") == 1, 5, "the stream to open")
            for number in (1, 2):
                told = browser.execute_async_script(PUBLISH, url, {"n": number})
                assert told["offset"] == number
            wait_until(lambda: len(browser.execute_script("return got")) == 2, 5, "two events")
            assert console_errors(browser) == []
            line.cut()
            for number in (3, 4):
                browser.execute_async_script(PUBLISH, url, {"n": number})
            line.mend()
            wait_until(lambda: len(browser.execute_script("return got")) == 4, 15, "what was missed")
            assert browser.execute_script("return got") == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]
            page_of_history = browser.execute_async_script(READ, f"{url}?limit=2")
            assert [each["data"] for each in page_of_history["publications"]] == [{"n": 3}, {"n": 4}]
            browser.execute_script("source.close()")


@pytest.mark.parametrize("origins", ["https://elsewhere.example"])
def test_a_page_that_may_not_hears_nothing_and_stops(browser: webdriver.Chrome, tmp_path: Path, origins: str) -> None:
    (tmp_path / "index.html").write_text('<!doctype html><title>page</title><link rel="icon" href="data:,">')
    settings = tmp_path / "freshet.toml"
    settings.write_text(config(origins))
    with serving_files(tmp_path) as page, serving("--config", str(settings)) as server:
        browser.get(page)
        browser.execute_script(PAGE, server.http("/channels/news"))
        wait_until(lambda: browser.execute_script("return source.readyState") == 2, 5, "the page to give up")
        assert browser.execute_script("return opened") == 0
        assert "TypeError" in browser.execute_async_script(PUBLISH, server.http("/channels/news"), 1)
