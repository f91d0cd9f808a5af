"""The hub: history and the live flow merge without a gap or a repeat, however they interleave."""

import asyncio
import json
from collections import deque
from typing import Any

import pytest
from centrifuge.fossil import apply_delta
from hypothesis import given
from hypothesis import strategies as st

from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.dialects.channel_url import ChannelUrl
from freshet.dialects.socketio.packets import SocketIO
from freshet.engines.base import Receiver
from freshet.engines.memory import MemoryEngine
from freshet.errors import EngineUnavailable
from freshet.hub.hub import Hub
from freshet.model.events import Subscribed
from freshet.model.log import NOWHERE, History, Position, PublishOptions, Stream
from freshet.rules.rules import ChannelRule
from freshet.session.outbox import Outbox, Turn
from freshet.websocket.frames import wire
from tests.tools.patience import eventually


def unheard(message: bytes) -> None:
    """There is no other node."""


KEEP = History(size=100, ttl=60)
RULE = ChannelRule("*", history=KEEP)


class Listener:
    """As much of a session as the hub sees."""

    def __init__(self, turn: Turn) -> None:
        self.id = "client"
        self.user = "alice"
        self.dialect = Centrifuge()
        self.outbox = Outbox(turn, 1 << 20)


def offsets(outbox: Outbox) -> list[int]:
    lines = b"\n".join(frame.data for frame in outbox.take()).splitlines()
    return [int(line.rpartition(b":")[2].strip(b"}")) for line in lines]


@given(
    before=st.integers(0, 5),
    missed=st.integers(0, 5),
    steps=st.lists(st.sampled_from(["publish", "turn"]), max_size=12),
    read_at=st.integers(0, 12),
)
def test_a_returning_client_gets_every_offset_once_in_order(
    before: int, missed: int, steps: list[str], read_at: int
) -> None:
    """Between joining and settling, publications come and turns end at any moment; history is read at any of them."""

    async def story() -> None:
        engine, turn = MemoryEngine(), Turn()
        hub = Hub(engine, turn)
        await engine.start("node", Receiver(hub.deliver, hub.suspect, unheard))
        other, returning = Listener(turn), Listener(turn)
        hub.settle(await hub.join(other, "a", RULE), await engine.history("a", KEEP), None)  # type: ignore[arg-type]

        async def publish() -> None:
            await engine.publish("a", b"1", PublishOptions(history=KEEP))

        for _ in range(before):
            await publish()
        since = (await engine.history("a", KEEP)).position
        for _ in range(missed):
            await publish()
        joining = await hub.join(returning, "a", RULE)  # type: ignore[arg-type]
        stream: Stream | None = None
        for index, step in enumerate(steps):
            if index == read_at:
                stream = await engine.history("a", KEEP, since)
            if step == "publish":
                await publish()
            else:
                turn.end()
        stream = stream or await engine.history("a", KEEP, since)
        replay, recovered = hub.settle(joining, stream, since)
        received = [publication.offset for publication in replay.publications]
        for _ in range(3):
            await publish()
        turn.end()
        received += offsets(returning.outbox)
        top = (await engine.history("a", KEEP, limit=0)).position.offset
        assert recovered is True
        assert received == list(range(since.offset + 1, top + 1))
        assert offsets(other.outbox) == list(range(1, top + 1))
        await engine.stop()

    asyncio.run(story())


@given(st.lists(st.sampled_from(["publish", "turn", "join", "read", "settle", "leave"]), max_size=40))
def test_each_of_many_hears_without_gap_or_repeat_from_its_place_on_until_it_leaves(steps: list[str]) -> None:
    """Clients subscribe, get history, and leave, in whatever order, while publications come and turns end."""

    async def story() -> None:
        engine, turn = MemoryEngine(), Turn()
        hub = Hub(engine, turn)
        await engine.start("node", Receiver(hub.deliver, hub.suspect, unheard))
        coming: deque[list[Any]] = deque()
        here: deque[tuple[Any, int]] = deque()
        top = 0
        for step in steps:
            if step == "publish":
                top = (await engine.publish("a", b"1", PublishOptions(history=KEEP))).offset
            elif step == "turn":
                turn.end()
            elif step == "join":
                each: Any = Listener(turn)
                coming.append([each, await hub.join(each, "a", RULE), None])
            elif step == "read" and coming:
                coming[0][2] = await engine.history("a", KEEP, limit=0)
            elif step == "settle" and coming and coming[0][2]:
                each, joining, stream = coming.popleft()
                replay, _ = hub.settle(joining, stream, None)
                here.append((each, replay.position.offset))
            elif step == "leave" and here:
                each, place = here.popleft()
                turn.end()
                hub.leave(each, "a")
                assert offsets(each.outbox) == list(range(place + 1, top + 1))
        turn.end()
        for each, place in here:
            assert offsets(each.outbox) == list(range(place + 1, top + 1))
        await engine.stop()

    asyncio.run(story())


