"""What every engine has to do. A test module for an engine gives the fixture `engine` and imports all of this."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from msgspec import Raw

from freshet.engines.base import Engine, Present, Receiver, ToPublish
from freshet.errors import PositionConflict
from freshet.model.events import Delivery, Joined, Left, Published
from freshet.model.log import NOWHERE, ClientInfo, History, Kind, Position, PublishOptions, Stamp
from freshet.runtime.tasks import Tasks
from tests.tools.patience import eventually
from tests.tools.sessions import from_loop

KEEP = History(size=5, ttl=60)
LOGGED = PublishOptions(history=KEEP)
ALICE = ClientInfo(user="alice", client="a1")


class Delivered(list[Delivery]):
    """What an engine delivered to this node. suspicions: where it may have lost something. control: of other nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.suspicions: list[str] = []
        self.control: list[bytes] = []

    @property
    def receiver(self) -> Receiver:
        return Receiver(self.append, self.suspicions.append, self.control.append)

    async def count(self, number: int) -> "Delivered":
        await eventually(lambda: len(self) >= number, 5, f"{number} deliveries")
        assert len(self) == number
        return self


@pytest.fixture
async def delivered(engine: Engine) -> AsyncIterator[Delivered]:
    """A started engine's deliveries."""
    got = Delivered()
    await engine.start("node", got.receiver)
    yield got
    await engine.stop()


async def test_offsets_of_a_channel_rise_by_one_and_others_do_not_matter(engine: Engine, delivered: Delivered) -> None:
    positions = [await engine.publish("a", b"1", LOGGED) for _ in range(3)]
    await engine.publish("b", b"1", LOGGED)
    assert [position.offset for position in positions] == [1, 2, 3]
    assert len({position.epoch for position in positions}) == 1
    assert (await engine.publish("b", b"2", LOGGED)).offset == 2


@pytest.mark.parametrize("keep", [KEEP, None], ids=["with a log", "without"])
async def test_when_where_and_in_which_trace_a_publication_came_in_travels_with_it(
    engine: Engine, delivered: Delivered, keep: History | None
) -> None:
    await engine.subscribe("a", keep)
    stamps = [Stamp(1764194196.25, "node-7", "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"), Stamp(0.5, "node-8"), None]
    for stamp in stamps:
        await engine.publish("a", b"1", PublishOptions(history=keep, stamp=stamp))
    await delivered.count(3)
    assert [it.publication.stamp for it in delivered if isinstance(it, Published)] == stamps
    if keep is not None:
        assert [it.stamp for it in (await engine.history("a", keep)).publications] == stamps


async def test_a_node_hears_what_it_listens_to_and_nothing_else(engine: Engine, delivered: Delivered) -> None:
    await engine.subscribe("a", KEEP)
    await engine.publish("a", b"1", LOGGED)
    await engine.publish("b", b"2", LOGGED)
    await delivered.count(1)
    await engine.unsubscribe("a")
    await engine.publish("a", b"3", LOGGED)
    await delivered.count(1)


async def test_whoever_begins_to_listen_learns_behind_which_place_everything_will_be_delivered(
    engine: Engine, delivered: Delivered
) -> None:
    empty = await engine.subscribe("a", KEEP)
    assert empty.offset == 0
    last = await engine.publish("a", b"1", LOGGED)
    assert last == Position(empty.epoch, 1)
    await delivered.count(1)
    await engine.unsubscribe("a")
    last = await engine.publish("a", b"2", LOGGED)
    assert await engine.subscribe("a", KEEP) == last
    assert await engine.subscribe("a", KEEP) == last


async def test_publications_are_delivered_in_the_order_of_their_offsets(engine: Engine, delivered: Delivered) -> None:
    await engine.subscribe("a", KEEP)
    await asyncio.gather(*(engine.publish("a", b"%d" % index, LOGGED) for index in range(50)))
    offsets = [event.publication.offset for event in await delivered.count(50) if isinstance(event, Published)]
    assert offsets == list(range(1, 51))


