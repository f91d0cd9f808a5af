"""What happens when a Socket.IO client emits an event: the user's function, a method of `rpc`, or one of our own.

Our own: `subscribe(channel, options)`, `unsubscribe(channel)` and `publish(channel, data)`, each as the rule of the
channel allows. Whatever the event, an acknowledgement that was asked for comes: what the function returned, or
`{"error": {"code", "message"}}`.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from freshet.commands import client as commands
from freshet.endpoints.socketio.namespaces import EventHook
from freshet.errors import Disconnect, Refusal
from freshet.model.commands import Emit, Publish, Subscribe, Unsubscribe
from freshet.model.events import Acknowledged, Subscribed
from freshet.model.log import NOWHERE, Position
from freshet.node.node import Node
from freshet.observe.counts import add
from freshet.rules.hooks import as_payload, to_json
from freshet.session.session import Session

log = logging.getLogger("freshet.events")


async def emit(node: Node, session: Session, command: Emit) -> Acknowledged | None:
    """Run what answers an event. Raises `Disconnect` when that ends the session."""
    namespace = node.namespace_of(session)
    hook = namespace.events.get(command.event) if namespace else None
    if hook is not None and hook.concurrent:
        node.spawn(_later(node, session, command, hook))
        return None
    try:
        values = await _answer(node, session, command, hook)
    except Refusal as why:
        values = _error(node, why)
    except Disconnect:
        raise
    except Exception:
        log.exception("%r of %r failed", command.event, session)
        values = _error(node, Refusal.internal())
    return Acknowledged(command.id, values) if command.id and values is not None else None


async def _later(node: Node, session: Session, command: Emit, hook: EventHook) -> None:
    try:
        values = await _answer(node, session, command, hook)
    except Disconnect as why:
        session.close(why)
        return
    except Refusal as refusal:
        values = _error(node, refusal)
    if command.id and values is not None and not session.ended:
        session.tell(Acknowledged(command.id, values))


def _error(node: Node, why: Refusal) -> list[Any]:
    add(node.counts.refusals, why.code)
    return [{"error": {"code": why.code, "message": why.message}}]


async def _answer(node: Node, session: Session, command: Emit, hook: EventHook | None) -> list[Any] | None:
    """The values of the acknowledgement. None: it is on its way already."""
    if hook is not None:
        return _values(await hook(session, command.arguments))
    own = _OWN.get(command.event)
    if own is not None:
        return await own(node, session, command)
    method = node.hooks.rpc.get(command.event)
    if method is not None:
        data = to_json(command.arguments[0]) if command.arguments else b""
        return _values(await method(session, data))
    raise Refusal.method_not_found(f"nothing answers the event {command.event!r}")


def _values(result: Any) -> list[Any]:
    """As arguments of an acknowledgement: a tuple is several, None is none."""
    if result is None:
        return []
    return list(result) if isinstance(result, tuple) else [result]


# ------------------------------------------------------------------------------------------------------------- our own


class _Options(msgspec.Struct, forbid_unknown_fields=True):
    """What `subscribe` may be given. epoch, offset: where the client stands."""

    token: str = ""
    data: Any = None
    epoch: str | None = None
    offset: int = 0


def _channel(command: Emit, expected: str, most: int) -> str:
    given = command.arguments
    if not given or not isinstance(given[0], str) or len(given) > most:
        raise Refusal.bad_request(f"{command.event}: expected {expected}")
    return given[0]


async def _subscribe(node: Node, session: Session, command: Emit) -> None:
    channel = _channel(command, "a channel and options", 2)
    try:
        options = msgspec.convert(command.arguments[1] if len(command.arguments) > 1 else {}, _Options)
    except msgspec.ValidationError as error:
        raise Refusal.bad_request(f"subscribe: {error}") from None
    since = Position(options.epoch, options.offset) if options.epoch is not None else None
    data = b"" if options.data is None else to_json(options.data)
    told = await commands.subscribe(node, session, Subscribe(channel, 1, options.token, data, since))
    assert type(told) is Subscribed
    if command.id:
        session.tell(Acknowledged(command.id, [_described(told)]))
    session.tell(told)  # which is what was missed
    await node.remember(session)


def _described(told: Subscribed) -> dict[str, Any]:
    described: dict[str, Any] = {"channel": told.channel}
    if told.position != NOWHERE:
        described |= {"epoch": told.position.epoch, "offset": told.position.offset}
    if told.recovered is not None:
        described["recovered"] = told.recovered
    return described


async def _unsubscribe(node: Node, session: Session, command: Emit) -> list[Any]:
    await commands.unsubscribe(node, session, Unsubscribe(_channel(command, "a channel", 1)))
    await node.remember(session)
    return []


async def _publish(node: Node, session: Session, command: Emit) -> list[Any]:
    channel = _channel(command, "a channel and data", 2)
    data, kind = as_payload(command.arguments[1] if len(command.arguments) > 1 else None)
    accepted = await commands.publish(node, session, Publish(channel, data, 1, kind))
    return [{"epoch": accepted.position.epoch, "offset": accepted.position.offset}]


_OWN: dict[str, Callable[[Node, Session, Emit], Awaitable[list[Any] | None]]] = {
    "publish": _publish,
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
}
