"""`freshet top` and `freshet tail --user`, as processes, by the WebSocket of the admin page."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from freshet.cli.top import Screen
from tests.cli.test_publish_and_tail import CLEAN
from tests.ops.admin.crowd import SECRET, Crowd
from tests.tools.patience import seconds, wait_until
from tests.tools.ports import free_port
from tests.tools.serving import Server, serving

KEY = "the key of operators"
ENV = {"FRESHET_SECRET": SECRET, "FRESHET_ADMIN_KEY": KEY, "FRESHET_API_KEY": KEY}
RULES = """
[[channels]]
match = "everybody"
history = { size = 9, ttl = 60 }
[[channels]]
match = "room:*"
"""
NAMES = {0: "\x9b31malice", 1: "bob"}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("top") / "freshet.toml"
    path.write_text(RULES)
    return path


@pytest.fixture(scope="module")
def server(config: Path) -> Iterator[Server]:
    with serving("--config", str(config), "--workers", "2", env=ENV) as server, Crowd(server, 20, NAMES):
        yield server


@pytest.fixture
def freshet(server: Server, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str, key: str = KEY, columns: int = 80) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "freshet", *arguments],
            cwd=tmp_path,
            env={**CLEAN, "FRESHET_URL": server.http(""), "FRESHET_ADMIN_KEY": key, "COLUMNS": str(columns)},
            capture_output=True,
            text=True,
            timeout=seconds(30),
            check=False,
        )

    return run


@contextmanager
def tracing(url: str, folder: Path, *arguments: str) -> Iterator[None]:
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        command = [sys.executable, "-m", "freshet", "tail", *arguments, "--url", url]
        process = subprocess.Popen(command, env={**CLEAN, "FRESHET_ADMIN_KEY": KEY}, cwd=folder, stdout=out, stderr=err)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def publish(server: Server, data: object) -> None:
    request = {"channel": "everybody", "data": data}
    assert "result" in httpx.post(server.http("/api/publish"), json=request, headers={"X-API-Key": KEY}).json()


def test_top_shows_all_nodes_and_the_busiest_channels(
    freshet: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = freshet("top", "--once")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ready") == 2
    assert "p50 p95 p99" in done.stdout
    assert "everybody" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("columns", [80, 120])
def test_top_fits_the_terminal_with_all_its_words_and_figures(
    freshet: Callable[..., subprocess.CompletedProcess[str]], columns: int
) -> None:
    lines = freshet("top", "--once", columns=columns).stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert not [line for line in lines if "…" in line]
    more = ["subscriptions"] if columns == 120 else []
    assert ["node", "state", "clients", *more, "delivered/s", "CPU", "memory", "up"] in [line.split() for line in lines]
    nodes = [line.split() for line in lines if "ready" in line]
    assert sum(int(node[2]) for node in nodes) >= 20
    assert {len(node) for node in nodes} == {len(more) + 9}  # memory and age with their units
    for tile in ("connections", "delivered/s", "published/s", "p50 p95 p99", "CPU", "memory"):
        assert sum(f"─ {tile} ─" in line for line in lines) == 1


@pytest.mark.parametrize("command", [["top", "--once"], ["tail", "--user", "bob"], ["tail", "--channel", "everybody"]])
def test_without_the_key_a_command_says_which(
    freshet: Callable[..., subprocess.CompletedProcess[str]], command: list[str]
) -> None:
    done = freshet(*command, key="a guess")
    assert done.returncode == 1
    assert "FRESHET_ADMIN_KEY" in done.stderr
    assert "Traceback" not in done.stderr


def test_where_there_is_no_admin_page_top_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "freshet", "top", "--url", f"http://127.0.0.1:{free_port()}"]
    done = subprocess.run(
        command, env=CLEAN, cwd=tmp_path, capture_output=True, text=True, timeout=seconds(30), check=False
    )
    assert done.returncode == 1
    assert "freshet serve" in done.stderr


def test_a_user_is_traced_whatever_the_node(server: Server, tmp_path: Path) -> None:
    with tracing(server.http(""), tmp_path, "--user", "bob", "--json"):

        def seen() -> list[dict[str, object]]:
            publish(server, {"n": 1})
            return [json.loads(line) for line in (tmp_path / "out").read_text().split("\n")[:-1]]  # whole lines

        item = wait_until(seen, 20, "what bob gets")[0]
    assert (item["kind"], item["channel"], item["data"]) == ("publication", "everybody", '{"n":1}')
    assert "tracing the user bob" in (tmp_path / "err").read_text()


def test_a_channel_is_looked_into_and_what_strangers_wrote_steers_no_terminal(server: Server, tmp_path: Path) -> None:
    with tracing(server.http(""), tmp_path, "--channel", "everybody"):
        wait_until(lambda: publish(server, "\x9b31m\u202e") or (tmp_path / "out").read_text(), 20, "a publication")
    text = (tmp_path / "out").read_text()
    assert text.replace("\n", "").isprintable()
    assert "everybody" in text


def test_a_trace_comes_back_and_says_so(config: Path, tmp_path: Path) -> None:
    port = free_port()
    with (
        serving("--config", str(config), port=port, env=ENV) as first,
        tracing(first.http(""), tmp_path, "--channel", "everybody"),
    ):
        wait_until(lambda: publish(first, 1) or (tmp_path / "out").read_text(), 20, "the trace")
        first.stop()
        wait_until(lambda: "connection lost" in (tmp_path / "err").read_text(), 10, "the loss")
        with serving("--config", str(config), port=port, env=ENV):
            wait_until(lambda: "back; what happened" in (tmp_path / "err").read_text(), 20, "the return")


def sample(at: float, delivered: int, buckets: list[int], node: str = "one") -> dict[str, object]:
    numbers = {"clients": 3, "subscriptions": 4, "published": 0, "cpu": 0.0, "memory": 1, "uptime": 5.0}
    place = {"id": node, "host": "h", "process": 1, "state": "ready"}
    return {"at": at, "nodes": [{**numbers, **place, "delivered": delivered, "latency": buckets}]}


def test_rates_and_percentiles_are_of_what_happened_lately_and_a_new_node_is_no_jump() -> None:
    screen = Screen("http://here")
    screen.take("overview", sample(10.0, 1000, [500] + [0] * 12))
    screen.take("overview", sample(12.0, 1200, [500, 0, 0, 0, 100] + [0] * 8))
    assert screen._per_second("delivered") == [100.0]
    assert 0.01 < screen._percentiles("latency")[0] <= 0.025
    screen.take("overview", sample(13.0, 9000, [0] * 13, node="two"))
    assert screen._per_second("delivered") == [100.0, 0]