class Reader:
    """A client that asked for differences, if `delta`, and puts together what it gets."""

    def __init__(self, turn: Turn, delta: bool) -> None:
        self.session: Any = Listener(turn)
        self.delta = delta
        self.value = b""
        self.got: list[Any] = []

    def decode(self, publications: list[Any]) -> None:
        for each in publications:
            data = each["data"]
            if self.delta:
                part = data.encode()
                self.value = apply_delta(self.value, part) if each.get("delta") else part
                data = json.loads(self.value)
            self.got.append(data)

    def take(self) -> None:
        for frame in self.session.outbox.take():
            self.decode([json.loads(line)["push"]["pub"] for line in frame.data.splitlines()])

    def settled(self, replay: Stream, recovered: bool | None) -> None:
        event = Subscribed("a", 1, replay.position, True, recovered, replay.publications, delta=self.delta)
        frame = self.session.dialect.encode(event)
        self.decode(json.loads(frame.data)["subscribe"].get("publications", []))


@given(
    st.lists(st.sampled_from(["publish", "same", "turn", "plain", "delta", "return", "settle", "leave"]), max_size=40)
)
def test_whoever_gets_differences_ends_with_the_same_values(steps: list[str]) -> None:
    """Clients of both sorts come, come back and go, in whatever order, while publications come and turns end."""

    async def story() -> None:
        engine, turn = MemoryEngine(), Turn()
        hub = Hub(engine, turn)
        rule = ChannelRule("*", history=KEEP, delta=True)
        await engine.start("node", Receiver(hub.deliver, hub.suspect, unheard))
        start = (await engine.history("a", KEEP)).position
        values: list[Any] = []
        coming: deque[tuple[Reader, Any, Position | None]] = deque()
        here: deque[tuple[Reader, int]] = deque()
        for number, step in enumerate(steps):
            if step in ("publish", "same"):
                if step == "publish" or not values:
                    values.append(
                        {"text": "ein längerer Text, der bleibt " * 3, "number": number, "sign": "ä€日"[number % 3]}
                    )
                else:
                    values.append(values[-1])
                data = json.dumps(values[-1], ensure_ascii=False).encode()
                await engine.publish("a", data, PublishOptions(history=KEEP))
            elif step == "turn":
                turn.end()
            elif step in ("plain", "delta", "return"):
                reader = Reader(turn, step != "plain")
                joining = await hub.join(reader.session, "a", rule, delta=reader.delta)
                coming.append((reader, joining, start if step == "return" else None))
            elif step == "settle" and coming:
                reader, joining, since = coming.popleft()
                replay, recovered = hub.settle(joining, await engine.history("a", KEEP, since), since)
                reader.settled(replay, recovered)
                here.append((reader, 0 if since else len(values)))
            elif step == "leave" and here:
                reader, place = here.popleft()
                turn.end()
                hub.leave(reader.session, "a")
                reader.take()
                assert reader.got == values[place:]
        turn.end()
        for reader, place in here:
            reader.take()
            assert reader.got == values[place:]
        await engine.stop()

    asyncio.run(story())


async def test_a_difference_is_made_once_for_all_who_get_it() -> None:
    engine, turn, hub, _rule, _session = await scene(size=10)
    rule = ChannelRule("*", delta=True)
    readers = [Reader(turn, delta=True) for _ in range(3)]
    for reader in readers:
        hub.settle(await hub.join(reader.session, "a", rule, delta=True), None, None)
    for number in range(3):
        await engine.publish("a", b'{"text":"%b","n":%d}' % (b"long " * 20, number), PublishOptions())
        turn.end()
        frames = {id(reader.session.outbox.first) for reader in readers}
        assert len(frames) == 1
        frame = readers[0].session.outbox.first
        assert (b'"delta":true' in frame.data) == (number > 0)
        assert number == 0 or len(frame.data) < 100
        for reader in readers:
            reader.take()
    await engine.stop()


async def test_what_is_not_shorter_is_sent_whole() -> None:
    engine, turn, hub, _rule, _session = await scene(size=10)
    reader = Reader(turn, delta=True)
    hub.settle(await hub.join(reader.session, "a", ChannelRule("*", delta=True), delta=True), None, None)
    for data in (b"[1,2,3]", b'{"nothing":"alike"}', b"7"):
        await engine.publish("a", data, PublishOptions())
        turn.end()
        assert b"delta" not in reader.session.outbox.first.data
        reader.take()
    assert reader.got == [[1, 2, 3], {"nothing": "alike"}, 7]
    await engine.stop()


