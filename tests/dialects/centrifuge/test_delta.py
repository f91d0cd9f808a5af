"""Delta compression as the official clients know it: they ask, and put together what they are told."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from centrifuge import DeltaType
from websockets.asyncio.client import connect

from tests.tools.clients import CONFIG, Listener, connected, soon, token
from tests.tools.need import require
from tests.tools.patience import seconds
from tests.tools.serving import Server, serving

TEXT = "ein längerer Text, der bleibt; 日本語も 🙂; " * 10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("delta") / "freshet.toml"
    config.write_text(CONFIG)
    with serving("--config", str(config)) as server:
        yield server


@pytest.mark.parametrize("use_protobuf", [False, True], ids=["json", "protobuf"])
async def test_a_python_client_hears_every_value_whole(server: Server, use_protobuf: bool) -> None:
    channel = f"delta:{use_protobuf}"
    values = [{"text": TEXT, "sign": "äöü€日"[number % 5], "number": number} for number in range(40)]
    async with connected(server, "alice", use_protobuf=use_protobuf) as alice, connected(server, "bob") as bob:
        ours, plain = Listener(alice, channel, delta=DeltaType.FOSSIL), Listener(bob, channel)
        await ours.start()
        await plain.start()
        for value in values[:20]:
            await plain.subscription.publish(value)
        got = [(await soon(ours.publications.get())).pub for _ in range(20)]
        assert [as_value(pub.data) for pub in got] == values[:20]
        assert [pub.delta for pub in got] == [False] + [True] * 19
        await ours.subscription.unsubscribe()
        for value in values[20:30]:
            await plain.subscription.publish(value)
        await ours.subscription.subscribe()
        context: Any = await soon(ours.subscribed.get())
        assert context.recovered
        for value in values[30:]:
            await plain.subscription.publish(value)
        got = [(await soon(ours.publications.get())).pub for _ in range(20)]
        assert [as_value(pub.data) for pub in got] == values[20:]
        assert [pub.delta for pub in got] == [False] + [True] * 19
        assert await plain.data(40) == values


def as_value(data: Any) -> Any:
    return json.loads(data) if isinstance(data, bytes) else data


@pytest.mark.parametrize("protocol", ["json", "protobuf"])
def test_a_javascript_client_hears_every_value_whole(server: Server, node: Path, protocol: str) -> None:
    command = [require("node"), "delta.mjs", server.ws("/connection/websocket"), protocol, token("alice")]
    done = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=seconds(20), check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("channel", "asked", "given"),
    [("delta:ask", "fossil", True), ("delta:ask", "another", None), ("delta:ask", None, None), ("log", "fossil", None)],
)
async def test_differences_are_told_to_who_asks_where_the_rule_allows_it(
    server: Server, channel: str, asked: str | None, given: bool | None
) -> None:
    async with connect(server.ws("/connection/websocket")) as socket:
        subscribe = {"channel": channel, **({"delta": asked} if asked else {})}
        await socket.send(json.dumps({"id": 1, "connect": {"token": token()}}))
        await socket.send(json.dumps({"id": 2, "subscribe": subscribe}))
        async with asyncio.timeout(seconds(5)):
            while True:
                for line in str(await socket.recv()).splitlines():
                    reply = json.loads(line)
                    if reply.get("id") == 2:
                        assert reply["subscribe"].get("delta") is given
                        return
