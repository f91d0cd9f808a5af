"""Channels that show who is in another one, as a state: `state = { of = "clients" }` in a rule for `clients:*`.

Nothing of it is kept anywhere. A node where somebody is subscribed to one follows who comes and goes in the channel
that is shown, and tells its own subscribers. What gets lost on the way is put right from the engine's presence, which
is read anew at an interval.
"""

import asyncio
from collections.abc import Callable
from typing import ClassVar

from freshet.config import ChannelConfig
from freshet.errors import EngineUnavailable, Refusal
from freshet.hub.hub import Hub
from freshet.model.commands import ReadPresence
from freshet.model.entries import EntryChange, EntryPage, EntryResult, StateEntry, snapshot_of
from freshet.model.events import Joined, Left, Published
from freshet.model.log import Position, PublishOptions
from freshet.node.owners import Greeting, Site
from freshet.node.roster import Of, Roster
from freshet.policy.base import Context, PolicyChain
from freshet.rules.rules import ChannelRule, Owner
from freshet.runtime.tasks import Tasks
from freshet.session.session import Session


class RosterRule(ChannelRule, eq=False):
    """Its pattern is a prefix and `*`, which stands for the channel that is shown."""

    owner: ClassVar[Owner] = "roster"

    @property
    def entries(self) -> Of:
        assert self.state is not None  # by `Rosters`
        assert self.state.of  # so too
        return self.state.of

    def shown(self, channel: str) -> str:
        return channel.removeprefix(self.match[:-1])


class _Following:
    """Of one channel with a roster. sessions: subscribed, or about to be. newer: clients of which something came while
    the engine is asked; None: it is not. unfollow: None: not yet. begun: the task that begins it.
    """

    __slots__ = ("begun", "channel", "newer", "roster", "rule", "sessions", "unfollow")

    def __init__(self, channel: str, rule: RosterRule) -> None:
        self.channel = channel
        self.rule = rule
        self.roster = Roster(rule.entries)
        self.sessions: set[Session] = set()
        self.newer: set[str] | None = None
        self.unfollow: Callable[[], None] | None = None
        self.begun: asyncio.Task[None] | None = None


