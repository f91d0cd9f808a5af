"""The process that serves: what it asks of the system, what it logs, and the order in which it ends."""

import logging
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from freshet.runtime.server import SERVER, RunningServer
from freshet.serving.supervisor import Inherited, announce
from tests.tools.patience import seconds, wait_until
from tests.tools.serving import HOST, Server

DRAINING = """
import asyncio, logging, pathlib
from freshet.runtime.server import SERVER

log = logging.getLogger("freshet.test")

async def drain():
    log.info("draining")
    turns = 0
    while not pathlib.Path("drained").exists():
        await asyncio.sleep(0.01)
        turns += 1
        if turns == 50:
            log.info("still draining")
    log.info("drained")

SERVER.get().drains += [drain, drain]

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        log.info("the application ends")
        await send({"type": "lifespan.shutdown.complete"})
    else:
        log.info("asked for %s", scope["path"])
        log.debug("a detail")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})
"""
Serve = Callable[..., Server]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "draining.py").write_text(DRAINING)
    return tmp_path


def open_files(server: Server) -> tuple[str, str]:
    """How many it may open now, and how many it may ask for."""
    limits = Path(f"/proc/{server.pid}/limits").read_text()
    found = re.search(r"^Max open files +(\d+|unlimited) +(\d+|unlimited)", limits, re.MULTILINE)
    assert found is not None
    return found[1], found[2]


def test_a_server_may_have_as_many_clients_as_its_user_may_open_files(serve: Serve) -> None:
    most = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 4096)
    lowered = ["bash", "-c", f'ulimit -Sn 256 && ulimit -Hn {most} && exec "$@"', "-"]
    assert open_files(serve("--dev", prefix=lowered)) == (str(most), str(most))


def test_a_line_of_the_log_has_its_time_its_level_and_who_says_it(serve: Serve, folder: Path) -> None:
    server = serve("draining:app", cwd=folder)
    assert httpx.get(server.http("/a")).text == "hello"
    server.wait_for_log("asked for /a")
    form = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO    freshet\.test: asked for /a$"
    assert re.search(form, server.log(), re.MULTILINE)
    assert "a detail" not in server.log()
    (folder / "drained").touch()


def test_details_are_logged_when_asked_for(serve: Serve, folder: Path) -> None:
    server = serve("draining:app", "--log-level", "debug", cwd=folder)
    httpx.get(server.http("/a"))
    server.wait_for_log("DEBUG   freshet.test: a detail")
    assert "GET /a" not in server.log()  # there is no access log
    (folder / "drained").touch()


def test_nobody_names_the_server_to_its_clients(serve: Serve) -> None:
    assert "server" not in httpx.get(serve("--dev").http("/health/live")).headers


def test_all_drains_come_to_their_end_before_the_application_ends(serve: Serve, folder: Path) -> None:
    server = serve("draining:app", cwd=folder)
    server.process.terminate()
    wait_until(lambda: server.log().count("still draining") == 2, 5, "both to drain at once, for a while")
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.http("/late"))
    assert "the application ends" not in server.log()
    (folder / "drained").touch()
    assert server.ended() == 0
    said = [line.partition("freshet.test: ")[2] for line in server.log().splitlines() if "freshet.test" in line]
    assert said == [*2 * ["draining"], *2 * ["still draining"], *2 * ["drained"], "the application ends"]


def test_a_second_signal_does_not_wait_for_the_drains(serve: Serve, folder: Path) -> None:
    server = serve("draining:app", cwd=folder)
    os.kill(server.pid, signal.SIGINT)
    server.wait_for_log(": draining")
    os.kill(server.pid, signal.SIGINT)
    server.ended()
    assert "drained" not in server.log()
    assert server.process.returncode == 0  # it was not killed
    assert "Traceback" not in server.log()


def test_a_port_that_is_taken_is_an_error_that_names_it(serve: Serve) -> None:
    first = serve("--dev")
    second = serve("--dev", port=first.port)  # what answers is the first
    assert second.ended() > 0
    second.wait_for_log(f"cannot listen on 127.0.0.1:{first.port}: Address already in use")
    assert httpx.get(first.http("/health/ready")).status_code == 200


def test_what_runs_in_a_server_finds_it_in_its_context() -> None:
    token = SERVER.set(None)
    try:
        alone = announce(None)
        assert (SERVER.get(), alone.hubs, alone.drains) == (alone, (), [])
        assert announce(Inherited(1, 2, ("/run/hub",))) is alone  # it was announced before
        SERVER.set(None)
        worker = announce(Inherited(1, 2, ("/run/hub",)))
        assert isinstance(worker, RunningServer)
        assert worker.hubs == ("/run/hub",)
    finally:
        SERVER.reset(token)
        assert logging.getLogger("freshet").level == logging.NOTSET


@pytest.mark.parametrize("target", [[], ["application:live"]])
def test_an_idle_connection_is_kept_as_long_as_the_configuration_says(
    serve: Serve, tmp_path: Path, target: list[str]
) -> None:
    (tmp_path / "application.py").write_text("from freshet import Freshet\nlive = Freshet.from_config()\n")
    for seconds_kept, stays in (("0.05", False), ("60", True)):
        server = serve(*target, cwd=tmp_path, env={"FRESHET_HTTP__KEEP_ALIVE": seconds_kept})
        with socket.create_connection((server.host, server.port), seconds(5)) as connection:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(4096)
            connection.settimeout(seconds(1 if stays else 5))
            try:
                assert (connection.recv(1) == b"") is not stays
            except TimeoutError:
                assert stays


async def test_it_serves_without_assertions_and_docstrings(serve: Serve) -> None:
    server = serve("--dev", env={"PYTHONOPTIMIZE": "2"})
    async with connect(server.ws("/channels/a")) as link, httpx.AsyncClient(base_url=server.http("")) as http:
        (await http.post("/api/publish", json={"channel": "a", "data": 1})).raise_for_status()
        assert await link.recv() == "1"
        (await http.get("/api/openapi.json")).raise_for_status()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dev"], r"Freshet on ws://127\.0\.0\.1:([1-9]\d+)/connection/websocket"),
        (["--dev", "--host", "::1"], r"Freshet on ws://\[::1\]:([1-9]\d+)/connection/websocket"),
        (["draining:app"], r"Serving draining:app on http://127\.0\.0\.1:([1-9]\d+)"),
        (["--dev", "--workers", "2", "--host", "::1"], r"Serving Freshet on http://\[::1\]:([1-9]\d+), 2 workers"),
    ],
    ids=["alone", "IPv6", "application", "workers"],
)
def test_it_says_where_it_listens_also_at_any_free_port(folder: Path, arguments: list[str], says: str) -> None:
    command = [sys.executable, "-m", "freshet", "serve", *arguments, "--port", "0"]
    host = "::1" if "::1" in arguments else HOST
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = next(found for line in process.stderr if (found := re.search(says, line)))
            wait_until(lambda: connects(host, int(said[1])), 10, "the port to answer")
        finally:
            process.kill()  # of workers, who notice that their parent is gone


def test_it_says_where_its_websocket_api_of_aws_is(serve: Serve) -> None:
    server = serve("--dev", env={"FRESHET_GATEWAY__STAGE": "prod"})
    server.wait_for_log(
        f"Freshet on {server.ws('/connection/websocket')}, and as AWS API Gateway on {server.ws('/prod')}"
    )


def connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), seconds(5)).close()
    except ConnectionRefusedError:
        return False
    return True
