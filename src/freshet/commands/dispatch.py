"""Runs what a client asked for, whatever it is, and pushes the reply to it.

A command passes the policies, and then the function that is registered for its type. That answers with the event that
is the reply, at once or when it is awaited; or raises `Refusal`, which becomes the reply, or `Disconnect`, which ends
the session. Any other exception is logged with its traceback, and the client gets "internal server error".

An endpoint may register commands of its own.
"""

import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import cache, partial
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from freshet.commands import client
from freshet.commands.publishing import publish_of_client
from freshet.commands.subscribing import let_in
from freshet.config import Bound
from freshet.dialects.base import Dialect
from freshet.errors import Disconnect, EngineUnavailable, Refusal, TooLargeForEngine
from freshet.model.commands import (
    AskRoom,
    Call,
    Command,
    Connect,
    Declined,
    Ping,
    Publish,
    ReadHistory,
    ReadPresence,
    ReadPresenceStats,
    Refresh,
    RefreshSubscription,
    Send,
    Subscribe,
    Unsubscribe,
)
from freshet.model.events import Accepted, Answer, Event, Refused, Unsubscribed
from freshet.model.frame import Handshake
from freshet.node.node import Node
from freshet.observe.counts import add
from freshet.observe.logs import BoundedLog, printable
from freshet.policy.base import Context, Policy, PolicyChain
from freshet.runtime.rates import Meter
from freshet.session.outbox import Outbox
from freshet.session.session import Session
from freshet.transports.stream import Bodies

log = logging.getLogger("freshet.commands")

_ENDS = {  # of which an operator hears: a client, a token or a limit is not as it should be; and what to look at
    Disconnect.too_big().code: "",  # its reason says so
    Disconnect.bad_request().code: "",
    Disconnect.invalid_token().code: "",
    Disconnect.slow().code: "limits.outbox, and slow of the channel's rule",
    Disconnect.stale().code: "timing.connect_timeout",
    Disconnect.not_available().code: "Freshet.on_message, without which nothing takes what clients send",
}

_INTERNAL = Refusal.internal().code
_OF_OURS = frozenset({101, 102, 106, 108, 109, 110, 111})  # what Freshet refuses, also behind the policies
_OPTIONS = {  # what an operator may look at when commands are refused with these codes
    101: "[tokens]",
    102: "[[channels]] match",
    103: "subscribe, publish and read of the channel's rule, and the token's caps",
    106: "[limits]",
    108: "history and presence of the channel's rule",
    109: "the lifetime of the tokens that the application issues",
    111: "[rates]",
}

Watch = Callable[[Session, Command | None, Event | None], None]
"""Sees a command of a client that is traced, and the reply to it; no command: the client's end."""

Answered = Event | Coroutine[Any, Any, Event | None] | None
"""The reply to a command, which may be none, or what has to be awaited for it."""

CommandFunction = Callable[[Node, Context, Any], Answered]
S = TypeVar("S", bound=Session)


class Registered(NamedTuple):
    """run: the command's function. in_channel: it has a channel, whose rule is looked up. begins: it may come first."""

    run: CommandFunction
    in_channel: bool = False
    begins: bool = False


