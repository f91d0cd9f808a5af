"""One run that has a task: what its function writes is coalesced, appended, and ended whatever happens."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from freshet.errors import EngineUnavailable, FreshetError, Refusal, StaleOwner, TooLargeForEngine
from freshet.model.json_text import whole_text
from freshet.model.run_aggregate import Aggregate, Part, coalesced
from freshet.model.run_messages import RunRecord, State
from freshet.observe.counts import RunCounts
from freshet.ownership.leases import NotOwner
from freshet.runtime.clock import Clock
from freshet.runtime.tasks import Tasks

log = logging.getLogger("freshet.runs")

BACKLOG = 64 * 1024  # bytes that wait for the engine, before who writes waits too
AROUND = 60  # bytes of a delta beside its text, until it is joined with others
STEERING = 100  # messages that wait for a run
TEXTS = ("delta", "inputTextDelta")
TOO_LARGE = "it wrote more at once than the engine takes"


class Handover(asyncio.CancelledError):
    """The function has come to a checkpoint, and this node ends."""


class RunLimits(msgspec.Struct, frozen=True):
    """interval: seconds in which writes are coalesced. size: bytes of a run. rate: characters a second; 0: any."""

    interval: float
    size: int
    rate: float


class Journal(Protocol):
    """Where a producer's events go: its channel."""

    async def put(self, id: str, parts: list[Part], state: State | None, reason: str = "") -> None:
        """Append. Raises `NotOwner` and `StaleOwner`: it is another's run now; and `TooLargeForEngine`."""

    def closing(self, id: str, why: str) -> list[Part]:
        """The parts that end what is open in the log: see `Aggregate.closing`."""

    async def hand_over(self, id: str, kept: msgspec.Raw) -> None: ...

    async def history(self, id: str) -> list[Part]: ...

    async def enter(self, id: str, name: str, info: msgspec.Raw) -> None: ...

    def ended(self, id: str) -> None:
        """It has no task any more."""


Work = Callable[[], Awaitable[Any]]


