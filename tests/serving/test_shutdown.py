"""A server that is asked to end tells its clients, whatever carries them, and does not wait for their streams."""

import asyncio
import json
import time

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.tools.patience import eventually, seconds
from tests.tools.serving import serving


async def test_streams_and_polls_do_not_hold_up_the_end() -> None:
    with serving("tests.endpoints.socketio.kept_app:live") as server:
        async with httpx.AsyncClient(base_url=server.http(""), timeout=seconds(20)) as http:
            line = "/socket.io/?EIO=4&transport=polling"
            line += "&sid=" + json.loads((await http.get(line)).text[1:])["sid"]
            await http.post(line, content='40/shop,{"name":"raw"}')
            await http.get(line)
            connect = {"id": 1, "connect": {}}
            waiting = [
                asyncio.create_task(http.get(line)),
                asyncio.create_task(http.post("/connection/http_stream", json=connect)),
                asyncio.create_task(http.get("/channels/log:end", headers={"Accept": "text/event-stream"})),
                asyncio.create_task(http.get("/channels/log:end", params={"wait": 30})),
            ]

            async def all_wait() -> bool:
                info = (await http.post("/api/info", json={})).json()["result"]
                return int(info["nodes"][0]["num_clients"]) == 4

            await eventually(all_wait, 5, "all four to be there")
            began = time.monotonic()
            server.process.terminate()
            poll, stream, _, page = await asyncio.gather(*waiting)
            await asyncio.to_thread(server.process.wait, seconds(10))
            assert time.monotonic() - began < seconds(5)
            assert poll.text == "1"
            assert '"disconnect":{"code":3001' in stream.text
            assert page.json()["publications"] == [] or page.status_code == 503
        assert "Traceback" not in server.log()


async def test_many_clients_are_sent_away_at_a_pace_and_nobody_new_comes_in() -> None:
    """So that those who take them are not overrun."""
    clients, moved = 800, 500
    with serving("tests.transports.open_app:live") as server:
        sockets = [await connect(server.ws("/channels/any")) for _ in range(clients)]
        began = time.monotonic()
        server.process.terminate()

        async def ending(socket: ClientConnection) -> tuple[float, int | None]:
            await socket.wait_closed()
            return time.monotonic() - began, socket.close_code

        leaving = [asyncio.create_task(ending(socket)) for socket in sockets]
        await eventually(lambda: any(task.done() for task in leaving), 5, "the first to leave")
        with pytest.raises(ConnectionRefusedError):
            await connect(server.ws("/channels/any"), open_timeout=seconds(5))
        ends = sorted(await asyncio.gather(*leaving))
        assert {code for _, code in ends} == {3001}
        assert ends[-1][0] - ends[0][0] > 0.8 * (clients / moved - 0.2)
        in_steps = [sum(step <= at - ends[0][0] < step + 0.5 for at, _ in ends) for step in (0, 0.5, 1)]
        assert max(in_steps) < 0.6 * clients
        assert await asyncio.to_thread(server.process.wait, seconds(20)) == 0
