"""Filters of tags as the official clients ask for them, in both encodings."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from centrifuge import Filter
from websockets.asyncio.client import connect

from freshet.dialects.centrifuge.client_pb2 import FilterNode
from freshet.dialects.centrifuge.protobuf import CentrifugeProtobuf, varint
from freshet.errors import Disconnect
from freshet.model.commands import Subscribe
from freshet.model.frame import Frame
from freshet.rules.filters import DEPTH, CompiledFilter
from tests.tools.clients import CONFIG, Listener, connected, soon, token
from tests.tools.need import require
from tests.tools.patience import seconds
from tests.tools.serving import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("filter") / "freshet.toml"
    config.write_text(CONFIG + "[api]\nanonymous = true\n")
    with serving("--config", str(config)) as server:
        yield server


async def publish(server: Server, channel: str, data: Any, tags: dict[str, str]) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.post(server.http("/api/publish"), json={"channel": channel, "data": data, "tags": tags})
        assert "error" not in answer.raise_for_status().json()


@pytest.mark.parametrize("use_protobuf", [False, True], ids=["json", "protobuf"])
async def test_a_python_client_hears_what_it_wants_also_of_what_it_missed(server: Server, use_protobuf: bool) -> None:
    channel = f"filter:python-{use_protobuf}"
    wanted = Filter.all(Filter.is_in("ticker", ["AAPL", "BTC"]), Filter.negate(Filter.lt("price", "100")))
    async with connected(server, use_protobuf=use_protobuf) as alice, connected(server, "bob") as bob:
        choosy, all_of_it = Listener(alice, channel, tags_filter=wanted), Listener(bob, channel)
        await choosy.start()
        await all_of_it.start()
        for number in range(3):
            if number == 1:
                await choosy.subscription.unsubscribe()
            if number == 2:
                await choosy.subscription.subscribe()
                context = await soon(choosy.subscribed.get())
                assert (context.was_recovering, context.recovered) == (True, True)
            await publish(server, channel, {"n": f"cheap {number}"}, {"ticker": "AAPL", "price": "99.99"})
            await publish(server, channel, {"n": f"apple {number}"}, {"ticker": "AAPL", "price": "100"})
            await publish(server, channel, {"n": f"other {number}"}, {"ticker": "IBM", "price": "500"})
        got = [(await soon(choosy.publications.get())).pub for _ in range(3)]
        got_data = [json.loads(pub.data) if isinstance(pub.data, bytes) else pub.data for pub in got]
        assert got_data == [{"n": f"apple {number}"} for number in range(3)]
        assert [pub.offset for pub in got] == [2, 5, 8]
        assert len(await all_of_it.data(9)) == 9


@pytest.mark.parametrize("protocol", ["json", "protobuf"])
def test_a_javascript_client_hears_what_it_wants_also_of_what_it_missed(
    server: Server, node: Path, protocol: str
) -> None:
    command = [require("node"), "filter.mjs", server.ws("/connection/websocket"), protocol, token(), server.http("")]
    done = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=seconds(20), check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("subscribe", "reason"),
    [
        ({"tf": {"key": "a", "cmp": "like"}}, "filter: cmp 'like': expected one of"),
        ({"tf": {"op": "and"}}, "filter: op 'and' without nodes"),
        ({"tf": {"key": "a", "cmp": "ex"}, "delta": "fossil"}, "a filter and delta"),
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused_and_the_session_goes_on(
    server: Server, subscribe: dict[str, Any], reason: str
) -> None:
    async with connect(server.ws("/connection/websocket")) as socket:
        for number, command in enumerate(
            [{"connect": {"token": token()}}, {"subscribe": {"channel": "delta:a", **subscribe}}, {"ping": {}}], 1
        ):
            await socket.send(json.dumps({"id": number, **command}))
        replies: dict[int, Any] = {}
        while 3 not in replies:
            for line in str(await soon(socket.recv())).splitlines():
                reply = json.loads(line)
                replies[reply.get("id", 0)] = reply
        assert replies[2]["error"]["code"] == 107
        assert reason in replies[2]["error"]["message"]


@pytest.mark.parametrize("levels", [1, DEPTH, DEPTH + 1, DEPTH + 2, 98, 10_000])
def test_filters_within_filters_are_read_as_deep_as_they_may_be(levels: int) -> None:
    """What is deeper is refused, or ends the session; it is never read as less than it says."""
    tree = FilterNode(key="a", cmp="ex").SerializeToString()
    for _ in range(levels - 1):
        tree = FilterNode(op="not").SerializeToString() + b"\x32" + varint(len(tree)) + tree
    subscribe = b"\x0a\x01a\x6a" + varint(len(tree)) + tree
    command = b"\x08\x01\x2a" + varint(len(subscribe)) + subscribe
    frame = Frame(varint(len(command)) + command, binary=True)
    if levels > 100:
        with pytest.raises(Disconnect, match="malformed command"):
            CentrifugeProtobuf().receive(frame)
        return
    [received] = CentrifugeProtobuf().receive(frame)
    assert isinstance(received, Subscribe)
    assert received.filter is not None
    if levels <= DEPTH:
        assert CompiledFilter(received.filter)({"a": ""}) is (levels % 2 == 1)
    else:
        with pytest.raises(ValueError, match=f"at most {DEPTH} deep"):
            CompiledFilter(received.filter)
