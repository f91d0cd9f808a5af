"""`freshet serve --workers`: one port, several processes, and what happens when one of them dies."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from centrifuge import Client
from websockets.asyncio.client import connect

from tests.tools.clients import SECRET, Listener, connected, soon, token
from tests.tools.patience import eventually, seconds, wait_until
from tests.tools.serving import Server, hubs_of, serving, workers_of

WORKERS = 3
CONFIG = f"""
[tokens]
secret = "{SECRET}"
[api]
anonymous = true
[[channels]]
match = "*"
history = {{ size = 10000, ttl = 60 }}
presence = true
join_leave = true
publish = "client"
read = "client"
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("supervisor") / "freshet.toml"
    path.write_text(CONFIG)
    return str(path)


@contextmanager
def all_workers(config: str) -> Iterator[Server]:
    with serving("--config", config, "--workers", str(WORKERS)) as server:
        wait_until(lambda: len(workers_of(server.pid)) == WORKERS, 10, "all workers")
        wait_until(lambda: len(asyncio.run(nodes(server))) == WORKERS, 20, "all workers to answer")
        yield server


@pytest.fixture(scope="module")
def lasting(config: str) -> Iterator[Server]:
    """For tests that end none of its processes."""
    with all_workers(config) as server:
        yield server


@pytest.fixture
def server(config: str) -> Iterator[Server]:
    with all_workers(config) as server:
        yield server


async def api(server: Server, method: str, **params: Any) -> dict[str, Any]:
    """By a connection of its own, so that any worker may get it."""
    async with httpx.AsyncClient(timeout=seconds(10)) as http:
        answer = (await http.post(server.http(f"/api/{method}"), json=params)).raise_for_status().json()
    assert "error" not in answer, answer
    result: dict[str, Any] = answer["result"]
    return result


async def nodes(server: Server) -> set[str]:
    """The workers that there are, as any of them says."""
    return {node["uid"] for node in (await api(server, "info"))["nodes"]}


async def listeners(server: Server, count: int, stack: AsyncExitStack, channel: str = "news") -> list[Listener]:
    made = []
    for number in range(count):
        client = await stack.enter_async_context(
            connected(server, f"user {number}", min_reconnect_delay=0.01, max_reconnect_delay=0.1)
        )
        made.append(Listener(client, channel))
        await made[-1].start()
    return made


async def test_clients_of_all_workers_hear_what_any_of_them_publishes(lasting: Server) -> None:
    async with AsyncExitStack() as stack:
        all_of_them = await listeners(lasting, 12, stack)
        for number in range(50):
            await api(lasting, "publish", channel="news", data=number)
        for listener in all_of_them:
            assert await listener.data(50) == list(range(50))
        presence = await api(lasting, "presence", channel="news")
        assert {each["user"] for each in presence["presence"].values()} == {f"user {number}" for number in range(12)}


async def test_any_worker_tells_what_all_of_them_hold(lasting: Server) -> None:
    await eventually(lambda: deserted(lasting), 5, "the clients before to have left")
    async with AsyncExitStack() as stack:
        await listeners(lasting, 12, stack, "held")
        for _ in range(10):
            held = (await api(lasting, "info"))["nodes"]
            assert len({node["uid"] for node in held}) == WORKERS
            assert sum(node["num_clients"] for node in held) == 12
            assert (await api(lasting, "channels"))["channels"] == {"held": {"num_clients": 12}}
            assert (await api(lasting, "channels", pattern="old*"))["channels"] == {}
    assert max(node["num_clients"] for node in held) < 12  # the kernel has spread them


async def test_what_is_done_to_a_user_reaches_the_worker_that_has_its_clients(lasting: Server) -> None:
    async with AsyncExitStack() as stack:
        ended: dict[int, asyncio.Future[int]] = {}
        for number in range(6):
            client: Client = await stack.enter_async_context(connected(lasting, f"user {number}"))
            ended[number] = asyncio.get_running_loop().create_future()

            async def left(context: Any, number: int = number) -> None:
                if not ended[number].done():
                    ended[number].set_result(context.code)

            client.events.on_disconnected = left
        for number in range(6):
            await api(lasting, "subscribe", user=f"user {number}", channel="given")
        await eventually(lambda: subscribed(lasting, "given", 6), 5, "all to be subscribed")
        for number in range(6):
            await api(lasting, "disconnect", user=f"user {number}", disconnect={"code": 4500 + number, "reason": "go"})
        assert [await soon(ended[number]) for number in range(6)] == [4500 + number for number in range(6)]


async def published_once(server: Server, number: int) -> bool:
    """Whether the server took it. With its key, to try again is safe."""
    try:
        await api(server, "publish", channel="news", data=number, idempotency_key=f"n{number}")
    except (httpx.HTTPError, AssertionError):
        return False
    return True


