"""The server API of a state: each method over HTTP, and each mistake with its reason."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.tools.patience import seconds
from tests.tools.serving import Server, serving

KEY = "a key for tests"
CONFIG = """
[[channels]]
match = "lobby:*"
state = {}
[[channels]]
match = "*"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("maps")
    (folder / "freshet.toml").write_text(CONFIG)
    env = {"FRESHET_API_KEY": KEY, "FRESHET_ROOMS__STORE": f"sqlite:///{folder / 'rooms.db'}"}
    with serving("--config", str(folder / "freshet.toml"), env=env) as server:
        yield server


@pytest.fixture
def lobby(request: pytest.FixtureRequest) -> str:
    """A channel of this test alone."""
    return f"lobby:{request.node.name}"


def ask(server: Server, method: str, **request: Any) -> Any:
    reply = httpx.post(
        server.http(f"/api/{method}"), json=request, headers={"X-API-Key": KEY}, timeout=seconds(20)
    ).json()
    return reply["result"] if "result" in reply else reply["error"]


def test_entries_are_set_read_and_removed(server: Server, lobby: str) -> None:
    assert ask(server, "map_publish", channel=lobby, key="title", data={"text": "x"}) == {"data": {"text": "x"}}
    assert ask(server, "map_publish", channel=lobby, key="a", data=None, tags={"team": "red"}) == {"data": None}
    entries = [{"key": "a", "data": None, "tags": {"team": "red"}}, {"key": "title", "data": {"text": "x"}}]
    assert ask(server, "map_read_state", channel=lobby) == {"entries": entries, "cursor": ""}
    assert ask(server, "map_read_state", channel=lobby, key="title")["entries"] == entries[1:]
    assert ask(server, "map_stats", channel=lobby) == {"num_keys": 2}
    assert ask(server, "map_remove", channel=lobby, key="a") == {}
    assert ask(server, "map_clear", channel=lobby) == {}
    assert ask(server, "map_stats", channel=lobby) == {"num_keys": 0}


def test_a_state_is_read_in_pages(server: Server, lobby: str) -> None:
    for number in range(5):
        ask(server, "map_publish", channel=lobby, key=f"k{number}", data=number)
    read, cursor = [], ""
    while True:
        page = ask(server, "map_read_state", channel=lobby, limit=2, cursor=cursor)
        read += [entry["data"] for entry in page["entries"]]
        cursor = page["cursor"]
        if not cursor:
            break
    assert read == [0, 1, 2, 3, 4]


def test_on_a_condition_it_is_done_or_the_answer_says_why_not(server: Server, lobby: str) -> None:
    def put(data: Any, **condition: Any) -> Any:
        return ask(server, "map_publish", channel=lobby, key="k", data=data, **condition)

    missing = {"suppressed": True, "suppress_reason": "key_not_found"}
    assert put(1, key_mode="if_exists") == missing
    assert ask(server, "map_remove", channel=lobby, key="k") == missing
    assert put(1, key_mode="if_new") == {"data": 1}
    assert put(2, key_mode="if_new") == {"suppressed": True, "suppress_reason": "key_exists", "data": 1}
    mismatch = {"suppressed": True, "suppress_reason": "value_mismatch", "data": 1}
    assert put(2, expect=5) == put(2, expect=None) == mismatch
    assert put(2, expect=1) == {"data": 2}
    assert ask(server, "map_remove", channel=lobby, key="k", expect=1) == {**mismatch, "data": 2}


def test_a_number_is_added_to_once_for_each_key(server: Server, lobby: str) -> None:
    request = {"channel": lobby, "key": "n", "number": 2.5, "idempotency_key": "order 7"}
    assert [ask(server, "map_add", **request) for _ in range(2)] == [{"data": 2.5}] * 2
    assert ask(server, "map_add", channel=lobby, key="n") == {"data": 3.5}


@pytest.mark.parametrize(
    ("method", "request_", "code", "why"),
    [
        ("map_publish", {"channel": "plain", "key": "k", "data": 1}, 108, "no option `state`"),
        ("map_publish", {"channel": "lobby:x", "key": "", "data": 1}, 107, "key"),
        ("map_publish", {"channel": "lobby:x", "key": "k", "data": 1, "key_mode": "other"}, 107, "key_mode"),
        ("map_publish", {"channel": "lobby:x", "key": "k", "data": 1, "version": 1}, 107, "unknown field"),
        ("map_publish", {"channel": "lobby:x", "key": "k", "data": 1, "ttl": -1}, 107, "ttl"),
        ("map_publish", {"channel": "lobby:x", "key": "k", "data": 1, "tags": {"event": "x"}}, 107, "tags"),
        ("map_add", {"channel": "lobby:x", "key": "k", "number": "1"}, 107, "number"),
        ("map_read_state", {"channel": "lobby:x", "key": "k", "cursor": "a"}, 107, "cursor"),
        ("map_read_state", {"channel": "lobby:x", "limit": 5000}, 107, "limit"),
    ],
)
def test_a_mistake_is_answered_with_its_reason(
    server: Server, method: str, request_: dict[str, Any], code: int, why: str
) -> None:
    error = ask(server, method, **request_)
    assert error["code"] == code
    assert why in error["message"]
