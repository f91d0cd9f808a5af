"""What happens when a client connects to a namespace, and when it emits an event.

An event is answered by the user's function, by a method of `rpc`, or by one of our own: `subscribe(channel, options)`,
`unsubscribe(channel)` and `publish(channel, data)`, each as the rule of the channel allows. Whatever the event, an
acknowledgement that was asked for comes: what the function returned, or `{"error": {"code", "message"}}`.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec

from freshet.commands import client
from freshet.commands.dispatch import Dispatcher
from freshet.commands.subscribing import Asked, Entry, abandon, enter, enter_all
from freshet.dialects.socketio.packets import Acknowledged, ConnectNamespace, Emit, NamespaceConnected
from freshet.endpoints.socketio.namespaces import EventHook, converted
from freshet.endpoints.socketio.resume import KeptRoom, Resumption, new_pid, positions
from freshet.endpoints.socketio.sessions import SocketSession
from freshet.errors import Disconnect, EngineUnavailable, Refusal
from freshet.model.commands import Call, Connect, Publish, Subscribe, Unsubscribe
from freshet.model.events import Accepted, Answer, Subscribed
from freshet.model.json_text import decode
from freshet.model.log import Position
from freshet.node.node import Node
from freshet.observe.logs import BoundedLog
from freshet.policy.base import Context, Grant
from freshet.rules.hooks import as_payload, to_json

log = logging.getLogger("freshet.events")
bounded_log = BoundedLog(log)

INVALID_TOKEN = Disconnect.invalid_token().code


class SubscribeOptions(msgspec.Struct, forbid_unknown_fields=True):
    """What `subscribe` may be given. epoch, offset: where the client stands."""

    token: str = ""
    data: Any = None
    epoch: str | None = None
    offset: int = 0


class Handlers:
    """The commands that this endpoint brings to the dispatcher."""

    def __init__(self, dispatcher: Dispatcher, resumption: Resumption) -> None:
        self._dispatcher = dispatcher
        self._invoke = dispatcher.node.invoking.invoke
        self._resumption = resumption
        self._own: dict[str, Callable[[SocketSession, Emit], Awaitable[list[Any] | None]]] = {
            "publish": self._publish,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
        }
        dispatcher.register(ConnectNamespace, self.connect, begins=True)
        dispatcher.register(Emit, self.emit)

    # ------------------------------------------------------------------------------------------------------- connecting

    async def connect(self, node: Node, context: Context, command: ConnectNamespace) -> NamespaceConnected:
        session = context.session
        assert isinstance(session, SocketSession)
        namespace = session.record.namespace
        await self._authenticate(node, context, command.connect)
        welcome = await client.admit(node, context, command.connect, namespace.connect or node.hooks.connect)
        channels = [*client.server_side(node, context, welcome), namespace.name]  # what is emitted to all of it
        entries = await self._resume(node, session, command, channels)
        if entries is None:
            entries = await enter_all(node, session, channels, {})
            if namespace.recovery:
                self._resumption.claim(session, new_pid())
        elif session.record.pid:
            node.tasks.start(self._resumption.take_over(session.record.pid), "socket.io: takeover")
        connected = client.connected(node, session, command.id, welcome, entries)
        if session.record.pid:
            node.tasks.start(self._resumption.remember(session), "socket.io: remember a session")
        fields = {name: getattr(connected, name) for name in connected.__struct_fields__}
        return NamespaceConnected(**fields, pid=session.record.pid)

    async def _authenticate(self, node: Node, context: Context, command: Connect) -> None:
        """By its token. Where no secret is set, one that is not ours is an application's own, and left to its hook."""
        try:
            pending = self._dispatcher.policies.check(context, command)
            if pending is not None:
                await pending
        except Disconnect as why:
            if node.has_secret or why.code != INVALID_TOKEN:
                raise

    async def _resume(
        self, node: Node, session: SocketSession, command: ConnectNamespace, channels: list[str]
    ) -> list[Entry] | None:
        """Into all the rooms of the session that was cut off, as that session; None: not without a loss.

        Nothing is given back unasked: see `_enter_again`; and nothing that the server took meanwhile. What it takes
        while this runs is revoked among the entries, as they are there before it is asked what was taken.
        """
        namespace = session.record.namespace
        if not namespace.recovery or not command.pid:
            return None
        state = await self._resumption.recall(command.pid, namespace.recovery)
        if session.closing:
            raise Disconnect.normal()
        if state is None or (state.namespace, state.user) != (namespace.name, session.user):
            return None
        since, fresh = positions(state, command.stamp), session.id
        self._resumption.claim(session, command.pid)
        session.id = state.sid
        entries: list[Entry] = []
        resumed = False
        try:
            for channel in dict.fromkeys([*channels, *state.rooms]):
                held = None if channel in channels else state.rooms[channel]
                entries.append(await self._enter_again(node, session, channel, held, since.get(channel), entries))
            withdrawn = await self._resumption.withdrawn.concerns(state.user, state.sid, state.rooms)
            if session.closing:
                raise Disconnect.normal()
            resumed = not withdrawn and all(entry.is_complete and not entry.revoked for entry in entries)
        except Refusal:
            pass
        except BaseException:  # its client may try again
            self._resumption.unclaim(session)
            raise
        finally:
            if not resumed:
                for entry in entries:
                    abandon(node, entry)
                session.id = fresh
        if resumed:
            return entries
        self._resumption.forget(session)
        return None

    async def _enter_again(
        self,
        node: Node,
        session: SocketSession,
        channel: str,
        held: KeptRoom | None,
        since: Position | None,
        before: list[Entry],
    ) -> Entry:
        """held: None: as it connects, the server has just given it the room.

        A room that a client may enter by itself is asked for again, as it would ask: one that needs a token of its own,
        by what the connection's token says, so that the client enters it anew with that. One that only the server gives
        was given for a time, which is not over. In both, the rule's hook has its say.
        """
        rule, parameters = node.rules.find(channel)
        if held is None:
            return await enter(node, session, channel, rule, since, before=before)
        grant = Grant(msgspec.Raw(held.info), held.expires)
        if rule.subscribe != "nobody":
            context = Context(session, rule, parameters)
            pending = self._dispatcher.policies.check(context, Subscribe(channel, recover=since))
            if pending is not None:
                await pending
            grant = context.grant
        elif 0 < held.expires <= node.clock.wall():
            raise Refusal.token_expired()
        return await enter(node, session, channel, rule, since, grant=grant, asked=Asked(parameters), before=before)

    # ----------------------------------------------------------------------------------------------------------- events

    async def emit(self, node: Node, context: Context, command: Emit) -> Acknowledged | None:
        """Run what answers an event. Raises `Disconnect` when that ends the session."""
        session = context.session
        assert isinstance(session, SocketSession)
        hook = session.record.namespace.events.get(command.event)
        if hook is not None and hook.concurrent:
            node.tasks.start(self._later(session, command, hook), f"event {command.event!r}")
            return None
        return await self._acknowledged(session, command, hook)

    async def _later(self, session: SocketSession, command: Emit, hook: EventHook) -> None:
        try:
            acknowledged = await self._acknowledged(session, command, hook)
        except Disconnect as why:
            session.close(why)
            return
        if acknowledged is not None and not session.ended:
            session.push(acknowledged)

    async def _acknowledged(self, session: SocketSession, command: Emit, hook: EventHook | None) -> Acknowledged | None:
        values: list[Any] | None
        try:
            values = await self._answer(session, command, hook)
        except Refusal as why:
            values = self._error(session, why)
        except EngineUnavailable as why:
            bounded_log.warning(
                "engine",
                "event %r of %r: the engine is away (%s): the client may try again",
                command.event,
                session,
                why,
            )
            values = self._error(session, Refusal.internal())
        except Disconnect:
            raise
        except Exception:
            log.exception("the event %r of %r failed: the client got an internal server error", command.event, session)
            values = self._error(session, Refusal.internal())
        return Acknowledged(command.id, values) if command.id and values is not None else None

    def _error(self, session: SocketSession, why: Refusal) -> list[Any]:
        by_hook = why.by_application or why.code not in (102, 103, 106, 108, 111)
        self._dispatcher.refused(session, Emit.__name__, why, by_hook=by_hook)
        return [{"error": {"code": why.code, "message": why.message}}]

    async def _answer(self, session: SocketSession, command: Emit, hook: EventHook | None) -> list[Any] | None:
        """The values of the acknowledgement. None: it is on its way already."""
        if command.refused:
            raise Refusal.bad_request(command.refused)
        if hook is not None:
            return _values(await self._invoke(hook, session, session, command.arguments))
        own = self._own.get(command.event)
        if own is not None:
            return await own(session, command)
        method = self._dispatcher.node.hooks.method(command.event)
        if method is not None:
            return _values(await self._invoke(method, session, session, _first(command)))
        if self._dispatcher.is_room(command.event):
            answer = await self._dispatcher.perform(session, Call(command.event, _first(command)))
            assert type(answer) is Answer
            return _values(decode(answer.data))
        raise Refusal.method_not_found(f"nothing answers the event {command.event!r}")

    # ------------------------------------------------------------------------------------------------ events of our own

    async def _subscribe(self, session: SocketSession, command: Emit) -> None:
        channel = _channel(command, "a channel and options", 2)
        given = command.arguments[1] if len(command.arguments) > 1 else {}
        options = converted(given, SubscribeOptions, "subscribe")
        since = Position(options.epoch, options.offset) if options.epoch is not None else None
        data = b"" if options.data is None else to_json(options.data)
        subscribed = await self._dispatcher.perform(session, Subscribe(channel, command.id, options.token, data, since))
        assert type(subscribed) is Subscribed
        session.push(subscribed)  # its acknowledgement, and what was missed
        await self._remember(session)

    async def _unsubscribe(self, session: SocketSession, command: Emit) -> list[Any]:
        await self._dispatcher.perform(session, Unsubscribe(_channel(command, "a channel", 1)))
        await self._remember(session)
        return []

    async def _remember(self, session: SocketSession) -> None:
        """What the client asked for is done, even if the engine is away: the next visit of the wheel remembers it."""
        with suppress(EngineUnavailable):
            await self._resumption.remember(session)

    async def _publish(self, session: SocketSession, command: Emit) -> list[Any]:
        channel = _channel(command, "a channel and data", 2)
        data, kind = as_payload(command.arguments[1] if len(command.arguments) > 1 else None)
        accepted = await self._dispatcher.perform(session, Publish(channel, data, 1, kind))
        assert type(accepted) is Accepted
        if accepted.answer:
            return _values(decode(accepted.answer))
        return [{"epoch": accepted.position.epoch, "offset": accepted.position.offset}]


def _values(result: Any) -> list[Any]:
    """As arguments of an acknowledgement: a tuple is several, None is none."""
    if result is None:
        return []
    return list(result) if isinstance(result, tuple) else [result]


def _first(command: Emit) -> bytes:
    """The first argument as JSON; empty: there is none."""
    return to_json(command.arguments[0]) if command.arguments else b""


def _channel(command: Emit, expected: str, most: int) -> str:
    given = command.arguments
    name = converted(given[0], Any, command.event) if given else None
    if not isinstance(name, str) or len(given) > most:
        raise Refusal.bad_request(f"{command.event}: expected {expected}")
    return name
