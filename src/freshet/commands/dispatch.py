"""Runs what a client asked for, whatever it is, and pushes the reply to it.

A command passes the policies, and then the function that is registered for its type. That answers with the event that
is the reply, or raises `Refusal`, which becomes the reply, or `Disconnect`, which ends the session. Any other exception
is logged with its traceback, and the client gets "internal server error".

An endpoint may register commands of its own.
"""

import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from freshet.commands import client
from freshet.commands.publishing import publish_of_client
from freshet.commands.subscribing import let_in
from freshet.config import Bound
from freshet.dialects.base import Dialect
from freshet.errors import Disconnect, EngineUnavailable, Refusal, TooLargeForEngine
from freshet.model.commands import (
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
from freshet.model.events import Event, Refused, Unsubscribed
from freshet.model.frame import Handshake
from freshet.node.node import Node
from freshet.observe.counts import add
from freshet.observe.logs import BoundedLog
from freshet.policy.base import Context, Policy, PolicyChain
from freshet.runtime.rates import Meter
from freshet.session.outbox import Outbox
from freshet.session.session import Session
from freshet.transports.stream import Bodies

log = logging.getLogger("freshet.commands")

_LIMIT = Refusal.limit_exceeded().code
_MISTAKES = frozenset(  # ends of which an operator hears: a client, a token or a limit is not as it should be
    {Disconnect.too_big().code, Disconnect.bad_request().code, Disconnect.invalid_token().code}
)

CommandFunction = Callable[[Node, Context, Any], Awaitable[Event | None]]
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
        self.policies = PolicyChain(policies)
        self.limits = config.limits
        self.timing = config.timing
        self.wheel = node.wheel
        self.tasks = node.tasks
        self.portal = node.portal
        self.compression = config.websocket.compression
        self.read_body = Bodies(config.limits.bodies).read
        self.frames = Meter(config.rates.frames) if config.rates.frames.rate else None
        self._bounded_log = BoundedLog(log)
        self._commands: dict[type[Command], Registered] = dict(COMMANDS)

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

    async def run(self, session: Session, command: Command) -> None:
        """Run one command of one client, and push the reply to it."""
        reply: Event | None
        try:
            run, context, pending = self._begin(session, command)
            if pending is not None:
                await pending
            reply = await run(self.node, context, command)
        except Refusal as why:
            reply = self._refused(command, why)
        except TooLargeForEngine as why:
            reply = self._refused(command, Refusal.limit_exceeded(str(why)))
        except EngineUnavailable as why:
            log.warning(
                "%s of %r: the engine is away (%s): the client may try again", type(command).__name__, session, why
            )
            reply = self._refused(command, Refusal.internal())
        except Disconnect:
            raise
        except Exception:
            log.exception("%s of %r failed: the client got an internal server error", type(command).__name__, session)
            reply = self._refused(command, Refusal.internal())
        if reply is not None:
            session.push(reply)

    async def perform(self, session: Session, command: Command) -> Event | None:
        """Run one command, and answer with the reply. Raises `Refusal`, `Disconnect`, and what a user's hook raises."""
        run, context, pending = self._begin(session, command)
        if pending is not None:
            await pending
        return await run(self.node, context, command)

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

    def _refused(self, command: Command, why: Refusal) -> Refused | None:
        add(self.node.counts.refusals, why.code)
        if why.code == _LIMIT:
            self._bounded_log.warning(type(command).__name__, "a client's command was refused: %s", why)
        id = getattr(command, "id", 0)
        return Refused(id, why.code, why.message, why.temporary) if id else None

    # ------------------------------------------------------------------------------------------------------------ Host

    async def join(self, session: Session, channel: str) -> None:
        await let_in(self.node, session, channel)

    async def leave(self, session: Session, channel: str) -> None:
        await self.node.leaving.unsubscribe(session, channel, Unsubscribed(channel))

    def visited(self, session: Session) -> float:
        return self.node.expiry.check(session)

    def ended(self, session: Session) -> None:
        why = session.ended
        if why is not None and why.code in _MISTAKES:
            self._bounded_log.warning(f"ended with {why.code}", "%r was disconnected: %s", session, why)
        self.node.leaving.ended(session)

    def too_big(self, path: str, bound: Bound) -> None:
        """Note that a request was refused for its size."""
        self._bounded_log.warning(path, "a request for %s was refused with 413: at most %d bytes, see %s", path, *bound)


COMMANDS: dict[type[Command], Registered] = {
    Call: Registered(client.call),
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
