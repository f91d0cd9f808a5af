"""Where clients' and the server's publications meet: the owner of a channel takes each, and gives it its position."""

from time import perf_counter

from msgspec import structs

from freshet.errors import EngineUnavailable, Refusal, TooLargeForEngine
from freshet.model.commands import Publish
from freshet.model.events import Accepted
from freshet.model.log import NOWHERE, Kind, Position, PublishOptions
from freshet.node.node import Node
from freshet.observe.counts import add
from freshet.policy.base import Context
from freshet.rules.hooks import as_payload
from freshet.rules.rules import ChannelRule


async def publish_of_client(node: Node, context: Context, command: Publish) -> Accepted:
    """What a client publishes, as the rule's hook wants it."""
    session, rule = context.session, context.rule
    assert session is not None  # it is a client's command
    assert rule is not None  # in a channel
    data, kind = command.data, command.kind
    if rule.on_publish is not None:
        given = data.decode() if kind is Kind.TEXT else memoryview(data) if kind is Kind.BYTES else data
        returned = await node.invoking.invoke(
            rule.on_publish, session, session, given, **{"channel": command.channel, **context.parameters}
        )
        if rule.publish == "subscriber" and command.channel not in session.subscriptions:
            raise Refusal.permission_denied("the subscription ended before this could be published")
        if returned is not None:
            data, kind = as_payload(returned)
    options = PublishOptions(kind=kind, history=rule.history, info=session.client_info(), stamp=node.stamp())
    door = node.doors.get(rule.owner)
    if door is None:
        return Accepted(command.id, await publish(node, rule, command.channel, data, options))
    answer = await door.say(command.channel, data, options)
    node.counts.published += 1
    return Accepted(command.id, NOWHERE, answer)


async def publish(node: Node, rule: ChannelRule, channel: str, data: bytes, options: PublishOptions) -> Position:
    """Hand a publication to whoever owns the channel by its rule.

    Raises as `Engine.publish`, and `Refusal` 106 for what is larger than the engine takes.
    """
    if node.tracing is None:
        return await _hand_over(node, rule, channel, data, options)
    with node.tracing.publishing(channel, rule.match, len(data)) as trace:
        options = structs.replace(options, stamp=node.stamp(trace))
        if trace and node.tracing.expose:
            options = structs.replace(options, tags={**(options.tags or {}), "traceparent": trace})
        return await _hand_over(node, rule, channel, data, options)


async def _hand_over(node: Node, rule: ChannelRule, channel: str, data: bytes, options: PublishOptions) -> Position:
    began = perf_counter()
    try:
        position = await node.owners[rule.owner](channel, data, options)
    except TooLargeForEngine as why:
        raise Refusal.limit_exceeded(str(why)) from None
    except EngineUnavailable:
        node.counts.unpublished += 1
        add(node.counts.engine_errors, "publish")
        raise
    node.counts.published += 1
    node.counts.publishing.observe(perf_counter() - began)
    return position