class Dispatcher:
    """Opens sessions and runs their commands. Implements `session.Host`."""

    def __init__(self, node: Node, policies: Sequence[Policy]) -> None:
        config = node.config
        self.node = node
        self.policies = PolicyChain(policies, self._did_not_pass)
        self.limits = config.limits
        self.timing = config.timing
        self.wheel = node.wheel
        self.tasks = node.tasks
        self.portal = node.portal
        self.counts = node.counts
        self.compression = config.websocket.compression
        self.read_body = Bodies(config.limits.bodies, node.turn).read
        self.frames = Meter(config.rates.frames) if config.rates.frames.rate else None
        self.watches: dict[str, Watch] = {}  # of the users that are traced
        self._bounded_log = BoundedLog(log)
        self._commands: dict[type[Command], Registered] = {**COMMANDS, Call: Registered(self._call)}

    def register(self, kind: type[Command], run: CommandFunction, *, begins: bool = False) -> None:
        """Let `run` carry out commands of an endpoint's own. begins: one of them may be a session's first."""
        self._commands[kind] = Registered(run, begins=begins)

    def open(
        self,
        dialect: Dialect,
        handshake: Handshake,
        outbox: Outbox | None = None,
        *,
        kind: type[S] | type[Session] = Session,
        record: Any = None,
        posts: bool = False,
    ) -> Session:
        """A new session, which has to connect in time.

        outbox: what it shares with others; None: one of its own. kind, record: of an endpoint's own. posts: see
        `Session.post`.
        """
        session = kind(self, dialect, outbox or Outbox(self.node.turn, self.limits.outbox), handshake, record)
        if posts:
            session.post = secrets.token_urlsafe(18)
        self.node.registry.opened(session)
        return session

    # --------------------------------------------------------------------------------------------------------- running

    def run(self, session: Session, command: Command) -> Coroutine[Any, Any, None] | None:
        """Run one command of one client, and push the reply to it. None: that is done; else what is left to await."""
        began, passed = perf_counter(), False
        answer: Answered
        try:
            run, context, pending = self._begin(session, command)
            if pending is not None:
                return self._wait_to_pass(session, command, began, pending, partial(run, self.node, context, command))
            passed = True
            answer = run(self.node, context, command)
        except Exception as why:
            answer = self._failed(session, command, began, why, passed=passed)
        return self._answered(session, command, began, answer)

    async def _wait_to_pass(
        self, session: Session, command: Command, began: float, pending: Awaitable[None], run: Callable[[], Answered]
    ) -> None:
        passed = False
        answer: Answered
        try:
            await pending
            passed = True
            answer = run()
        except Exception as why:
            answer = self._failed(session, command, began, why, passed=passed)
        if (rest := self._answered(session, command, began, answer)) is not None:
            await rest

    def _answered(
        self, session: Session, command: Command, began: float, answer: Answered
    ) -> Coroutine[Any, Any, None] | None:
        """What the command's function answered: the reply, or what has to be awaited for it. As `run`."""
        if answer is not None and not isinstance(answer, Event):
            return self._wait_for_reply(session, command, began, answer)
        self.counts.ran(_name(type(command)), perf_counter() - began)
        if self.watches and (watch := self.watches.get(session.user)) is not None:
            watch(session, command, answer)
        if answer is not None:
            session.push(answer)
        return None

    async def _wait_for_reply(
        self, session: Session, command: Command, began: float, answer: Awaitable[Event | None]
    ) -> None:
        try:
            reply = await answer
        except Exception as why:
            reply = self._failed(session, command, began, why, passed=True)
        self._answered(session, command, began, reply)

    def _failed(
        self, session: Session, command: Command, began: float, why: Exception, *, passed: bool
    ) -> Refused | None:
        """The reply to a command that failed. passed: by the policies. Raises `Disconnect`."""
        match why:
            case Disconnect():
                self.counts.ran(_name(type(command)), perf_counter() - began)
                raise why
            case Refusal():
                by_hook = why.by_application or (passed and why.code not in _OF_OURS)
                return self._refused(session, command, why, by_hook=by_hook)
            case TooLargeForEngine():
                return self._refused(session, command, Refusal.limit_exceeded(str(why)))
            case EngineUnavailable():
                what = type(command).__name__
                message = "%s of %r: the engine is away (%s): the client may try again"
                self._bounded_log.warning(f"{what}: engine", message, what, session, why)
                add(self.node.counts.engine_errors, _name(type(command)))
            case _:
                what = type(command).__name__
                log.error("%s of %r failed: the client got an internal server error", what, session, exc_info=why)
        return self._refused(session, command, Refusal.internal())

    def is_room(self, name: str) -> bool:
        """Whether there is a channel of this name that answers what clients publish."""
        return self.node.rules.owner(name) in self.node.doors

    async def _call(self, node: Node, context: Context, command: Call) -> Event | None:
        """A method of the application, or a message to the room whose channel is the method's name."""
        if node.hooks.method(command.method) is None and self.is_room(command.method):
            assert context.session is not None  # it is a client's command
            accepted = await self.perform(context.session, Publish(command.method, command.data or b"null"))
            assert isinstance(accepted, Accepted)
            return Answer(command.id, accepted.answer or b"null")
        return await client.call(node, context, command)

    async def perform(self, session: Session, command: Command) -> Event | None:
        """Run one command, and answer with the reply. Raises `Refusal`, `Disconnect`, and what a user's hook raises."""
        run, context, pending = self._begin(session, command)
        if pending is not None:
            await pending
        answer = run(self.node, context, command)
        reply = answer if answer is None or isinstance(answer, Event) else await answer
        if self.watches and (watch := self.watches.get(session.user)) is not None:
            watch(session, command, reply)
        return reply

    def _begin(self, session: Session, command: Command) -> tuple[CommandFunction, Context, Awaitable[None] | None]:
        """A command's function, its context, and what the policies wait for. Raises `Refusal` and `Disconnect`."""
        run, in_channel, begins = self._commands[type(command)]
        if not (session.connected or begins):
            raise Disconnect.bad_request("the first command must be connect")
        if in_channel:
            rule, parameters = self.node.rules.find(command.channel)  # type: ignore[attr-defined]
            context = Context(session, rule, parameters)
        else:
            context = Context(session)
        return run, context, self.policies.check(context, command)

    def _did_not_pass(self, policy: str) -> None:
        self.counts.refuse(policy)

    def _refused(self, session: Session, command: Command, why: Refusal, *, by_hook: bool = False) -> Refused | None:
        what = "a command" if type(command) is Declined else type(command).__name__
        self.refused(session, what, why, by_hook=by_hook)
        id = getattr(command, "id", 0)
        return Refused(id, why.code, why.message, why.temporary) if id else None

    def refused(self, session: Session, what: str, why: Refusal, *, by_hook: bool) -> None:
        """Count a refusal, and let the operator know. what: the command, as the code calls it.

        by_hook: the application refuses, whose business that is: it is no warning.
        """
        add(self.node.counts.refusals, why.code)
        if why.code == _INTERNAL:
            return  # which has its line already
        option = _OPTIONS.get(why.code)
        hint = f": see {option}" if option is not None and not by_hook and "see " not in why.message else ""
        write = self._bounded_log.info if by_hook else self._bounded_log.warning
        kind = f"{what} {why.code} {by_hook}"
        write(kind, "%s of %r was refused: %s%s", what, session, printable(str(why)), hint)

    # ------------------------------------------------------------------------------------------------------------ Host

    async def join(self, session: Session, channel: str) -> None:
        await let_in(self.node, session, channel)

    async def leave(self, session: Session, channel: str) -> None:
        await self.node.leaving.unsubscribe(session, channel, Unsubscribed(channel))

    def visited(self, session: Session) -> float:
        return self.node.expiry.check(session)

    def ended(self, session: Session) -> None:
        why = session.ended
        if why is not None and why.code in _ENDS:
            look = f": see {_ENDS[why.code]}" if _ENDS[why.code] else ""
            self._bounded_log.warning(f"ended with {why.code}", "%r was disconnected: %s%s", session, why, look)
        if self.watches and (watch := self.watches.get(session.user)) is not None:
            watch(session, None, None)
        self.node.leaving.ended(session)

    def too_big(self, path: str, bound: Bound) -> None:
        """Note that a request was refused for its size. path: as the code calls it, see `BoundedLog`."""
        self.counts.refuse("size")
        self._bounded_log.warning(path, "a request for %s was refused with 413: at most %d bytes, see %s", path, *bound)


@cache
def _name(kind: type[Command]) -> str:
    """Of a command, in metrics: `read_history`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


COMMANDS: dict[type[Command], Registered] = {
    AskRoom: Registered(client.ask_room, in_channel=True),
    Connect: Registered(client.connect, begins=True),
    Declined: Registered(client.decline, begins=True),
    Ping: Registered(client.ping),
    Publish: Registered(publish_of_client, in_channel=True),
    ReadHistory: Registered(client.read_history, in_channel=True),
    ReadPresence: Registered(client.read_presence, in_channel=True),
    ReadPresenceStats: Registered(client.read_presence_stats, in_channel=True),
    Refresh: Registered(client.refresh),
    RefreshSubscription: Registered(client.refresh_subscription),
    Send: Registered(client.send),
    Subscribe: Registered(client.subscribe, in_channel=True),
    Unsubscribe: Registered(client.unsubscribe),
}
