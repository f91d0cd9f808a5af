"""The hub: history and the live flow merge without a gap or a repeat, however they interleave."""

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from freshet.channels import ChannelRule
from freshet.dialects.centrifuge import Centrifuge
from freshet.engines.memory import MemoryEngine
from freshet.hub import Hub
from freshet.model import History, PublishOptions, Stream
from freshet.outbox import Outbox, Turn

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
def test_a_returning_client_hears_every_offset_once_in_order(
    before: int, missed: int, steps: list[str], read_at: int
) -> None:
    """Between joining and settling, publications come and turns end at any moment; history is read at any of them."""

    async def story() -> None:
        engine, turn = MemoryEngine(), Turn()
        hub = Hub(engine, turn)
        await engine.start(hub.deliver)
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
        told, recovered = hub.settle(joining, stream, since)
        heard = [publication.offset for publication in told.publications]
        for _ in range(3):
            await publish()
        turn.end()
        heard += offsets(returning.outbox)
        top = (await engine.history("a", KEEP, limit=0)).position.offset
        assert recovered is True
        assert heard == list(range(since.offset + 1, top + 1))
        assert offsets(other.outbox) == list(range(1, top + 1))
        await engine.stop()

    asyncio.run(story())


async def scene(size: int) -> tuple[MemoryEngine, Turn, Hub, ChannelRule, Any]:
    engine, turn = MemoryEngine(), Turn()
    hub = Hub(engine, turn)
    await engine.start(hub.deliver)
    return engine, turn, hub, ChannelRule("*", history=History(size=size, ttl=60)), Listener(turn)


async def test_more_than_is_kept_while_joining_is_a_loss_that_is_told() -> None:
    engine, _turn, hub, rule, session = await scene(size=3)
    assert rule.history is not None
    since = (await engine.history("a", rule.history)).position
    joining = await hub.join(session, "a", rule)
    stream = await engine.history("a", rule.history, since)
    for _ in range(5):
        await engine.publish("a", b"1", PublishOptions(history=rule.history))
    told, recovered = hub.settle(joining, stream, since)
    assert recovered is False
    assert told.publications == []
    assert told.position.offset == 5
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


async def test_a_channel_that_everyone_left_is_forgotten_here_and_by_the_engine() -> None:
    engine, _turn, hub, rule, session = await scene(size=10)
    hub.settle(await hub.join(session, "a", rule), await engine.history("a", KEEP), None)
    assert hub.statistics().channels == 1
    hub.leave(session, "a")
    await asyncio.sleep(0)
    assert hub.statistics().channels == 0
    assert engine._listening == set()
    await engine.stop()
