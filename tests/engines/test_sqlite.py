"""The SQLite engine: the contract, and what is there after a restart, a crash, and a disk that is full."""

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from freshet.engines.sqlite import SqliteEngine
from freshet.errors import ConfigError, EngineUnavailable
from freshet.model.log import Kind, Position, PublishOptions
from freshet.testing import ManualClock
from tests.contracts.engine import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.engine import ALICE, KEEP, LOGGED, Delivered
from tests.contracts.own_events import *  # noqa: F403
from tests.contracts.owning import *  # noqa: F403
from tests.tools.clients import CONFIG, Listener, connected, soon
from tests.tools.patience import eventually, seconds
from tests.tools.serving import free_port, serving

DELETES = 9  # SQLITE_DELETE, which Python has no name for


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "freshet.db"


@pytest.fixture
def engine(path: Path) -> SqliteEngine:
    return SqliteEngine(f"sqlite:///{path}")


@asynccontextmanager
async def opened(path: Path, clock: ManualClock | None = None) -> AsyncIterator[SqliteEngine]:
    engine = SqliteEngine(f"sqlite:///{path}", **({"clock": clock} if clock else {}))
    await engine.start("node", Delivered().receiver)
    yield engine
    await engine.stop()


async def test_all_is_there_after_a_restart(path: Path) -> None:
    rich = PublishOptions(kind=Kind.BYTES, history=KEEP, tags={"event": "price"}, info=ALICE, idempotency_key="once")
    async with opened(path) as engine:
        for index in range(8):
            await engine.publish("a", b"%d" % index, LOGGED)
        last = await engine.publish("a", b"\x00\xff", rich)
        before = await engine.history("a", KEEP)
        await engine.publish("b", b"1", LOGGED)
        await engine.remove_history("b")
    async with opened(path) as engine:
        assert await engine.history("a", KEEP) == before
        assert await engine.publish("a", b"again", rich) == last
        assert await engine.publish("a", b"next", LOGGED) == Position(last.epoch, last.offset + 1)
        removed = await engine.history("b", KEEP)
        assert (removed.publications, removed.position.offset) == ([], 1)


async def test_what_is_over_does_not_come_back(path: Path) -> None:
    clock = ManualClock(1000.0)
    async with opened(path, clock) as engine:
        first = await engine.publish("a", b"1", LOGGED)
        await engine.subscribe("subscribed", KEEP)
        position = await engine.publish("subscribed", b"1", LOGGED)
        clock.now += KEEP.ttl - 1
        engine.sweep()
    clock.now += 2
    async with opened(path, clock) as engine:
        assert (await engine.history("a", KEEP)).position.epoch != first.epoch
        stream = await engine.history("subscribed", KEEP)
        assert stream.position == position, "somebody listened to the end"
        assert stream.publications == []
    assert sqlite3.connect(path).execute("SELECT count(*) FROM entries").fetchone() == (0,)


async def test_a_log_that_begins_anew_holds_nothing_of_the_old_one(path: Path) -> None:
    clock = ManualClock(1000.0)
    async with opened(path, clock) as engine:
        for _ in range(5):
            old = await engine.publish("a", b"old", LOGGED)
        clock.now += KEEP.ttl + 1
        new = await engine.publish("a", b"new", LOGGED)
        assert (new.epoch != old.epoch, new.offset) == (True, 1)
    async with opened(path, clock) as engine:
        stream = await engine.history("a", KEEP)
        assert [each.data for each in stream.publications] == [b"new"]
        assert stream.position == new


async def test_what_comes_at_once_is_one_transaction(path: Path) -> None:
    async with opened(path) as engine:
        assert engine._disk is not None
        begun: list[str] = []
        engine._disk.set_trace_callback(lambda statement: begun.append(statement) if statement == "BEGIN" else None)
        await asyncio.gather(*(engine.publish(f"channel {index % 7}", b"1", LOGGED) for index in range(200)))
        assert len(begun) == 1


async def test_another_process_may_not_use_the_file_and_nobody_may_read_it(path: Path) -> None:
    async with opened(path) as engine:
        with pytest.raises(EngineUnavailable, match="in use by another process"):
            async with opened(path):
                pass
        assert (await engine.publish("a", b"1", LOGGED)).offset == 1
        for file in path.parent.glob("freshet.db*"):
            assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


