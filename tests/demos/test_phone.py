"""The QR code that is on every demo's page, for a phone to join: read as a phone reads it."""

import pytest
from selenium import webdriver

from freshet.cli.demo import HOST, own_address
from tests.demos.pages import NAMES, Page
from tests.tools.browser import console_errors
from tests.tools.need import require_npm_packages
from tests.tools.patience import wait_until
from tests.tools.serving import serving

ELSEWHERE = "127.0.0.2"  # which the page takes for an address that others reach
READ = """
const [done, svg] = [arguments[0], document.querySelector("#qr svg")];
const image = new Image();
image.onload = () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 400, height: 400 });
    const context = canvas.getContext("2d");
    context.fillStyle = getComputedStyle(document.getElementById("qr")).backgroundColor;
    context.fillRect(0, 0, 400, 400);
    context.drawImage(image, 0, 0, 400, 400);
    done(jsQR(context.getImageData(0, 0, 400, 400).data, 400, 400)?.data ?? "nothing that could be read");
};
image.src = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" }));
"""


def test_the_code_on_a_page_is_its_address(browser: webdriver.Chrome) -> None:
    reader = require_npm_packages() / "node_modules" / "jsqr" / "dist" / "jsQR.js"
    browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})  # for the image that the test makes of it
    try:
        with serving("freshet.demos:app", host=ELSEWHERE) as server:
            for name in NAMES:
                browser.get(server.http(f"/{name}/"))
                wait_until(lambda: browser.execute_script("return !!document.querySelector('#qr svg')"), 10, "a code")
                browser.execute_script(reader.read_text() + "; window.jsQR ??= self.jsQR")
                shown = browser.execute_script("return location.href.split('#')[0]")
                assert str(browser.execute_async_script(READ)).split("#")[0] == shown
                assert f"open {ELSEWHERE}:{server.port}" in browser.execute_script(
                    "return document.getElementById('phone-hint').textContent"
                )
            browser.get("about:blank")
        assert console_errors(browser) == []
    finally:
        browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})


def test_where_no_phone_gets_to_the_page_says_how_to_begin(page: Page) -> None:
    page.open("/chat/")
    assert page.texts("#qr svg") == []
    assert "freshet demo --share" in page.texts("#phone-hint")[0]


def test_what_is_shared_is_an_address_of_this_machine() -> None:
    assert own_address().count(".") == 3
    assert own_address() not in ("0.0.0.0", "")
    assert HOST == "127.0.0.1", "without --share nobody else gets to it"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_code_is_dark_on_light_in_either_theme(page: Page, theme: str) -> None:
    """Many readers know no other."""
    page.open("/chat/").use_theme(theme)
    page.run("document.getElementById('qr').append(document.createElement('svg'))")
    assert page.run("return getComputedStyle(document.getElementById('qr')).backgroundColor") == "rgb(255, 255, 255)"
