"""What the benchmarks measure is the fast path: each way that they speak has its socket, and one write for a turn."""

import importlib.util
import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from bench import loads
from bench.clients import PEERS
from bench.subscribers import WAYS, Poller, Way, framed
from freshet import Freshet
from freshet.policy.tokens import issue
from freshet.transports.native import SessionSocket
from freshet.transports.native_stream import SessionStream
from tests.tools.patience import eventually
from tests.transports.sockets import Peer
from tests.transports.test_entrance import Served

CLIENTS, WINDOW = 3, 8
CENTRIFUGE = next(way for way in WAYS if way.name == "Centrifuge JSON, WebSocket")
STAY = [way for way in WAYS if not issubclass(way.subscriber, Poller)]  # type: ignore[arg-type]


@pytest.fixture
async def live() -> AsyncIterator[Freshet]:
    """What bench.clients serves."""
    spec = importlib.util.spec_from_file_location("bench_freshet_app", PEERS / "freshet_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    async with module.live.lifespan():
        yield module.live


async def enter(peer: Peer, way: Way) -> None:
    for says, answer in way.steps:
        await peer.write(says)
        came = b""
        while answer not in came:
            came += await peer.read()


def noted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is given to the kernel of what is published, a write each."""
    writes, write = list[bytes](), os.write

    def note(descriptor: int, data: bytes) -> int:
        writes.extend([data] if b"text " in data else [])
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", note)
    return writes


@pytest.mark.parametrize("way", STAY, ids=lambda way: way.name)
async def test_each_way_that_is_measured_is_one_write_of_the_same_bytes_to_each_client(
    live: Freshet, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(live)
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(served.come()) for _ in range(CLIENTS)]
        for peer in peers:
            await enter(peer, way)
        await eventually(lambda: live._node.hub.channels().get("bench") == CLIENTS)
        writes = noted(monkeypatch)
        for number in range(WINDOW):
            await live.publish("bench", f"text {number}", tags={"event": "news"})
        for peer in peers:
            came = b""
            while b"text %d" % (WINDOW - 1) not in came:
                came += await peer.read()
        assert {type(each) for each in served.connections} <= {SessionSocket, SessionStream}
    assert served.long_way.got == []
    assert len(writes) == CLIENTS
    assert writes[0].count(b"text ") == WINDOW
    assert all(data is writes[0] for data in writes)


async def test_what_a_turn_has_in_several_rooms_of_a_chat_is_one_write_to_each_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = loads.application()
    rooms = [[0, 1, 2], [1], [2, 0]]  # of each client
    async with live.lifespan(), AsyncExitStack() as stack:
        served = Served(live)
        peers = [await stack.enter_async_context(served.come()) for _ in rooms]
        for peer, its in zip(peers, rooms, strict=True):
            lines = [f'{{"id":1,"connect":{{"token":"{issue(loads.SECRET, "a", expires_in=60)}"}}}}']
            lines += [f'{{"id":{2 + room},"subscribe":{{"channel":"bench:{room}"}}}}' for room in its]
            said = framed("\n".join(lines).encode())
            await enter(peer, CENTRIFUGE._replace(steps=[CENTRIFUGE.steps[0], (said, b'"id":%d' % (2 + its[-1]))]))
        writes = noted(monkeypatch)
        for number in range(6):
            await live.publish(f"bench:{number % 3}", f"text {number}")
        got = [await peer.texts(1) for peer in peers]
    assert all(got)
    texts = [sorted(int(each) for each in re.findall(rb"text (\d)", data)) for data in writes]
    assert sorted(texts) == [[0, 1, 2, 3, 4, 5], [0, 2, 3, 5], [1, 4]]
