"""The runs of a node: what is asked of a channel's runs goes to the node that has them, and what they write to all."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from freshet.errors import ConfigError, EngineUnavailable, FreshetError, Refusal, StaleOwner, TooLargeForEngine
from freshet.model.entries import EntryChange, EntryPage, EntryResult
from freshet.model.json_text import TOO_DEEP, is_deeper, whole
from freshet.model.log import Kind, Position, PublishOptions
from freshet.model.run_commands import command_of
from freshet.model.run_messages import (
    ApprovalAnswer,
    RunCommand,
    RunReply,
    RunState,
    branch,
    decode_command,
    decode_reply,
    decode_summary,
    encode,
    new_id,
)
from freshet.node.owners import Greeting, Site
from freshet.ownership.forwarding import Forwarding
from freshet.ownership.leases import Leases, NotOwner
from freshet.ownership.watching import Watching
from freshet.rules.hooks import to_json
from freshet.runs.chat import Chat, ChatOutside
from freshet.runs.log import RunLog
from freshet.runs.producer import RunLimits
from freshet.runs.rule import RunRule
from freshet.runs.users import COUNTS, Users
from freshet.runs.viewing import Digest, Viewing
from freshet.runtime.tasks import Tasks
from freshet.session.session import Session

log = logging.getLogger("freshet.runs")

REQUEST, WATCHED, ALIVE = "run", "run:watched", "runs:alive"
LEVELS = 200  # of arrays and objects in a message
LOOKS = 20  # channels at a time into which a node looks that came after all others were gone


class LogFence:
    """The fence of runs is in their log: see `RunLog`. Implements `leases.Fences`."""

    async def claim(self, name: str, fence: int) -> int:
        return fence


class NodeRuns:
    """Implements `owners.Door`, `owners.Part` and `owners.Summarizer`."""

    def __init__(self, node: Site) -> None:
        self._node = node
        self._options = node.config.runs
        self._has_rules = False
        self._running = False
        self._chats: dict[str, Chat] = {}
        self._users = Users(node, node.config.runs.per_user)
        self._present: Counter[str] = Counter()  # subscribers of this node, by channel
        self._alone: dict[str, float] = {}  # channels without a subscriber: since when, monotonic seconds
        self._tasks = Tasks()
        self._viewing = Viewing(node)
        self._watched: dict[str, None] = {}  # channels of which it is to be found out whether something runs there
        self._looking = 0  # tasks that find that out
        options = self._options
        self._leases = Leases(node, LogFence(), options.lease, self._on_lost)
        self._forwarding = Forwarding(node, self._leases, REQUEST, self._serve, options.lease)
        self._watching = Watching(node, ALIVE, options.lease, self._mine, self._adopt, self._tick)
        node.bus.handlers[WATCHED] = self._on_watched
        node.owners["run"] = self.publish
        node.doors["run"] = self
        node.summarizers["run"] = self
        node.parts.append(self)

    def add(self, rule: RunRule) -> None:
        """Raises ConfigError once the node runs."""
        if self._node.state == "ready" and not self._running:
            raise ConfigError("runs", "the first run must be registered before the application starts")
        self._has_rules = True
        self._node.rules.add(rule)

    async def start(self) -> None:
        if self._has_rules:
            self._running = True
            self._leases.start()
            self._watching.start()

    async def stop(self) -> None:
        """Wait for what runs, as long as `runs.drain` says; what still runs then goes on elsewhere, or has failed."""
        if not self._running:
            return
        await asyncio.gather(*(chat.drain(self._options.drain) for chat in self._chats.values()))
        orphans = [chat.channel for chat in self._chats.values() if chat.goes_on]
        await self._watching.stop()
        self._running = False
        await self._tasks.stop(self._node.config.timing.close_timeout)
        await self._leases.stop()
        if orphans:
            await self._watching.abandon(orphans)
        self._chats.clear()

    def statistics(self) -> tuple[int, int]:
        """How many channels' runs this node has, and how many run."""
        return len(self._chats), sum(len(chat.producers) for chat in self._chats.values())

    # ------------------------------------------------------------------------------------------- what the server asks

    async def begin(self, channel: str, message: Any, *, id: str, user: str, parent: str) -> RunState:
        """See `Freshet.start`."""
        asked = msgspec.Raw(whole(to_json(message)))
        return _run_of(await self.ask(channel, RunCommand("start", id or new_id(), user, parent, asked)))

    async def end(self, channel: str, run: str, reason: str) -> RunState | None:
        """See `Freshet.stop`."""
        return (await self.ask(channel, RunCommand("stop", run, reason=reason))).run

    async def answer(self, channel: str, approval: str, approved: bool, reason: str, user: str) -> RunState:
        """See `Freshet.answer`."""
        command = RunCommand("answer", user=user, answers=[ApprovalAnswer(approval, approved, reason)])
        return _run_of(await self.ask(channel, command))

    async def resume(self, channel: str, run: str) -> RunState:
        """See `Freshet.resume`."""
        return _run_of(await self.ask(channel, RunCommand("resume", run)))

    async def steer(self, channel: str, message: Any, run: str) -> RunState:
        """See `Freshet.steer`."""
        return _run_of(await self.ask(channel, RunCommand("steer", run, input=msgspec.Raw(whole(to_json(message))))))

    async def look(self, channel: str, run: str) -> RunState | None:
        """The state of a run; None: there is none."""
        return (await self.ask(channel, RunCommand("look", run))).run

    async def messages(self, channel: str, run: str) -> list[dict[str, Any]]:
        """See `Freshet.messages`."""
        summary = await self.summarize(channel)
        return branch(decode_summary(summary.publication([]).data).messages, run)

    async def ask(self, channel: str, command: RunCommand) -> RunReply:
        """Raises `Refusal`, and `EngineUnavailable` when nobody knows whether it was done."""
        self._rule(channel)
        if not self._running:
            raise EngineUnavailable("runs do not run")
        if is_deeper(bytes(command.input), LEVELS):  # it is kept, and read on stacks that are deeper than this one
            raise Refusal.bad_request(f"{TOO_DEEP}: at most {LEVELS}")
        timeout = self._node.config.timing.close_timeout + 3 * self._options.lease
        return decode_reply(await self._forwarding.call(channel, encode(command), timeout)).check()

    def _rule(self, channel: str) -> RunRule:
        rule, _ = self._node.rules.find(channel)
        if not isinstance(rule, RunRule):
            raise Refusal.not_available(f"{channel!r} has no runs: see Freshet.run")
        return rule

    # ---------------------------------------------------------------------------------------------- what clients do

    async def publish(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        """See `owners.TakePublication`: what the server publishes beside its runs."""
        return await self._node.engine.publish(channel, data, options)

    async def say(self, channel: str, data: bytes, options: PublishOptions) -> bytes:
        """See `owners.Door`: a message that begins a run, or a command. The answer is the run's state."""
        if options.info is None or options.kind is Kind.BYTES:
            raise Refusal.bad_request("a run is begun by JSON or text")
        data = data if options.kind is Kind.JSON else to_json(data.decode())
        reply = await self.ask(channel, command_of(whole(data), options.info))
        return encode(reply.run) if reply.run is not None else b"null"

    async def request(self, session: Session, channel: str, request: bytes) -> bytes:
        """See `owners.Door`."""
        raise Refusal.not_available("runs answer no requests: see the doors for AI clients")

    async def enter(
        self, session: Session, channel: str, data: bytes, page: EntryPage | None, *, is_complete: bool
    ) -> Greeting:
        """See `owners.Door`."""
        self._present[channel] += 1
        return Greeting([])

    async def change(self, session: Session | None, channel: str, change: EntryChange, once: str) -> EntryResult:
        """See `owners.Door`."""
        raise Refusal.not_available("runs have no state that is set")

    def leave(self, session: Session, channel: str) -> None:
        """See `owners.Door`."""
        self._present[channel] -= 1
        if self._present[channel] <= 0:
            del self._present[channel]

    async def summarize(self, channel: str) -> Digest:
        """See `owners.Summarizer`."""
        rule = self._rule(channel)
        digest, unfinished = await self._viewing.digest(channel, rule, self._log(channel, rule))
        if channel not in self._chats and any(record.state in ("running", "queued") for record in unfinished):
            self._watching.suspect(channel)
        return digest

    def watched(self, channel: str) -> None:
        """See `owners.Summarizer`: all nodes may have been gone since a run began there."""
        known = channel in self._chats or self._watching.knows(channel) or self._viewing.knows(channel)
        if self._running and not known:
            self._watched[channel] = None
            if self._looking < LOOKS:
                self._looking += 1
                self._tasks.start(self._look(), "runs: does something run there?")

    async def _look(self) -> None:
        try:
            while self._watched:
                channel = next(iter(self._watched))
                del self._watched[channel]
                try:
                    await self.summarize(channel)
                except FreshetError:
                    self._watching.suspect(channel)
        finally:
            self._looking -= 1

    # ---------------------------------------------------------------------------------------- the channels of this node

    def _log(self, channel: str, rule: RunRule) -> RunLog:
        assert rule.history is not None  # see `RunRule.of_runs`
        return RunLog(self._node, channel, rule.history, rule.messages)

    def _chat(self, channel: str) -> Chat:
        chat = self._chats.get(channel)
        if chat is None:
            rule, parameters = self._node.rules.find(channel)
            assert isinstance(rule, RunRule)  # asked before
            options = self._options
            limits = RunLimits(options.interval, options.size, options.rate)
            outside = ChatOutside(
                self._node,
                self._tasks,
                self._leases.fence,
                self._leases.lose,
                self._users,
                self._watching,
                lambda: self._node.state == "draining",
                limits,
            )
            chat = self._chats[channel] = Chat(channel, rule, parameters, outside, self._log(channel, rule))
        return chat

    async def _serve(self, channel: str, id: str, body: bytes, again: bool) -> bytes:
        """See `forwarding.Serve`: all that can be asked may be asked again."""
        self._leases.fence(channel)
        chat = self._chat(channel)
        try:
            await chat.ready()
            reply = await chat.carry_out(decode_command(body), id)
        except StaleOwner:
            raise NotOwner(channel) from None
        except TooLargeForEngine as why:
            reply = RunReply(code=Refusal.limit_exceeded().code, message=str(why))
        except Refusal as why:
            reply = RunReply(code=why.code, message=why.message, temporary=why.temporary)
        return encode(reply)

    def _on_lost(self, channel: str) -> None:
        if (chat := self._chats.pop(channel, None)) is not None:
            if chat.needs_owner:
                self._watching.lose(channel)
            chat.abandon()

    # ------------------------------------------------------------------------------------------------------- the others

    def _mine(self) -> Iterable[str]:
        return [channel for channel, chat in self._chats.items() if chat.needs_owner]

    def _runs_in(self, channel: str) -> bool:
        chat = self._chats.get(channel)
        return chat is not None and bool(chat.producers)

    async def _adopt(self, channel: str) -> None:
        """Whoever owns a channel by now opens it, and goes on with what was running."""
        self._forwarding.doubt(channel)
        await self.ask(channel, RunCommand("look"))

    def _tick(self) -> None:
        now, idle = self._node.clock.monotonic(), self._options.idle
        self._viewing.forget(now - idle)
        for channel in [channel for channel in self._alone if not self._runs_in(channel)]:
            del self._alone[channel]  # the next one that runs there is left alone anew
        for channel, chat in list(self._chats.items()):
            if not chat.is_busy and (now - chat.quiet_since > idle or self._node.state == "draining"):
                self._tasks.start(self._close(channel, chat), "runs: a channel leaves memory")
            elif chat.rule.stop_when_alone is not None and chat.producers:
                self._tasks.start(self._look_who_is_there(channel, chat), "runs: is anybody there?")

    async def _close(self, channel: str, chat: Chat) -> None:
        if self._chats.get(channel) is not chat or chat.is_busy:
            return
        goes_on = chat.goes_on
        try:
            if not goes_on:
                await chat.close()
        except FreshetError:
            chat.quiet_since = self._node.clock.monotonic()
            return
        if self._chats.get(channel) is chat and not chat.is_busy:
            del self._chats[channel]
            await self._leases.release(channel)
            if goes_on:
                await self._watching.abandon([channel])

    async def _look_who_is_there(self, channel: str, chat: Chat) -> None:
        now = self._node.clock.monotonic()
        replies = await self._node.bus.request_all(WATCHED, channel.encode(), self._options.lease)
        if any(reply == b"1" for reply in replies):
            self._alone.pop(channel, None)
            return
        since = self._alone.setdefault(channel, now)
        if now - since >= (chat.rule.stop_when_alone or 0.0):
            self._alone.pop(channel, None)
            for record in chat.records:
                if record.state in COUNTS:  # who is asked may come in days
                    await self.ask(channel, RunCommand("stop", record.id, reason="nobody was there"))

    async def _on_watched(self, body: bytes) -> bytes:
        return b"1" if body.decode() in self._present else b"0"


def _run_of(reply: RunReply) -> RunState:
    assert reply.run is not None  # of what was not refused
    return reply.run
