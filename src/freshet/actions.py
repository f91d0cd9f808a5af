"""What the server does by its own will: the functions behind `live.publish(...)` and its like."""

from collections.abc import Mapping
from typing import Any

from freshet.channels import ChannelRule
from freshet.errors import Disconnect, Refusal
from freshet.hooks import as_payload
from freshet.model import ClientInfo, Position, PublishOptions, Stream, Unsubscribed
from freshet.node import Node
from freshet.policy import rights
from freshet.subscribing import enter, settle


def _rule(node: Node, channel: str) -> ChannelRule:
    rule, _ = rights.rule_of(node.rules, channel, node.limits)
    return rule


async def publish(
    node: Node, channel: str, data: Any, tags: Mapping[str, str] | None, idempotency_key: str | None
) -> Position:
    rule = _rule(node, channel)
    payload, kind = as_payload(data)
    options = PublishOptions(
        kind=kind,
        history=rule.history,
        tags=dict(tags) if tags else None,
        idempotency_key=idempotency_key,
    )
    return await node.engine.publish(channel, payload, options)


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
    for session in node.hub.users.get(user, ()):
        if channel not in session.subscriptions:
            session.tell(settle(node, await enter(node, session, channel, by_server=True)))


async def unsubscribe(node: Node, user: str, channel: str) -> None:
    for session in node.hub.users.get(user, ()):
        await node.unsubscribe(session, channel, Unsubscribed(channel))


def disconnect(node: Node, user: str, why: Disconnect) -> None:
    for session in node.hub.users.get(user, ()):
        session.close(why)