@pytest.mark.parametrize("keep", [KEEP, None], ids=["with a log", "without"])
async def test_what_can_be_published_without_waiting_is_and_otherwise_nothing_is_done(
    engine: Engine, delivered: Delivered, keep: History | None
) -> None:
    before = await engine.subscribe("a", keep)
    options = PublishOptions(history=keep, stamp=Stamp(0.5, "node"))
    position = engine.publish_now("a", b"1", options)
    if position is None:
        position = await engine.publish("a", b"1", options)
    assert position == ((before.epoch, 1) if keep is not None else NOWHERE)
    [event] = await delivered.count(1)
    assert isinstance(event, Published)
    assert (event.publication.data, event.publication.offset) == (b"1", position.offset)
    if keep is not None:
        assert [it.data for it in (await engine.history("a", keep)).publications] == [b"1"]


async def test_of_what_is_published_at_once_each_has_its_own_place_or_its_own_error(
    engine: Engine, delivered: Delivered
) -> None:
    await engine.subscribe("a", KEEP)
    elsewhere = PublishOptions(history=KEEP, after=Position("another", 7))
    wanted = [("a", b"1", LOGGED), ("a", b"2", elsewhere), ("b", b"3", LOGGED), ("a", b"4", LOGGED)]
    first, conflict, other, last = await engine.publish_each([ToPublish(*each) for each in wanted])
    assert isinstance(conflict, PositionConflict)
    assert isinstance(first, Position)
    assert isinstance(other, Position)
    assert isinstance(last, Position)
    assert ({first.offset, last.offset}, other.offset) == ({1, 2}, 1)
    came = {it.publication.offset: it.publication.data for it in await delivered.count(2) if isinstance(it, Published)}
    assert came == {first.offset: b"1", last.offset: b"4"}
    assert await engine.publish_each([]) == []


async def test_it_may_be_asked_where_there_is_no_task_yet(engine: Engine, delivered: Delivered) -> None:
    """As a client's command that was begun at once does."""
    tasks, asked = Tasks(), []

    async def ask() -> None:
        asked.append((await engine.subscribe("a", KEEP)).offset)
        asked.append((await engine.publish("a", b"1", LOGGED)).offset)
        asked.append((await engine.history("a", KEEP)).position.offset)
        await engine.set_presence("a", "a1", ALICE)
        asked.append(len(await engine.presence("a")))
        asked.append((await engine.take_lease("room", "node", 60)).owner)
        await engine.unsubscribe("a")

    for step in (ask, lambda: engine.set_presence("a", "a1", None), lambda: engine.remove_history("a")):
        await from_loop(tasks.start_now, step(), "ask")
        await eventually(lambda: not len(tasks))
    assert asked == [0, 1, 1, 1, "node"]
    assert await engine.presence("a") == {}


async def test_data_kind_tags_and_sender_pass_through(engine: Engine, delivered: Delivered) -> None:
    await engine.subscribe("a", KEEP)
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


@pytest.mark.parametrize("info", [Raw(), Raw(b""), Raw(b'{"name": "A."}')], ids=["none", "empty", "an object"])
async def test_a_sender_passes_through_whatever_is_known_of_it(engine: Engine, delivered: Delivered, info: Raw) -> None:
    await engine.subscribe("a", KEEP)
    who = ClientInfo("alice", "a1", info, info)
    await engine.publish("a", b"1", PublishOptions(history=KEEP, info=who))
    await engine.set_presence("a", "a1", who)
    published, joined = await delivered.count(2)
    assert isinstance(published, Published)
    assert isinstance(joined, Joined)
    read = (await engine.history("a", KEEP)).publications[0].info
    for each in (published.publication.info, joined.info, read, (await engine.presence("a"))["a1"]):
        assert each is not None
        assert (each.user, each.client) == ("alice", "a1")
        assert bytes(each.conn_info) == bytes(each.chan_info) == bytes(info)


async def test_a_channel_without_history_has_no_log(engine: Engine, delivered: Delivered) -> None:
    assert await engine.subscribe("a", None) == NOWHERE
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


