"""A server in a thread, which gets no signals, as the documentation has it end."""

from threading import Thread

import httpx
import uvicorn

from freshet import Freshet
from tests.tools.patience import seconds, wait_until
from tests.tools.ports import HOST, free_port


def test_a_server_in_a_thread_ends_after_a_drain_though_a_stream_is_open() -> None:
    live, port = Freshet(dev=True, environment={}), free_port()
    server = uvicorn.Server(uvicorn.Config(live, host=HOST, port=port, ws="none", log_config=None))
    thread = Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, 10, "the server to listen")
    events = {"Accept": "text/event-stream"}
    with httpx.stream("GET", f"http://{HOST}:{port}/channels/a", headers=events, timeout=seconds(10)) as answer:
        lines = answer.iter_lines()
        next(lines)
        live.sync.drain()
        server.should_exit = True
        assert "event: disconnected" in list(lines)
    thread.join(seconds(10))
    assert not thread.is_alive()
