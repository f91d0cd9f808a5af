"""The subscribers of a channel: who gets the same bytes, encoded once; differences, filters, conflation."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from centrifuge.fossil import apply_delta

from freshet.commands.dispatch import Dispatcher
from freshet.config import State
from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.dialects.centrifuge.protobuf import CentrifugeProtobuf
from freshet.hub.subscribers import Delta, Joining, Subscribers
from freshet.model.commands import TagFilter
from freshet.model.entries import StateEntry
from freshet.model.events import Delivery, Event, Joined, Published
from freshet.model.frame import Frame
from freshet.model.log import ClientInfo, History, Publication
from freshet.rules.filters import CompiledFilter
from freshet.rules.rules import ChannelRule
from freshet.session.session import Session
from tests.tools.sessions import opened, running, taken

RULE = ChannelRule("*", history=History(size=3, ttl=60), delta=True)
GOALS = CompiledFilter(TagFilter(key="kind", cmp="eq", val="goal"))


class CountingDialect(Centrifuge):
    """encoded: how often each event was."""

    def __init__(self) -> None:
        self.encoded: Counter[int] = Counter()

    def encode(self, event: Event) -> Frame | None:
        self.encoded[id(event)] += 1
        return super().encode(event)


@pytest.fixture
async def dispatcher() -> AsyncIterator[Dispatcher]:
    async with running() as dispatcher:
        yield dispatcher


@pytest.fixture
def subscribers() -> Subscribers:
    return Subscribers("a", RULE)


def published(offset: int, data: bytes = b"1", **tags: str) -> Published:
    return Published("a", Publication(data, offset, tags=tags or None), "epoch")


def joined() -> Joined:
    return Joined("a", ClientInfo("bob", "client"))


def members(subscribers: Subscribers) -> list[set[Session]]:
    return [set(group.outboxes) for group in subscribers.groups.values()]


# -------------------------------------------------------------------------------------------------------------- groups


async def test_those_who_get_the_same_bytes_are_one_group(dispatcher: Dispatcher, subscribers: Subscribers) -> None:
    one, two = opened(dispatcher), opened(dispatcher)
    binary = opened(dispatcher, CentrifugeProtobuf())
    fan, other = opened(dispatcher), opened(dispatcher)
    first, same = opened(dispatcher), opened(dispatcher)
    assert not subscribers
    for session in (one, two, binary):
        subscribers.add(session, Delta.NONE)
    subscribers.add(fan, Delta.NONE, GOALS)
    subscribers.add(other, Delta.NONE, CompiledFilter(TagFilter(key="kind", cmp="eq", val="corner")))
    for session in (first, same):
        subscribers.add(session, Delta.FIRST)
    assert subscribers
    assert members(subscribers) == [{one, two}, {binary}, {fan}, {other}, {first, same}]
    assert [group.label for group in subscribers.groups.values()][:2] == ["centrifuge", binary.dialect.label]


async def test_filters_that_say_the_same_are_one_group(dispatcher: Dispatcher, subscribers: Subscribers) -> None:
    sessions = {opened(dispatcher) for _ in range(3)}
    for session in sessions:
        subscribers.add(session, Delta.NONE, CompiledFilter(TagFilter(key="kind", cmp="eq", val="goal")))
    assert members(subscribers) == [sessions]


@pytest.mark.parametrize("delta", list(Delta))
@pytest.mark.parametrize("tag_filter", [None, GOALS], ids=["all", "filtered"])
async def test_who_leaves_is_found_in_whatever_group(
    dispatcher: Dispatcher, subscribers: Subscribers, delta: Delta, tag_filter: CompiledFilter | None
) -> None:
    stays, goes = opened(dispatcher), opened(dispatcher)
    for session in (stays, goes):
        subscribers.add(session, delta, tag_filter)
    assert not subscribers.remove(opened(dispatcher))
    assert subscribers.remove(goes)
    assert not subscribers.remove(goes)
    assert members(subscribers) == [{stays}]
    assert subscribers.remove(stays)
    assert (bool(subscribers), subscribers.groups, subscribers.filtered) == (False, {}, {})


async def test_who_is_on_the_way_in_is_somebody_too(dispatcher: Dispatcher, subscribers: Subscribers) -> None:
    joining = Joining(opened(dispatcher), subscribers, RULE, False, None)
    subscribers.joining.append(joining)
    assert subscribers
    subscribers.joining.remove(joining)
    assert not subscribers


# ------------------------------------------------------------------------------------------------------------ encoding


def encoded(subscribers: Subscribers, *events: Delivery) -> list[list[Any]]:
    """By group, what its members get: JSON of each frame."""
    whole: dict[str, list[Frame | None]] = {}
    return [
        [json.loads(frame.data)["push"] for frame in group.encode(list(events), subscribers.last, whole)]
        for group in subscribers.groups.values()
    ]


async def test_an_event_is_encoded_once_for_all_groups_of_a_dialect(
    dispatcher: Dispatcher, subscribers: Subscribers
) -> None:
    dialect = CountingDialect()
    for tag_filter in (None, GOALS, CompiledFilter(TagFilter(key="kind", cmp="ex"))):
        for _ in range(10):
            subscribers.add(opened(dispatcher, dialect), Delta.NONE, tag_filter)
    events: list[Delivery] = [published(1, kind="goal"), joined(), published(2, kind="corner")]
    frames = encoded(subscribers, *events)
    assert [len(each) for each in frames] == [3, 2, 3]
    assert dialect.encoded == {id(event): 1 for event in events}


async def test_each_dialect_has_its_own_bytes(dispatcher: Dispatcher, subscribers: Subscribers) -> None:
    subscribers.add(opened(dispatcher), Delta.NONE)
    subscribers.add(opened(dispatcher, CentrifugeProtobuf()), Delta.NONE)
    whole: dict[str, list[Frame | None]] = {}
    text, binary = (group.encode([published(1)], None, whole)[0] for group in subscribers.groups.values())
    assert (text.binary, binary.binary, text.data == binary.data) == (False, True, False)
    assert len(whole) == 2


async def test_a_filter_chooses_publications_and_lets_pass_who_comes_and_goes(
    dispatcher: Dispatcher, subscribers: Subscribers
) -> None:
    subscribers.add(opened(dispatcher), Delta.NONE, GOALS)
    [frames] = encoded(subscribers, published(1, kind="corner"), joined(), published(2, kind="goal"), published(3))
    assert [frame["pub"]["offset"] if "pub" in frame else "join" for frame in frames] == ["join", 2]


class Silent(Dialect):
    """It has no words for who comes and goes."""

    name = "silent"

    def receive(self, frame: Frame) -> list[Any]:
        return []

    def encode(self, event: Event) -> Frame | None:
        return Frame(event.publication.data) if isinstance(event, Published) else None


async def test_an_event_for_which_a_dialect_has_no_words_is_left_out(
    dispatcher: Dispatcher, subscribers: Subscribers
) -> None:
    session = opened(dispatcher, Silent())
    subscribers.add(session, Delta.NONE)
    [group] = subscribers.groups.values()
    assert [frame.data for frame in group.encode([joined(), published(1, b"x")], None, {})] == [b"x"]
    assert len(group.offer("a", [joined(), published(2, b"y")], {}, conflate=False)) == 1
    assert [frame.data for frame in session.outbox.take()] == [b"y"]


# --------------------------------------------------------------------------------------------------------- differences

LONG = [b'"%s %d"' % (b"a text that stays the same, " * 5, number) for number in range(5)]


def value_after(value: bytes, frame: Any) -> bytes:
    """What a client has that puts a publication together with the one before."""
    data: bytes = frame["pub"]["data"].encode()
    return apply_delta(value, data) if frame["pub"].get("delta") else data


async def test_the_first_is_whole_and_the_next_is_the_difference_to_it(
    dispatcher: Dispatcher, subscribers: Subscribers
) -> None:
    session = opened(dispatcher)
    subscribers.add(session, Delta.FIRST)
    subscribers.last = Publication(LONG[4], 4)  # which this one has not got
    events: list[Delivery] = [published(5, LONG[0]), joined(), published(6, LONG[1])]
    [[whole, comes, second]] = encoded(subscribers, *events)
    assert (whole["pub"].get("delta"), "join" in comes, second["pub"]["delta"]) == (None, True, True)
    assert value_after(value_after(b"", whole), second) == LONG[1]
    subscribers.fanned_out(events)
    assert [group.delta for group in subscribers.groups.values()] == [Delta.ON]
    [[third]] = encoded(subscribers, published(7, LONG[2]))
    assert third["pub"]["delta"] is True
    assert value_after(LONG[1], third) == LONG[2]
    assert subscribers.remove(session)


async def test_those_who_had_their_first_join_those_who_get_differences(
    dispatcher: Dispatcher, subscribers: Subscribers
) -> None:
    plain, old, new = (opened(dispatcher) for _ in range(3))
    for session, delta in ((plain, Delta.NONE), (old, Delta.ON), (new, Delta.FIRST)):
        subscribers.add(session, delta)
    assert members(subscribers) == [{plain}, {old}, {new}]
    subscribers.fanned_out([joined()])  # nobody got a publication
    assert (members(subscribers), subscribers.last) == ([{plain}, {old}, {new}], None)
    subscribers.fanned_out([published(1), published(2, b"2"), joined()])
    assert (members(subscribers), subscribers.last) == ([{plain}, {old, new}], Publication(b"2", 2))


async def test_differences_are_made_once_for_all_who_have_the_same(
    dispatcher: Dispatcher, subscribers: Subscribers
) -> None:
    sessions = [opened(dispatcher) for _ in range(3)]
    for session in sessions:
        subscribers.add(session, Delta.ON)
    subscribers.last = Publication(LONG[0], 1)
    [group] = subscribers.groups.values()
    [frame] = group.encode([published(2, LONG[1])], subscribers.last, {})
    assert len(frame.data) < len(LONG[1])
    assert len(group.outboxes) == 3


# ---------------------------------------------------------------------------------------------------------- conflation


async def offered(dispatcher: Dispatcher, *events: Published, conflate: bool, limit: int = 1000) -> list[int]:
    """The offsets that a client gets that does not read meanwhile."""
    subscribers = Subscribers("a", ChannelRule("*", slow="latest"))
    session = opened(dispatcher)
    session.outbox.limit = limit
    subscribers.add(session, Delta.NONE)
    [group] = subscribers.groups.values()
    for event in events:
        assert len(group.offer("a", [event], {}, conflate=conflate)) == 1
    assert session.outbox.closed is None
    return [each["push"]["pub"]["offset"] for each in taken(session)]


async def test_a_later_one_of_the_same_key_takes_the_place_of_one_that_waits(dispatcher: Dispatcher) -> None:
    prices = [published(1, key="gold"), published(2, key="tin"), published(3, key="gold"), published(4, key="zinc")]
    assert await offered(dispatcher, *prices, conflate=True) == [2, 3, 4]
    assert await offered(dispatcher, published(1), published(2), published(3, key="gold"), conflate=True) == [2, 3]


async def test_without_conflation_the_oldest_is_dropped_for_want_of_room(dispatcher: Dispatcher) -> None:
    prices = [published(number, key="gold") for number in range(1, 10)]
    assert await offered(dispatcher, *prices, conflate=False) == list(range(1, 10))
    assert await offered(dispatcher, *prices, conflate=False, limit=250) == [7, 8, 9]


async def test_who_comes_and_goes_is_neither_conflated_nor_dropped(dispatcher: Dispatcher) -> None:
    subscribers = Subscribers("a", ChannelRule("*", slow="latest"))
    session = opened(dispatcher)
    subscribers.add(session, Delta.NONE, GOALS)
    [group] = subscribers.groups.values()
    events: list[Delivery] = [joined(), published(1, kind="goal"), joined(), published(2, kind="corner")]
    assert len(group.offer("a", events, {}, conflate=True)) == 3
    group.offer("a", [published(3, kind="goal")], {}, conflate=True)
    assert [next(iter(each["push"].keys() - {"channel"})) for each in taken(session)] == ["join", "join", "pub"]


async def test_what_is_offered_is_encoded_once_for_all_groups(dispatcher: Dispatcher, subscribers: Subscribers) -> None:
    dialect = CountingDialect()
    for tag_filter in (None, GOALS):
        subscribers.add(opened(dispatcher, dialect), Delta.NONE, tag_filter)
    event, whole = published(1, kind="goal"), dict[str, list[Frame | None]]()
    for group in subscribers.groups.values():
        assert len(group.offer("a", [event], whole, conflate=True)) == 1
    assert dialect.encoded == {id(event): 1}


# ------------------------------------------------------------------------------------------------------- on the way in


async def test_for_who_is_on_the_way_in_the_last_publications_are_queued(
    dispatcher: Dispatcher, subscribers: Subscribers
) -> None:
    joining = Joining(opened(dispatcher), subscribers, RULE, False, None)
    joining.queue([published(1), joined(), published(2)])
    assert [each.offset for each in joining.backlog] == [1, 2]
    joining.queue([published(3), published(4)])
    assert [each.offset for each in joining.backlog] == [2, 3, 4]  # as many as the log keeps
    unlogged = Joining(opened(dispatcher), subscribers, ChannelRule("*"), False, None)
    unlogged.queue([published(0)])
    assert unlogged.backlog == []


async def test_a_change_of_a_state_is_encoded_once_for_all_who_get_differences_of_it(dispatcher: Dispatcher) -> None:
    subscribers = Subscribers("a", ChannelRule("*", state=State(), delta=True))
    assert subscribers.last_values is None
    sessions = [opened(dispatcher) for _ in range(3)]
    for session in sessions:
        subscribers.admit(Joining(session, subscribers, RULE, True, None), [])
        subscribers.add(session, Delta.KEYED, mapped=True)
    [group] = subscribers.groups.values()
    events: list[Delivery] = [Published("a", StateEntry("k", value).publication()) for value in LONG[:3]]
    events.insert(1, Published("a", StateEntry("another", LONG[4]).publication()))
    assert subscribers.last_values is not None
    keyed = subscribers.last_values.note(events)
    frames = [json.loads(frame.data)["push"] for frame in group.encode(events, None, {}, keyed)]
    assert [frame["pub"].get("delta", False) for frame in frames] == [False, False, True, True]
    values = [b""]
    for frame in frames[:1] + frames[2:]:
        values.append(value_after(values[-1], frame))
    assert values[1:] == LONG[:3]
    alone = subscribers.encode_for(sessions[0], events[0])
    assert alone is not None
    assert json.loads(alone.data)["push"]["pub"] == {"key": "k", "data": LONG[0].decode()}
    for session in sessions:
        assert subscribers.last_values is not None
        assert subscribers.remove(session)
    assert subscribers.last_values is None


async def test_who_takes_a_state_as_entries_gets_these_and_nothing_else_in_bytes_of_its_own(
    dispatcher: Dispatcher, subscribers: Subscribers
) -> None:
    change = StateEntry("k", b"[1]", {"team": "red"}).publication()
    other = Publication(b'"said"')
    plain, mapped = opened(dispatcher), opened(dispatcher)
    subscribers.add(plain, Delta.NONE)
    subscribers.add(mapped, Delta.NONE, mapped=True)
    events: list[Delivery] = [Published("a", change), Published("a", other)]
    whole: dict[str, list[Frame | None]] = {}
    encoded = [
        [json.loads(frame.data)["push"]["pub"] for frame in group.encode(events, None, whole)]
        for group in subscribers.groups.values()
    ]
    assert [len(each) for each in encoded] == [2, 1]
    assert encoded[1] == [{"key": "k", "data": [1], "tags": {"team": "red"}}]
    assert subscribers.remove(mapped)
    assert not subscribers.remove(mapped)
    assert subscribers.remove(plain)
    assert not subscribers