async def test_a_log_reads_like_a_list_whatever_comes_between(engine: Engine, delivered: Delivered) -> None:
    """Against a model: a list of all that was published, of which the newest are kept."""
    chance = random.Random(3)
    published: list[bytes] = []
    for step in range(300):
        if chance.random() < 0.3:
            published.append(b"%d" % step)
            assert (await engine.publish("a", published[-1], LOGGED)).offset == len(published)
        top, limit, reverse = len(published), chance.choice((-1, 0, 1, 3)), chance.random() < 0.5
        since = chance.choice((None, chance.randrange(0, top + 3)))
        kept = [(offset, published[offset - 1]) for offset in range(max(1, top - KEEP.size + 1), top + 1)]
        if since is not None:
            kept = [each for each in kept if (each[0] < since if reverse else each[0] > since)]
        kept = kept[::-1] if reverse else kept
        epoch = (await engine.history("a", KEEP, limit=0)).position.epoch
        place = None if since is None else Position(epoch, since)
        stream = await engine.history("a", KEEP, place, limit, reverse)
        read = [(publication.offset, publication.data) for publication in stream.publications]
        assert read == (kept if limit < 0 else kept[:limit]), (since, limit, reverse)
        assert stream.position == Position(epoch, top)


async def test_a_rule_that_keeps_less_than_before_counts_from_the_next_publication(
    engine: Engine, delivered: Delivered
) -> None:
    for index in range(5):
        await engine.publish("a", b"%d" % index, LOGGED)
    await engine.publish("a", b"5", PublishOptions(history=History(size=2, ttl=60)))
    stream = await engine.history("a", KEEP)
    assert [publication.data for publication in stream.publications] == [b"4", b"5"]


async def test_channels_have_epochs_of_their_own(engine: Engine, delivered: Delivered) -> None:
    epochs = {(await engine.publish(f"channel-{index}", b"1", LOGGED)).epoch for index in range(50)}
    assert len(epochs) == 50
    assert all(epochs)


async def test_a_history_that_was_read_does_not_change_afterwards(engine: Engine, delivered: Delivered) -> None:
    await engine.publish("a", b"1", LOGGED)
    stream = await engine.history("a", KEEP)
    await engine.publish("a", b"2", LOGGED)
    assert len(stream.publications) == 1
    stream.publications.clear()
    assert len((await engine.history("a", KEEP)).publications) == 2


async def test_listening_twice_delivers_once_and_not_listening_may_end_twice(
    engine: Engine, delivered: Delivered
) -> None:
    await engine.subscribe("a", KEEP)
    await engine.subscribe("a", KEEP)
    await engine.publish("a", b"1", LOGGED)
    await delivered.count(1)
    for _ in range(2):
        await engine.unsubscribe("a")
    await engine.unsubscribe("never listened to")
    await engine.publish("a", b"2", LOGGED)
    await delivered.count(1)


async def test_publications_with_one_key_at_the_same_time_are_one(engine: Engine, delivered: Delivered) -> None:
    await engine.subscribe("a", KEEP)
    once = PublishOptions(history=KEEP, idempotency_key="order-7")
    positions = await asyncio.gather(*(engine.publish("a", b"1", once) for _ in range(20)))
    assert len(set(positions)) == 1
    await delivered.count(1)


async def test_a_key_works_without_a_log_too(engine: Engine, delivered: Delivered) -> None:
    await engine.subscribe("a", None)
    for _ in range(3):
        assert await engine.publish("a", b"1", PublishOptions(idempotency_key="")) == NOWHERE
    await delivered.count(1)


@pytest.mark.parametrize("name", ["", " ", "a:b", "#alice", "\n\x00", "é" * 100, "*", "{a}", "../x", "a" * 4096])
async def test_any_name_is_a_channel_of_its_own(engine: Engine, delivered: Delivered, name: str) -> None:
    await engine.subscribe(name, KEEP)
    await engine.publish(name + "x", b"0", LOGGED)
    await engine.publish(name, b"1", LOGGED)
    [event] = await delivered.count(1)
    assert event.channel == name
    assert (await engine.history(name, KEEP)).position.offset == 1


async def test_a_number_beyond_any_log_is_a_number(engine: Engine, delivered: Delivered) -> None:
    epoch = (await engine.publish("a", b"1", LOGGED)).epoch
    for number in (2**63 - 1, 2**63, 2**64 - 1, 2**70, -1, -(2**70)):
        for since in (None, Position(epoch, number), Position("another\n\0é", number)):
            for limit, reverse in ((-1, False), (-1, True), (number, False), (number, True)):
                read = await engine.history("a", KEEP, since, limit, reverse)
                assert read.position == Position(epoch, 1)
                assert len(read.publications) <= 1


