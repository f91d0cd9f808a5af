"""How the tests look at a demo's page: by what a visitor sees and does."""

from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from freshet.demos.gallery import DEMOS
from tests.tools.patience import wait_until
from tests.tools.serving import Server

NAMES = [demo.name for demo in DEMOS]
PATHS = ["/", *(f"/{name}/" for name in NAMES), "/chat/?client=socketio"]


class Page:
    """One browser on one page of the gallery."""

    def __init__(self, browser: webdriver.Chrome, server: Server) -> None:
        self.browser = browser
        self._server = server

    def url(self, path: str) -> str:
        return self._server.http(path)

    def open(self, path: str) -> "Page":
        """Open a page, and wait until it is connected and has subscribed."""
        self.browser.get(self.url(path))
        wait_until(lambda: self.text("state") == "Live", 15, f"{path} to be live")
        return self

    def leave(self) -> None:
        self.browser.get("about:blank")

    def element(self, name: str) -> WebElement:
        return self.browser.find_element(By.ID, name)

    def text(self, name: str) -> str:
        return self.element(name).text

    def number(self, name: str) -> int:
        return int("".join(filter(str.isdigit, self.text(name))) or 0)

    def texts(self, selector: str) -> list[str]:
        """What all that `selector` finds says, read at one moment."""
        script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)"
        return self.run(script, selector)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def cut(self) -> None:
        """Press the button, and wait for the news that the connection is cut."""
        self.element("cut").click()
        wait_until(lambda: self.text("state").startswith("Cut."), 5, "the cut")

    def wait_for_return(self) -> str:
        """Wait until the connection is back; gives what the page then says."""
        wait_until(lambda: self.text("state") == "Live" and self.text("report").startswith("You were away"), 15)
        return self.text("report")

    def use_theme(self, theme: str) -> None:
        script = (
            "const s = document.getElementById('theme'); s.value = arguments[0]; s.dispatchEvent(new Event('change'))"
        )
        self.run(script, theme)

    def use_width(self, width: int) -> None:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def hold_still(self) -> None:
        """As for a visitor who wants less motion: nothing flashes or fades while it is looked at."""
        features = [{"name": "prefers-reduced-motion", "value": "reduce"}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
