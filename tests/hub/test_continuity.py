"""The live flow over a way that loses, repeats, delays and mixes up: nobody misses anything without notice."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freshet.engines.base import Receiver
from freshet.engines.memory import MemoryEngine
from freshet.errors import Disconnect, EngineUnavailable
from freshet.hub.continuity import Continuity
from freshet.hub.hub import Hub
from freshet.model.events import Delivery, Published
from freshet.model.log import History, Kind, Position, Publication, PublishOptions, Stream
from freshet.rules.rules import ChannelRule
from freshet.session.outbox import Turn
from tests.hub.test_hub import Listener, offsets
from tests.tools.patience import eventually

KEEP = History(size=100, ttl=60)
RULE = ChannelRule("*", history=KEEP)
LOGGED = PublishOptions(history=KEEP)


class Way(MemoryEngine):
    """An engine whose deliveries wait until the test says what becomes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.underway: list[Delivery] = []
        self.reads = 0
        self.away = False

    async def start(self, node: str, receiver: Receiver) -> None:
        await super().start(node, Receiver(self.underway.append, receiver.suspect, receiver.notify))
        self._receiver = receiver

    async def history(self, *arguments: Any, **options: Any) -> Stream:
        self.reads += 1
        if self.away:
            raise EngineUnavailable("away")
        await asyncio.sleep(0)
        return await super().history(*arguments, **options)

    def arrive(self, index: int = 0) -> None:
        if self.underway:
            self._receiver.deliver(self.underway.pop(index % len(self.underway)))

    def arrive_twice(self) -> None:
        if self.underway:
            self._receiver.deliver(self.underway[0])
            self.arrive()

    def lose(self) -> None:
        if self.underway:
            self.underway.pop(0)

    def forget(self, channel: str) -> None:
        """As a broker that was restarted without its data."""
        del self._logs[channel]
        self._expiry.clear()

    def suspect(self) -> None:
        self._receiver.suspect("")


class Scene:
    def __init__(self, engine: Way, hub: Hub, turn: Turn) -> None:
        self.engine = engine
        self.hub = hub
        self.turn = turn

    async def listener(self, since: Position | None = None) -> tuple[Listener, list[int]]:
        """One who has come in, and the offsets that it missed."""
        made = Listener(self.turn)
        joining = await self.hub.join(made, "a", RULE)  # type: ignore[arg-type]
        stream = await self.engine.history("a", KEEP, since, -1 if since else 0)
        await self.hub.catch_up(joining, stream.position)
        replay, _ = self.hub.settle(joining, stream, since)
        return made, [each.offset for each in replay.publications]

    async def publish(self, count: int = 1) -> Position:
        for _ in range(count):
            position = await self.engine.publish("a", b"1", LOGGED)
        return position

    async def quiet(self) -> None:
        """Until nothing is read any longer."""
        await eventually(lambda: self.hub._gaps._checking_all is None)
        await eventually(lambda: all(it.gap_check is None for it in self.hub._channels.values()))
        self.turn.end()


@asynccontextmanager
async def staged() -> AsyncIterator[Scene]:
    engine, turn = Way(), Turn()
    hub = Hub(engine, turn)
    await engine.start("node", Receiver(hub.deliver, hub.suspect, lambda message: None))
    yield Scene(engine, hub, turn)
    await engine.stop()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with staged() as scene:
        yield scene


STEPS = st.lists(
    st.sampled_from(["publish", "publish", "arrive", "mixed", "twice", "lose", "turn", "join", "return", "pause"]),
    max_size=60,
)


