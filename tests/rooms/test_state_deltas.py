"""A state for clients that apply deltas: they end with the map that there is, and get little where little changes."""

import asyncio
import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from centrifuge.fossil import apply_delta
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from freshet import Freshet, History
from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge import client_pb2
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.dialects.centrifuge.protobuf import CentrifugeProtobuf, read_delimited
from freshet.endpoints.in_process import settle
from freshet.errors import Disconnect
from freshet.model.commands import Connect, Publish, Subscribe
from freshet.model.entries import EntryPage
from freshet.model.frame import Frame
from freshet.model.log import Position
from freshet.testing import ManualClock
from tests.rooms.test_rooms import application
from tests.tools.patience import eventually
from tests.tools.sessions import from_loop, opened

CHANNEL = "s:x"
TEXT = "ein längerer Text, der bleibt; 日本語も 🙂; " * 40
MODES = ["persistent", "recoverable", "ephemeral"]


def value(number: int) -> dict[str, Any]:
    """The same in all is not at the same place, so that a delta to another one than is meant gives something else."""
    return {"pad": "x" * (number * 5 % 11), "text": TEXT, "sign": "äöü€日"[number % 5], "number": number}


def read(frame: Frame) -> Iterator[Any]:
    """The replies in a frame, as messages of Protobuf; where a client applies deltas, data is text in JSON."""
    at = 0
    while frame.binary and at < len(frame.data):
        message, at = read_delimited(frame.data, at)
        yield client_pb2.Reply.FromString(message)
    for line in [] if frame.binary else frame.data.split(b"\n"):
        reply = json.loads(line)
        subscribed, push = reply.get("subscribe", {}), reply.get("push", {})
        for it in (*subscribed.get("state", []), *subscribed.get("publications", []), push.get("pub", {})):
            if "data" in it:
                it["data"] = it["data"].encode()
        yield client_pb2.Reply(**reply)


class Mapped:
    """A client that takes the state as a map, and keeps what the official one keeps.

    bases: the values that a delta may be to. along: keys of the entries that it got last. place: where it stands; None:
    it begins anew. deltas, size: how many came, and the bytes of all data that was pushed.
    """

    def __init__(self, live: Freshet, dialect: Dialect, page: int = -1) -> None:
        self.live = live
        self.dialect = dialect
        self.page = page
        self.map: dict[str, bytes] = {}
        self.bases: dict[str, bytes] = {}
        self.along: list[str] = []
        self.place: Position | None = None
        self.inside = False
        self.deltas = self.size = 0
        self.session: Any = None
        self.ids = count(1)

    async def do(self, command: Subscribe | Connect) -> Any:
        """The reply to a command."""
        await from_loop(self.session.do, [command])
        await eventually(lambda: not self.session.busy)
        return self.take(command.id)

    def take(self, id: int = 0) -> Any:
        """Take what came; the reply with this id is the answer."""
        answer = None
        for frame in self.session.outbox.take():
            for reply in read(frame):
                if id and reply.id == id:
                    answer = reply
                    self.entered(reply)
                elif reply.push.HasField("pub"):
                    pub = reply.push.pub
                    self.size += len(pub.data)
                    self.apply(pub)
                    if self.place is not None and pub.offset:
                        self.place = Position(self.place.epoch, pub.offset)
        return answer

    def entered(self, reply: Any) -> None:
        """Before what is pushed behind it."""
        it = reply.subscribe
        if not reply.HasField("subscribe") or it.phase:
            return
        assert it.delta
        self.along = [entry.key for entry in it.state]
        for entry in it.state:
            self.bases[entry.key] = entry.data
            if not it.recovered:
                self.map[entry.key] = entry.data
        for pub in it.publications:
            self.apply(pub)
        self.inside = True
        self.place = Position(it.epoch, it.offset) if it.recoverable else None

    def apply(self, pub: Any) -> None:
        if pub.removed:
            self.bases.pop(pub.key, None)
            self.map.pop(pub.key, None)
            return
        self.deltas += pub.delta
        data = apply_delta(self.bases[pub.key], pub.data) if pub.delta else pub.data
        self.bases[pub.key] = self.map[pub.key] = data

    async def come(self) -> None:
        self.session = opened(self.live, self.dialect)
        await self.do(Connect(next(self.ids)))
        if self.place is not None:
            nothing = EntryPage(limit=0)
            await self.do(Subscribe(CHANNEL, next(self.ids), "", b"", self.place, True, True, entries=nothing))
        while not self.inside:
            await self.read_state()

    async def read_state(self) -> None:
        """From the first page on; until one is refused, as it is too late."""
        self.map, self.bases = {}, {}
        since: Position | None = None
        cursor = ""
        while not self.inside:
            page = EntryPage(cursor, self.page, since)
            reply = await self.do(Subscribe(CHANNEL, next(self.ids), recover=since, delta=True, entries=page))
            if reply.HasField("error"):
                assert reply.error.code == 112
                return
            if reply.subscribe.phase:
                for entry in reply.subscribe.state:
                    self.map[entry.key] = self.bases[entry.key] = entry.data
                cursor = reply.subscribe.cursor
                since = since or Position(reply.subscribe.epoch, reply.subscribe.offset)

    async def go(self) -> None:
        self.take()
        self.session.end(Disconnect.normal())
        self.inside = False
        await settle()


