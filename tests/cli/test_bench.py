"""`freshet bench`, as a process, on servers that run, refuse, lose, or are not ours."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest
from typer.testing import CliRunner
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.asyncio.server import serve as serve_websocket

from freshet.cli import app
from tests.tools.patience import seconds, wait_until
from tests.tools.ports import HOST
from tests.tools.relay import relaying
from tests.tools.serving import Server, serving

SECRET = "a secret for tests, thirty-two bytes"
QUICK = ("--seconds", "0.4", "--clients", "6")
APPLICATION = """
from freshet import Freshet
live = Freshet()
live.channel("bench", publish="client")
@live.rpc("echo")
async def echo(session, data):
    return data
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--dev") as server:
        yield server


def bench(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "freshet", "bench", *arguments],
        cwd=cwd,
        env=given(environment),
        capture_output=True,
        text=True,
        timeout=seconds(40),
        check=False,
    )


def given(environment: dict[str, str]) -> dict[str, str]:
    path = {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "PATH": "/usr/bin:/bin"}
    return {**path, "COLUMNS": "120", "NO_COLOR": "1", **environment}


def measured(*arguments: str, cwd: Path, **environment: str) -> dict[str, object]:
    """The figures of a load that went well."""
    done = bench(*arguments, "--json", cwd=cwd, **environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


DIALECTS = ["centrifuge", "channel", "socketio", "sse", "poll"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_one_publishes_comes_to_all_over_each_dialect(server: Server, dialect: str, tmp_path: Path) -> None:
    arguments = ("--dialect", dialect, "--rate", "20", "--channel", f"fan:{dialect}")
    found = measured("fanout", "--url", server.http(""), *arguments, *QUICK, cwd=tmp_path)
    assert found["published"] == 8
    assert found["deliveries"] == found["due"] == 48
    assert found["lost"] == found["repeated"] == 0
    latency = found["latency_ms"]["delivery"]  # type: ignore[index]
    assert latency["samples"] == 48
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["p99.9"] <= latency["max"]


@pytest.mark.parametrize("load", ["sse", "poll"])
def test_two_loads_are_named_by_what_their_clients_speak(server: Server, load: str, tmp_path: Path) -> None:
    found = measured(load, "--url", server.http(""), "--rate", "20", "--channel", f"of:{load}", *QUICK, cwd=tmp_path)
    assert (found["load"], found["dialect"], found["lost"]) == ("fanout", load, 0)


@pytest.mark.parametrize("dialect", ["centrifuge", "channel", "socketio"])
def test_all_members_of_all_rooms_publish(server: Server, dialect: str, tmp_path: Path) -> None:
    arguments = ("--dialect", dialect, "--members", "3", "--rate", "40", "--channel", f"chat-{dialect}")
    found = measured("chat", "--url", server.http(""), *arguments, *QUICK, cwd=tmp_path)
    assert found["deliveries"] == 3 * found["published"] > 0  # type: ignore[operator]
    assert found["lost"] == 0


@pytest.mark.parametrize("dialect", ["centrifuge", "channel", "socketio"])
def test_a_client_gets_back_what_it_sends(server: Server, dialect: str, tmp_path: Path) -> None:
    arguments = ("--dialect", dialect, "--in-flight", "4", "--channel", f"echo-{dialect}")
    found = measured("echo", "--url", server.http(""), *arguments, *QUICK, cwd=tmp_path)
    assert found["deliveries"] == found["published"] > 4  # type: ignore[operator]


def test_methods_are_called_and_clients_are_authenticated(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    environment = {"FRESHET_SECRET": SECRET}
    with serving("app:live", cwd=tmp_path, env=environment) as server:
        where = ("--url", server.http(""))
        found = measured("rpc", *where, *QUICK, cwd=tmp_path, **environment)
        assert found["deliveries"] == found["published"] > 0  # type: ignore[operator]
        again = measured("connect", *where, *QUICK, cwd=tmp_path, **environment)
        assert again["latency_ms"]["connect"]["samples"] > 6, "more than once"  # type: ignore[index]
        refused = bench("fanout", *where, *QUICK, cwd=tmp_path)
        assert refused.returncode == 1
        assert "FRESHET_SECRET" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_clients_that_lost_their_connection_recover_all(server: Server, tmp_path: Path) -> None:
    arguments = ("--rate", "40", "--seconds", "2", "--clients", "10", "--channel", "recovers")
    found = measured("recovery", "--url", server.http(""), *arguments, cwd=tmp_path)
    assert found["latency_ms"]["back"]["samples"] == 10  # type: ignore[index]
    assert found["deliveries"] == found["due"] == 800
    assert found["unrecovered"] == found["lost"] == 0


def test_idle_clients_are_connected_and_nothing_is_published(server: Server, tmp_path: Path) -> None:
    found = measured("idle", "--url", server.http(""), *QUICK, cwd=tmp_path)
    assert (found["published"], found["closed"]) == (0, 0)
    assert found["latency_ms"]["connect"]["samples"] == 6  # type: ignore[index]


def test_who_publishes_may_be_the_server_api(server: Server, tmp_path: Path) -> None:
    arguments = ("--api", "--api-key", "any", "--rate", "20", "--channel", "by-api")
    found = measured("fanout", "--url", server.http(""), *arguments, *QUICK, cwd=tmp_path)
    assert (found["published"], found["lost"]) == (8, 0)


def test_a_refused_publication_is_counted_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "freshet.toml").write_text("[[channels]]\nmatch = 'bench'\n[tokens]\nanonymous = true\n")
    with serving("--config", "freshet.toml", cwd=tmp_path) as server:
        found = measured("--url", server.http(""), "--rate", "20", *QUICK, cwd=tmp_path)
    assert found["refused"] == found["published"] == 8
    assert found["lost"] == 48
    assert "clients may not publish in 'bench'" in str(found["reason"])


# ------------------------------------------------------------------------------------------- servers that are not ours


class Lossy:
    """A WebSocket of somebody else: it passes on what comes, but for each fifth, to all; or back to who sent it."""

    def __init__(self, *, echoes: bool = False, drops: bool = False, twice: bool = False) -> None:
        self.came = 0
        self._echoes, self._drops, self._twice = echoes, drops, twice
        self._everyone: set[ServerConnection] = set()

    async def stay(self, socket: ServerConnection) -> None:
        self._everyone.add(socket)
        try:
            async for message in socket:
                self.came += 1
                if self._drops and self.came % 5 == 0:
                    continue
                for _ in range(2 if self._twice else 1):
                    broadcast({socket} if self._echoes else self._everyone, message)
        finally:
            self._everyone.discard(socket)


@contextmanager
def other(server: Lossy) -> Iterator[str]:
    """Its URL; in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def begin() -> object:
        return await serve_websocket(server.stay, HOST, 0)

    async def end(running: object) -> None:
        running.close()  # type: ignore[attr-defined]
        await running.wait_closed()  # type: ignore[attr-defined]

    running = asyncio.run_coroutine_threadsafe(begin(), loop).result(seconds(5))
    try:
        yield f"ws://{HOST}:{running.sockets[0].getsockname()[1]}/"  # type: ignore[attr-defined]
    finally:
        asyncio.run_coroutine_threadsafe(end(running), loop).result(seconds(5))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_plain_websocket_is_measured_as_well(tmp_path: Path) -> None:
    with other(Lossy(echoes=True)) as url:
        found = measured("echo", "--dialect", "websocket", "--url", url, *QUICK, cwd=tmp_path)
    assert found["deliveries"] == found["published"] > 0  # type: ignore[operator]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_what_is_dropped_on_the_way_is_counted_as_lost(processes: str, tmp_path: Path) -> None:
    arguments = ("--dialect", "websocket", "--rate", "50", "--processes", processes)
    with other(Lossy(drops=True)) as url:
        found = measured("fanout", "--url", url, *arguments, *QUICK, cwd=tmp_path)
    assert found["published"] == 20
    assert found["lost"] == 6 * 4
    assert found["deliveries"] == 6 * 16


def test_the_closed_loop_goes_on_when_publications_are_lost(tmp_path: Path) -> None:
    arguments = ("--dialect", "websocket", "--in-flight", "2", "--seconds", "6", "--clients", "2")
    with other(Lossy(drops=True)) as url:
        found = measured("fanout", "--url", url, *arguments, cwd=tmp_path)
    assert found["lost"] == 2 * (found["published"] // 5) > 0  # type: ignore[operator]
    assert found["published"] > 10, "those that were lost had held up the loop"  # type: ignore[operator]


def test_what_comes_twice_is_no_delivery(tmp_path: Path) -> None:
    with other(Lossy(twice=True)) as url:
        found = measured("--dialect", "websocket", "--url", url, "--rate", "20", *QUICK, cwd=tmp_path)
    assert found["deliveries"] == found["repeated"] == 48
    assert found["lost"] == 0


def test_a_server_that_is_slow_is_not_asked_less_often(server: Server, tmp_path: Path) -> None:
    """The network keeps everything for a while: an open loop counts it for all that was due meanwhile."""
    with relaying(server.port) as relay:
        relay.delay(0.3, 0.3)
        url = f"http://{HOST}:{relay.port}"
        found = measured("--url", url, "--rate", "50", "--channel", "slow", *QUICK, cwd=tmp_path)
    assert found["published"] == 20, "as many as were due"
    assert found["latency_ms"]["delivery"]["p50"] >= 300  # type: ignore[index]


# ------------------------------------------------------------------------------------------------------ for a person


def test_a_person_gets_a_table_what_was_lost_and_a_plot(server: Server, tmp_path: Path) -> None:
    done = bench("--url", server.http(""), "--svg", "plot.svg", *QUICK, cwd=tmp_path)
    assert done.returncode == 0
    assert "fanout, centrifuge: 6 clients, 128 bytes, 100/s" in done.stdout
    assert "p99.9" in done.stdout
    assert "0 lost of 240, by sequence" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    ElementTree.parse(tmp_path / "plot.svg")


def test_ctrl_c_gives_the_figures_so_far(server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "freshet", "bench", "--url", server.http(""), "--channel", "cut", "--json"]
    with subprocess.Popen(
        [*command, "--seconds", "600", "--clients", "4"],
        cwd=tmp_path,
        env=given({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until_subscribed(server, "cut", 4)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=seconds(20))
    assert process.returncode == 130
    found = json.loads(output)
    assert not found["whole"]
    assert found["lost"] == 0
    assert "interrupted" in errors
    assert "Traceback" not in errors


def until_subscribed(server: Server, channel: str, clients: int) -> None:
    def are_in() -> bool:
        answer = httpx.post(server.http("/api/presence_stats"), json={"channel": channel}).json()
        return bool(answer.get("result", {}).get("num_clients") == clients)

    wait_until(are_in, 10, f"{clients} subscribers of {channel}")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nothing",), "expected one of fanout, chat"),
        (("chat", "--dialect", "sse"), "expected for chat one of centrifuge, channel, socketio"),
        (("--dialect", "morse"), "centrifuge"),
        (("--url", "localhost"), "http://HOST"),
        (("--dialect", "websocket", "--url", "http://h"), "ws://HOST"),
        (("--rate", "5", "--in-flight", "5"), "expected one of them"),
        (("recovery", "--in-flight", "5"), "has a rate"),
    ],
)
def test_a_mistake_is_said_with_what_is_allowed(arguments: tuple[str, ...], says: str) -> None:
    done = CliRunner().invoke(app, ["bench", *arguments], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert says in " ".join(done.output.replace("│", " ").split())


def test_a_server_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    done = bench("--url", "http://127.0.0.1:9", *QUICK, cwd=tmp_path)
    assert done.returncode == 1
    assert "Connection refused" in done.stderr
    assert "--url" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_is_something_else_is_named_with_its_answer(server: Server, tmp_path: Path) -> None:
    done = bench("--url", server.http("/nowhere"), *QUICK, cwd=tmp_path)
    assert done.returncode == 1
    assert "404" in done.stderr
    assert "prefix" in done.stderr