async def test_presence_of_one_channel_is_not_that_of_another(engine: Engine, delivered: Delivered) -> None:
    bob = ClientInfo(user="bob", client="b1")
    await engine.set_presence("a", "a1", ALICE)
    await engine.set_presence("a", "b1", bob)
    await engine.set_presence("b", "b1", bob)
    await engine.set_presence("a", "b1", None)
    assert await engine.presence("a") == {"a1": ALICE}
    assert await engine.presence("b") == {"b1": bob}
    assert await engine.presence("c") == {}
    (await engine.presence("a")).clear()
    assert await engine.presence("a") == {"a1": ALICE}


async def test_what_is_known_of_a_client_is_what_was_said_last(engine: Engine, delivered: Delivered) -> None:
    await engine.set_presence("a", "a1", ALICE)
    renamed = ClientInfo(user="alice", client="a1", conn_info=Raw(b'{"name":"A."}'))
    await engine.set_presence("a", "a1", renamed)
    assert await engine.presence("a") == {"a1": renamed}


async def test_an_engine_may_be_stopped_twice(engine: Engine, delivered: Delivered) -> None:
    await engine.stop()
    await engine.stop()


async def test_a_log_that_was_only_read_has_an_epoch_that_the_first_publication_keeps(
    engine: Engine, delivered: Delivered
) -> None:
    epoch, offset = (await engine.history("a", KEEP)).position
    assert offset == 0
    assert epoch
    assert await engine.publish("a", b"1", LOGGED) == Position(epoch, 1)


async def test_a_publication_with_a_known_key_is_not_made_again(engine: Engine, delivered: Delivered) -> None:
    await engine.subscribe("a", KEEP)
    once = PublishOptions(history=KEEP, idempotency_key="order-7")
    first = await engine.publish("a", b"1", once)
    assert await engine.publish("a", b"1", once) == first
    assert (await engine.publish("b", b"1", once)).offset == 1
    await delivered.count(1)
    assert (await engine.history("a", KEEP)).position.offset == 1


async def test_presence_knows_who_is_there_and_tells_it_once(engine: Engine, delivered: Delivered) -> None:
    await engine.subscribe("a", KEEP)
    await engine.set_presence("a", "a1", ALICE)
    await engine.set_presence("a", "a1", ALICE)
    assert await engine.presence("a") == {"a1": ALICE}
    await engine.set_presence("a", "a1", None)
    await engine.set_presence("a", "a1", None)
    assert await engine.presence("a") == {}
    assert await delivered.count(2) == [Joined("a", ALICE), Left("a", ALICE)]


async def test_what_is_removed_from_a_log_is_gone_and_its_offsets_go_on(engine: Engine, delivered: Delivered) -> None:
    for _ in range(3):
        last = await engine.publish("a", b"1", LOGGED)
    await engine.remove_history("a")
    stream = await engine.history("a", KEEP, Position(last.epoch, 1))
    assert (stream.publications, stream.position) == ([], last)
    assert not stream.follows(Position(last.epoch, 1))
    assert stream.follows(last)
    assert await engine.publish("a", b"2", LOGGED) == Position(last.epoch, 4)
    assert [it.offset for it in (await engine.history("a", KEEP)).publications] == [4]
    await engine.remove_history("never seen")


async def test_presence_of_many_clients_is_renewed_at_once(engine: Engine, delivered: Delivered) -> None:
    await engine.subscribe("a", None)
    await engine.subscribe("b", None)
    clients = [ClientInfo(f"user{index}", f"c{index}", Raw(b'{"n":1}')) for index in range(20)]
    present = [Present("a" if index % 2 else "b", info.client, info) for index, info in enumerate(clients)]
    await engine.renew_presence(present[:10])
    await delivered.count(10)
    await engine.renew_presence(present)
    await delivered.count(20)  # who was there already does not join again
    assert await engine.presence("a") == {info.client: info for info in clients[1::2]}
    assert await engine.presence("b") == {info.client: info for info in clients[::2]}
    await engine.renew_presence([])
    await delivered.count(20)
