"""What the server does by its own will: the functions behind `live.publish(...)` and its like."""

import logging
from collections.abc import Mapping
from typing import Any

from freshet.channels import ChannelRule
from freshet.errors import Disconnect, Refusal
from freshet.hooks import as_payload
from freshet.model import ClientInfo, Position, PublishOptions, Stream, Unsubscribed
from freshet.node import Node
from freshet.policy import rights
from freshet.subscribing import enter, settle

log = logging.getLogger("freshet.actions")


def _rule(node: Node, channel: str) -> ChannelRule:
    rule, _ = rights.rule_of(node.rules, channel, node.limits)
    return rule


async def publish(
    node: Node, channel: str, data: Any, tags: Mapping[str, str] | None, idempotency_key: str | None
) -> Position:
    rule = _rule(node, channel)
    payload, kind = as_payload(data)
    _check_tags(tags or {})
    options = PublishOptions(
        kind=kind,
        history=rule.history,
        tags=dict(tags) if tags else None,
        idempotency_key=idempotency_key,
    )
    return await node.engine.publish(channel, payload, options)


def _check_tags(tags: Mapping[Any, Any]) -> None:
    """Raises TypeError or ValueError, before the log has what no client could be told."""
    for name, value in tags.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"tags: expected texts, got {name!r}: {value!r}")
        (name + value).encode()


async def history(node: Node, channel: str, since: Position | None, limit: int, reverse: bool) -> Stream:
    rule = _rule(node, channel)
    if rule.history is None:
        raise Refusal.not_available(f"{channel!r} keeps no history")
    return await node.engine.history(channel, rule.history, since, limit, reverse)


async def presence(node: Node, channel: str) -> dict[str, ClientInfo]:
    if not _rule(node, channel).presence:
        raise Refusal.not_available(f"{channel!r} has no presence")
    return await node.engine.presence(channel)


async def subscribe(node: Node, user: str, channel: str) -> None:
    """Every session of `user` hears `channel` from now on; one that did already is left as it is."""
    _rule(node, channel)
    for session in node.hub.users.get(user, ()):
        if channel in session.subscriptions:
            continue
        try:
            entry = await enter(node, session, channel, by_server=True)
        except (Refusal, Disconnect) as why:
            log.warning("%r was not subscribed to %r: %s", session, channel, why)
            continue
        session.tell(settle(node, entry))


async def unsubscribe(node: Node, user: str, channel: str) -> None:
    for session in node.hub.users.get(user, ()):
        await node.unsubscribe(session, channel, Unsubscribed(channel))


def disconnect(node: Node, user: str, why: Disconnect) -> None:
    for session in node.hub.users.get(user, ()):
        session.close(why)
