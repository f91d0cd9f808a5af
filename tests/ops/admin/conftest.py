"""A server with 1,000 clients behind it, for all tests of this folder that look at the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.ops.admin.crowd import SECRET, Crowd
from tests.ops.admin.desk import KEY, Desk
from tests.tools.browser import console_errors
from tests.tools.serving import Server, serving

HOSTILE = "<img src=x onerror=document.title='owned'>"
RULES = """
[admin]
allow = ["disconnect", "publish"]
[rates]
frames = { rate = 0, burst = 0 }
[[channels]]
match = "room:{room}"
presence = true
publish = "subscriber"
history = { size = 50, ttl = 300 }
[[channels]]
match = "everybody"
history = { size = 10, ttl = 300 }
[[channels]]
match = "closed"
subscribe = "nobody"
"""


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("admin") / "freshet.toml"
    path.write_text(RULES)
    return path


@pytest.fixture(scope="session")
def busy(config: Path) -> Iterator[Server]:
    """Workers that share 1,000 clients; two are of alice, and one has a name that wants to be a script."""
    names = {7: HOSTILE, 8: "alice", 9: "alice", 10: "mallory"}
    env = {"FRESHET_SECRET": SECRET, "FRESHET_ADMIN_KEY": KEY, "FRESHET_API_KEY": KEY}
    with serving("--config", str(config), "--workers", "2", env=env) as server, Crowd(server, 1000, names):
        yield server


@pytest.fixture
def desk(busy: Server, browser: webdriver.Chrome) -> Iterator[Desk]:
    yield Desk(browser, busy)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert console_errors(browser) == []
