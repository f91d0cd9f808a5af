"""A map on servers that are killed, with clients that are cut: all end with one map, and no write is lost."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.rooms.test_processes import engine, environment  # noqa: F401 - a fixture
from tests.rooms.writing import CHANNEL, Write, Writers, lost
from tests.tools.patience import seconds, wait_until
from tests.tools.serving import Server, serving

APP = "tests.rooms.state_app:live"
CLIENTS = 10
KEY = "a key of the server API"


def entries(server: Server) -> dict[str, Any]:
    request = {"channel": CHANNEL}
    reply = httpx.post(
        server.http("/api/map_read_state"), json=request, headers={"X-API-Key": KEY}, timeout=seconds(30)
    ).json()
    return {each["key"]: each["data"] for each in reply["result"]["entries"]} if "result" in reply else {}


def ids(found: dict[str, Any]) -> dict[str, str]:
    return {key: data["id"] for key, data in found.items() if key != "owner"}


@pytest.mark.timeout(200)
def test_ten_clients_end_with_one_map_whoever_is_cut_and_killed_and_it_has_all_that_was_acknowledged(
    engine: str,  # noqa: F811
    node: Path,
    tmp_path: Path,
) -> None:
    env = environment(engine, tmp_path / "rooms.db") | {"FRESHET_API_KEY": KEY}
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(APP, env=env)) for _ in range(2)]
        with Writers(node, servers, CLIENTS) as writers:
            writers.go_on(200)
            for _ in range(2):
                wait_until(lambda: entries(servers[0]).get("owner") in [it.pid for it in servers], 20, "an owner")
                owner = entries(servers[0])["owner"]
                at = next(index for index, server in enumerate(servers) if server.pid == owner)
                servers[at].kill()
                writers.go_on(100)  # with the other one
                servers[at] = stack.enter_context(serving(APP, env=env, port=servers[at].port))
                writers.go_on(100)
            maps, log, deltas = writers.stop()
        assert all(each == maps[0] for each in maps)
        assert maps[0] == entries(servers[0]) == entries(servers[1])
    assert not list(lost(log, ids(maps[0])))
    assert sum(write.outcome == "ok" for write in log) >= 600
    assert deltas >= 600


W = Write("a", "1", 0, 1, "ok")


@pytest.mark.parametrize(
    ("log", "final", "fine"),
    [
        ([W], {"a": "1"}, True),
        ([W], {}, False),
        ([W], {"a": "2"}, False),
        ([W, Write("a", "2", 2, 3, "ok")], {"a": "2"}, True),
        ([W, Write("a", "2", 2, 3, "ok")], {"a": "1"}, False),
        ([W, Write("a", "2", 0.5, 3, "ok")], {"a": "1"}, True),
        ([W, Write("a", None, 2, 3, "ok")], {}, True),
        ([W, Write("a", None, 2, 3, "ok")], {"a": "1"}, False),
        ([Write("a", "1", 0, 1, "unknown"), Write("a", "2", 2, 3, "ok")], {"a": "1"}, True),
        ([Write("a", "1", 0, 1, "refused")], {"a": "1"}, False),
    ],
)
def test_a_write_that_is_lost_is_found(log: list[Write], final: dict[str, str], fine: bool) -> None:
    assert (not list(lost(log, final))) is fine
