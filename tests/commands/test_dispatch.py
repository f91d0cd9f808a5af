"""The dispatcher: a command passes the policies, then its function; the answer or the refusal is the reply."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from freshet.commands.dispatch import COMMANDS, Dispatcher
from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.errors import Disconnect, Refusal
from freshet.model import commands
from freshet.model.commands import Command, Connect, Declined, Send, Subscribe, Unsubscribe
from freshet.model.events import Answer, Event
from freshet.model.frame import Frame
from freshet.node.node import Node
from freshet.policy.base import Context, Policy
from freshet.rules.hooks import Hook
from freshet.rules.rules import ChannelRule
from freshet.session.outbox import Outbox
from freshet.session.session import Session
from tests.tools.sessions import HERE, ask, code, connected, do, opened, refused, running, say, taken

TOO_LARGE = Refusal.limit_exceeded("a command of 70000 bytes, see limits.message_size")


class Greet(Command, frozen=True):
    """A command of an endpoint's own."""

    id: int = 0


async def greet(node: Node, context: Context, command: Greet) -> Event:
    return Answer(command.id, b'"welcome"')


class Verbose(Dialect):
    """It has words for everything."""

    name = "verbose"

    def receive(self, frame: Frame) -> list[Command]:
        return [Connect()]

    def encode(self, event: Event) -> Frame | None:
        return Frame(b'{"event":"%s"}' % type(event).__name__.encode())


class Noted(Policy):
    """Writes down what it is asked, in the list that all share; then raises `why`, if it has one. waits: it awaits."""

    def __init__(self, name: str, notes: list[str], why: Exception | None = None, *, waits: bool = False) -> None:
        self.name = name
        self.notes = notes
        self.why = why
        self.waits = waits
        self.asked: list[tuple[Context, Command, ChannelRule | None]] = []

    def check(self, context: Context, command: Command) -> Awaitable[None] | None:
        self.asked.append((context, command, context.rule))
        self.notes.append(self.name)
        if self.waits:
            return self._wait()
        if self.why is not None:
            raise self.why
        return None

    async def _wait(self) -> None:
        self.notes.append(f"{self.name} decided")
        if self.why is not None:
            raise self.why


@pytest.fixture
async def dispatcher() -> AsyncIterator[Dispatcher]:
    async with running(ChannelRule("chat:{room}", presence=True)) as dispatcher:
        yield dispatcher


# ------------------------------------------------------------------------------------------------------- the commands


async def test_the_first_command_has_to_be_connect(dispatcher: Dispatcher) -> None:
    session = opened(dispatcher)
    assert await say(session, {"id": 1, "subscribe": {"channel": "chat:1"}}) == []
    assert session.outbox.closed is not None
    assert (code(session), session.outbox.closed.reason) == (3501, "the first command must be connect")
    assert dispatcher.node.hub.channels() == {}


def test_every_command_of_a_client_has_a_function() -> None:
    kinds = [kind for kind in vars(commands).values() if isinstance(kind, type) and issubclass(kind, Command)]
    elsewhere = {commands.Call, commands.Manage}  # carried out by what registers them
    assert set(COMMANDS) == set(kinds) - {Command, commands.Pong, *elsewhere}


@pytest.mark.parametrize("begins", [True, False])
async def test_an_endpoints_own_command_is_the_first_only_if_it_may_begin(dispatcher: Dispatcher, begins: bool) -> None:
    dispatcher.register(Greet, greet, begins=begins)
    session = opened(dispatcher)
    assert await do(session, Greet(7)) == ([{"id": 7, "rpc": {"data": "welcome"}}] if begins else [])
    assert code(session) == (None if begins else 3501)


async def test_a_registered_command_takes_the_place_of_the_one_that_there_is(dispatcher: Dispatcher) -> None:
    async def refuse(node: Node, context: Context, command: Send) -> None:
        raise Disconnect(4500, "no messages")

    dispatcher.register(Send, refuse)
    session = await connected(dispatcher)
    await say(session, {"send": {"data": 1}})
    assert code(session) == 4500
    async with running() as other:
        session = await connected(other)
        await say(session, {"send": {"data": 1}})
        assert code(session) == 3508  # as usual: nobody else was given it


async def test_a_refusal_is_the_reply_and_the_session_goes_on(dispatcher: Dispatcher) -> None:
    async def refuse(node: Node, context: Context, command: Greet) -> None:
        raise Refusal(1234, "closed on Sundays", temporary=True)

    dispatcher.register(Greet, refuse)
    session = await connected(dispatcher)
    error = {"code": 1234, "message": "closed on Sundays", "temporary": True}
    assert await do(session, Greet(5)) == [{"id": 5, "error": error}]
    assert code(session) is None
    assert dispatcher.node.counts.refusals == {1234: 1}
    assert "error" not in await ask(session, "ping")


