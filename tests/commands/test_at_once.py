"""Commands as a transport gives them to a session, in no task: what need not wait is done at once."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from freshet import Freshet, Welcome
from freshet.commands.dispatch import Dispatcher
from freshet.config import parse
from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.dialects.centrifuge.protobuf import CentrifugeProtobuf
from freshet.dialects.channel_url import ChannelUrl
from freshet.errors import Disconnect
from freshet.model.commands import Command, Connect, Ping, Publish, ReadHistory, ReadPresence, Subscribe, Unsubscribe
from freshet.model.frame import Frame
from freshet.model.log import OLDEST
from freshet.session.outbox import AT_ONCE
from freshet.session.session import Session
from tests.tools.nats import nats
from tests.tools.patience import eventually, seconds
from tests.tools.redis import redis
from tests.tools.sessions import came, code, from_loop, opened, say, taken

CHANNEL = {"match": "log:*", "publish": "client", "presence": True, "history": {"size": 10, "ttl": 60}}


@pytest.fixture(params=["memory", "sqlite", "redis", "nats"], scope="module")
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ExitStack() as stack:
        brokers = {"redis": redis, "nats": nats}
        if request.param in brokers:
            yield stack.enter_context(brokers[request.param]()).url
        elif request.param == "sqlite":
            yield f"sqlite:///{Path(tmp_path_factory.mktemp('engine')) / 'data.db'}"
        else:
            yield "memory"


@pytest.fixture
async def live(engine: str) -> AsyncIterator[Freshet]:
    config = parse({"engine": engine, "tokens": {"anonymous": True}, "channels": [CHANNEL]})
    live = Freshet(config=config, environment={})
    async with live.lifespan():
        yield live


@pytest.fixture
async def alone() -> AsyncIterator[Freshet]:
    """On the engine in memory."""
    config = parse({"tokens": {"anonymous": True}, "channels": [CHANNEL, {"match": "said:*", "publish": "client"}]})
    live = Freshet(config=config, environment={})
    async with live.lifespan():
        yield live


def dispatcher_of(live: Freshet) -> Dispatcher:
    return live._dispatcher


JOURNEY: list[Command] = [
    Connect(1),
    Publish("log:a", b"1", 2),
    Subscribe("log:a", 3, recover=OLDEST),
    Publish("log:a", b"2", 4),
    ReadHistory("log:a", 5, limit=10),
    ReadPresence("log:a", 6),
    Ping(7),
    Unsubscribe("log:a", 8),
    Publish("log:a", b"3", 9),
]


def replied(session: Session, dialect: Dialect) -> list[int]:
    """The ids of the replies that wait, in their order."""
    if isinstance(dialect, Centrifuge):
        return [reply["id"] for reply in taken(session) if reply.get("id")]
    ids = []
    for frame in session.outbox.take():
        data = frame.data
        while data:  # a length of one byte or two, then field 1, the id
            size, data = data[0], data[1:]
            if size > 127:
                size, data = size - 128 + 128 * data[0], data[1:]
            message, data = data[:size], data[size:]
            if message[0] == 0x08:
                ids.append(message[1])
    return ids


@pytest.mark.parametrize("in_one_turn", [True, False], ids=["in one turn", "one by one"])
@pytest.mark.parametrize("dialect", [Centrifuge(), CentrifugeProtobuf()], ids=["json", "protobuf"])
async def test_commands_run_in_their_order_whether_the_engine_has_to_be_waited_for_or_not(
    live: Freshet, dialect: Dialect, in_one_turn: bool
) -> None:
    session, ids = opened(live, dialect), []
    for command in JOURNEY:
        if in_one_turn:
            asyncio.get_running_loop().call_soon(session.do, [command])
        else:
            await from_loop(session.do, [command])
            await eventually(lambda: not session.busy, 10)
            ids += replied(session, dialect)
    await asyncio.sleep(0)
    await eventually(lambda: not session.busy, 10)
    ids += replied(session, dialect)
    assert ids == list(range(1, 10))
    assert code(session) is None
    assert [each.data for each in (await live.history("log:a")).publications][-3:] == [b"1", b"2", b"3"]


async def test_a_client_that_goes_while_the_engine_is_asked_leaves_nothing_behind(live: Freshet) -> None:
    node, before = live._node, len(live._node.tasks)
    for command in (Connect(1), Subscribe("log:b", 2, recover=OLDEST), Publish("log:b", b"1", 3)):
        session = await came(dispatcher_of(live), "alice") if not isinstance(command, Connect) else opened(live)

        def begin_and_go(session: Session = session, command: Command = command) -> None:
            session.do([command])
            session.end(Disconnect.normal())

        await from_loop(begin_and_go)
        await eventually(lambda session=session: not session.busy, 10)  # type: ignore[misc]
        assert (session.subscriptions, session.reservations) == ({}, None)
    await eventually(lambda: len(node.tasks) == before and not len(node.presence) and not node.hub.channels(), 10)
    assert await live.presence("log:b") == {}


async def test_on_the_engine_in_memory_a_journey_is_over_when_the_transport_has_given_it(alone: Freshet) -> None:
    session = opened(alone)
    replies: list[dict[str, Any]] = []

    def give() -> None:
        for command in JOURNEY[:2]:
            session.do([command])
            replies.extend(taken(session))
        replies.append({"busy": session.busy, "tasks": len(alone._node.tasks)})

    await from_loop(give)
    assert [reply.get("id") for reply in replies] == [1, 2, None]
    assert replies[-1] == {"busy": False, "tasks": 0}
    assert (await alone.history("log:a")).position.offset == 1


# --------------------------------------------------------------------------------------------------------------- hooks


class Asks:
    """Hooks that do what needs a task. seen: their tasks, by the hook."""

    def __init__(self, live: Freshet) -> None:
        self.seen: dict[str, asyncio.Task[Any] | None] = {}
        live.on_connect(self.connect)
        live.on_disconnect(self.disconnect)
        live.on_message(self.message)
        live.rpc("ask")(self.rpc)
        channel = live.channel("asked:*", publish="client")
        channel.on_subscribe(self.subscribe)
        channel.on_publish(self.publish)

    async def note(self, hook: str, *, waits: bool = True) -> None:
        self.seen[hook] = asyncio.current_task()
        async with asyncio.timeout(seconds(10)):
            if waits:
                await asyncio.sleep(0)
        async with asyncio.TaskGroup() as group:
            if waits:
                group.create_task(asyncio.sleep(0))

    async def connect(self, session: Session) -> Welcome:
        await self.note("connect")
        await session.join("asked:own")
        return Welcome(user="alice", channels=["asked:server"])

    async def disconnect(self, session: Session) -> None:
        await self.note("disconnect")

    async def message(self, session: Session, data: Any) -> None:
        await self.note("message", waits=False)

    async def rpc(self, session: Session, data: Any) -> str:
        await self.note("rpc", waits=data == "wait")
        return "answered"

    async def subscribe(self, session: Session, channel: str) -> None:
        await self.note("subscribe")
        await session.join(channel)  # which it is about to be in: it does not wait for itself

    async def publish(self, session: Session, data: Any) -> Any:
        await self.note("publish", waits=False)
        return {"changed": data}


async def test_hooks_always_have_a_task_of_their_clients(alone: Freshet) -> None:
    asks = Asks(alone)
    session = opened(alone)
    [reply] = [each for each in await say(session, {"id": 1, "connect": {}}) if "id" in each]
    assert set(reply["connect"]["subs"]) == {"asked:own", "asked:server"}
    replies = await say(
        session,
        {"id": 2, "subscribe": {"channel": "asked:a"}},
        {"id": 3, "publish": {"channel": "asked:a", "data": 1}},
        {"id": 4, "rpc": {"method": "ask", "data": "wait"}},
        {"id": 5, "rpc": {"method": "ask"}},
        {"send": {"data": 1}},
        {"id": 6, "ping": {}},
    )
    assert [reply["id"] for reply in replies if "id" in reply] == [2, 3, 4, 5, 6]
    assert not any("error" in reply for reply in replies)
    await from_loop(session.end, Disconnect.normal())
    await eventually(lambda: "disconnect" in asks.seen)
    assert None not in asks.seen.values()
    assert asyncio.current_task() not in asks.seen.values()
    await eventually(lambda: not len(alone._node.tasks))


async def test_what_a_hook_sets_in_its_context_is_not_seen_by_the_next_command(alone: Freshet) -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")
    seen: list[str] = []

    @alone.rpc("who")
    async def ask(session: Session, data: Any) -> None:
        seen.append(who.get())
        who.set("alice")
        await asyncio.sleep(0)
        seen.append(who.get())

    session = await came(dispatcher_of(alone), "alice")
    for number in (1, 2):
        await say(session, {"id": number, "rpc": {"method": "who"}})
    assert seen == ["nobody", "alice"] * 2


# ------------------------------------------------------------------------------------------------------- side by side


async def test_the_server_waits_for_a_clients_own_way_into_a_channel_that_began_without_a_task(
    alone: Freshet, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, gate = alone._node, asyncio.Event()
    history = node.engine.history

    async def held(*arguments: Any, **named: Any) -> Any:
        await gate.wait()
        return await history(*arguments, **named)

    session = await came(dispatcher_of(alone), "alice")
    monkeypatch.setattr(node.engine, "history", held)
    await from_loop(session.do, [Subscribe("log:a", 1)])
    await eventually(lambda: session.reservations)
    joins = [asyncio.create_task(session.join("log:a")) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(join.done() for join in joins)
    gate.set()
    await asyncio.gather(*joins)
    assert set(session.subscriptions) == {"log:a"}
    assert [next(iter(reply)) for reply in taken(session)] == ["id"]  # nobody subscribed it once more


async def test_a_client_that_sends_much_in_one_turn_does_not_keep_the_others_waiting(alone: Freshet) -> None:
    greedy, other = [await came(dispatcher_of(alone), user) for user in ("greedy", "other")]
    lines = [{"id": number, "publish": {"channel": "said:a", "data": number}} for number in range(1, AT_ONCE)]
    frame = Frame(b"\n".join(json.dumps(line).encode() for line in lines))
    done = alone._node.counts.commands["connect"]

    def flood() -> None:
        for _ in range(20):
            greedy.receive(frame)
        other.receive(Frame(b'{"id":1,"ping":{}}'))

    await from_loop(flood)
    assert [reply["id"] for reply in taken(other)] == [1]
    assert sum(alone._node.counts.commands["publish"].counts) <= 2 * AT_ONCE
    await eventually(lambda: not greedy.busy)
    assert sum(alone._node.counts.commands["publish"].counts) == 20 * len(lines)
    assert sum(done.counts) == 2


async def test_nor_does_one_that_gets_no_replies(alone: Freshet) -> None:
    greedy = opened(alone, ChannelUrl("said:a"))
    await from_loop(greedy.open)
    await eventually(lambda: greedy.connected and not greedy.busy)
    greedy.outbox.take()

    def flood() -> None:
        for number in range(1000):
            greedy.receive(Frame(b"%d" % number))

    await from_loop(flood)
    assert alone._node.counts.published <= 2 * AT_ONCE
    await eventually(lambda: not greedy.busy)
    assert alone._node.counts.published == 1000


async def test_a_command_that_ends_its_session_at_once_is_the_last_one(alone: Freshet) -> None:
    session = opened(alone)
    assert await say(session, {"id": 1, "ping": {}}, {"id": 2, "connect": {}}) == []
    assert (code(session), session.connected, session.busy) == (3501, False, False)


async def test_each_command_is_counted_with_its_refusal_wherever_it_ran(alone: Freshet) -> None:
    counts = alone._node.counts
    session = await came(dispatcher_of(alone), "alice")
    await say(
        session,
        {"id": 1, "publish": {"channel": "nowhere", "data": 1}},
        {"id": 2, "publish": {"channel": "log:a", "data": 1}},
        {"id": 3, "rpc": {"method": "nothing"}},
    )
    assert (counts.refusals, counts.published) == ({102: 1, 108: 1}, 1)
    assert {name: sum(it.counts) for name, it in counts.commands.items()} == {"connect": 1, "publish": 2, "call": 1}
    assert sum(counts.publishing.counts) == 1


async def test_a_transport_that_waits_for_a_full_backlog_is_woken_whenever_that_filled_up() -> None:
    """Also while the client's commands paused for the others: what is read next depends on it."""
    channels, quiet = [{"match": "said:*", "publish": "client"}], Publish("said:a", b"1")  # there is no reply to it
    config = parse({"tokens": {"anonymous": True}, "limits": {"backlog": 2 * AT_ONCE}, "channels": channels})
    live = Freshet(config=config, environment={})
    async with live.lifespan():
        for number in range(2, 2 * AT_ONCE + 2):
            session = await came(dispatcher_of(live), "alice")
            live._node.turn.end()
            taken(session)
            woken: list[bool] = []
            session.outbox.attach(lambda session=session, woken=woken: woken.append(session.backlog_full))  # type: ignore[misc]
            session.do([quiet] * number)
            await asyncio.sleep(0)
            filled = session.busy
            while session.busy and not session.backlog_full:
                session.do([quiet])
            await eventually(lambda session=session: not session.busy)  # type: ignore[misc]
            assert not filled or woken[-1:] == [False]
            session.end(Disconnect.normal())
