"""Deltas of a state: whoever comes in, ahead of what has come here so far, ends with the map that there is."""

import asyncio
import json
from collections import deque
from typing import Any

from centrifuge.fossil import apply_delta
from hypothesis import given, settings
from hypothesis import strategies as st

from freshet.config import State
from freshet.engines.base import Receiver
from freshet.engines.memory import MemoryEngine
from freshet.hub.hub import Hub
from freshet.hub.subscribers import Joining
from freshet.model.entries import StateEntry
from freshet.model.events import Delivery, Subscribed
from freshet.model.log import History, Position, PublishOptions, Stream
from freshet.rules.rules import ChannelRule
from freshet.session.outbox import Turn
from tests.hub.test_hub import Listener, unheard

KEEP = History(size=100, ttl=60)


def value(number: int) -> bytes:
    """The same in all is not at the same place, so that a delta to another one than is meant gives something else."""
    return b'"%b %b %d"' % (b"x" * (number * 5 % 11), b" ".join(b"%d" % each for each in range(30)), number)


class Client:
    """It has a map, and the values that deltas may be to. place: where it stands, if there is a log."""

    def __init__(self, turn: Turn) -> None:
        self.session: Any = Listener(turn)
        self.map: dict[str, str] = {}
        self.bases: dict[str, bytes] = {}
        self.place: Position | None = None

    def apply(self, pub: dict[str, Any]) -> None:
        if pub.get("removed"):
            self.bases.pop(pub["key"], None)
            self.map.pop(pub["key"], None)
            return
        data = pub["data"].encode()
        data = apply_delta(self.bases[pub["key"]], data) if pub.get("delta") else data
        self.bases[pub["key"]], self.map[pub["key"]] = data, data.decode()

    def entered(self, event: Subscribed) -> None:
        reply = json.loads(self.session.dialect.encode(event).data)["subscribe"]
        for entry in reply["state"]:
            self.bases[entry["key"]] = entry["data"].encode()
            if not event.recovered:
                self.map[entry["key"]] = entry["data"]
        for pub in reply["publications"]:
            self.apply(pub)
        self.place = event.position if event.recoverable else None

    def take(self) -> None:
        for frame in self.session.outbox.take():
            for line in frame.data.splitlines():
                pub = json.loads(line)["push"]["pub"]
                self.apply(pub)
                if self.place is not None and "offset" in pub:
                    self.place = Position(self.place.epoch, pub["offset"])


class Coming:
    """A client on its way in. stream: what the log held. entries: of the state, once it was read."""

    def __init__(self, client: Client, joining: Joining, stream: Stream | None) -> None:
        self.client = client
        self.joining = joining
        self.stream = stream
        self.read = False


class Scene:
    """One node, to which what is published comes late, and the state as its owner has it."""

    def __init__(self, *, logged: bool) -> None:
        self.keep = KEEP if logged else None
        self.rule = ChannelRule("*", history=self.keep, state=State(), delta=True)
        self.engine, self.turn = MemoryEngine(), Turn()
        self.hub = Hub(self.engine, self.turn)
        self.late: deque[Delivery] = deque()
        self.state: dict[str, bytes] = {}
        self.number = 0
        self.coming: deque[Coming] = deque()
        self.here: deque[Client] = deque()
        self.away: deque[Client] = deque()

    async def change(self, key: str, *, removed: bool) -> None:
        self.number += 1
        entry = StateEntry(key, b"" if removed else value(self.number))
        self.state.pop(key, None)
        if entry.value:
            self.state[key] = entry.value
        await self.engine.publish("a", entry.publication().data, self.options(entry))

    def options(self, entry: StateEntry) -> PublishOptions:
        return PublishOptions(history=self.keep, tags=entry.publication().tags)

    def deliver(self) -> None:
        if self.late:
            self.hub.deliver(self.late.popleft())

    async def come(self, client: Client) -> None:
        joining = await self.hub.join(client.session, "a", self.rule, delta=True)
        stream = None
        if self.keep is not None:
            stream = await self.engine.history("a", self.keep, client.place, limit=-1 if client.place else 0)
            await self.hub.catch_up(joining, stream.position)
        joining.mapped = True
        joining.begin_greeting()
        self.coming.append(Coming(client, joining, stream))

    def read(self) -> None:
        """The owner says what the first of them gets."""
        if self.coming and not self.coming[0].read:
            self.coming[0].read = True
            joining = self.coming[0].joining
            joining.returns = self.coming[0].client.place is not None
            if not joining.returns:
                joining.entries = [StateEntry(key, value) for key, value in self.state.items()]

    def settle(self) -> None:
        if not self.coming or not self.coming[0].read:
            return
        it = self.coming.popleft()
        client, joining, since = it.client, it.joining, it.client.place
        replay, recovered = self.hub.settle(joining, it.stream, since)
        assert recovered is not False
        if since is None:
            client.map, client.bases = {}, {}
        entries = [*joining.entries, *joining.along]
        logged = it.stream is not None
        client.entered(
            Subscribed("a", 1, replay.position, logged, recovered, replay.publications, delta=True, entries=entries)
        )
        self.here.append(client)

    def leave(self) -> None:
        if self.here:
            client = self.here.popleft()
            self.turn.end()
            self.hub.leave(client.session, "a")
            client.take()
            client.session = Listener(self.turn)
            self.away.append(client)

    async def end(self) -> None:
        while self.coming:
            self.read()
            self.settle()
        while self.late:
            self.deliver()
        self.turn.end()
        values = {key: value.decode() for key, value in self.state.items()}
        for client in self.here:
            client.take()
            assert client.map == values
        await self.engine.stop()


STEPS = [
    "set a",
    "set a",
    "set b",
    "remove a",
    "deliver",
    "deliver",
    "turn",
    "come",
    "return",
    "read",
    "settle",
    "leave",
]


async def play(steps: list[str], *, logged: bool) -> None:
    it = Scene(logged=logged)
    await it.engine.start("node", Receiver(it.late.append, it.hub.suspect, unheard))
    for step in steps:
        match step.split():
            case ["set", key]:
                await it.change(key, removed=False)
            case ["remove", key]:
                await it.change(key, removed=True)
            case ["deliver"]:
                it.deliver()
            case ["turn"]:
                it.turn.end()
            case ["come"]:
                await it.come(Client(it.turn))
            case ["return"] if it.away:
                client = it.away.popleft()
                client.bases.clear()  # what it has of another connection is not known
                await it.come(client)
            case ["read"]:
                it.read()
            case ["settle"]:
                it.settle()
            case ["leave"]:
                it.leave()
    await it.end()


@settings(max_examples=400)
@given(st.lists(st.sampled_from(STEPS), max_size=60), st.booleans())
def test_whoever_applies_deltas_ends_with_the_map_that_there_is(steps: list[str], logged: bool) -> None:
    asyncio.run(play(steps, logged=logged))


def test_one_that_is_ahead_of_the_others_gets_no_delta_to_what_they_have() -> None:
    """It has a value already that comes here later, as a difference for the others."""
    first = ["come", "read", "settle", "set a", "deliver", "turn"]
    ahead = ["come", "set a", "read", "settle", "deliver", "turn", "set a"]
    for logged in (True, False):
        asyncio.run(play([*first, *ahead], logged=logged))
