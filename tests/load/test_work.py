"""The processes of a load, told line by line what to do, against a real server."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from freshet.load.conductor import WorkerProcess, conduct, shares
from freshet.load.plan import LoadError, Plan
from tests.tools.patience import seconds
from tests.tools.serving import Server, serving

WORKER = "freshet.cli.bench_worker"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--dev") as server:
        yield server


def plan(server: Server, load: str = "fanout", **changes: object) -> Plan:
    given = {"clients": 6, "channel": f"work:{load}", "dialect": "centrifuge", "seconds": 0.4, "rate": 50.0, **changes}
    return msgspec.convert({"load": load, "url": server.http(""), **given}, Plan)


@pytest.fixture
async def worker(server: Server) -> AsyncIterator[WorkerProcess]:
    process = WorkerProcess(plan(server, seconds=60), WORKER)
    await process.start()
    yield process
    await process.end()


async def within(waited: object) -> dict[str, object]:
    return await asyncio.wait_for(waited, seconds(10))  # type: ignore[arg-type]


async def test_a_process_connects_and_waits_until_all_may_begin(worker: WorkerProcess) -> None:
    connected = await within(worker.hear("connected"))
    assert connected["connects"] == 6
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(worker.hear("done"), 0.5)


async def test_a_process_that_is_stopped_gives_what_it_has(worker: WorkerProcess) -> None:
    await within(worker.hear("connected"))
    await worker.say("go")
    while not worker.deliveries:
        await within(worker.hear("progress"))
    await worker.say("stop")
    done = await within(worker.hear("done"))
    await worker.say(f"finish {done['published']}")
    result = await within(worker.hear("result"))
    assert result["counts"]["deliveries"] == 6 * done["published"] > 0  # type: ignore[index]
    series = await worker.samples(result["series"])  # type: ignore[arg-type]
    assert len(series["delivery"]) == 6 * done["published"]  # type: ignore[operator]


async def test_a_process_ends_when_nobody_is_there_to_tell_it_more(worker: WorkerProcess) -> None:
    await within(worker.hear("connected"))
    await worker.say("go")
    await asyncio.wait_for(worker.end(), seconds(10))


async def test_the_samples_of_all_processes_are_merged(server: Server) -> None:
    measured = await conduct(shares(plan(server, clients=7), 3), WORKER)
    assert measured.counts["published"] == 20
    assert measured.counts["deliveries"] == measured.counts["due"] == len(measured.series["delivery"]) == 7 * 20
    assert list(measured.series["delivery"]) == sorted(measured.series["delivery"])
    assert len(measured.series["connect"]) == 7
    assert len(measured.series["lag"]) == 20
    assert measured.is_whole


async def test_a_closed_loop_has_no_more_in_flight_than_it_may(server: Server) -> None:
    measured = await conduct([plan(server, rate=0, in_flight=3)], WORKER)
    counts = measured.counts
    assert counts["published"] > 3
    assert counts["deliveries"] == 6 * (counts["published"] - counts["refused"]), counts  # a quick one meets its rate


async def test_rooms_are_counted_by_their_members(server: Server) -> None:
    measured = await conduct(shares(plan(server, "chat", clients=9, members=3), 2), WORKER)
    assert measured.counts["deliveries"] == 3 * measured.counts["published"] == measured.counts["due"]


async def test_an_end_of_a_process_is_an_error_that_says_which(server: Server) -> None:
    with pytest.raises(LoadError, match="process 0 of the load ended with"):
        await conduct([plan(server)], "freshet.no_such_module")


async def test_what_a_process_cannot_do_ends_all_with_the_reason(server: Server) -> None:
    with pytest.raises(LoadError, match="404"):
        await conduct(shares(plan(server, url=server.http("/nowhere")), 2), WORKER)


async def test_a_storm_that_is_turned_away_waits_and_comes_back() -> None:
    limits = {"FRESHET_LIMITS__CONNECTS_PER_SECOND": "10", "FRESHET_LIMITS__CONNECTS_BURST": "5"}
    with serving("--dev", env=limits) as server:
        measured = await conduct([plan(server, "idle", clients=20, at_once=20, seconds=0.1)], WORKER)
    assert len(measured.series["connect"]) == 20
    assert measured.counts["turned_away"] > 0
