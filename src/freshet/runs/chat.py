"""The runs of one channel on the node that owns them: begun, stopped, answered, taken over, one event at a time."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

from freshet.errors import Refusal, StaleOwner
from freshet.model.json_text import decode
from freshet.model.run_aggregate import Aggregate, Part
from freshet.model.run_messages import (
    ENDED,
    NULL,
    ROOT,
    RunCommand,
    RunEvent,
    RunRecord,
    RunReply,
    State,
)
from freshet.node.owners import Site
from freshet.observe.counts import add
from freshet.ownership.leases import NotOwner
from freshet.ownership.watching import Watching
from freshet.rules.hooks import Hook
from freshet.runs.agents import Agents
from freshet.runs.approvals import asks, decisions, last_answer, still_asks
from freshet.runs.log import RunLog
from freshet.runs.producer import Producer, RunLimits
from freshet.runs.records import Records
from freshet.runs.rule import RunRule
from freshet.runs.run import Run
from freshet.runs.users import Users
from freshet.runtime.tasks import Tasks

log = logging.getLogger("freshet.runs")

T = TypeVar("T")

GONE = "the node that had it is gone"
QUEUE = 16  # runs that wait in a channel


class ChatOutside(NamedTuple):
    """What a channel's runs act on. fence: of the channel; raises `NotOwner`. lose: another has taken it over.

    tasks: who owns what goes on here.
    """

    node: Site
    tasks: Tasks
    fence: Callable[[str], int]
    lose: Callable[[str], None]
    users: Users
    watching: Watching
    draining: Callable[[], bool]
    limits: RunLimits


class Chat:
    """Implements `producer.Journal`. log: the channel's."""

    def __init__(
        self, channel: str, rule: RunRule, parameters: Mapping[str, str], outside: ChatOutside, journal: RunLog
    ) -> None:
        self.channel = channel
        self.rule = rule
        self.records = Records(channel, journal, rule.messages.size)
        self.producers: dict[str, Producer] = {}
        self.quiet_since = outside.node.clock.monotonic()
        self._parameters = parameters
        self._outside = outside
        self._counts = outside.node.counts.runs
        self._agents = Agents(outside.node, channel, seen=rule.presence)
        self._lock = asyncio.Lock()
        self._ending: set[Producer] = set()
        self._vacant = asyncio.Event()
        self._opening: asyncio.Future[None] | None = None

    @property
    def is_busy(self) -> bool:
        opens = self._opening is not None and not self._opening.done()
        return opens or bool(self.producers) or self._lock.locked()

    @property
    def is_open(self) -> bool:
        """Whether it has read what there is, and has taken over what was running."""
        it = self._opening
        return it is not None and it.done() and not it.cancelled() and it.exception() is None

    @property
    def goes_on(self) -> bool:
        """Whether some node has something to do there: a run that runs, was handed over, or waits for its turn."""
        return self.is_open and any(record.state in ("running", "queued") for record in self.records)

    @property
    def needs_owner(self) -> bool:
        """Whether something is done here, or is to be: if this node is gone, another has to see to it."""
        return self.is_busy or self.goes_on

    async def ready(self) -> None:
        """Until it has read what there is, and has taken over what was running."""
        if self._opening is None:
            work = self._open()
            self._opening = self._outside.tasks.start(work, "runs: open a channel", may_fail=False)
        try:
            await asyncio.shield(self._opening)
        except Exception:
            self._opening = None
            raise

    async def _open(self) -> None:
        try:
            await self._begin_with_what_there_is()
        except BaseException:
            self._outside.watching.lose(self.channel)
            raise

    async def _begin_with_what_there_is(self) -> None:
        """What an earlier try has come to is not done again."""
        await self.records.read()
        for record, state in [(record, record.state) for record in self.records]:  # as they were found
            if state in ENDED:
                await self.records.file(record)
            elif state == "running" and record.id not in self.producers:
                await self._take_over(record)
            else:
                self._outside.users.follow(self.channel, record)
        await self._whole(self._begin_queued())

    # ------------------------------------------------------------------------------------------------------- commands

    async def carry_out(self, command: RunCommand, request: str) -> RunReply:
        """request: its id. Raises `Refusal`, `NotOwner`, `StaleOwner`, and `EngineUnavailable`."""
        self.quiet_since = self._outside.node.clock.monotonic()
        match command.what:
            case "start":
                return RunReply(run=(await self._whole(self._start(command))).status())
            case "stop":
                return RunReply(run=await self._stop(command.run, command.reason))
            case "answer":
                return RunReply(run=(await self._whole(self._answer(command))).status())
            case "steer":
                return RunReply(run=(await self._steer(command, request)).status())
            case "resume":
                return RunReply(run=(await self._whole(self._resume(command.run))).status())
            case _:
                record = self.records.find(command.run)
                return RunReply(run=record.status() if record is not None else None)

    async def _start(self, it: RunCommand) -> RunRecord:
        if (known := self.records.find(it.run)) is not None:
            return known
        async with self._lock:
            if (known := self.records.find(it.run)) is not None:
                return known
            queued = sum(record.state == "queued" for record in self.records)
            begins = not queued and len(self.producers) < self.rule.parallel
            if queued >= QUEUE:
                raise Refusal.limit_exceeded(f"{QUEUE} runs wait in this channel already")
            await self._outside.users.admit(it.user, self.channel, it.run)
            try:
                state: State = "running" if begins else "queued"
                parent = self.records.last() if not it.parent else it.parent.removeprefix(ROOT)
                event = RunEvent(it.run, 0, [_first(it.run)], state, it.input, it.user, parent, at=self._wall())
                record = await self._append(event)
            except BaseException:
                self._outside.users.forget(it.user, self.channel, it.run)
                raise
            self._counts.started += 1
            if begins:
                self._begin(record)
            return record

    async def _resume(self, id: str) -> RunRecord:
        """It begins anew, with what it kept as its first event, so that whoever has it begins with that too."""
        async with self._lock:
            failed = self.records.find(id)
            if failed is None or not failed.resumable:
                raise Refusal.not_available("no run that could be resumed has that id")
            if len(self.producers) >= self.rule.parallel:
                raise Refusal.not_available("another run runs in this channel")
            await self._outside.users.admit(failed.user, self.channel, id)
            try:
                metadata = {name: value for name, value in failed.metadata.items() if name != "usage"}  # it was counted
                kept = [_first(id), *Aggregate(failed.parts, metadata).replay()]
                event = RunEvent(id, 0, kept, "running", failed.input, failed.user, failed.parent, at=self._wall())
                record = await self._append(event)
            except BaseException:
                self._outside.users.forget(failed.user, self.channel, id)
                raise
            record.kept = failed.kept
            self._begin(record, self.rule.resume)
            return record

    async def _stop(self, id: str, reason: str) -> Any:
        ids = [record.id for record in self.records if record.state not in ENDED and id in ("", record.id)]
        for each in ids:
            await self._whole(self._stop_without_task(each, reason))
            if (producer := self.producers.get(each)) is not None:
                await producer.stop(reason)
                # On its way to another node it has no end yet.
                await self.put(each, [{"type": "abort", "reason": reason}], "stopped", reason)
        record = self.records.find(ids[-1] if ids else id)
        return record.status() if record is not None else None

    async def _stop_without_task(self, id: str, reason: str) -> None:
        """One that waits for its turn, or for an answer: neither comes while this has the lock."""
        async with self._lock:
            if id not in self.producers:
                await self._write(id, [{"type": "abort", "reason": reason}], "stopped", reason)

    async def _answer(self, it: RunCommand) -> RunRecord:
        """Of two that answer at once the first counts, and the run goes on once."""
        async with self._lock:
            record = self._that_asked(it)
            said = decisions(record, it)
            if record.state in ENDED or not said:
                return record
            if record.state != "waiting" or still_asks(record, said):
                await self._write(record.id, said, None)
            elif len(self.producers) >= self.rule.parallel:
                await self._write(record.id, said, "queued")
            else:
                await self._write(record.id, said, "running")
                self._begin(record)
            return record

    def _that_asked(self, it: RunCommand) -> RunRecord:
        asked = {answer.approval for answer in it.answers}
        for record in self.records:
            if asks(record, asked):
                return record
        raise Refusal.not_available("nothing waits for that answer")

    async def _steer(self, it: RunCommand, request: str) -> RunRecord:
        """request: its id, by which it is known if it comes again."""
        records = (self.records.get(id) for id in self.producers if it.run in ("", id))
        # A producer may still be there when its run's end is written.
        running = [record for record in records if record is not None and record.state not in ENDED]
        if not running:
            raise Refusal.not_available("nothing runs here that could be steered")
        record = running[-1]
        data = decode(bytes(it.input))
        text = data.get("text", "") if isinstance(data, dict) else data
        parts = [{"type": "text", "text": text if isinstance(text, str) else it.input.decode()}]
        if not self.producers[record.id].steer(data):
            raise Refusal.limit_exceeded("too many messages wait for this run")
        if not any(part.get("id") == request for part in record.parts):
            await self.put(record.id, [{"type": "steering-message", "id": request, "parts": parts}], None)
        return record

    # ----------------------------------------------------------------------------------------------------- beginnings

    def _begin(self, record: RunRecord, hook: Hook | None = None) -> None:
        """hook: what goes on with it; None: its function, or what goes on with what it was told when it had asked."""
        approval = last_answer(record)
        if hook is None and approval is not None:
            hook = self.rule.approval or self.rule.resume
        hook = hook or self.rule.function
        assert hook is not None  # by its rule
        outside = self._outside
        producer = Producer(
            record, self.channel, self, outside.limits, outside.node.clock, self._counts, outside.draining
        )
        self.producers[record.id] = producer
        self._counts.begun += 1
        run = Run(producer, outside.node.portal, self.channel, record.id, record.user)
        run.approval = approval
        run.kept = msgspec.json.decode(record.kept)
        about = {"channel": self.channel, **self._parameters}
        producer.start(partial(hook, run, bytes(record.input), **about))

    async def _take_over(self, record: RunRecord) -> None:
        """It was running, on a node that is gone: it goes on, or has failed."""
        await self._agents.clear(record.id)
        closing = record.aggregate().closing(GONE)
        if self.rule.resume is not None and record.resumes < self.rule.resumes:
            record.resumes += 1
            await self.put(record.id, closing, "running", "resumed")
            self._begin(record, self.rule.resume)
            record.kept = NULL
            await self.records.keep()
        else:
            await self.put(record.id, [*closing, {"type": "error", "errorText": GONE}], "failed", GONE)

    async def _begin_queued(self) -> None:
        async with self._lock:
            for record in self.records:
                if len(self.producers) >= self.rule.parallel:
                    return
                if record.state == "queued":
                    await self._write(record.id, [], "running")
                    self._begin(record)

    # -------------------------------------------------------------------------------------------------------- journal

    def _wall(self) -> float:
        return self._outside.node.clock.wall()

    async def put(self, id: str, parts: list[Part], state: State | None, reason: str = "") -> None:
        """See `Journal`. Whoever waits for it may be cancelled: it is done all the same."""
        await self._whole(self._put(id, parts, state, reason))

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """What is appended is noted with it: cut in two, the next event would be taken for the one that is there."""
        task = self._outside.tasks.start(work, "runs: append", may_fail=False)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _put(self, id: str, parts: list[Part], state: State | None, reason: str) -> None:
        async with self._lock:
            await self._write(id, parts, state, reason)

    async def _write(self, id: str, parts: list[Part], state: State | None, reason: str = "") -> None:
        """Append to a run's events; whoever calls this has the lock."""
        record = self.records.get(id)
        if record is None or record.state in ENDED:
            return  # it ended while this waited: nothing comes behind its end
        at = self._wall() if state in ENDED else None
        resumable = state == "failed" and self.rule.resume is not None
        await self._append(RunEvent(id, record.seq + 1, parts, state, at=at, reason=reason, resumable=resumable))
        if state is not None:
            self._outside.users.follow(self.channel, record)
        if record.state in ENDED:
            if (begun := self.producers.get(id)) is not None and not begun.is_over:
                begun.abandon(f"it was {record.state} while it began")
            add(self._counts.ended, record.state)
            self._counts.cost(record.metadata.get("usage"))
            await self.records.file(record)
        else:
            await self.records.keep_if_due()

    def closing(self, id: str, why: str) -> list[Part]:
        """See `Journal`."""
        record = self.records.get(id)
        return record.aggregate().closing(why) if record is not None else []

    async def _append(self, event: RunEvent) -> RunRecord:
        if event.state == "running":
            self._outside.watching.begin(self.channel)
        try:
            return await self.records.append(event, partial(self._outside.fence, self.channel))
        except (StaleOwner, NotOwner):
            self._outside.lose(self.channel)
            raise

    async def hand_over(self, id: str, kept: msgspec.Raw) -> None:
        """See `Journal`: what it keeps is in the snapshot that the next owner begins with."""
        async with self._lock:
            await self.records.hand_over(id, kept)

    async def history(self, id: str) -> list[Part]:
        """See `Journal`: down the branch."""
        return self.records.branch(id)

    async def enter(self, id: str, name: str, info: msgspec.Raw) -> None:
        """See `Journal`."""
        await self._agents.enter(id, name, info)

    def ended(self, id: str) -> None:
        """See `Journal`."""
        producer = self.producers.pop(id, None)
        if producer is None:
            return
        self._counts.left += 1
        self._ending.add(producer)
        self._outside.tasks.start(self._close(producer), "runs: the end of a run")

    async def _close(self, producer: Producer) -> None:
        self.quiet_since = self._outside.node.clock.monotonic()
        try:
            await self._agents.leave(producer.id)
            await producer.close(self._outside.node.config.timing.close_timeout)
            if not self._outside.draining():
                await self._whole(self._begin_queued())
        except (NotOwner, StaleOwner):
            pass  # it is another's
        finally:
            self._ending.discard(producer)
            if not self.producers and not self._ending:
                self._vacant.set()

    # ------------------------------------------------------------------------------------------------------ the channel

    def abandon(self) -> None:
        """Another node has the channel."""
        self._agents.abandon()
        for record in self.records:
            self._outside.users.forget(record.user, self.channel, record.id)
        for producer in list(self.producers.values()):
            producer.abandon("the channel is another node's")

    async def close(self) -> None:
        """Nothing runs: leave memory, and the logs as small as they can be. Raises EngineUnavailable, `NotOwner`."""
        if not self.is_open:
            return  # what there is was never read
        async with self._lock:
            self._outside.fence(self.channel)  # what another has written since would be lost
            await self.records.trim()

    async def drain(self, grace: float) -> None:
        """The node ends: wait for runs and checkpoints; what still runs then goes to another node, or has failed."""
        await self._vacate(grace)
        for producer in list(self.producers.values()):
            if self.rule.resume is not None:
                with suppress(NotOwner, StaleOwner):
                    await producer.flush()
                producer.abandon("this node ends")
            else:
                await producer.end("failed", "the server stops", "error")
        await self._vacate(self._outside.node.config.timing.close_timeout)

    async def _vacate(self, timeout: float) -> None:  # noqa: ASYNC109 - of all
        self._vacant.clear()
        if self.producers or self._ending:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._vacant.wait(), timeout)


def _first(id: str) -> Part:
    return {"type": "start", "messageId": id}
