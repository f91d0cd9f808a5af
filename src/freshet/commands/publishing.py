"""Where clients' and the server's publications meet: the owner of a channel takes each, and gives it its position."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from time import perf_counter
from typing import Any

from msgspec import structs

from freshet.engines.base import Outcome, ToPublish
from freshet.errors import EngineUnavailable, Refusal, TooLargeForEngine
from freshet.model.commands import Publish
from freshet.model.entries import EntryChange, EntryResult
from freshet.model.events import Accepted
from freshet.model.log import NOWHERE, ClientInfo, Kind, Position, PublishOptions, Stamp
from freshet.node.node import Node
from freshet.observe.counts import add
from freshet.policy.base import Context
from freshet.rules.hooks import as_payload
from freshet.rules.rules import ChannelRule
from freshet.runtime.tasks import in_task
from freshet.session.session import Session


def publish_of_client(node: Node, context: Context, command: Publish) -> Accepted | Coroutine[Any, Any, Accepted]:
    """What a client publishes, as the rule's hook wants it. Where nobody has to be waited for, it is done at once."""
    session, rule = context.session, context.rule
    assert session is not None  # it is a client's command
    assert rule is not None  # in a channel
    if command.change is not None or rule.on_publish is not None:
        return _ask_first(node, rule, session, command, context.parameters)
    info, stamp = ClientInfo(session.user, session.id, session.info), Stamp(node.clock.wall(), node.id)
    options = PublishOptions(command.kind, rule.history, None, info, None, stamp)
    position = publish_now(node, rule, command.channel, command.data, options)
    if position is not None:
        return Accepted(command.id, position)
    return _give_to_owner(node, rule, command, command.data, options)


async def _ask_first(
    node: Node, rule: ChannelRule, session: Session, command: Publish, parameters: Mapping[str, str]
) -> Accepted:
    """The owner of the channel's state, or the rule's hook."""
    data, kind = command.data, command.kind
    if command.change is not None:
        (await change_entry(node, rule, command.channel, command.change, session)).check()
        return Accepted(command.id, NOWHERE)
    assert rule.on_publish is not None  # by the caller
    given = data.decode() if kind is Kind.TEXT else memoryview(data) if kind is Kind.BYTES else data
    about = {"channel": command.channel, **parameters}
    returned = await node.invoking.invoke(rule.on_publish, session, session, given, **about)
    if rule.publish == "subscriber" and command.channel not in session.subscriptions:
        raise Refusal.permission_denied("the subscription ended before this could be published")
    if returned is not None:
        data, kind = as_payload(returned)
    options = PublishOptions(kind, rule.history, info=session.client_info(), stamp=node.stamp())
    return await _give_to_owner(node, rule, command, data, options)


async def _give_to_owner(
    node: Node, rule: ChannelRule, command: Publish, data: bytes, options: PublishOptions
) -> Accepted:
    door = node.doors.get(rule.owner)
    if door is None:
        return Accepted(command.id, await publish(node, rule, command.channel, data, options))
    await in_task()
    answer = await door.say(command.channel, data, options)
    node.counts.published += 1
    return Accepted(command.id, NOWHERE, answer)


async def change_entry(
    node: Node, rule: ChannelRule, channel: str, change: EntryChange, session: Session | None = None, once: str = ""
) -> EntryResult:
    """Ask the owner of a channel's state. session: whose wish it is; None: the server's. once: see `Door.change`.

    Raises `Refusal` 108 when there is no state, and as `Door.change`.
    """
    door = node.doors.get(rule.owner)
    if rule.state is None or door is None:
        raise Refusal.not_available(f"map: not available, the rule of {channel!r} has no option `state`")
    await in_task()
    return await door.change(session, channel, change, once)


def publish_now(node: Node, rule: ChannelRule, channel: str, data: bytes, options: PublishOptions) -> Position | None:
    """As `publish`, where that neither waits nor is traced; None: it has to be, and nothing was done."""
    if rule.owner != "log" or node.tracing is not None:
        return None
    began = perf_counter()
    position = node.engine.publish_now(channel, data, options)
    if position is not None:
        node.counts.published += 1
        node.counts.publishing.observe(perf_counter() - began)
    return position


async def publish(node: Node, rule: ChannelRule, channel: str, data: bytes, options: PublishOptions) -> Position:
    """Hand a publication to whoever owns the channel by its rule.

    Raises as `Engine.publish`, and `Refusal` 106 for what is larger than the engine takes.
    """
    position = publish_now(node, rule, channel, data, options)
    if position is not None:
        return position
    if node.tracing is None:
        return await _hand_over(node, rule, channel, data, options)
    with node.tracing.publishing(channel, rule.match, len(data)) as trace:
        options = structs.replace(options, stamp=node.stamp(trace))
        if trace and node.tracing.expose:
            options = structs.replace(options, tags={**(options.tags or {}), "traceparent": trace})
        return await _hand_over(node, rule, channel, data, options)


async def publish_each(node: Node, publications: Sequence[tuple[ChannelRule, ToPublish]]) -> list[Outcome]:
    """As `publish` of each, none of which waits for another."""
    done = [publish_now(node, rule, *it) for rule, it in publications]
    waiting = [each for each, position in zip(publications, done, strict=True) if position is None]
    rest = iter(await _hand_over_each(node, waiting) if waiting else ())
    return [next(rest) if position is None else position for position in done]


async def _hand_over_each(node: Node, publications: Sequence[tuple[ChannelRule, ToPublish]]) -> list[Outcome]:
    if node.tracing is not None or any(rule.owner != "log" for rule, _ in publications):
        work = [publish(node, rule, *it) for rule, it in publications]
        return await asyncio.gather(*work, return_exceptions=True)  # as tasks, each with a trace of its own
    began = perf_counter()
    results = await node.engine.publish_each([it for _, it in publications])
    took = perf_counter() - began
    for result in results:
        if isinstance(result, Position):
            node.counts.published += 1
            node.counts.publishing.observe(took)
        elif isinstance(result, EngineUnavailable) and not isinstance(result, TooLargeForEngine):
            node.counts.unpublished += 1
            add(node.counts.engine_errors, "publish")
    return results


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
