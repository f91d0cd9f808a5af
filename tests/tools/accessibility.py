"""What axe-core finds on a page of ours: contrast, names, focus, and what else a machine can see."""

from selenium import webdriver

from tests.tools.need import require_npm_packages

RUN = "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(done, (e) => done(String(e)))"


def load_axe(browser: webdriver.Chrome) -> None:
    """Bring axe-core into the page that is open."""
    source = require_npm_packages() / "node_modules" / "axe-core" / "axe.min.js"
    browser.execute_script(source.read_text())


def violations(browser: webdriver.Chrome) -> list[str]:
    """Against WCAG 2.2 AA and axe's best practices; empty is good. The page has had `load_axe`."""
    found = browser.execute_async_script(RUN)
    assert isinstance(found, dict), found
    return [f"{each['id']}: {node['html']}" for each in found["violations"] for node in each["nodes"]]