async def scene(size: int) -> tuple[MemoryEngine, Turn, Hub, ChannelRule, Any]:
    engine, turn = MemoryEngine(), Turn()
    hub = Hub(engine, turn)
    await engine.start("node", Receiver(hub.deliver, hub.suspect, unheard))
    return engine, turn, hub, ChannelRule("*", history=History(size=size, ttl=60)), Listener(turn)


async def test_more_than_is_kept_while_joining_is_a_loss_that_is_notified() -> None:
    engine, _turn, hub, rule, session = await scene(size=3)
    assert rule.history is not None
    since = (await engine.history("a", rule.history)).position
    joining = await hub.join(session, "a", rule)
    stream = await engine.history("a", rule.history, since)
    for _ in range(5):
        await engine.publish("a", b"1", PublishOptions(history=rule.history))
    replay, recovered = hub.settle(joining, stream, since)
    assert recovered is False
    assert replay.publications == []
    assert replay.position.offset == 5
    await engine.stop()


async def test_publications_of_one_turn_go_out_in_one_frame_shared_by_all() -> None:
    engine, turn, hub, rule, _session = await scene(size=10)
    sessions = [Listener(turn) for _ in range(3)]
    for each in sessions:
        hub.settle(await hub.join(each, "a", rule), await engine.history("a", KEEP), None)  # type: ignore[arg-type]
    for _ in range(8):
        await engine.publish("a", b"1", PublishOptions(history=KEEP))
    turn.end()
    frames = [each.outbox.take() for each in sessions]
    assert [len(each) for each in frames] == [1, 1, 1]
    assert len({id(each[0]) for each in frames}) == 1
    assert frames[0][0].data.count(b"\n") == 7
    await engine.stop()


@pytest.mark.parametrize("dialect", [Centrifuge(), ChannelUrl("a"), SocketIO("/"), SocketIO("/", recovers=True)])
async def test_publications_of_one_turn_are_one_write_for_each_client_whatever_the_dialect(dialect: Dialect) -> None:
    """Of the same bytes for all; what an outbox adds, it adds to all of them at once."""
    engine, turn = MemoryEngine(), Turn()
    hub = Hub(engine, turn)
    await engine.start("node", Receiver(hub.deliver, hub.suspect, unheard))
    listeners = [Listener(turn) for _ in range(3)]
    for listener in listeners:
        listener.dialect = dialect  # type: ignore[assignment]
        hub.settle(await hub.join(listener, "a", RULE), await engine.history("a", KEEP), None)  # type: ignore[arg-type]
    for _ in range(8):
        await engine.publish("a", b"1", PublishOptions(history=KEEP))
    written: list[bytes] = []
    for listener in listeners:
        listener.outbox.attach(lambda outbox=listener.outbox: written.append(wire(outbox.first)))
    turn.end()
    assert [listener.outbox.more for listener in listeners] == [None] * 3
    assert len({id(listener.outbox.first) for listener in listeners}) == 1
    assert len(written) == 3


async def test_a_channel_that_everyone_left_is_forgotten_here_and_by_the_engine() -> None:
    engine, _turn, hub, rule, session = await scene(size=10)
    hub.settle(await hub.join(session, "a", rule), await engine.history("a", KEEP), None)
    assert len(hub.channels()) == 1
    hub.leave(session, "a")
    await asyncio.sleep(0)
    assert len(hub.channels()) == 0
    assert engine._subscribed == set()
    await engine.stop()


async def test_clients_of_two_protocols_hear_the_same_each_in_its_own_words() -> None:
    engine, turn, hub, rule, first = await scene(size=10)
    second: Any = Listener(turn)
    second.dialect = ChannelUrl("a")
    for each in (first, second):
        hub.settle(await hub.join(each, "a", rule), await engine.history("a", KEEP), None)
    for number in range(3):
        await engine.publish("a", b"%d" % number, PublishOptions(history=KEEP))
    turn.end()
    assert offsets(first.outbox) == [1, 2, 3]
    assert [frame.data for frame in second.outbox.take()] == [b"0", b"1", b"2"]
    hub.leave(first, "a")
    await engine.publish("a", b"3", PublishOptions(history=KEEP))
    turn.end()
    assert [frame.data for frame in second.outbox.take()] == [b"3"]
    assert first.outbox.take() == []
    await engine.stop()


async def test_a_way_into_a_channel_that_comes_to_nothing_leaves_nothing() -> None:
    engine, _turn, hub, rule, session = await scene(size=10)
    hub.abandon(await hub.join(session, "a", rule))
    await eventually(lambda: not hub._unsubscribing)
    assert len(hub.channels()) == 0
    assert engine._subscribed == set()
    await engine.stop()


