"""The SQLite store: the contract, what is there after a crash, and processes that share the file."""

import asyncio
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from freshet.errors import ConfigError, StaleOwner, StoreUnavailable
from freshet.stores.base import REPLY_TIME, Change, Due
from freshet.stores.sqlite import SqliteStore
from freshet.testing import ManualClock
from tests.contracts.store import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.store import StoreMachine
from tests.tools.need import ROOT
from tests.tools.patience import seconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rooms.db"


@pytest.fixture
def store(path: Path) -> SqliteStore:
    return SqliteStore(f"sqlite:///{path}")


class SqliteMachine(StoreMachine):
    def make(self) -> SqliteStore:
        self.folder = tempfile.TemporaryDirectory(prefix="freshet-store-")
        return SqliteStore(f"sqlite:///{self.folder.name}/rooms.db")

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestModel = SqliteMachine.TestCase
TestModel.settings = settings(max_examples=20, stateful_step_count=20)

CRASHES = """
import asyncio, os, sys
from freshet.stores.base import Change
from freshet.stores.sqlite import SqliteStore

async def main():
    store = SqliteStore("sqlite:///" + sys.argv[1])
    await store.start()
    fence = await store.claim("a", 1)
    number = 0
    while True:
        number += 1
        await store.commit("a", fence, Change({"x": b"%d" % number, "y": b"%d" % number}, alarm=float(number)))
        print(number, flush=True)

asyncio.run(main())
"""


def test_what_was_acknowledged_is_there_after_a_kill_and_nothing_is_there_in_part(path: Path) -> None:
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", CRASHES, str(path)], stdout=subprocess.PIPE, cwd=ROOT)
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(20)][-1]
        writer.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *(int(line) for line in writer.stdout if line.endswith(b"\n"))])
        writer.wait(seconds(5))
        writer.stdout.close()

        async def read() -> tuple[dict[str, bytes], float | None]:
            store = SqliteStore(f"sqlite:///{path}")
            await store.start()
            found = await store.get("a", ["x", "y"]), await store.alarm("a")
            await store.stop()
            return found

        entries, alarm = asyncio.run(read())
        assert int(entries["x"]) in (acknowledged, acknowledged + 1), "the last may have been on its way"
        assert entries["y"] == entries["x"]
        assert alarm == float(entries["x"])


async def test_processes_share_the_file_and_the_fence_holds_between_them(path: Path, store: SqliteStore) -> None:
    other = SqliteStore(f"sqlite:///{path}")
    await store.start()
    await other.start()
    old = await store.claim("a", 1)
    await store.commit("a", old, Change({"x": b"1"}, alarm=5.0))
    new = await other.claim("a", 1)
    assert await other.get("a", ["x"]) == {"x": b"1"}
    with pytest.raises(StaleOwner):
        await store.commit("a", old, Change({"x": b"2"}))
    await other.commit("a", new, Change({"x": b"3"}))
    assert await store.get("a", ["x"]) == {"x": b"3"}
    assert await store.due(10.0, 10) == [Due("a", 5.0)]
    await store.stop()
    await other.stop()


OPENED_AT_ONCE = """
import asyncio, os, sys, time
from freshet.stores.sqlite import SqliteStore
for number in range(30):
    at, workers = time.monotonic() + 0.03, []
    for _ in range(6):
        if not (child := os.fork()):
            store = SqliteStore(f"sqlite:///{sys.argv[1]}/{number}.db")
            time.sleep(max(0, at - time.monotonic()))
            asyncio.run(store.start())
            os._exit(0)
        workers.append(child)
    assert not any(os.waitpid(each, 0)[1] for each in workers), number
"""


def test_all_workers_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", OPENED_AT_ONCE, str(tmp_path)], cwd=ROOT, check=True, timeout=seconds(30))


async def test_replies_are_forgotten_after_their_time(path: Path) -> None:
    clock = ManualClock(1000.0)
    store = SqliteStore(f"sqlite:///{path}", clock)
    await store.start()
    fence = await store.claim("a", 1)
    await store.commit("a", fence, Change(reply=("r1", b"1")))
    clock.now += REPLY_TIME - 1
    await store.commit("a", fence, Change(reply=("r2", b"2")))
    assert await store.reply("a", "r1") == b"1"
    clock.now += 32
    await store.commit("a", fence, Change())
    assert await store.reply("a", "r1") is None
    assert await store.reply("a", "r2") == b"2"
    await store.stop()


async def test_only_the_owner_of_the_process_may_read_the_file(path: Path, store: SqliteStore) -> None:
    await store.start()
    await store.stop()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_file_that_is_removed_takes_no_more_writes(path: Path, store: SqliteStore) -> None:
    await store.start()
    fence = await store.claim("a", 1)
    path.unlink()
    with pytest.raises(StoreUnavailable, match="removed or replaced"):
        await store.commit("a", fence, Change({"x": b"1"}))
    await store.stop()


async def test_a_disk_that_refuses_writes_keeps_what_was_there(path: Path, store: SqliteStore) -> None:
    await store.start()
    fence = await store.claim("a", 1)
    await store.commit("a", fence, Change({"x": b"1"}))
    assert store._disk is not None
    store._disk.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreUnavailable):
        await store.commit("a", fence, Change({"x": b"2"}))
    store._disk.execute("PRAGMA query_only = OFF")
    assert await store.get("a", ["x"]) == {"x": b"1"}
    await store.commit("a", fence, Change({"x": b"3"}))
    assert await store.get("a", ["x"]) == {"x": b"3"}
    await store.stop()


async def test_a_file_of_something_else_or_of_another_form_is_refused(path: Path, store: SqliteStore) -> None:
    with pytest.raises(StoreUnavailable, match="does not run"):
        await store.claim("a", 1)
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE accounts (name TEXT)")
    with pytest.raises(StoreUnavailable, match="something else"):
        await store.start()
    path.unlink()
    await store.start()
    await store.stop()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailable, match="form 99"):
        await store.start()
    path.write_text("no database at all, but long enough to be taken for one" * 10)
    with pytest.raises(StoreUnavailable):
        await store.start()
    with pytest.raises(ConfigError):
        SqliteStore("sqlite:///")
