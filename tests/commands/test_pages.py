"""What a client reads at once is bounded, whatever a channel holds, and it can always go on."""

import json
from collections.abc import AsyncIterator

import pytest

from freshet import Freshet, History, Session
from freshet.config import Config, Limits, Rates
from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge.client_pb2 import Reply
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.dialects.centrifuge.protobuf import CentrifugeProtobuf, read_delimited
from freshet.errors import Disconnect
from freshet.model.commands import Connect, ReadPresence
from freshet.model.frame import Frame
from freshet.model.log import ClientInfo
from freshet.runtime.rates import Rate
from tests.tools.patience import eventually
from tests.tools.sessions import ask, connected, opened

KIB = 1024
LIMITS = Limits(history_page=20, page_size=16 * KIB, replay=32 * KIB)
ANY = Rate(0, 0)


@pytest.fixture
async def live() -> AsyncIterator[Freshet]:
    config = Config(limits=LIMITS, rates=Rates(history=ANY, presence=ANY))
    live = Freshet(dev=True, environment={}, config=config)
    live.channel("log:{name}", history=History(size=500, ttl=60), presence=True, publish="client", read="client")
    async with live.lifespan():
        yield live


@pytest.fixture
async def alice(live: Freshet) -> Session:
    return await connected(live, token=live.token("alice"))


async def pages(alice: Session, channel: str, reverse: bool = False) -> list[list[int]]:
    """The offsets of all pages that a client reads, one behind the other."""
    read: list[list[int]] = []
    since = {}
    while True:
        page = (await ask(alice, "history", channel=channel, limit=-1, reverse=reverse, **since))["history"]
        if not page.get("publications"):
            return read
        read.append([each["offset"] for each in page["publications"]])
        since = {"since": {"epoch": page["epoch"], "offset": read[-1][-1]}}


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_page_of_history_has_so_many_publications_and_the_next_goes_on_behind_it(
    live: Freshet, alice: Session, reverse: bool
) -> None:
    for number in range(50):
        await live.publish("log:a", number)
    read = await pages(alice, "log:a", reverse)
    assert [len(page) for page in read] == [20, 20, 10]
    offsets = [offset for page in read for offset in page]
    assert offsets == (list(range(50, 0, -1)) if reverse else list(range(1, 51)))


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_page_of_large_publications_has_so_many_bytes_and_one_that_is_larger_comes_alone(
    live: Freshet, alice: Session, reverse: bool
) -> None:
    for number in range(12):
        await live.publish("log:a", "x" * (20 * KIB if number == 6 else 3 * KIB))
    read = await pages(alice, "log:a", reverse)
    assert [7] in read
    assert max(len(page) for page in read) == 5
    assert sorted(offset for page in read for offset in page) == list(range(1, 13))


async def test_history_readers_who_do_not_read_hold_no_more_than_their_outbox_and_a_page(live: Freshet) -> None:
    for _ in range(400):
        await live.publish("log:a", "x" * 8 * KIB)  # 3 MiB
    limits = live.config.limits
    for _ in range(60):
        reader = await connected(live, token=live.token("mallory"))
        for number in range(100):  # 60 bytes each, for 16 KiB
            reader.receive(_frame({"id": number + 10, "history": {"channel": "log:a", "limit": -1}}))
        await eventually(lambda reader=reader: reader.crowded_since > 0)
        assert 0 < reader.outbox.waiting <= limits.outbox // 2 + limits.page_size
        reader.end(Disconnect.normal())
        await eventually(lambda reader=reader: not reader.busy)


def _frame(command: object) -> Frame:
    return Frame(json.dumps(command).encode())


# ------------------------------------------------------------------------------------------------------------- replays


async def test_who_missed_more_than_it_can_get_at_once_is_told_that_it_is_not_recovered(
    live: Freshet, alice: Session, caplog: pytest.LogCaptureFixture
) -> None:
    first = await live.publish("log:a", 0)
    for _ in range(20):
        await live.publish("log:a", "x" * 2 * KIB)
    since = {"recover": True, "epoch": first.epoch, "offset": first.offset}
    subscribed = (await ask(alice, "subscribe", channel="log:a", **since))["subscribe"]
    assert (subscribed["recovered"], subscribed.get("publications")) == (False, None)
    assert subscribed["offset"] == 21  # where the live flow begins
    assert "limits.replay" in caplog.text
    await ask(alice, "unsubscribe", channel="log:a")
    late = {"recover": True, "epoch": first.epoch, "offset": 10}
    subscribed = (await ask(alice, "subscribe", channel="log:a", **late))["subscribe"]
    assert (subscribed["recovered"], len(subscribed["publications"])) == (True, 11)


async def test_all_channels_that_a_client_enters_at_once_have_one_bound(live: Freshet) -> None:
    channels = [f"log:{name}" for name in "abcde"]
    starts = {}
    for channel in channels:
        starts[channel] = await live.publish(channel, 0)
        for _ in range(4):
            await live.publish(channel, "x" * 3 * KIB)
    subs = {name: {"recover": True, "epoch": place.epoch, "offset": place.offset} for name, place in starts.items()}
    session = opened(live)
    reply = await ask(session, "connect", token=live.token("alice", channels=channels), subs=subs)
    recovered = [reply["connect"]["subs"][name]["recovered"] for name in channels]
    assert recovered == [True, True, False, False, False]


# ------------------------------------------------------------------------------------------------------------ presence


async def test_a_list_of_presence_that_is_too_large_is_refused_and_its_number_is_not(live: Freshet) -> None:
    for number in range(300):
        await live._node.engine.set_presence("log:a", f"c{number}", ClientInfo(f"u{number % 7}", f"c{number}"))
    reader = await connected(live, token=live.token("alice"))
    refused = (await ask(reader, "presence", channel="log:a"))["error"]
    assert refused["code"] == 106
    assert "300 clients" in refused["message"]
    counts = (await ask(reader, "presence_stats", channel="log:a"))["presence_stats"]
    assert counts == {"num_clients": 300, "num_users": 7}
    assert len(await live.presence("log:a")) == 300  # the server itself is not limited


@pytest.mark.parametrize("dialect", [Centrifuge(), CentrifugeProtobuf()])
async def test_those_who_ask_for_the_same_list_share_how_it_is_encoded(live: Freshet, dialect: Dialect) -> None:
    await live._node.engine.set_presence("log:a", "c1", ClientInfo("bob", "c1"))
    readers = [opened(live, dialect) for _ in range(3)]
    encoded: set[int] = set()
    for id, reader in enumerate(readers, 2):
        reader.do([Connect(1, live.token("alice")), ReadPresence("log:a", id)])
        await eventually(lambda reader=reader: not reader.busy)
        reply = reader.outbox.take()[-1].data
        if dialect.name == "centrifuge":
            wire = json.loads(reply)
            assert (wire["id"], list(wire["presence"]["presence"])) == (id, ["c1"])
        else:
            message = Reply.FromString(read_delimited(reply, 0)[0])
            assert (message.id, list(message.presence.presence)) == (id, ["c1"])
        encoded.add(id_of(live, dialect))
    assert len(encoded) == 1


def id_of(live: Freshet, dialect: Dialect) -> int:
    return id(live._node.who._kept["log:a"].encoded[dialect.name])
