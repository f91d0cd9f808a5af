"""Many runs, many viewers of every kind, while they are cut and come late, and while owners are killed and paused.

Every viewer ends with the bytes that the server keeps. FRESHET_TEST_RUNS says how many runs; `make runs` takes 200.
"""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.runs.ledger import KINDS, SocketIoClients, Watcher, begin, kept, socketio_clients, stop_after
from tests.tools.nats import nats
from tests.tools.patience import seconds
from tests.tools.redis import redis
from tests.tools.serving import Server, listens, serving, workers_of

APP = "tests.runs.chat_app:live"
RUNS = int(os.environ.get("FRESHET_TEST_RUNS", "6"))
AT_ONCE = 5
VIEWERS = 5
WORDS = 120
STOPPED, STOP_AFTER = 5, 0.4  # one run of so many is stopped, after seconds in which it is written


class Cluster:
    """Servers that share an engine, or the workers of one."""

    def __init__(self, servers: list[Server], chance: random.Random, another: Callable[[], Server] | None) -> None:
        self.servers = servers
        self.chance = chance
        self.another = another
        self.faults: Counter[str] = Counter()

    def any(self) -> Server:
        return self.chance.choice(self.servers)

    def processes(self) -> list[int]:
        """Those that serve, and own runs. A worker that is only beginning does not, which a busy machine makes long."""
        if self.another is not None:
            return [server.pid for server in self.servers]
        return list(filter(listens, workers_of(self.servers[0].pid)))  # not the hubs: the logs are gone with them


@pytest.fixture(params=["workers", "redis", "nats"])
def cluster(request: pytest.FixtureRequest, lease: str) -> Iterator[Cluster]:
    """lease: seconds; where nothing is paused or killed, so many that a busy machine is not taken for a dead node."""
    chance = random.Random(7)
    env = {"CHAT_LEASE": lease}
    with ExitStack() as stack:
        if request.param == "workers":
            server = stack.enter_context(serving(APP, "--workers", "4", env=env))
            yield Cluster([server], chance, None)
            return
        broker = stack.enter_context(redis() if request.param == "redis" else nats())
        env["FRESHET_ENGINE"] = str(broker.url)

        def another() -> Server:
            return stack.enter_context(serving(APP, env=env))

        yield Cluster([another(), another()], chance, another)


async def pause(cluster: Cluster, done: asyncio.Event) -> None:
    """Stop one of them for longer than a lease, now and then."""
    while not done.is_set():
        with suppress(ProcessLookupError, IndexError):  # it was killed meanwhile; or none serves
            pid = cluster.chance.choice(cluster.processes())
            os.kill(pid, signal.SIGSTOP)
            cluster.faults["paused"] += 1
            await asyncio.sleep(1.8)
            os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(cluster.chance.uniform(1.0, 2.0))


async def kill(cluster: Cluster, done: asyncio.Event) -> None:
    """Kill one of the workers, now and then, in whose place their supervisor begins another; or a server, as we do."""
    while not done.is_set():
        await asyncio.sleep(cluster.chance.uniform(1.0, 2.0))
        if cluster.another is None:
            if len(pids := cluster.processes()) > 2:
                os.kill(cluster.chance.choice(pids), signal.SIGKILL)
                cluster.faults["killed"] += 1
        else:
            server = cluster.any()
            server.kill()
            cluster.faults["killed"] += 1
            cluster.servers.remove(server)
            cluster.servers.append(await asyncio.to_thread(cluster.another))


async def one_run(cluster: Cluster, number: int, seen: Counter[str], socketio: SocketIoClients) -> None:
    chat = f"ledger-{number}"
    run = await begin(chat, f"count {WORDS} 10", cluster.any)
    kinds = [KINDS[(number + place) % len(KINDS)] for place in range(VIEWERS)]
    watchers: list[Watcher] = [
        kind(chat, cluster.any, random.Random(f"{number} {place}"), socketio) for place, kind in enumerate(kinds)
    ]
    try:
        async with asyncio.timeout(seconds(30)):
            stopped = [stop_after(STOP_AFTER, chat, cluster.any)] if number % STOPPED == 0 else []
            await asyncio.gather(*stopped, *(watcher.watch(run) for watcher in watchers))
    except TimeoutError:
        late = [(type(it).__name__, it.cuts, it.viewer.states) for it in watchers if not it.viewer.has_ended(run)]
        logs = "\n".join(server.log()[-3000:] for server in cluster.servers)
        serve = f"{len(cluster.processes())} processes serve"
        pytest.fail(f"{chat}: these have not seen its end: {late}; {await kept(chat, cluster.any)}; {serve}; {logs}")
    message = await kept(chat, cluster.any)
    text = "".join(part["text"] for part in message["parts"] if part["type"] == "text")
    state = message["metadata"]["run"]["state"]
    whole = "".join(f"{word} " for word in range(WORDS))
    assert text == whole if state == "finished" else state in ("failed", "stopped")
    assert whole.startswith(text)
    for watcher in watchers:
        assert watcher.viewer.states[run] == state
        assert watcher.viewer.text(run) == text, f"{type(watcher).__name__} of {chat}"
        seen["cuts"] += watcher.cuts
    seen[state] += 1


async def run_all(cluster: Cluster, node: Path) -> Counter[str]:
    seen: Counter[str] = Counter()
    room = asyncio.Semaphore(AT_ONCE)

    async def each(number: int, socketio: SocketIoClients) -> None:
        async with room:
            await one_run(cluster, number, seen, socketio)

    async with socketio_clients(node) as socketio, asyncio.TaskGroup() as group:
        for number in range(RUNS):
            group.create_task(each(number, socketio))
    return seen


def check(seen: Counter[str], **more: Any) -> None:
    assert seen["finished"] + seen["failed"] + seen["stopped"] == RUNS
    assert seen["stopped"] + seen["failed"] > 0  # what is to be stopped may fail before
    assert seen["cuts"] > RUNS


@pytest.mark.parametrize("lease", ["10"])
@pytest.mark.timeout(60 + 3 * RUNS)
async def test_every_viewer_ends_with_the_bytes_of_the_run(cluster: Cluster, node: Path) -> None:
    seen = await run_all(cluster, node)
    check(seen)
    assert seen["failed"] == 0


@pytest.mark.parametrize("lease", ["1"])
@pytest.mark.timeout(60 + 6 * RUNS)
async def test_so_it_does_while_owners_are_paused_and_killed(cluster: Cluster, node: Path) -> None:
    done = asyncio.Event()
    faults = asyncio.gather(pause(cluster, done), kill(cluster, done))
    try:
        seen = await run_all(cluster, node)
    finally:
        done.set()
        await faults
    check(seen)
    assert min(cluster.faults["paused"], cluster.faults["killed"]) > 0
