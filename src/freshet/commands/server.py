"""What the server does by its own will: one method per verb, behind `live.publish(...)` and `/api/publish` alike."""

from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from typing import Any

from freshet.commands.cluster import Cluster, DisconnectUser, Holding, RefreshUser, SubscribeUser, UnsubscribeUser
from freshet.commands.publishing import change_entry, publish, publish_each
from freshet.engines.base import Outcome, ToPublish
from freshet.errors import Disconnect, Refusal
from freshet.model.commands import Command, Publish, ReadHistory, ReadPresence, Subscribe, Unsubscribe
from freshet.model.entries import EntryChange, EntryResult
from freshet.model.log import ClientInfo, History, Kind, Position, PublishOptions, Stream
from freshet.node.node import Node
from freshet.node.revoking import new_id
from freshet.policy.base import NO_GRANT, Context, Grant, PolicyChain
from freshet.policy.revocations import Revocation
from freshet.rules.hooks import to_json
from freshet.rules.rules import ChannelRule

OVERRIDES = {
    "presence": "presence",
    "join_leave": "join_leave",
    "force_push_join_leave": "join_leave",
    "force_positioning": "history",
    "force_recovery": "history",
}
"""What Centrifugo lets a caller choose for a subscription, and the option of the rule that decides it here."""


Prepared = tuple[ChannelRule, ToPublish]
"""A publication, and the rule of its channel."""


