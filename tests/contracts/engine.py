"""What every engine has to do. A test module for an engine gives the fixture `engine` and imports all of this."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from freshet.engines.base import Engine
from freshet.model import (
    NOWHERE,
    ClientInfo,
    Delivery,
    History,
    Joined,
    Kind,
    Left,
    Position,
    Published,
    PublishOptions,
)
from tests.tools.patience import eventually

KEEP = History(size=5, ttl=60)
LOGGED = PublishOptions(history=KEEP)
ALICE = ClientInfo(user="alice", client="a1")


class Delivered(list[Delivery]):
    """What an engine delivered to this node."""

    async def count(self, number: int) -> "Delivered":
        await eventually(lambda: len(self) >= number, 5, f"{number} deliveries")
        assert len(self) == number
        return self


@pytest.fixture
async def delivered(engine: Engine) -> AsyncIterator[Delivered]:
    """A started engine's deliveries."""
    got = Delivered()
    await engine.start(got.append)
    yield got
    await engine.stop()


async def test_offsets_of_a_channel_rise_by_one_and_others_do_not_matter(engine: Engine, delivered: Delivered) -> None:
    positions = [await engine.publish("a", b"1", LOGGED) for _ in range(3)]
    await engine.publish("b", b"1", LOGGED)
    assert [position.offset for position in positions] == [1, 2, 3]
    assert len({position.epoch for position in positions}) == 1
    assert (await engine.publish("b", b"2", LOGGED)).offset == 2


async def test_a_node_hears_what_it_listens_to_and_nothing_else(engine: Engine, delivered: Delivered) -> None:
    await engine.subscribe("a")
    await engine.publish("a", b"1", LOGGED)
    await engine.publish("b", b"2", LOGGED)
    await delivered.count(1)
    await engine.unsubscribe("a")
    await engine.publish("a", b"3", LOGGED)
    await delivered.count(1)


async def test_publications_are_delivered_in_the_order_of_their_offsets(engine: Engine, delivered: Delivered) -> None:
    await engine.subscribe("a")
    await asyncio.gather(*(engine.publish("a", b"%d" % index, LOGGED) for index in range(50)))
    offsets = [event.publication.offset for event in await delivered.count(50) if isinstance(event, Published)]
    assert offsets == list(range(1, 51))


async def test_data_kind_tags_and_sender_pass_through(engine: Engine, delivered: Delivered) -> None:
    await engine.subscribe("a")
    options = PublishOptions(kind=Kind.BYTES, history=KEEP, tags={"event": "price"}, info=ALICE)
    await engine.publish("a", b"\x00\xff", options)
    [event] = await delivered.count(1)
    assert isinstance(event, Published)
    stream = await engine.history("a", KEEP)
    for publication in (event.publication, stream.publications[0]):
        assert publication.data == b"\x00\xff"
        assert publication.kind is Kind.BYTES
        assert publication.tags == {"event": "price"}
        assert publication.info == ALICE


async def test_a_channel_without_history_has_no_log(engine: Engine, delivered: Delivered) -> None:
    await engine.subscribe("a")
    assert await engine.publish("a", b"1", PublishOptions()) == NOWHERE
    [event] = await delivered.count(1)
    assert isinstance(event, Published)
    assert event.publication.offset == 0


async def test_the_log_keeps_the_newest(engine: Engine, delivered: Delivered) -> None:
    for index in range(1, 9):
        await engine.publish("a", b"%d" % index, LOGGED)
    stream = await engine.history("a", KEEP)
    assert [publication.data for publication in stream.publications] == [b"4", b"5", b"6", b"7", b"8"]
    assert stream.position.offset == 8


async def test_history_is_read_from_a_position_in_both_directions(engine: Engine, delivered: Delivered) -> None:
    for index in range(1, 6):
        await engine.publish("a", b"%d" % index, LOGGED)
    epoch = (await engine.history("a", KEEP, limit=0)).position.epoch

    async def offsets(since: int | None, limit: int = -1, reverse: bool = False) -> list[int]:
        position = None if since is None else Position(epoch, since)
        stream = await engine.history("a", KEEP, position, limit, reverse)
        return [publication.offset for publication in stream.publications]

    assert await offsets(None) == [1, 2, 3, 4, 5]
    assert await offsets(None, limit=0) == []
    assert await offsets(None, limit=2) == [1, 2]
    assert await offsets(2) == [3, 4, 5]
    assert await offsets(2, limit=1) == [3]
    assert await offsets(5) == []
    assert await offsets(99) == []
    assert await offsets(None, limit=2, reverse=True) == [5, 4]
    assert await offsets(3, reverse=True) == [2, 1]
    assert await offsets(99, limit=1, reverse=True) == [5]


async def test_a_log_that_was_only_read_has_an_epoch_that_the_first_publication_keeps(
    engine: Engine, delivered: Delivered
) -> None:
    epoch, offset = (await engine.history("a", KEEP)).position
    assert offset == 0
    assert epoch
    assert await engine.publish("a", b"1", LOGGED) == Position(epoch, 1)


async def test_a_publication_with_a_known_key_is_not_made_again(engine: Engine, delivered: Delivered) -> None:
    await engine.subscribe("a")
    once = PublishOptions(history=KEEP, idempotency_key="order-7")
    first = await engine.publish("a", b"1", once)
    assert await engine.publish("a", b"1", once) == first
    assert (await engine.publish("b", b"1", once)).offset == 1
    await delivered.count(1)
    assert (await engine.history("a", KEEP)).position.offset == 1


async def test_presence_knows_who_is_there_and_tells_it_once(engine: Engine, delivered: Delivered) -> None:
    await engine.subscribe("a")
    await engine.set_presence("a", "a1", ALICE)
    await engine.set_presence("a", "a1", ALICE)
    assert await engine.presence("a") == {"a1": ALICE}
    await engine.set_presence("a", "a1", None)
    await engine.set_presence("a", "a1", None)
    assert await engine.presence("a") == {}
    assert await delivered.count(2) == [Joined("a", ALICE), Left("a", ALICE)]