KEYS = st.sampled_from(["a", "b", "ключ", "0"])
VALUES = st.one_of(st.integers(0, 9).map(value), st.integers(0, 3))


class DeltaMachine(RuleBasedStateMachine):
    """Keys are set, removed and expire, and clients come, come back and go, in pages or not, in both encodings."""

    @initialize(mode=st.sampled_from(MODES), size=st.sampled_from([2, 100]))
    def begin(self, mode: str, size: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.run = self.loop.run_until_complete
        self.clock = ManualClock()
        self.live = application(self.clock)
        history = {} if mode == "ephemeral" else {"history": History(size=size, ttl=60)}
        self.live.state("s:{name}", mode=mode, ttl=0 if mode == "persistent" else 25, delta=True, **history)
        self.running = self.live.lifespan()
        self.run(self.running.__aenter__())
        self.clients = [Mapped(self.live, Centrifuge()), Mapped(self.live, CentrifugeProtobuf())]
        self.clients += [Mapped(self.live, Centrifuge(), page=2), Mapped(self.live, Centrifuge())]
        self.run(self.clients[0].come())

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            for each in self.clients:
                if each.inside:
                    self.run(each.go())
            self.run(self.running.__aexit__(None, None, None))
            self.loop.close()

    @rule(key=KEYS, to=VALUES, ttl=st.sampled_from([None, None, 3]))
    def set(self, key: str, to: Any, ttl: float | None) -> None:
        self.run(self.live.set_entry(CHANNEL, key, to, ttl=ttl))

    @rule(changes=st.lists(st.tuples(KEYS, VALUES), min_size=2, max_size=5))
    def set_many(self, changes: list[tuple[str, Any]]) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(self.live.set_entry(CHANNEL, key, to) for key, to in changes))

        self.run(all_of_them())

    @rule(key=KEYS)
    def remove(self, key: str) -> None:
        self.run(self.live.remove_entry(CHANNEL, key))

    @rule(seconds=st.sampled_from([1, 4]))
    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds * 4)):
            self.run(self.clock.advance(0.25))

    @rule(which=st.integers(0, 3))
    def cut(self, which: int) -> None:
        client = self.clients[which]
        self.run(client.go() if client.inside else client.come())

    @rule(which=st.integers(0, 3), key=KEYS, to=VALUES)
    def come_while_it_changes(self, which: int, key: str, to: Any) -> None:
        client = self.clients[which]

        async def both() -> None:
            await asyncio.gather(client.come(), self.live.set_entry(CHANNEL, key, to))

        if client.inside:
            self.run(client.go())
        self.run(both())

    @rule(which=st.integers(0, 3))
    def begin_anew(self, which: int) -> None:
        client = self.clients[which]
        if client.inside:
            self.run(client.go())
        client.place = None
        self.run(client.come())

    @invariant()
    def all_have_the_map_that_there_is(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.run(self.clock.advance(0.001))
        self.run(settle())
        entries = self.run(self.live.entries(CHANNEL))
        for each in self.clients:
            if each.inside:
                each.take()
                assert {key: json.loads(data) for key, data in each.map.items()} == entries


TestDeltas = DeltaMachine.TestCase
TestDeltas.settings = settings(max_examples=60, stateful_step_count=25)


def with_deltas(mode: str = "persistent", **options: Any) -> Freshet:
    live = application()
    live.state("s:{name}", mode=mode, ttl=0 if mode == "persistent" else 60, delta=True, **options)
    return live


@pytest.mark.parametrize("dialect", [Centrifuge(), CentrifugeProtobuf()], ids=["json", "protobuf"])
@pytest.mark.parametrize("mode", MODES)
async def test_of_a_large_value_what_changed_is_sent(mode: str, dialect: Dialect) -> None:
    live = with_deltas(mode)
    async with live.lifespan():
        clients = [Mapped(live, dialect), Mapped(live, dialect, page=1)]
        for client in clients:
            await client.come()
        for number in range(20):
            await live.set_entry(CHANNEL, "a", value(number))
            await live.set_entry(CHANNEL, "b", value(number + 1))
        await settle()
        whole = len(json.dumps(value(1), ensure_ascii=False).encode())
        for client in clients:
            client.take()
            assert {key: json.loads(data) for key, data in client.map.items()} == {"a": value(19), "b": value(20)}
            assert client.deltas == 38
            assert client.size < 40 * whole / 10


async def test_one_who_returns_costs_the_others_nothing_and_gets_deltas_again() -> None:
    live = with_deltas()
    async with live.lifespan():
        stays, returns = Mapped(live, Centrifuge()), Mapped(live, Centrifuge())
        for client in (stays, returns):
            await client.come()
        for key in "ab":
            await live.set_entry(CHANNEL, key, value(0))
        await settle()
        await returns.go()
        await live.set_entry(CHANNEL, "a", value(1))
        returns.bases = {}  # as if it had been without deltas before
        await returns.come()
        assert returns.along == ["b"]  # it misses a change of the other
        for client in (stays, returns):
            client.take()
            client.deltas = 0
        for key in "ab":
            await live.set_entry(CHANNEL, key, value(2))
        await settle()
        for client in (stays, returns):
            client.take()
            assert {key: json.loads(data) for key, data in client.map.items()} == {"a": value(2), "b": value(2)}
            assert client.deltas == 2


async def test_who_takes_the_state_as_publications_gets_them_whole() -> None:
    live = with_deltas(publish="client")
    async with live.lifespan():
        session = opened(live)
        await from_loop(session.do, [Connect(1), Subscribe(CHANNEL, 2, delta=True)])
        await eventually(lambda: not session.busy)
        for id in (3, 4):
            text = json.dumps({"key": "a", "value": value(id)})
            await from_loop(session.do, [Publish(CHANNEL, text.encode(), id)])
            await eventually(lambda: not session.busy)
        await settle()
        lines = [json.loads(line) for frame in session.outbox.take() for line in frame.data.split(b"\n")]
        [subscribed] = [line["subscribe"] for line in lines if "subscribe" in line]
        pushed = [line["push"]["pub"]["data"] for line in lines if "push" in line]
        assert "delta" not in subscribed
        assert pushed == [{"state": {}}, {"key": "a", "value": value(3)}, {"key": "a", "value": value(4)}]
        session.end(Disconnect.normal())
