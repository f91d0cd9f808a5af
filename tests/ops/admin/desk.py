"""The admin page in a real browser, by what an operator sees and does."""

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.tools.patience import wait_until
from tests.tools.serving import Server

KEY = "the key of operators"


class Desk:
    def __init__(self, browser: webdriver.Chrome, server: Server) -> None:
        self.browser = browser
        self._server = server

    def open(self, view: str = "", key: str = KEY) -> "Desk":
        self.browser.get("about:blank")
        self.browser.get(self._server.http(f"/admin/{view}"))
        self.browser.execute_script("sessionStorage.clear()")
        self.browser.refresh()
        if key:
            wait_until(lambda: self.find("#key") or self.text("#state") == "Live", 15, "the page")
            if field := self.find("#key"):
                field[0].send_keys(key, Keys.ENTER)
            wait_until(lambda: self.text("#state") == "Live", 15, "the page to be live")
        return self

    def find(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "main") -> str:
        script = "return document.querySelector(arguments[0])?.innerText ?? ''"
        return str(self.browser.execute_script(script, selector))

    def shows(self, text: str, selector: str = "main") -> None:
        wait_until(lambda: text in self.text(selector), 15, f"{text!r} in {selector}")

    def figure(self, name: str) -> int:
        script = """const found = [...document.querySelectorAll(".tiles div")]
            .find((one) => one.querySelector("dt").textContent === arguments[0]);
            return found ? found.querySelector("dd").textContent : "" """
        return int("".join(filter(str.isdigit, self.browser.execute_script(script, name))) or 0)

    def click(self, text: str) -> None:
        script = """const all = [...document.querySelectorAll("button, a")];
            const found = all.find((one) => one.innerText === arguments[0]);
            found?.click(); return Boolean(found)"""
        wait_until(lambda: self.browser.execute_script(script, text), 10, f"{text!r} to click")
