"""The documentation as it is built: every link leads somewhere, nothing comes from elsewhere, nothing is left out."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer
from selenium import webdriver

import freshet
from freshet import cli, config
from freshet.api import openapi
from tests.docs.blocks import PAGES, name
from tests.tools.accessibility import load_axe, violations
from tests.tools.browser import console_errors
from tests.tools.need import ROOT
from tests.tools.pages import serving_files
from tests.tools.patience import seconds, wait_until
from tests.tools.vitals import layout_shifts, painted_within

TEXTS = [
    *PAGES,
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "examples" / "README.md",
]
THEME = ("landmark-unique",)  # what axe finds in the theme of mkdocs: each copy button is in a <nav> without a name
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. A link or an anchor that leads nowhere fails the build."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=seconds(60), check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    with serving_files(site) as url:
        yield url


def text(site: Path, page: str) -> str:
    return (site / page / "index.html").read_text()


@pytest.mark.parametrize("page", TEXTS, ids=name)
def test_every_link_to_a_file_of_the_repository_leads_there(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        path = unquote(target.partition("#")[0])
        if "://" not in path and "reference/" not in path:  # which is written at the build, and checked there
            assert (page.parent / path).exists(), target


def test_the_reference_leaves_no_option_out(site: Path) -> None:
    page = text(site, "reference/configuration")
    for option in config.reference():
        assert f"<code>{option.path.rpartition('.')[2]}</code>" in page, option.path


def test_the_reference_leaves_no_public_name_out(site: Path) -> None:
    page = text(site, "reference/python")
    methods = [f"Freshet.{each}" for each in vars(freshet.Freshet) if not each.startswith("_")]
    for each in [*freshet.__all__, *methods, "freshet.testing", "testing.Client", "testing.ManualClock"]:
        assert f'id="{each.lower().replace(".", "")}"' in page, each


def test_a_signature_of_the_reference_leaves_no_parameter_out(site: Path) -> None:
    page = re.sub(r"<[^>]+>", "", text(site, "reference/python"))
    for each in ("*arguments: Any,", "**claims: Any,"):  # of Freshet.emit and Freshet.token
        assert each in page, each


def test_the_reference_leaves_no_command_and_no_method_of_the_api_out(site: Path) -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    for each in commands:
        assert f'id="freshet-{each}"' in text(site, "reference/command-line"), each
    for path in openapi.describe()["paths"]:
        assert f'id="{path[1:]}"' in text(site, "reference/server-api"), path


def test_a_page_loads_nothing_from_elsewhere(url: str, browser: webdriver.Chrome) -> None:
    for path in ("", "quick-start/chat/", "guide/recovery/", "reference/python/"):
        browser.get(url + path)
        script = "return performance.getEntriesByType('resource').map(({ name }) => name)"
        foreign = [each for each in browser.execute_script(script) if not each.startswith((url, "data:", "blob:"))]
        assert foreign == []
        assert console_errors(browser) == []


def test_the_home_page_is_accessible_quickly_there_and_stands_still(url: str, browser: webdriver.Chrome) -> None:
    limit = seconds(0.2) * 1000
    assert painted_within(browser, url, limit) < limit
    assert layout_shifts(browser) == []
    load_axe(browser)
    assert [found for found in violations(browser) if not found.startswith(THEME)] == []


def test_no_page_is_wider_than_the_window(url: str, site: Path, browser: webdriver.Chrome) -> None:
    try:
        for page in sorted(site.rglob("index.html")):
            browser.get(url + str(page.relative_to(site).parent))
            for width in (360, 1440):
                size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 800}
                browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
                # The theme's search moves for a moment when a phone becomes a desk.
                fits = "return document.documentElement.scrollWidth <= arguments[0]"
                wait_until(lambda width=width, fits=fits: browser.execute_script(fits, width), 5, f"{page} in {width}")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