async def test_a_command_that_is_too_large_is_refused_and_an_operator_hears_of_it_now_and_then(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    session = await connected(dispatcher)
    for id in range(5, 50):
        [reply] = await do(session, Declined(TOO_LARGE, id))
        assert (reply["id"], reply["error"]["code"]) == (id, 106)
    assert await do(session, Declined(TOO_LARGE)) == []
    assert "error" not in await ask(session, "ping")
    assert [record.getMessage() for record in caplog.records] == [
        f"a command of {session!r} was refused: a command of 70000 bytes, see limits.message_size"
    ]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("code", [102, 111, 4000])
async def test_what_a_hook_refuses_is_no_warning_and_names_no_option_whatever_its_code(
    code: int, waits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(session: Session, data: Any) -> None:
        if waits:
            await asyncio.sleep(0)
        raise Refusal(code, "not now")

    caplog.set_level(logging.INFO, "freshet.commands")
    async with running(ChannelRule("*", publish="client", on_publish=Hook(check, ("session", "data")))) as dispatcher:
        session = await connected(dispatcher)
        assert (await ask(session, "publish", channel="a", data=1))["error"]["code"] == code
    assert [(it.levelname, it.getMessage()) for it in caplog.records if "refused" in it.getMessage()] == [
        ("INFO", f"Publish of {session!r} was refused: not now")
    ]


async def test_a_connect_that_is_too_large_is_refused_by_its_size(dispatcher: Dispatcher) -> None:
    session = opened(dispatcher)
    [reply] = await do(session, Declined(TOO_LARGE, 1))
    assert reply["error"]["code"] == 106
    assert code(session) is None


@pytest.mark.parametrize(
    ("why", "lines"),
    [
        (Disconnect.too_big(7, "limits.frame_size"), ["1009 message too big: at most 7 bytes, see limits.frame_size"]),
        (Disconnect.bad_request("malformed command"), ["3501 malformed command"]),
        (Disconnect.invalid_token("a token is required"), ["3500 a token is required"]),
        (Disconnect.normal(), []),
        (Disconnect.slow(), ["3008 slow: see limits.outbox, and slow of the channel's rule"]),
    ],
)
async def test_a_client_that_is_disconnected_for_its_mistake_leaves_a_line_now_and_then(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture, why: Disconnect, lines: list[str]
) -> None:
    for _ in range(50):
        opened(dispatcher).end(why)
    assert [record.getMessage().partition("disconnected: ")[2] for record in caplog.records] == lines


def test_a_request_that_is_too_large_leaves_a_line_with_the_option(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(50):
        dispatcher.too_big("/emulation", dispatcher.limits.frame)
    [record] = caplog.records
    assert "see limits.frame_size" in record.getMessage()


async def test_a_refusal_of_a_command_that_wants_no_reply_is_counted_and_not_pushed(dispatcher: Dispatcher) -> None:
    async def refuse(node: Node, context: Context, command: Greet) -> None:
        raise Refusal.too_many_requests()

    dispatcher.register(Greet, refuse)
    session = opened(dispatcher, Verbose())
    assert await do(session, Connect(), Greet(0)) == [{"event": "Connected"}]
    assert await do(session, Greet(1)) == [{"event": "Refused"}]
    assert dispatcher.node.counts.refusals == {111: 2}


async def test_a_failure_is_logged_and_the_client_gets_an_internal_error_without_its_text(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(node: Node, context: Context, command: Greet) -> None:
        raise ValueError("the password is 1234")

    dispatcher.register(Greet, fail)
    session = await connected(dispatcher)
    error = {"code": 100, "message": "internal server error", "temporary": True}
    assert await do(session, Greet(5)) == [{"id": 5, "error": error}]
    [record] = [record for record in caplog.records if record.name == "freshet.commands"]
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("Greet of <Session")
    assert record.exc_info is not None
    assert "error" not in await ask(session, "ping")


async def test_a_disconnect_ends_the_session_and_what_came_behind_it_does_not_run(dispatcher: Dispatcher) -> None:
    ran: list[int] = []

    async def leave(node: Node, context: Context, command: Greet) -> Event:
        ran.append(command.id)
        if command.id == 2:
            raise Disconnect(4503, "enough")
        return Answer(command.id, b"1")

    dispatcher.register(Greet, leave)
    session = await connected(dispatcher)
    assert await do(session, Greet(1), Greet(2), Greet(3)) == [{"id": 1, "rpc": {"data": 1}}]
    assert (ran, code(session)) == ([1, 2], 4503)


# ------------------------------------------------------------------------------------------------------- the policies


async def test_policies_are_asked_in_order_and_see_the_rule_of_the_channel() -> None:
    notes: list[str] = []
    first, second = Noted("first", notes), Noted("second", notes)
    rule = ChannelRule("chat:{room}")
    async with running(rule, policies=[first, second]) as dispatcher:
        session = await connected(dispatcher)
        notes.clear()
        await dispatcher.perform(session, Subscribe("chat:7", 1))
        assert notes == ["first", "second"]
        context, command, seen = second.asked[-1]
        assert (context.session, command, seen) == (session, Subscribe("chat:7", 1), rule)
        assert context.parameters == {"room": "7"}
        assert context is first.asked[-1][0]
        await dispatcher.perform(session, Unsubscribe("chat:7", 2))
        assert second.asked[-1][2] is None  # it is carried out whatever the rules are


async def test_the_first_refusal_ends_it_and_the_command_does_not_run() -> None:
    notes: list[str] = []
    never = Noted("never", notes)
    guard = Noted("guard", notes)
    async with running(ChannelRule("*"), policies=[guard, never]) as dispatcher:
        session = await connected(dispatcher)
        notes.clear()
        guard.why = Refusal.permission_denied("not on my watch")
        assert await refused(session, "subscribe", channel="a") == 103
        assert notes == ["guard"]
        assert dispatcher.node.hub.channels() == {}
        guard.why = Disconnect(4510, "go away")
        await say(session, {"id": 9, "subscribe": {"channel": "a"}})
        assert (notes, code(session)) == (["guard"] * 2, 4510)


async def test_a_policy_that_waits_is_awaited_and_those_behind_it_are_asked_then() -> None:
    notes: list[str] = []
    slow = Noted("slow", notes, waits=True)
    behind = [Noted("second", notes, waits=True), Noted("third", notes)]
    async with running(ChannelRule("*"), policies=[slow, *behind]) as dispatcher:
        session = await connected(dispatcher)
        notes.clear()
        assert "subscribe" in await ask(session, "subscribe", channel="a")
        assert notes == ["slow", "slow decided", "second", "second decided", "third"]
        notes.clear()
        slow.why = Refusal.too_many_requests()
        assert await refused(session, "subscribe", channel="b") == 111
        assert notes == ["slow", "slow decided"]
        assert dispatcher.node.hub.channels() == {"a": 1}


async def test_a_command_whose_policies_do_not_wait_costs_no_coroutine() -> None:
    notes: list[str] = []
    quick = [Noted("quick", notes), Noted("quick", notes)]
    async with running(ChannelRule("*"), policies=quick) as dispatcher:
        session = await connected(dispatcher)
        assert dispatcher.policies.check(Context(session), Greet()) is None
        quick[1].waits = True
        pending = dispatcher.policies.check(Context(session), Greet())
        assert pending is not None
        await pending


# ------------------------------------------------------------------------------------------------------- the sessions


class Shop(Session):
    """A session of an endpoint's own kind."""

    __slots__ = ()


async def test_a_session_has_what_its_endpoint_gives_it(dispatcher: Dispatcher) -> None:
    outbox = Outbox(dispatcher.node.turn, 10)
    session = dispatcher.open(Centrifuge(), HERE, outbox, kind=Shop, record={"cart": 1})
    assert isinstance(session, Shop)
    assert (session.record, session.outbox, session.handshake) == ({"cart": 1}, outbox, HERE)
    assert session in list(dispatcher.node.registry)
    plain = opened(dispatcher)
    assert type(plain) is Session
    assert (plain.record, plain.post) == (None, "")
    assert plain.outbox.limit == dispatcher.limits.outbox


async def test_a_session_whose_commands_come_by_requests_is_found_by_its_secret_until_it_ends(
    dispatcher: Dispatcher,
) -> None:
    one, two = (dispatcher.open(Centrifuge(), HERE, posts=True) for _ in range(2))
    registry = dispatcher.node.registry
    assert len({one.post, two.post, ""}) == 3
    assert registry.posting(one.post) is one
    assert registry.posting("") is None
    [reply] = await say(one, {"id": 1, "connect": {}})
    assert (reply["connect"]["session"], reply["connect"]["node"]) == (one.post, dispatcher.node.id)
    one.end(Disconnect.normal())
    assert registry.posting(one.post) is None
    assert registry.posting(two.post) is two


async def test_the_server_joins_a_session_to_a_channel_and_takes_it_out(dispatcher: Dispatcher) -> None:
    session = await connected(dispatcher)
    await session.join("chat:1")
    await session.join("chat:1")  # it is there
    assert [reply["push"]["channel"] for reply in taken(session)] == ["chat:1"]
    assert dispatcher.node.hub.channels() == {"chat:1": 1}
    with pytest.raises(Refusal) as refusal:
        await session.join("elsewhere")
    assert refusal.value.code == 102
    await session.leave("chat:1")
    assert taken(session) == [
        {"push": {"channel": "chat:1", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}}
    ]
    assert dispatcher.node.hub.channels() == {}