class Rosters:
    """policies: that who wants to know has to pass. Implements `owners.Door`, `owners.Part` and `wheel.Member`."""

    def __init__(self, node: Site, hub: Hub, policies: PolicyChain) -> None:
        self.slot = -1
        self._node = node
        self._hub = hub
        self._policies = policies
        self._every = node.config.timing.presence_ttl / 2
        self._following: dict[str, _Following] = {}
        self._tasks = Tasks()
        self._correcting = False
        self._make_other = node.rules.make
        node.rules.make = self._make_rule
        node.owners["roster"] = self._refuse
        node.doors["roster"] = self
        node.parts.append(self)

    def _make_rule(self, config: ChannelConfig) -> ChannelRule:
        if config.state is not None and config.state.of:
            return RosterRule.of(config)
        return self._make_other(config)

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        self._node.wheel.cancel(self)
        await self._tasks.stop()

    # ---------------------------------------------------------------------------------------------- who wants to know

    async def enter(
        self, session: Session, channel: str, data: bytes, page: EntryPage | None, *, is_complete: bool
    ) -> Greeting:
        """See `owners.Door`. It may if it may read the presence of the channel that is shown."""
        rule = self._rule(channel)
        shown = rule.shown(channel)
        of_shown, parameters = self._shown_rule(shown)
        pending = self._policies.check(Context(session, of_shown, parameters), ReadPresence(shown))
        if pending is not None:
            await pending
        it = self._following.get(channel)
        if it is None:
            it = self._following[channel] = _Following(channel, rule)
        it.sessions.add(session)
        if it.begun is None:
            it.begun = self._tasks.start(self._begin(it, shown, of_shown), f"roster: follow {shown!r}")
        try:
            await asyncio.shield(it.begun)
        except EngineUnavailable:
            if self._following.get(channel) is it:  # the next one begins anew
                self._end(it)
            raise
        entries = it.roster.entries()
        if page is None:
            return Greeting([snapshot_of(entries)])
        return Greeting([], EntryResult(entries=entries if page.limit else []))

    def leave(self, session: Session, channel: str) -> None:
        """See `owners.Door`."""
        it = self._following.get(channel)
        if it is not None:
            it.sessions.discard(session)
            if not it.sessions:
                self._end(it)

    def _end(self, it: _Following) -> None:
        del self._following[it.channel]
        if it.unfollow is not None:
            it.unfollow()
        if not self._following:
            self._node.wheel.cancel(self)

    async def change(self, session: Session | None, channel: str, change: EntryChange, once: str) -> EntryResult:
        """See `owners.Door`. It can be read."""
        rule = self._rule(channel)
        if change.what != "read":
            raise Refusal.not_available(f"map: {channel!r} shows who is in another channel, and cannot be changed")
        shown = rule.shown(channel)
        self._shown_rule(shown)
        roster = Roster(rule.entries)
        roster.correct(await self._node.engine.presence(shown), ())
        entries = [it for it in roster.entries() if it.key > change.after and change.key in ("", it.key)]
        more = 0 <= change.limit < len(entries)
        return EntryResult(entries=entries[: change.limit] if more else entries, more=more)

    async def say(self, channel: str, data: bytes, options: PublishOptions) -> bytes:
        """See `owners.Door`."""
        await self._refuse(channel, data, options)
        return b""

    async def request(self, session: Session, channel: str, request: bytes) -> bytes:
        """See `owners.Door`."""
        raise Refusal.method_not_found(f"{channel!r} answers no requests over HTTP")

    async def _refuse(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        raise Refusal.not_available(f"publish: {channel!r} shows who is in another channel")

    def _rule(self, channel: str) -> RosterRule:
        rule, _ = self._node.rules.find(channel)
        assert isinstance(rule, RosterRule)  # by its owner
        return rule

    def _shown_rule(self, shown: str) -> tuple[ChannelRule, dict[str, str]]:
        rule, parameters = self._node.rules.find(shown)
        if not rule.presence:
            raise Refusal.not_available(f"presence: not available, the rule of {shown!r} has no option `presence`")
        return rule, parameters

    # ------------------------------------------------------------------------------------------- who comes and goes

    async def _begin(self, it: _Following, shown: str, rule: ChannelRule) -> None:
        def note(event: Joined | Left) -> None:
            if it.newer is not None:
                it.newer.add(event.info.client)
            self._tell(it, it.roster.note(event.info.client, event.info if type(event) is Joined else None))

        unfollow = await self._hub.follow(shown, rule, note)
        if self._following.get(it.channel) is not it:  # all have left meanwhile
            unfollow()
            return
        it.unfollow = unfollow
        if self.slot < 0:
            self._node.wheel.schedule(self, self._every)
        await self._correct(it)

    def _tell(self, it: _Following, changes: list[StateEntry]) -> None:
        if it.begun is None or not it.begun.done():
            return  # those who wait for that get all entries
        for change in changes:
            self._hub.deliver(Published(it.channel, change.publication()))

    async def _correct(self, it: _Following) -> None:
        newer = it.newer = set()
        try:
            present = await self._node.engine.presence(it.rule.shown(it.channel))
        finally:
            it.newer = None
        self._tell(it, it.roster.correct(present, newer))

    def visit(self, now: float) -> float:
        """The wheel: put right what got lost."""
        if not self._correcting:
            self._correcting = True
            self._tasks.start(self._correct_all(), "rosters: correction")
        return self._every if self._following else 0

    async def _correct_all(self) -> None:
        try:
            for it in list(self._following.values()):
                if it.begun is not None and it.begun.done():
                    await self._correct(it)
        finally:
            self._correcting = False
