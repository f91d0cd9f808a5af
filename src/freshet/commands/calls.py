"""What an application asks of its server from Python: publish, read, and have its way with clients.

Each may be called from any thread and any event loop: it runs in the node's own.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from freshet.commands.server import ServerOperations
from freshet.errors import Disconnect
from freshet.model.entries import ANY, EntryChange
from freshet.model.json_text import decode
from freshet.model.log import ClientInfo, Position, Stream
from freshet.rules.hooks import as_expected, as_payload, to_json
from freshet.runtime.portal import Portal


class Calls:
    """The part of `Freshet` that is behind `await live.publish(...)` and its like."""

    def __init__(self, server: ServerOperations, portal: Portal) -> None:
        self._server = server
        self._run = portal.run

    async def publish(
        self,
        channel: str,
        data: Any,
        *,
        tags: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        skip_history: bool = False,
    ) -> Position:
        """Publish once; every subscriber of `channel` gets it. The answer is its position in the channel's log.

        data: bytes go out as they are; anything else as JSON (what msgspec knows, and pydantic models).
        idempotency_key: a second publication with the same key within 5 minutes is not made.
        skip_history: only those who are subscribed now get it; its position is `NOWHERE`.

        Raises Refusal 102 when no rule matches. Raises EngineUnavailable when the engine could not be asked or did not
        answer: then nobody knows whether it was made, and to publish again with the same key is safe.
        """
        return await self._run(self._server.publish(channel, as_payload(data), tags, idempotency_key, skip_history))

    async def set_entry(
        self,
        channel: str,
        key: str,
        value: Any,
        *,
        ttl: float | None = None,
        tags: Mapping[str, str] | None = None,
        expect: Any = ANY,
        idempotency_key: str = "",
    ) -> bool:
        """Set an entry of a channel's state. Whether that was done: not if its value is not the one that is expected.

        ttl: seconds after which it expires; None: as the option `state` says. tags: by which subscribers may filter.
        expect: its value now; `MISSING`: there is none. idempotency_key: within 5 minutes it is done once.

        Raises Refusal 102 when no rule matches, 108 when the channel has no state, and what `on_change` raises.
        """
        labels = dict(tags) if tags else None
        change = EntryChange("set", key, to_json(value), ttl=ttl, tags=labels, expect=as_expected(expect))
        return not (await self._run(self._server.change_entry(channel, change, idempotency_key))).why

    async def add_to_entry(
        self, channel: str, key: str, number: float = 1, *, ttl: float | None = None, idempotency_key: str = ""
    ) -> int | float:
        """Add to an entry that is a number, 0 if it is not there: its new value. Raises as `set_entry`."""
        change = EntryChange("add", key, to_json(number), ttl=ttl)
        result = await self._run(self._server.change_entry(channel, change, idempotency_key))
        total: int | float = decode(result.value)
        return total

    async def remove_entry(self, channel: str, key: str, *, expect: Any = ANY) -> bool:
        """Remove an entry of a channel's state. Whether it was there, and as `expect` says. Raises as `set_entry`."""
        change = EntryChange("remove", key, expect=as_expected(expect))
        return (await self._run(self._server.change_entry(channel, change))).changed

    async def entries(self, channel: str) -> dict[str, Any]:
        """All entries of a channel's state. Raises as `set_entry`."""
        result = await self._run(self._server.change_entry(channel, EntryChange("read")))
        return {entry.key: decode(entry.value) for entry in result.entries}

    async def broadcast(
        self,
        channels: Iterable[str],
        data: Any,
        *,
        tags: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        skip_history: bool = False,
    ) -> list[Position]:
        """Publish the same in each of `channels`, in turn. Raises as `publish`, at the first that cannot be."""
        return await self._run(
            self._server.broadcast(list(channels), as_payload(data), tags, idempotency_key, skip_history)
        )

    async def history(
        self, channel: str, *, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> Stream:
        """A part of a channel's log, oldest first, or newest first when `reverse`, and the position of the log.

        since: only what came after it (before it, when `reverse`). limit: at most so many; 0: the position alone; below
        0: all. Raises Refusal 102, or 108 when the channel keeps none.
        """
        return await self._run(self._server.history(channel, since, limit, reverse))

    async def remove_history(self, channel: str) -> None:
        """Forget a channel's publications; its offsets go on. Raises Refusal 102, or 108 when it keeps none."""
        await self._run(self._server.remove_history(channel))

    async def presence(self, channel: str) -> dict[str, ClientInfo]:
        """Who is in `channel`, by client id. Raises Refusal 102, or 108 when its rule has no presence."""
        return await self._run(self._server.presence(channel))

    async def channels(self, pattern: str = "") -> dict[str, int]:
        """The channels with subscribers, and how many. In `pattern`, `*` is anything and `?` one character."""
        return await self._run(self._server.channels(pattern))

    async def subscribe(self, user: str, channel: str, *, client: str = "", since: Position | None = None) -> None:
        """Subscribe all of a user's clients, or only the one with the id `client`. Raises Refusal 102.

        since: they get what they missed since then.
        """
        await self._run(self._server.subscribe(user, channel, client, since))

    async def unsubscribe(self, user: str, channel: str, *, client: str = "") -> None:
        """End a subscription of all of a user's clients, or of one. Raises Refusal 102."""
        await self._run(self._server.unsubscribe(user, channel, client))

    async def disconnect(self, user: str, why: Disconnect | None = None, *, client: str = "", block: float = 0) -> None:
        """Disconnect all of a user's clients, or one; without `why`, for good (3503).

        block: seconds for which the user cannot connect, on no node, whatever the token.
        """
        await self._run(self._server.disconnect(user, why, client, block=block))

    async def revoke(
        self, user: str = "", *, token: str = "", issued_before: float | None = None, until: float | None = None
    ) -> None:
        """Take back all tokens of a user, or one by its id (`jti`), and end the sessions that rest on them.

        issued_before: those whose `iat` is not later (epoch seconds; default: now), of the user or, without, of all.
        until: epoch seconds until which it holds; default: `tokens.max_lifetime` from now, or for good.
        Raises Refusal 106 when too many hold; EngineUnavailable: it holds on this node, perhaps on no other.
        """
        await self._run(self._server.revoke(user, token, issued_before, until))

    async def refresh(self, user: str, *, expires: float | None = None, client: str = "") -> None:
        """Let a user's clients stay until `expires` (epoch seconds), or as long as they like."""
        await self._run(self._server.refresh(user, expires, client))
