"""A server that is asked to end tells its clients, whatever carries them, and does not wait for their streams."""

import asyncio
import json

import httpx
import pytest
from websockets.asyncio.client import connect

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
            server.process.terminate()
            poll, stream, _, page = await asyncio.gather(*waiting)
            await asyncio.to_thread(server.process.wait, seconds(10))
            assert (poll.status_code, poll.json()["code"]) == (400, 1)  # a close packet would keep clients away
            assert '"disconnect":{"code":3001' in stream.text
            assert page.json()["publications"] == [] or page.status_code == 503
        assert "Traceback" not in server.log()


async def test_many_clients_are_sent_away_at_a_pace_and_nobody_new_comes_in() -> None:
    """So that those who take them are not overrun."""
    clients = 800
    with serving("tests.transports.open_app:live") as server:
        sockets = [await connect(server.ws("/channels/any")) for _ in range(clients)]
        server.process.terminate()
        leaving = [asyncio.create_task(socket.wait_closed()) for socket in sockets]
        await eventually(lambda: any(task.done() for task in leaving), 5, "the first to leave")
        with pytest.raises(ConnectionRefusedError):
            await connect(server.ws("/channels/any"), open_timeout=seconds(5))
        assert not all(task.done() for task in leaving)  # nobody new came in while others were still there
        await asyncio.gather(*leaving)
        assert {socket.close_code for socket in sockets} == {3001}
        assert await asyncio.to_thread(server.process.wait, seconds(20)) == 0