class ServerOperations:
    """What no client asked for. Each passes the policies that clients' commands pass, with no session in the context.

    Those for clients are carried out on all nodes, and raise EngineUnavailable if the others could not be reached; on
    this one it is done then.
    """

    def __init__(self, node: Node, policies: PolicyChain) -> None:
        self._node = node
        self._policies = policies
        self._cluster = Cluster(node)

    def _begin(self, channel: str, command: Command) -> tuple[ChannelRule, Awaitable[None] | None]:
        """The channel's rule, and what the policies wait for. Raises `Refusal` 102, 107, and theirs."""
        rule, parameters = self._node.rules.find(channel)
        return rule, self._policies.check(Context(None, rule, parameters), command)

    async def _rule(self, channel: str, command: Command) -> ChannelRule:
        rule, pending = self._begin(channel, command)
        if pending is not None:
            await pending
        return rule

    # ------------------------------------------------------------------------------------------------------- channels

    async def publish(
        self,
        channel: str,
        payload: tuple[bytes, Kind],
        tags: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        skip_history: bool = False,
    ) -> Position:
        rule, it = await self.prepare(channel, payload, tags, idempotency_key, skip_history)
        return await publish(self._node, rule, *it)

    async def publish_each(self, prepared: Sequence[Prepared | Exception]) -> list[Outcome]:
        """Publish what was prepared, and none of it waits for another; what could not be is passed on."""
        done = iter(await publish_each(self._node, [it for it in prepared if not isinstance(it, Exception)]))
        return [it if isinstance(it, Exception) else next(done) for it in prepared]

    async def prepare(
        self,
        channel: str,
        payload: tuple[bytes, Kind],
        tags: Mapping[str, str] | None,
        idempotency_key: str | None,
        skip_history: bool,
    ) -> Prepared:
        """What is to be published, which passes the policies."""
        data, kind = payload
        rule, pending = self._begin(channel, Publish(channel, data, kind=kind))
        if pending is not None:
            await pending
        if tags:
            _check_tags(tags)
        options = PublishOptions(
            kind=kind,
            history=None if skip_history else rule.history,
            tags=dict(tags) if tags else None,
            idempotency_key=idempotency_key,
            stamp=self._node.stamp(),
        )
        return rule, ToPublish(channel, data, options)

    async def change_entry(self, channel: str, change: EntryChange, once: str = "") -> EntryResult:
        """What is asked of a channel's state, and what became of it. once: see `Door.change`. Raises as `publish`."""
        reads = change.what == "read"
        rule = await self._rule(channel, ReadHistory(channel) if reads else Publish(channel, change.value))
        return await change_entry(self._node, rule, channel, change, once=once)

    async def broadcast(
        self,
        channels: Iterable[str],
        payload: tuple[bytes, Kind],
        tags: Mapping[str, str] | None,
        idempotency_key: str | None,
        skip_history: bool,
    ) -> list[Position]:
        """The same in each, in turn. Raises as `publish`, at the first that cannot be."""
        return [await self.publish(channel, payload, tags, idempotency_key, skip_history) for channel in channels]

    async def history(self, channel: str, since: Position | None, limit: int, reverse: bool) -> Stream:
        keep = await self._history_of(channel)
        return await self._node.engine.history(channel, keep, since, limit, reverse)

    async def remove_history(self, channel: str) -> None:
        await self._history_of(channel)
        await self._node.engine.remove_history(channel)

    async def _history_of(self, channel: str) -> History:
        keep = (await self._rule(channel, ReadHistory(channel))).history
        if keep is None:
            raise Refusal.not_available(f"{channel!r} keeps no history")
        return keep

    async def presence(self, channel: str) -> dict[str, ClientInfo]:
        if not (await self._rule(channel, ReadPresence(channel))).presence:
            raise Refusal.not_available(f"{channel!r} has no presence")
        return await self._node.engine.presence(channel)

    async def channels(self, pattern: str = "") -> dict[str, int]:
        """On all nodes: the channels that have subscribers, and how many."""
        return await self._cluster.channels(pattern)

    async def holdings(self) -> list[Holding]:
        """Of all nodes."""
        return await self._cluster.holdings()

    def check_override(self, channel: str, options: Mapping[str, bool]) -> None:
        """Whether a subscription has these options of its channel, which only the rule sets.

        options: by the names of Centrifugo. Raises `Refusal` 108 for one that is otherwise, and as `rules.find`.
        """
        rule, _ = self._node.rules.find(channel)
        for name, wanted in options.items():
            option = OVERRIDES[name]
            if bool(getattr(rule, option)) is not wanted:
                raise Refusal.not_available(f"override.{name}: the option {option} of the rule {rule.match!r} decides")

    # -------------------------------------------------------------------------------------------------------- clients

    async def subscribe(
        self,
        user: str,
        channel: str,
        client: str = "",
        since: Position | None = None,
        grant: Grant = NO_GRANT,
        data: bytes = b"",
        post: str = "",
    ) -> None:
        """Clients that are subscribed already are left as they are. post: only the one whose `Session.post` it is."""
        await self._rule(channel, Subscribe(channel))
        info, expires = bytes(grant.info), grant.expires
        await self._cluster.carry_out(SubscribeUser(user, channel, client, since, info, expires, data, post))

    async def unsubscribe(self, user: str, channel: str, client: str = "", post: str = "") -> None:
        await self._rule(channel, Unsubscribe(channel))
        try:
            if not post:
                await self._node.leaving.withdraw(user, channel, client)
        finally:  # whoever resumes between the two is unsubscribed by the second
            await self._cluster.carry_out(UnsubscribeUser(user, channel, client, post))

    async def disconnect(
        self,
        user: str,
        why: Disconnect | None = None,
        client: str = "",
        keep: Collection[str] = (),
        post: str = "",
        block: float = 0,
    ) -> None:
        why = why or Disconnect.force_no_reconnect()
        try:
            if not post and not why.reconnect:
                await self._node.leaving.withdraw(user, client=client, keep=keep)
        finally:
            await self._disconnect(DisconnectUser(user, why.code, why.reason, client, list(keep), post), block)

    async def _disconnect(self, order: DisconnectUser, block: float) -> None:
        try:
            await self._cluster.carry_out(order)
        finally:  # whoever came back between the two is disconnected by the second
            if block > 0:
                await self._node.revoking.block(order.user, block)

    async def revoke(
        self, user: str = "", token: str = "", issued_before: float | None = None, until: float | None = None
    ) -> None:
        """Raises Refusal 107 when nothing says what is revoked, otherwise as `Revoking.revoke`."""
        if token and (user or issued_before is not None):
            raise Refusal.bad_request("a token's id names one token: expected nothing beside it")
        if not (user or token or issued_before is not None):
            raise Refusal.bad_request("expected a user, a token's id (jti), or a time before which tokens were issued")
        now, longest = self._node.clock.wall(), self._node.config.tokens.max_lifetime
        before = now if issued_before is None else issued_before
        end = until if until is not None else now + longest if longest else 0.0
        await self._node.revoking.revoke(Revocation(new_id(), token, user, round(before, 3), end))

    async def refresh(self, user: str, expires: float | None, client: str = "", post: str = "") -> None:
        await self._cluster.carry_out(RefreshUser(user, expires or 0.0, client, post))

    # --------------------------------------------------------------------------------------------- the user's functions

    async def call(self, method: str, data: bytes) -> bytes:
        """What a function registered with `live.api_rpc` answers, as JSON. Raises `Refusal` 104, and what it raises."""
        hook = self._node.hooks.api.get(method)
        if hook is None:
            allowed = ", ".join(sorted(self._node.hooks.api)) or "none is registered with live.api_rpc"
            raise Refusal.method_not_found(f"no method {method!r}; there are: {allowed}")
        return to_json(await self._node.invoking.invoke(hook, None, data))


def _check_tags(tags: Mapping[Any, Any]) -> None:
    """Raises TypeError or ValueError, before the log has what no client could get."""
    for name, value in tags.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"tags: expected texts, got {name!r}: {value!r}")
        (name + value).encode()
