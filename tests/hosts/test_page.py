"""The page on other ASGI servers says what the tests of this folder find."""

import pytest

from tests.hosts.hosts import HOSTS, AsgiHost
from tests.tools.need import ROOT
from tests.transports.shells import COMMANDS

PAGE = ROOT / "docs" / "guide" / "hosts.md"


def rows() -> dict[str, list[str]]:
    """The cells of the table of servers, by the name in the first."""
    lines = [line for line in PAGE.read_text().split("\n## ")[0].splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first.lower(): rest for first, *rest in cells[1:]}


def test_every_server_that_is_tried_is_on_the_page_and_no_other() -> None:
    assert list(rows()) == [host.name for host in HOSTS]
    assert {host.name for host in HOSTS} == {"freshet", *COMMANDS}


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_the_page_says_what_a_server_can_do(host: AsgiHost) -> None:
    command, ends, notices = rows()[host.name]
    assert (ends.startswith("yes"), notices.startswith("yes")) == (host.ends, host.notices)
    assert ends.startswith(("yes", "no: "))
    tried = COMMANDS.get(host.name, "freshet serve {app}").format(app="app:api", port=0).split()
    assert set(command.strip("`").split()) <= set(tried)
