"""Pages: a server for a folder of files, and windows of the browser that are users of their own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.tools.patience import wait_until
from tests.tools.serving import HOST


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving_files(folder: Path) -> Iterator[str]:
    """The URL of a server of its own for the files in `folder`."""
    with ThreadingHTTPServer((HOST, 0), partial(_Quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{HOST}:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class Window:
    """A window of the browser, and what is written in it. Elements are named by CSS selectors."""

    def __init__(self, browser: webdriver.Chrome, url: str) -> None:
        self._browser = browser
        browser.switch_to.new_window("window")
        self._handle = browser.current_window_handle
        browser.get(url)

    def find(self, selector: str) -> WebElement:
        self._browser.switch_to.window(self._handle)
        return self._browser.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.find(selector).text

    def shows(self, selector: str, text: str, within: float = 10) -> None:
        """Until it does; the element may still be missing."""
        wait_until(lambda: text in self._text_so_far(selector), within, f"{text!r} in {selector}")

    def _text_so_far(self, selector: str) -> str:
        try:
            return self.text(selector)
        except (NoSuchElementException, StaleElementReferenceException):
            return ""

    def reload(self) -> None:
        self._browser.switch_to.window(self._handle)
        self._browser.refresh()

    def close(self) -> None:
        self._browser.switch_to.window(self._handle)
        self._browser.close()


Opened = Callable[[str], Window]


@contextmanager
def windows(browser: webdriver.Chrome) -> Iterator[Opened]:
    """`open(url)` opens one more; all are closed at the end, and the browser is where it was."""
    first = browser.current_window_handle
    opened: list[Window] = []

    def open_one(url: str) -> Window:
        opened.append(Window(browser, url))
        return opened[-1]

    try:
        yield open_one
    finally:
        for window in opened:
            window.close()
        browser.switch_to.window(first)