async def deserted(server: Server) -> bool:
    held = (await api(server, "info"))["nodes"]
    return not sum(node["num_clients"] for node in held) and not (await api(server, "channels"))["channels"]


async def subscribed(server: Server, channel: str, count: int) -> bool:
    return bool((await api(server, "presence_stats", channel=channel))["num_clients"] == count)


async def test_when_a_worker_is_killed_another_takes_its_place_and_nobody_misses_anything(server: Server) -> None:
    async with AsyncExitStack() as stack:
        all_of_them = await listeners(server, 12, stack)
        before = workers_of(server.pid)
        published = 0
        for number in range(200):
            if number == 50:
                os.kill(before[0], signal.SIGKILL)
            await eventually(lambda number=number: published_once(server, number))  # type: ignore[misc]
            published += 1
        for listener in all_of_them:
            assert await listener.data(published) == list(range(published))
        wait_until(lambda: len(workers_of(server.pid)) == WORKERS and before[0] not in workers_of(server.pid), 10)
        server.wait_for_log("another takes its place")
        presence = await api(server, "presence_stats", channel="news")
        assert presence["num_users"] == 12


def test_when_asked_to_end_all_workers_do_and_it_is_no_failure(server: Server) -> None:
    children = workers_of(server.pid)
    assert server.stop() == 0
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


async def test_when_the_parent_is_killed_its_workers_end_in_order_and_say_so_once(server: Server) -> None:
    async with AsyncExitStack() as stack:
        url = server.ws("/channels/log:orphans")
        header = {"Authorization": f"Bearer {token()}"}
        sockets = [await stack.enter_async_context(connect(url, additional_headers=header)) for _ in range(300)]
        await eventually(lambda: subscribed(server, "log:orphans", len(sockets)), 10, "all to be there")
        children = workers_of(server.pid)
        server.kill()
        await asyncio.gather(*(soon(socket.wait_closed()) for socket in sockets))
        assert {socket.close_code for socket in sockets} == {3001}
    await eventually(lambda: not [child for child in children if is_running(child)], 10, "the workers to end")
    lines = [line for line in server.log().splitlines() if "freshet." in line]
    assert sum("the parent process is gone" in line for line in lines) == WORKERS
    others = [line for line in lines if "the parent process is gone" not in line]
    assert sum("connection to the hub lost" in line for line in others) == len(others) <= WORKERS, others


async def test_when_a_hub_is_killed_its_channels_begin_anew_and_those_of_the_other_go_on(config: str) -> None:
    with serving("--config", config, "--workers", "4") as server:
        await eventually(lambda: answering(server, 4), 20, "all workers to answer")
        [hub] = hubs_of(server.pid)
        channels = [f"log:{number}" for number in range(8)]
        before = {channel: (await api(server, "publish", channel=channel, data=1)) for channel in channels}
        os.kill(hub, signal.SIGKILL)
        after = {}
        for channel in channels:

            async def published(channel: str = channel) -> dict[str, Any] | None:
                try:
                    return await api(server, "publish", channel=channel, data=2)
                except (httpx.HTTPError, AssertionError):
                    return None  # the hub is away

            after[channel] = await eventually(published, 20, "a publication")
        lost = {channel for channel in channels if after[channel]["epoch"] != before[channel]["epoch"]}
        assert 0 < len(lost) < len(channels)
        assert {channel: after[channel]["offset"] for channel in channels} == {
            channel: 1 if channel in lost else 2 for channel in channels
        }
        server.wait_for_log(f"hub {hub} exited with -9: another takes its place")
        children = [*hubs_of(server.pid), *workers_of(server.pid)]
        assert server.stop() == 0
        assert not [child for child in children if is_running(child)]


async def answering(server: Server, count: int) -> bool:
    return len(await nodes(server)) == count


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_is_wrong_with_the_configuration_is_said_and_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('[[channels]]\nmatch = "a"\nhistory = "long"\n')
    with (
        pytest.raises(RuntimeError, match=r"(?s)the server ended with 2 .*channels\[0\].history"),
        serving("--config", str(path), "--workers", "2"),
    ):
        pass


def test_what_is_wrong_ends_it_also_on_a_machine_that_takes_long_to_find_it(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('history = "long"\n')
    slow = "import os, time\nif 'FRESHET_WORKER' in os.environ:\n    time.sleep(2.5)\n"
    (tmp_path / "sitecustomize.py").write_text(slow)
    found = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    with (
        pytest.raises(RuntimeError, match=r"(?s)the server ended with 2 .*history"),
        serving("--config", str(path), "--workers", "2", env={"PYTHONPATH": found}),
    ):
        pass


def test_a_port_that_others_listen_on_is_not_shared_with_them(lasting: Server, config: str) -> None:
    command = f"-m freshet serve --config {config} --workers 2 --port {lasting.port}".split()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=seconds(20), check=False)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{lasting.port}" in done.stderr