@given(STEPS, st.integers(0, 1000))
@settings(max_examples=150)
def test_everyone_hears_every_offset_once_in_order_whatever_happens_on_the_way(steps: list[str], seed: int) -> None:
    async def story() -> None:
        chance = random.Random(seed)
        async with staged() as scene:
            listeners = [await scene.listener()]
            first = {0: 0}
            for step in steps:
                if step == "publish":
                    await scene.publish()
                elif step == "arrive":
                    scene.engine.arrive()
                elif step == "mixed":
                    scene.engine.arrive(chance.randrange(9))
                elif step == "twice":
                    scene.engine.arrive_twice()
                elif step == "lose":
                    scene.engine.lose()
                elif step == "turn":
                    scene.turn.end()
                elif step == "pause":
                    await asyncio.sleep(0)
                else:
                    log = (await scene.engine.history("a", KEEP, limit=0)).position
                    since = Position(log.epoch, max(0, log.offset - chance.randrange(4))) if step == "return" else None
                    listeners.append(await scene.listener(since))
                    first[len(listeners) - 1] = since.offset if since else log.offset
            top = (await scene.publish()).offset
            scene.engine.lose()
            scene.engine.suspect()  # what is compared now and then
            await scene.quiet()
            for number, (listener, missed) in enumerate(listeners):
                assert not listener.outbox.closed
                assert missed + offsets(listener.outbox) == list(range(first[number] + 1, top + 1))

    asyncio.run(story())


async def test_what_a_gap_shows_is_read_once_however_many_come_behind_it(scene: Scene) -> None:
    listener, _ = await scene.listener()
    await scene.publish(20)
    scene.engine.lose()
    reads = scene.engine.reads
    for _ in range(19):
        scene.engine.arrive()
    await scene.quiet()
    assert offsets(listener.outbox) == list(range(1, 21))
    assert scene.engine.reads == reads + 1


async def test_listeners_are_told_when_the_log_no_longer_holds_what_was_lost(scene: Scene) -> None:
    listener, _ = await scene.listener()
    await scene.publish(150)  # the log keeps 100
    scene.engine.underway.clear()
    scene.engine.suspect()
    await scene.quiet()
    assert listener.outbox.closed.code == Disconnect.insufficient_state().code
    following, _ = await scene.listener()
    await scene.publish()
    scene.engine.arrive()
    scene.turn.end()
    assert offsets(following.outbox) == [151]


async def test_listeners_are_told_when_there_is_another_log(scene: Scene) -> None:
    listener, _ = await scene.listener()
    before = await scene.publish(3)
    for _ in range(3):
        scene.engine.arrive()
    scene.engine.forget("a")
    after = await scene.publish(4)
    assert after.epoch != before.epoch
    while scene.engine.underway:
        scene.engine.arrive()
    await scene.quiet()
    assert offsets(listener.outbox) == [1, 2, 3]
    assert listener.outbox.closed.code == Disconnect.insufficient_state().code


async def test_one_who_comes_in_behind_a_loss_waits_until_the_flow_is_there(scene: Scene) -> None:
    """The log is ahead of what was delivered: the newcomer must not get twice what it has read."""
    before, _ = await scene.listener()
    await scene.publish(5)
    newcomer, missed = await scene.listener(Position((await scene.publish()).epoch, 2))
    while scene.engine.underway:
        scene.engine.arrive()
    scene.turn.end()
    assert missed + offsets(newcomer.outbox) == [3, 4, 5, 6]
    assert offsets(before.outbox) == [1, 2, 3, 4, 5, 6]


async def test_an_engine_that_is_away_keeps_the_gap_until_it_is_back(scene: Scene) -> None:
    listener, _ = await scene.listener()
    await scene.publish(2)
    scene.engine.lose()
    scene.engine.away = True
    scene.engine.arrive()
    await scene.quiet()
    assert offsets(listener.outbox) == []
    scene.engine.away = False
    scene.engine.suspect()
    await scene.quiet()
    assert offsets(listener.outbox) == [1, 2]


def test_what_waits_behind_a_gap_is_bounded() -> None:
    flow = Continuity(History(size=5, ttl=60))
    flow.begin(Position("epoch", 0))
    flow.release()
    for offset in range(2, 1000):
        event = Published("a", Publication(b"", offset, Kind.JSON), "epoch")
        assert not flow.passes(event)
        assert flow.hold(event) is (offset == 2)
    assert [event.publication.offset for event in flow.release()] == list(range(995, 1000))
