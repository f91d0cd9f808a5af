"""Half of a character, as a cut text ends with it, goes through the doors of rooms, states, the gateway and streams.

Where it has to be text, in what models read and on a WebSocket of the gateway, it is U+FFFD, as `WebSocket.send` of a
browser makes it.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from freshet import Connection, Freshet, Room, RoomSession, Run
from freshet.testing.gateway import GatewayClient
from tests.tools.patience import eventually

HALF = "hi \U0001f600"[:3] + "\ud83d"
WRITTEN = rb'{"text":"hi \ud83d"}'
TEXT = {"text": HALF}
WHOLE = "hi \ufffd"


@pytest.fixture
async def live() -> AsyncIterator[Freshet]:
    live = Freshet(dev=True, environment={"FRESHET_ROOMS__STORE": "memory://"})
    live.state("state:{name}")

    @live.room("room:{name}")
    class Keeping(Room):
        async def on_join(self, session: RoomSession) -> None:
            session.state = TEXT

        async def on_message(self, session: RoomSession, data: dict[str, str]) -> Any:
            await self.store.put("said", data)
            assert await self.store.get("said", type=dict[str, str]) == data == session.state
            assert await self.store.list() == {"said": data}
            await self.broadcast(await self.store.get("said"))

        async def on_request(self, request: Any) -> Any:
            return await self.store.get("said")

    @live.run("ai:{chat}")
    async def answer(run: Run, message: Any) -> None:
        await run.write(f"{message} and {HALF}")

    @live.gateway(stage="dev").route("echo")
    async def echo(connection: Connection, data: dict[str, Any]) -> str:
        await connection.send({"got": data["text"]})
        return str(data["text"])

    async with live.lifespan():
        yield live


async def test_a_room_keeps_it_and_says_it_again(live: Freshet) -> None:
    async with live.test_client("alice") as alice:
        await alice.subscribe("room:a")
        await alice.publish("room:a", TEXT)
        assert (await alice.receive()).data == TEXT
        await alice.publish("room:a", TEXT)  # the same room: it has not begun anew
    async with httpx.AsyncClient(transport=httpx.ASGITransport(live), base_url="http://127.0.0.1") as http:
        assert (await http.get("/rooms/room:a")).content == WRITTEN


async def test_a_state_keeps_it(live: Freshet) -> None:
    assert await live.set_entry("state:a", "k", TEXT)
    assert await live.entries("state:a") == {"k": TEXT}
    assert await live.set_entry("state:a", "k", 1, expect=TEXT)


async def test_functions_of_the_gateway_get_it_and_its_clients_get_text(live: Freshet) -> None:
    async with GatewayClient(live) as client:
        await client.send('{"action":"echo","text":"hi \\ud83d"}')
        assert [await client.receive(), await client.receive()] == ['{"got":"hi \\ud83d"}', WHOLE]
        await live.gateway().post(client.id, HALF)
        assert await client.receive() == WHOLE


@pytest.mark.parametrize("door", ["server", "client", "ai sdk", "ag-ui"])
async def test_a_run_reads_and_writes_text(live: Freshet, door: str) -> None:
    parts = [{"type": "text", "text": HALF}]
    bodies = {
        "ai sdk": ("/ai/ai", {"id": "1", "messages": [{"id": "m", "role": "user", "parts": parts}]}),
        "ag-ui": (
            "/ag-ui/ai",
            {"threadId": "1", "runId": "r", "messages": [{"id": "m", "role": "user", "content": HALF}]},
        ),
    }
    if door == "server":
        await live.start("ai:1", HALF)
    elif door == "client":
        async with live.test_client("alice") as alice:
            await alice.subscribe("ai:1")
            await alice.publish("ai:1", HALF)
    else:
        url, body = bodies[door]
        async with httpx.AsyncClient(transport=httpx.ASGITransport(live), base_url="http://127.0.0.1") as http:
            answer = await http.post(url, content=json.dumps(body))
            assert answer.status_code == 200, answer.text

    async def ended() -> bool:
        messages = await live.messages("ai:1")
        return bool(messages) and messages[-1].get("metadata", {}).get("run", {}).get("state") == "finished"

    await eventually(ended, 5, "the run to end")
    question, said = await live.messages("ai:1")
    assert question["parts"][0]["text"] == WHOLE
    assert said["parts"][-1]["text"].endswith(f"and {WHOLE}")


async def test_a_stream_of_messages_takes_it_as_it_is(live: Freshet) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(live), base_url="http://127.0.0.1") as http:
        kind = {"content-type": "application/json"}
        assert (await http.put("/v1/stream/log", headers=kind)).status_code in (200, 201)
        assert (await http.post("/v1/stream/log", headers=kind, content=b"[%b,1]" % WRITTEN)).status_code in (200, 204)
        read = await http.get("/v1/stream/log?offset=-1")
    assert read.content == b"[%b,1]" % WRITTEN
