"""What rooms keep when the process that has them is killed: clients' states, alarms. Real servers, a real broker."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.rooms.checking import APP, LEASE
from tests.tools.nats import nats
from tests.tools.patience import seconds
from tests.tools.redis import redis
from tests.tools.serving import Server, serving

ROOM = "/channels/kept:x"


@pytest.fixture(scope="module", params=["redis", "nats"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    with redis() if request.param == "redis" else nats() as broker:
        yield broker.url


def environment(engine: str, path: Path) -> dict[str, str]:
    return {
        "FRESHET_ENGINE": engine,
        "FRESHET_ROOMS__STORE": f"sqlite:///{path}",
        "FRESHET_ROOMS__LEASE": str(seconds(LEASE)),  # a busy machine must not take a room from who has it
        "FRESHET_TOKENS__ANONYMOUS": "true",
    }


@pytest.fixture
def pair(engine: str, tmp_path: Path) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving(APP, env=environment(engine, tmp_path / "rooms.db"))) for _ in range(2)]


def received(socket: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(socket.recv(timeout=seconds(20)))
    return found


@contextmanager
def connected(server: Server) -> Iterator[ClientConnection]:
    """One whom the room has greeted: the first of them has made its server the owner. A socket that is only open may be
    overtaken by the next."""
    with connect(server.ws(ROOM)) as socket:
        assert received(socket) == {"rang": 0}
        yield socket


def test_a_client_stays_connected_and_its_state_survives_the_death_of_the_rooms_process(pair: list[Server]) -> None:
    owner, other = pair
    with connected(owner), connected(other) as second:
        for said in (1, 2):
            second.send("null")
            assert received(second) == {"said": said, "pid": owner.pid}
        assert owner.kill() == -signal.SIGKILL
        second.send("null")
        told = received(second)
        if told == {"said": 2, "pid": other.pid}:  # it was answered but not acknowledged yet: it is done again
            told = received(second)
        assert told == {"said": 3, "pid": other.pid}, "the same connection, and what was kept for it"


def test_an_alarm_is_fired_by_another_process_when_the_one_that_set_it_is_killed(pair: list[Server]) -> None:
    owner, other = pair
    with connected(owner) as first, connected(other) as second:
        first.send("1.5")
        assert received(first) == {"said": 1, "pid": owner.pid}
        assert owner.kill() == -signal.SIGKILL
        assert received(second) == {"rang": 1, "pid": other.pid}


def test_an_alarm_is_fired_when_the_only_server_was_killed_and_is_started_again(tmp_path: Path) -> None:
    env = environment("memory://", tmp_path / "rooms.db")
    with serving(APP, env=env) as server, connect(server.ws(ROOM)) as socket:
        assert received(socket) == {"rang": 0}
        socket.send("0.5")
        assert received(socket)["said"] == 1
        server.kill()
    with serving(APP, env=env) as server, connect(server.ws(ROOM)) as socket:
        told = received(socket)
        if told == {"rang": 0}:  # it came before the alarm
            told = received(socket)
        assert told["rang"] == 1