async def test_an_engine_that_fails_lets_the_next_one_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, turn, hub, rule, session = await scene(size=10)

    async def fail(channel: str, keep: History) -> None:
        raise EngineUnavailable("for now")

    with monkeypatch.context() as broken:
        broken.setattr(engine, "subscribe", fail)
        with pytest.raises(EngineUnavailable):
            await hub.join(session, "a", rule)
    assert len(hub.channels()) == 0
    hub.settle(await hub.join(session, "a", rule), await engine.history("a", KEEP), None)
    await engine.publish("a", b"1", PublishOptions(history=KEEP))
    turn.end()
    assert offsets(session.outbox) == [1]
    await engine.stop()


async def test_when_all_logs_are_lost_all_are_notified_and_the_log_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine, turn, hub, rule, _session = await scene(size=10)
    sessions = [Listener(turn) for _ in range(20)]
    for number, each in enumerate(sessions):
        hub.settle(await hub.join(each, f"c{number}", rule), await engine.history(f"c{number}", KEEP), None)  # type: ignore[arg-type]

    async def another(channel: str, keep: History, since: Position | None = None) -> Stream:
        return Stream([], Position("another", 5))

    monkeypatch.setattr(engine, "history", another)
    hub.suspect("")
    await eventually(lambda: all(each.outbox.closed for each in sessions), 5, "all to be notified")
    assert sum("its log cannot fill" in record.message for record in caplog.records) == 1
    await engine.stop()


async def test_one_who_comes_while_the_last_one_goes_hears_everything() -> None:
    """Losing interest takes a turn: it must not end what a new listener has just begun."""
    engine, turn, hub, rule, last = await scene(size=10)
    following: Any = Listener(turn)
    hub.settle(await hub.join(last, "a", rule), await engine.history("a", KEEP), None)
    hub.leave(last, "a")
    hub.settle(await hub.join(following, "a", rule), await engine.history("a", KEEP), None)
    await eventually(lambda: not hub._unsubscribing)
    assert engine._subscribed == {"a"}
    await engine.publish("a", b"1", PublishOptions(history=KEEP))
    turn.end()
    assert offsets(following.outbox) == [1]
    await engine.stop()


async def test_leaving_twice_or_what_was_never_joined_is_harmless() -> None:
    engine, _turn, hub, rule, session = await scene(size=10)
    hub.leave(session, "nowhere")
    hub.settle(await hub.join(session, "a", rule), await engine.history("a", KEEP), None)
    hub.leave(session, "a")
    hub.leave(session, "a")
    assert hub.channels() == {}
    await engine.stop()


async def test_without_a_log_only_what_comes_after_joining_is_heard_and_recovery_is_denied() -> None:
    engine, turn, hub, _rule, session = await scene(size=10)
    bare = ChannelRule("*")
    joining = await hub.join(session, "a", bare)
    await engine.publish("a", b"1", PublishOptions())
    replay, recovered = hub.settle(joining, None, Position("e", 1))
    assert (replay.publications, replay.position, recovered) == ([], NOWHERE, False)
    await engine.publish("a", b"2", PublishOptions())
    turn.end()
    assert b'"data":2' in session.outbox.take()[0].data
    await engine.stop()


async def test_who_looks_on_sees_all_and_is_no_subscriber() -> None:
    engine, turn = MemoryEngine(), Turn()
    hub = Hub(engine, turn)
    await engine.start("node", Receiver(hub.deliver, hub.suspect, unheard))
    seen: list[object] = []
    occupied: list[bool] = []
    hub.occupancy = lambda channel, is_occupied: occupied.append(is_occupied)
    end = await hub.tap("a", RULE, seen.extend)
    await engine.publish("a", b"1", PublishOptions(history=KEEP))
    await eventually(lambda: len(seen) == 1)
    assert hub.channels() == {}
    client = Listener(turn)
    hub.settle(await hub.join(client, "a", RULE), await engine.history("a", KEEP), None)  # type: ignore[arg-type]
    assert occupied == [True]
    assert list(hub.activity()) == [("a", 1, 1)]
    hub.leave(client, "a")  # type: ignore[arg-type]
    assert occupied == [True, False]  # though somebody still looks
    await engine.publish("a", b"2", PublishOptions(history=KEEP))
    await eventually(lambda: len(seen) == 2)
    end()
    await engine.publish("a", b"3", PublishOptions(history=KEEP))
    await asyncio.sleep(0)
    assert len(seen) == 2
    assert not hub._channels
    await hub.stop()
