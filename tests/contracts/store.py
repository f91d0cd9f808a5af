"""What every store has to do. A test module for a store gives the fixture `store`, not started, and imports it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from freshet.errors import StaleOwner
from freshet.stores.base import Change, Due, Store

NAMES = [" ", "a:b", "\n\x00", "é", "e\u0301", "E\u0301", "%", "_", "*", "'", "../y", "a" * 4096]
KEYS = ["", "a", "ab", "b", "é", "\U0001f600", "￿", "\x00", "%", "a_"]


@pytest.fixture
async def started(store: Store) -> AsyncIterator[Store]:
    await store.start()
    yield store
    await store.stop()


async def test_what_is_written_is_read_and_each_room_has_its_own(started: Store) -> None:
    one, two = await started.claim("one", 1), await started.claim("two", 1)
    await started.commit("one", one, Change({"price": b"\x00\xff", "by": b""}))
    await started.commit("two", two, Change({"price": b"2"}))
    assert await started.get("one", ["price", "by", "nothing"]) == {"price": b"\x00\xff", "by": b""}
    assert await started.get("two", ["price"]) == {"price": b"2"}
    assert await started.get("three", ["price"]) == {}
    assert await started.get("one", []) == {}


async def test_any_name_is_a_room_of_its_own_and_any_key(started: Store) -> None:
    for number, name in enumerate(NAMES):
        fence = await started.claim(name, 1)
        change = Change({key: b"%d %b" % (number, key.encode()) for key in NAMES}, reply=(name, b"%d" % number))
        await started.commit(name, fence, change)
    for number, name in enumerate(NAMES):
        kept = {key: b"%d %b" % (number, key.encode()) for key in NAMES}
        assert dict(await started.scan(name)) == await started.get(name, NAMES) == kept
        assert await started.reply(name, name) == b"%d" % number
        assert await started.reply(name, f"{name}x") is None


async def test_a_value_is_replaced_and_deleted(started: Store) -> None:
    fence = await started.claim("a", 1)
    await started.commit("a", fence, Change({"x": b"1", "y": b"1"}))
    await started.commit("a", fence, Change({"x": b"2", "y": None, "never": None}))
    assert await started.scan("a") == [("x", b"2")]


async def test_a_room_is_cleared_before_what_comes_with_it_is_written(started: Store) -> None:
    fence = await started.claim("a", 1)
    await started.commit("a", fence, Change({"x": b"1", "y": b"1"}))
    await started.commit("a", fence, Change({"y": b"2"}, clear=True))
    assert await started.scan("a") == [("y", b"2")]


async def test_keys_are_listed_in_their_order_from_a_place_and_by_a_prefix(started: Store) -> None:
    fence = await started.claim("a", 1)
    keys = [f"{stem}{each}" for stem in ("p", "q") for each in KEYS]
    await started.commit("a", fence, Change({key: key.encode() for key in reversed(keys)}))
    await started.commit("b", await started.claim("b", 1), Change({"p": b"of another room"}))
    ordered = sorted(keys, key=str.encode)
    assert [key for key, _ in await started.scan("a")] == ordered
    for prefix in ("", "p", "pa", "p\U0001f600", "p%", "z", "\U0010ffff"):
        matching = [key for key in ordered if key.startswith(prefix)]
        assert [key for key, _ in await started.scan("a", prefix)] == matching
        assert [key for key, _ in await started.scan("a", prefix, limit=2)] == matching[:2]
        assert [key for key, _ in await started.scan("a", prefix, after="pab")] == [it for it in matching if it > "pab"]
    assert await started.scan("a", limit=0) == []


async def test_a_fence_rises_with_each_owner_and_is_never_less_than_the_engine_says(started: Store) -> None:
    assert await started.claim("a", 1) == 1
    assert await started.claim("a", 1) == 2
    assert await started.claim("a", 70) == 70
    assert await started.claim("a", 3) == 71, "an engine that lost its data begins anew"
    assert await started.claim("b", 0) == 1


async def test_a_stale_owner_writes_nothing_of_what_it_wanted_to(started: Store) -> None:
    old = await started.claim("a", 1)
    await started.commit("a", old, Change({"x": b"old"}, alarm=50.0, reply=("r1", b"first")))
    new = await started.claim("a", 1)
    for fence in (old, new + 1, 0):
        with pytest.raises(StaleOwner):
            await started.commit("a", fence, Change({"x": b"late", "y": b"late"}, True, None, ("r2", b"late")))
    with pytest.raises(StaleOwner):
        await started.commit("nobody's", 1, Change({"x": b"1"}))
    assert await started.scan("a") == [("x", b"old")]
    assert await started.alarm("a") == 50.0
    assert await started.reply("a", "r2") is None
    await started.commit("a", new, Change({"x": b"new"}))
    assert await started.get("a", ["x"]) == {"x": b"new"}


async def test_of_owners_that_write_while_another_takes_over_only_the_last_is_heard(started: Store) -> None:
    """All at once: what a fence wrote before the next claim stays, nothing of it comes after."""
    refused = 0

    async def own(number: int) -> None:
        nonlocal refused
        fence = await started.claim("a", 0)
        for turn in range(10):
            try:
                await started.commit("a", fence, Change({"fence": b"%d" % fence, f"{fence}": b"%d" % turn}))
            except StaleOwner:
                refused += 1
                return
            await asyncio.sleep(0)

    await asyncio.gather(*(own(number) for number in range(20)))
    assert refused
    last = await started.claim("a", 0) - 1
    assert (await started.get("a", ["fence", str(last)])) == {"fence": b"%d" % last, str(last): b"9"}


async def test_a_reply_is_remembered_with_what_was_written(started: Store) -> None:
    fence = await started.claim("a", 1)
    assert await started.reply("a", "r1") is None
    await started.commit("a", fence, Change({"x": b"1"}, reply=("r1", b"done")))
    await started.commit("a", fence, Change({"x": b"2"}))
    assert await started.reply("a", "r1") == b"done"
    assert await started.reply("b", "r1") is None


async def test_a_room_has_one_alarm_that_stays_until_it_is_set_anew_or_deleted(started: Store) -> None:
    fence = await started.claim("a", 1)
    assert await started.alarm("a") is None
    await started.commit("a", fence, Change(alarm=100.5))
    await started.commit("a", fence, Change({"x": b"1"}))
    await started.claim("a", 1)
    assert await started.alarm("a") == 100.5
    await started.commit("a", fence + 1, Change(alarm=30.0))
    assert await started.due(1000.0, 10) == [Due("a", 30.0)]
    await started.commit("a", fence + 1, Change(alarm=None))
    assert await started.alarm("a") is None
    assert await started.due(1000.0, 10) == []


async def test_due_alarms_of_all_rooms_are_found_the_earliest_first(started: Store) -> None:
    for at in (30.0, 10.0, 20.0, 40.0):
        await started.commit(f"room{at:g}", await started.claim(f"room{at:g}", 1), Change(alarm=at))
    assert [it.room for it in await started.due(40.0, 10)] == ["room10", "room20", "room30"]
    assert await started.due(1000.0, 2) == [Due("room10", 10.0), Due("room20", 20.0)]


async def test_many_rooms_write_at_the_same_time(started: Store) -> None:
    async def write(room: str) -> None:
        fence = await started.claim(room, 1)
        for value in range(5):
            await started.commit(room, fence, Change({"n": b"%d" % value}))

    rooms = [f"room{number}" for number in range(100)]
    await asyncio.gather(*(write(room) for room in rooms))
    for room in rooms:
        assert await started.get(room, ["n"]) == {"n": b"4"}


class StoreMachine(RuleBasedStateMachine):
    """A store against dictionaries: whatever is claimed and written by whom, both hold the same."""

    def make(self) -> Store:
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.store = self.make()
        self.run = self.loop.run_until_complete
        self.run(self.store.start())
        self.fences: dict[str, int] = {}
        self.entries: dict[str, dict[str, bytes]] = {"a": {}, "b": {}}
        self.alarms: dict[str, float] = {}
        self.replies: dict[tuple[str, str], bytes] = {}

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.run(self.store.stop())
            self.loop.close()

    rooms = st.sampled_from(["a", "b"])
    changes = st.builds(
        Change,
        entries=st.dictionaries(st.sampled_from(KEYS[1:]), st.none() | st.binary(max_size=3), max_size=4),
        clear=st.booleans(),
        alarm=st.sampled_from([-1.0, None, 1.0, 2.0]),
        reply=st.none() | st.tuples(st.sampled_from(["r1", "r2"]), st.binary(max_size=2)),
    )

    @rule(room=rooms, fence=st.integers(0, 6))
    def claim(self, room: str, fence: int) -> None:
        self.fences[room] = max(fence, self.fences.get(room, 0) + 1)
        assert self.run(self.store.claim(room, fence)) == self.fences[room]

    @rule(room=rooms, change=changes, behind=st.sampled_from([0, 0, 0, 1]))
    def commit(self, room: str, change: Change, behind: int) -> None:
        fence = self.fences.get(room, 0) - behind
        if behind or not fence:
            with pytest.raises(StaleOwner):
                self.run(self.store.commit(room, fence, change))
            return
        self.run(self.store.commit(room, fence, change))
        entries = {} if change.clear else self.entries[room]
        merged = {**entries, **change.entries}
        self.entries[room] = {key: value for key, value in merged.items() if value is not None}
        if change.alarm is None:
            self.alarms.pop(room, None)
        elif change.alarm >= 0:
            self.alarms[room] = change.alarm
        if change.reply is not None:
            self.replies[room, change.reply[0]] = change.reply[1]

    @rule(room=rooms, prefix=st.sampled_from(KEYS), after=st.sampled_from(KEYS), limit=st.integers(-1, 3))
    def scan(self, room: str, prefix: str, after: str, limit: int) -> None:
        items = sorted(self.entries[room].items())
        found = [(key, value) for key, value in items if key.startswith(prefix) and key > after]
        assert self.run(self.store.scan(room, prefix, after, limit)) == (found if limit < 0 else found[:limit])

    @rule(room=rooms)
    def read(self, room: str) -> None:
        assert self.run(self.store.get(room, KEYS)) == self.entries[room]
        assert self.run(self.store.alarm(room)) == self.alarms.get(room)
        for request in ("r1", "r2"):
            assert self.run(self.store.reply(room, request)) == self.replies.get((room, request))

    @rule(before=st.sampled_from([1.0, 1.5, 3.0]))
    def due(self, before: float) -> None:
        due = sorted((at, room) for room, at in self.alarms.items() if at < before)
        assert self.run(self.store.due(before, 10)) == [Due(room, at) for at, room in due]
