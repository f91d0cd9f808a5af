"""Fixtures that every test may use. What they are made of is in `tests/tools`, to be imported from there too."""

import gc
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings
from selenium import webdriver
from xdist.remote import Producer

from tests.tools.browser import chromium, console
from tests.tools.need import require_npm_packages
from tests.tools.parallel import UnitScheduling, chosen_workers, longest_first
from tests.tools.patience import SCALE
from tests.tools.requests import prepare_httpx
from tests.tools.routing import prepare_routes
from tests.tools.serving import Server, serving

pytest.register_assert_rewrite("tests.contracts")  # what fails in a shared test says with which values
settings.register_profile("freshet", deadline=None)  # no test asserts how long something takes
settings.load_profile("freshet")
prepare_httpx()
prepare_routes()
os.environ.pop(
    "NODE_EXTRA_CA_CERTS", None
)  # each process of Node would read them first; it talks to this machine alone


@pytest.fixture(scope="session")
def node() -> Path:
    """The folder in which `node script.mjs` finds the npm clients."""
    return require_npm_packages()


@pytest.fixture(scope="session")
def chromium_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def browser(chromium_process: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """Headless Chromium on an empty page with an empty console; one process for the whole run of a worker.

    `tests.tools.browser.console_errors(browser)` gives the errors of the pages.
    """
    chromium_process.get("about:blank")
    chromium_process.delete_all_cookies()
    console(chromium_process)
    yield chromium_process
    chromium_process.get("about:blank")  # a page that moves would take half a core from all later tests


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """`server = serve("--dev")`: `tests.tools.serving.serving` until the end of the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(serving(*arguments, **options))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Ten thousand tests and what they import stay to the end: the collector of garbage need not go through them.

    It would do so again and again, for a third of a second each time that a test wants it to collect.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files that take long begin first; and each test's time limit has the scale of the timeouts within it."""
    place = longest_first([item.nodeid for item in items])
    items.sort(key=lambda item: place[item.nodeid])
    if SCALE == 1:
        return
    default = pytest.mark.timeout(float(config.getini("timeout"))).mark
    for item in items:
        mark = item.get_closest_marker("timeout") or default
        item.add_marker(pytest.mark.timeout(mark.args[0] * SCALE, **mark.kwargs), append=False)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    return chosen_workers()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> UnitScheduling:
    """With `-n`, whatever `--dist` says: see `tests/tools/parallel.py`."""
    config.option.loadscopereorder = False
    return UnitScheduling(config, log)