class Producer:
    """channel: for the log. draining: whether a checkpoint ends it."""

    def __init__(
        self,
        record: RunRecord,
        channel: str,
        journal: Journal,
        limits: RunLimits,
        clock: Clock,
        counts: RunCounts,
        draining: Callable[[], bool],
    ) -> None:
        self.id = record.id
        self.aggregate = Aggregate(msgspec.json.decode(msgspec.json.encode(record.parts)), record.metadata)
        self._name = f"{record.id} in {channel!r}"
        self._journal = journal
        self._limits = limits
        self._clock = clock
        self._counts = counts
        self._began = clock.monotonic()
        self._said = False  # its first text is in the log
        self._draining = draining
        self._backlog: list[Part] = []
        self._backlog_bytes = 0
        self._size = len(msgspec.json.encode(record.parts))
        self._texts = len(record.parts)  # how many texts have begun: their ids
        self._open = ""  # the text that `write` adds to: its type and id
        self._dirty = asyncio.Event()
        self._written = asyncio.Event()
        self._over = False
        self._end: asyncio.Task[None] | None = None  # writes the last event
        self._lost = False  # what it wrote was too large for the engine: the log ends before that
        self._sending = asyncio.Lock()
        self._paid = 0.0  # until when its writes are paid for, by `rate`
        self._steering: list[Any] = []
        self._steered = asyncio.Event()
        self._tasks = Tasks()
        self._task: asyncio.Task[None] | None = None
        self._flusher: asyncio.Task[None] | None = None

    def start(self, work: Work) -> None:
        """work: the application's function."""
        self._flusher = self._tasks.start(self._flush_on(), "runs: flush", may_fail=False)
        self._task = self._tasks.start(self._work(work), "runs: a run", may_fail=False)

    @property
    def is_over(self) -> bool:
        """Whether its end is written, or is on its way there."""
        return self._over

    # -------------------------------------------------------------------------------------------------------- writing

    async def write(self, part: str | Mapping[str, Any]) -> None:
        if isinstance(part, str):
            await self.write_text("text", part)
            return
        self._close_text()
        await self._put(dict(part))

    async def write_text(self, kind: str, text: str) -> None:
        if not self._open.startswith(f"{kind}:"):
            self._close_text()
            id = f"{kind[0]}{self._texts}"
            self._texts += 1
            self._take({"type": f"{kind}-start", "id": id}, AROUND)
            self._open = f"{kind}:{id}"
        id = self._open.partition(":")[2]
        if text:
            await self._put({"type": f"{kind}-delta", "id": id, "delta": whole_text(text)}, len(text))

    def _close_text(self) -> None:
        kind, _, id = self._open.partition(":")
        self._open = ""
        if kind:
            self._take({"type": f"{kind}-end", "id": id}, 0)

    async def _put(self, part: Part, characters: int = 0) -> None:
        room, size = self._limits.size - self._size, _size_of(part)
        if size > room:
            if fitting := _fitting(part, room):
                self._take(fitting, _size_of(fitting))
            raise _TooLarge
        self._take(part, size)
        self._counts.parts += 1
        self._counts.characters += characters
        if self._limits.rate and characters:
            now = self._clock.monotonic()
            self._paid = max(self._paid, now - 1.0) + characters / self._limits.rate
            if self._paid > now:
                await asyncio.sleep(self._paid - now)
        while self._backlog_bytes > BACKLOG and not self._over:
            self._written.clear()
            await self._written.wait()

    def _take(self, part: Part, size: int) -> None:
        if self._over or self._lost:
            raise asyncio.CancelledError  # a function that goes on after it was stopped
        self.aggregate.apply(part)
        self._size += size
        self._backlog.append(part)
        self._backlog_bytes += size + AROUND
        self._dirty.set()

    async def _flush_on(self) -> None:
        """Send at once what comes after a pause, then all that comes within the interval together."""
        while True:
            await self._dirty.wait()
            try:
                await self.flush()
            except (NotOwner, StaleOwner) as why:
                self.abandon(str(why))
                return
            except TooLargeForEngine as why:
                await self._fail(why)
                return
            await asyncio.sleep(self._limits.interval)

    async def flush(self) -> None:
        async with self._sending:
            if self._over:
                return  # what is left goes out with its end
            parts, self._backlog = self._backlog, []
            self._backlog_bytes = 0
            self._dirty.clear()
            try:
                if parts:
                    await self._journal.put(self.id, coalesced(parts), None)
                    self._note_first(parts)
            except TooLargeForEngine:
                self._lost = True
                raise
            finally:
                self._written.set()

    def _note_first(self, parts: list[Part]) -> None:
        if not self._said and any(part["type"] == "text-delta" for part in parts):
            self._said = True
            self._counts.first.observe(self._clock.monotonic() - self._began)

    # ------------------------------------------------------------------------------------------------------- its end

    async def _work(self, work: Work) -> None:
        try:
            await work()
        except Handover:
            return
        except _TooLarge:
            await self.end("finished", "length", "length")
        except asyncio.CancelledError:
            await self.end("stopped", "cancelled", "abort")  # by itself: whoever stops it from here has ended it before
        except TooLargeForEngine as why:
            await self._fail(why)
        except Refusal as why:
            await self.end("failed", why.message, "error")
        except Exception:
            log.exception("runs: %s failed, its clients are notified", self._name)
            await self.end("failed", "internal server error", "error")
        else:
            waits = any(part.get("state") == "approval-requested" for part in self.aggregate.parts)
            await self.end("waiting" if waits else "finished", "", "tool-calls" if waits else "stop")

    async def end(self, state: State, reason: str, how: str) -> None:
        """Append what ends it, once, and wait until that is in the log. how: a finish reason, `abort` or `error`."""
        if not self._over:
            self._over = True
            self._end = self._tasks.start(self._write_end(state, reason, how), "runs: the end", may_fail=False)
        if self._end is not None:
            await asyncio.shield(self._end)  # whoever waits for it may be cancelled, as the function that is stopped

    async def _write_end(self, state: State, reason: str, how: str) -> None:
        try:
            async with self._sending:
                try:
                    await self._write_last(state, reason, how)
                except TooLargeForEngine as why:
                    log.warning("runs: the end of %s is too large, it has failed: %s", self._name, why)
                    self._lost = True
                    await self._write_last("failed", TOO_LARGE, "error")
        except (NotOwner, StaleOwner, EngineUnavailable) as why:
            log.warning("runs: the end of %s could not be written, whoever has it now ends it: %s", self._name, why)
        finally:
            self._let_go()

    async def _write_last(self, state: State, reason: str, how: str) -> None:
        why = reason or state
        if self._lost:
            parts = self._journal.closing(self.id, why)
        else:
            parts = [*self._backlog, *self.aggregate.closing(why)]
        self._backlog = []
        await self._journal.put(self.id, coalesced([*parts, _last(how, reason)]), state, reason)
        self._note_first(parts)

    async def _fail(self, why: TooLargeForEngine) -> None:
        log.warning("runs: %s wrote more at once than the engine takes, it has failed: %s", self._name, why)
        await self.end("failed", TOO_LARGE, "error")

    async def stop(self, reason: str) -> None:
        """Cancel its function, and end it at once, however long that takes to end."""
        if self._task is not None:
            self._task.cancel()
        await self.end("stopped", reason, "abort")

    def abandon(self, why: str) -> None:
        """Another node has it, or may: nothing is written any more."""
        if not self._over:
            self._over = True
            log.warning("runs: %s is given up here: %s", self._name, why)
        if self._task is not None:
            self._task.cancel()
        self._let_go()

    def _let_go(self) -> None:
        self._written.set()
        self._steered.set()
        if self._flusher is not None and self._flusher is not asyncio.current_task():
            self._flusher.cancel()
        self._journal.ended(self.id)

    async def close(self, grace: float) -> None:
        """Wait for its tasks to end."""
        await self._tasks.stop(grace)

    # ----------------------------------------------------------------------------------------------------- the outside

    def steer(self, data: Any) -> bool:
        """Whether there was room for it."""
        if len(self._steering) >= STEERING:
            return False
        self._steering.append(data)
        self._steered.set()
        return True

    async def steered(self, wait: bool) -> list[Any]:
        while wait and not self._steering and not self._over:
            self._steered.clear()
            await self._steered.wait()
        said, self._steering = self._steering, []
        return said

    async def checkpoint(self, kept: msgspec.Raw) -> None:
        await self.flush()
        if self._draining() and not self._over:
            self._over = True
            try:
                await self._journal.hand_over(self.id, kept)
            except FreshetError as why:
                log.warning("runs: %s could not be handed over: %s", self._name, why)
            self._let_go()
            raise Handover

    async def history(self) -> list[Part]:
        return await self._journal.history(self.id)

    async def enter(self, name: str, info: msgspec.Raw) -> None:
        if self._over:
            raise asyncio.CancelledError
        await self._journal.enter(self.id, name, info)


class _TooLarge(asyncio.CancelledError):
    """It has written as much as it may."""


def _last(how: str, reason: str) -> Part:
    if how == "abort":
        return {"type": "abort", "reason": reason}
    return {"type": "error", "errorText": reason} if how == "error" else {"type": "finish", "finishReason": how}


def _size_of(part: Part) -> int:
    """Bytes that it adds to the message, nearly."""
    for name in TEXTS:
        if isinstance(text := part.get(name), str):
            return len(msgspec.json.encode(text)) - 2
    return len(msgspec.json.encode(part))


def _fitting(part: Part, room: int) -> Part | None:
    """As much of a text as there is room for; None: nothing."""
    for name in TEXTS:
        if room > 0 and isinstance(text := part.get(name), str):
            fits = msgspec.json.encode(text)[1 : room + 1].decode(errors="ignore")
            return {**part, name: text[: len(fits)] if "\\" not in fits else text[: room // 6]}
    return None