async def test_a_file_that_is_none_of_ours_is_left_alone(path: Path) -> None:
    path.write_bytes(b"not a database at all, but quite some text" * 100)
    with pytest.raises(EngineUnavailable, match="not a database"):
        async with opened(path):
            pass
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (a)")
    other.close()
    with pytest.raises(EngineUnavailable, match="a database of something else"):
        async with opened(path):
            pass


async def test_a_file_of_a_later_form_is_not_touched(path: Path) -> None:
    async with opened(path):
        pass
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(EngineUnavailable, match="has the form 99, this Freshet reads 1"):
        async with opened(path):
            pass


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:freshet.db"])
def test_a_path_is_asked_for(url: str) -> None:
    with pytest.raises(ConfigError, match="expected sqlite:/// and a path"):
        SqliteEngine(url)


async def test_a_disk_that_is_full_refuses_and_loses_nothing(path: Path) -> None:
    async with opened(path) as engine:
        assert engine._disk is not None
        await engine.subscribe("a", KEEP)
        first = await engine.publish("a", b"1", LOGGED)
        engine._disk.execute("PRAGMA max_page_count = 20")
        with pytest.raises(EngineUnavailable, match="full"):
            await engine.publish("a", bytes(1 << 20), LOGGED)
        assert (await engine.history("a", KEEP)).position == first
        engine._disk.execute("PRAGMA max_page_count = 100000")
        assert await engine.publish("a", b"2", LOGGED) == Position(first.epoch, 2)


async def test_after_a_sweep_that_failed_it_goes_on(path: Path) -> None:
    clock = ManualClock()
    async with opened(path, clock) as engine:
        assert engine._disk is not None
        await engine.publish("a", b"1", LOGGED)
        engine._disk.set_authorizer(lambda action, *_: sqlite3.SQLITE_DENY if action == DELETES else sqlite3.SQLITE_OK)
        await engine._expire()
        assert not engine._disk.in_transaction
        engine._disk.set_authorizer(None)
        assert (await engine.publish("a", b"2", LOGGED)).offset == 2


@pytest.mark.parametrize("instead", [False, True])
async def test_a_file_that_is_removed_or_replaced_takes_nothing_more(path: Path, instead: bool) -> None:
    """What is written to a removed file is gone with the process, though the system takes it."""
    async with opened(path) as engine:
        first = await engine.publish("a", b"1", LOGGED)
        path.unlink()
        if instead:
            path.touch()
        for refused in (engine.publish("a", b"2", LOGGED), engine.remove_history("a")):
            with pytest.raises(EngineUnavailable, match="removed or replaced"):
                await refused
        assert (await engine.history("a", KEEP)).position == first


async def test_a_server_that_is_killed_has_all_that_it_acknowledged_and_clients_recover(tmp_path: Path) -> None:
    config, port, path = tmp_path / "freshet.toml", free_port(), tmp_path / "freshet.db"
    config.write_text(f'engine = "sqlite:///{path}"\n' + CONFIG + "[api]\nanonymous = true\n")
    acknowledged: list[int] = []
    with serving("--config", str(config), port=port) as server:
        async with connected(server, min_reconnect_delay=0.05, max_reconnect_delay=0.2) as client:
            listener = Listener(client, "kept")
            await listener.start()

            async def publish() -> None:
                async with httpx.AsyncClient(base_url=server.http(""), timeout=seconds(5)) as http:
                    for number in range(100_000):
                        answer = await http.post("/api/publish", json={"channel": "kept", "data": number})
                        assert answer.json()["result"]["offset"] == number + 1
                        acknowledged.append(number)

            publishing = asyncio.create_task(publish())
            await eventually(lambda: len(acknowledged) > 100, 10, "publications")
            await asyncio.to_thread(server.kill)
            with pytest.raises(httpx.HTTPError):
                await publishing
            with serving("--config", str(config), port=port) as again:
                context = await soon(listener.subscribed.get())
                assert (context.was_recovering, context.recovered) == (True, True)
                async with httpx.AsyncClient(base_url=again.http("")) as http:
                    ask = {"channel": "kept", "limit": -1}
                    result = (await http.post("/api/history", json=ask)).json()["result"]
                kept = [each["data"] for each in result["publications"]]
                assert kept[: len(acknowledged)] == acknowledged
                assert len(kept) - len(acknowledged) <= 1, "only what was not answered may be there, too"
                assert await listener.data(len(kept)) == kept
