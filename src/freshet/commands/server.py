"""What the server does by its own will: one function per verb, behind `live.publish(...)` and `/api/publish` alike."""

from collections.abc import Collection, Mapping
from typing import Any

from freshet.commands import cluster as orders
from freshet.commands.subscribing import Grant, enter, settle
from freshet.dialects.socketio.packets import ARGUMENTS, EVENT, NAMESPACE
from freshet.errors import Disconnect, Refusal
from freshet.model.log import ClientInfo, History, Kind, Position, PublishOptions, Stream
from freshet.node.node import Node
from freshet.policy import rights
from freshet.rules.hooks import as_payload
from freshet.rules.rules import ChannelRule
from freshet.session.session import Session


def _rule(node: Node, channel: str) -> ChannelRule:
    rule, _ = rights.rule_of(node.rules, channel, node.limits)
    return rule


# ------------------------------------------------------------------------------------------------------------ channels


async def publish(
    node: Node,
    channel: str,
    payload: tuple[bytes, Kind],
    tags: Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
    skip_history: bool = False,
) -> Position:
    rule = _rule(node, channel)
    _check_tags(tags or {})
    data, kind = payload
    options = PublishOptions(
        kind=kind,
        history=None if skip_history else rule.history,
        tags=dict(tags) if tags else None,
        idempotency_key=idempotency_key,
    )
    return await node.publish(channel, data, options)


async def emit(
    node: Node,
    event: str,
    arguments: tuple[Any, ...],
    room: str | None,
    namespace: str,
    tags: Mapping[str, str] | None = None,
) -> Position:
    """To the clients of a Socket.IO namespace, all or those in a room; and to whoever else hears the room's channel."""
    tags = {**(tags or {}), EVENT: event, NAMESPACE: namespace}
    if len(arguments) != 1:
        tags[ARGUMENTS] = str(len(arguments))
    payload = as_payload(arguments[0] if len(arguments) == 1 else arguments)
    return await publish(node, namespace if room is None else room, payload, tags)


def _check_tags(tags: Mapping[Any, Any]) -> None:
    """Raises TypeError or ValueError, before the log has what no client could be told."""
    for name, value in tags.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"tags: expected texts, got {name!r}: {value!r}")
        (name + value).encode()


async def history(node: Node, channel: str, since: Position | None, limit: int, reverse: bool) -> Stream:
    return await node.engine.history(channel, _history_of(node, channel), since, limit, reverse)


async def remove_history(node: Node, channel: str) -> None:
    _history_of(node, channel)
    await node.engine.remove_history(channel)


def _history_of(node: Node, channel: str) -> History:
    kept = _rule(node, channel).history
    if kept is None:
        raise Refusal.not_available(f"{channel!r} keeps no history")
    return kept


async def presence(node: Node, channel: str) -> dict[str, ClientInfo]:
    if not _rule(node, channel).presence:
        raise Refusal.not_available(f"{channel!r} has no presence")
    return await node.engine.presence(channel)


# -------------------------------------------------------------------------------------------------------------- clients
# On all nodes. Each raises EngineUnavailable if the others could not be told; on this one it is done then.


async def subscribe(
    node: Node,
    user: str,
    channel: str,
    client: str = "",
    since: Position | None = None,
    grant: Grant = Grant(),  # noqa: B008 - it is immutable
    data: bytes = b"",
) -> None:
    """Clients that hear the channel already are left as they are."""
    _rule(node, channel)
    info, expires = grant
    await orders.carry_out(node, orders.Subscribe(user, channel, client, since, bytes(info), expires, data))


async def unsubscribe(node: Node, user: str, channel: str, client: str = "") -> None:
    _rule(node, channel)
    await orders.carry_out(node, orders.Unsubscribe(user, channel, client))


async def disconnect(
    node: Node, user: str, why: Disconnect | None = None, client: str = "", keep: Collection[str] = ()
) -> None:
    why = why or Disconnect.force_no_reconnect()
    await orders.carry_out(node, orders.Disconnect(user, why.code, why.reason, client, list(keep)))


async def refresh(node: Node, user: str, expires: float | None, client: str = "") -> None:
    await orders.carry_out(node, orders.Refresh(user, expires or 0.0, client))


async def join(node: Node, session: Session, channel: str) -> None:
    """Subscribe one client. Raises as `enter`."""
    session.tell(settle(node, await enter(node, session, channel, grant=Grant())))
