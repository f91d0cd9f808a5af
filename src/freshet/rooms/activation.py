"""A room in memory: its instance, its mailbox, and the one task that works it off while there is something in it."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from freshet.errors import FreshetError, Refusal, StaleOwner
from freshet.model.http import HttpResponse, request_of, to_bytes
from freshet.model.log import Kind
from freshet.observe.logs import BoundedLog
from freshet.ownership.leases import NotOwner
from freshet.rooms.messages import RoomReply, RoomRequest, decode_reply
from freshet.rooms.room import Room, RoomSession, RoomStore
from freshet.rooms.rule import RoomRule
from freshet.rooms.state import INTERNAL, RoomState
from freshet.rooms.step import Outside, RoomStep
from freshet.rooms.ticks import Ticks
from freshet.rules.hooks import to_json
from freshet.runtime.tasks import Tasks
from freshet.stores.base import KEEP, Change

log = logging.getLogger("freshet.rooms")
bounded_log = BoundedLog(log)

STOP, TICK = RoomRequest("stop"), RoomRequest("tick")
FIRST_RETRY, LAST_RETRY = 2.0, 128.0  # seconds before an alarm whose hook failed is called again


class WaitingRequest(NamedTuple):
    """A request in a mailbox. again: it may have been carried out before."""

    id: str
    request: RoomRequest
    again: bool
    done: "asyncio.Future[RoomReply]"


class Activation:
    """limit: requests in the mailbox. idle: seconds after which it leaves memory. closed: called once when it has.

    lost: called when another node has taken it over. Implements `wheel.Member`.
    """

    def __init__(
        self,
        channel: str,
        rule: RoomRule,
        parameters: Mapping[str, str],
        outside: Outside,
        tasks: Tasks,
        *,
        limit: int,
        idle: float,
        closed: Callable[["Activation"], None],
        lost: Callable[[str], None],
        ticks: Callable[[str], None],
    ) -> None:
        self.channel = channel
        self.slot = -1
        self._rule = rule
        self._parameters = parameters
        self._outside = outside
        self._tasks = tasks
        self._limit = limit
        self._idle = idle
        self._closed = closed
        self._lost = lost
        self._begins_to_tick = ticks
        self._step = RoomStep(channel, outside)
        self._ticks = Ticks(outside.node.clock, self._tick)
        self._room: Room | None = None
        self._mailbox: deque[WaitingRequest] = deque()
        self._working: asyncio.Task[None] | None = None
        self._failures = 0  # of its alarm, in a row
        self._over = False

    @property
    def is_awake(self) -> bool:
        """Whether there is an instance in memory."""
        return self._room is not None

    @property
    def ticks(self) -> bool:
        """Whether it goes on though nobody asks anything of it."""
        return self._ticks.go

    def ask(self, id: str, request: RoomRequest, again: bool) -> "asyncio.Future[RoomReply]":
        """Put a request into the mailbox. What this gives has the reply, or raises what the store does."""
        done: asyncio.Future[RoomReply] = asyncio.get_running_loop().create_future()
        if self._over:
            done.set_exception(NotOwner(self.channel))
        elif len(self._mailbox) >= self._limit and request.what in ("join", "message", "request", "state"):
            done.set_result(RoomReply.refused(Refusal.too_many_requests("too many messages wait in this room")))
        else:
            self._mailbox.append(WaitingRequest(id, request, again, done))
            if self._working is None:
                self._working = self._tasks.start(self._work(), "rooms: a mailbox", may_fail=False)
        return done

    def _tick(self) -> "asyncio.Future[RoomReply]":
        return self.ask("", TICK, again=False)

    def visit(self, now: float) -> float:
        """See `wheel.Member`: nothing has happened for a while."""
        if self._working is not None or self._over:
            return 0
        shared = self._step.shared
        if self._room is not None and ("on_stop" in self._rule.hooks or not (shared is None or shared.is_out)):
            self.stop()
        else:  # without a task: of those that woke up together, thousands may leave together
            self._over, self._room = True, None
            self._ticks.set(0)
            self._closed(self)
        return 0

    def stop(self) -> "asyncio.Future[RoomReply]":
        """Leave memory in good order, behind what is in the mailbox."""
        return self.ask("", STOP, again=False)

    def abandon(self) -> None:
        """Another node has it, or may: whatever it does ends where it is, and the mailbox goes to the other one."""
        self._over = True
        self._ticks.set(0)
        self._outside.node.wheel.cancel(self)
        if self._working is not None and self._working is not asyncio.current_task():
            self._working.cancel()
        else:
            self._fail_all()

    def _fail_all(self) -> None:
        while self._mailbox:
            self._settle(self._mailbox.popleft(), NotOwner(self.channel))

    @staticmethod
    def _settle(it: WaitingRequest, reply: RoomReply | FreshetError) -> None:
        if it.done.done():
            return
        if it.request is STOP:
            it.done.set_result(RoomReply())  # whoever waits for it wants to know that it is over
        elif isinstance(reply, RoomReply):
            it.done.set_result(reply)
        elif isinstance(reply, Refusal):
            it.done.set_result(RoomReply.refused(reply))
        else:
            it.done.set_exception(reply)

    # --------------------------------------------------------------------------------------------------- the mailbox

    async def _work(self) -> None:
        try:
            while self._mailbox and not self._over:
                it = self._mailbox[0]  # it stays there until it is done: what is abandoned goes to another node
                await self._take(it)
                if self._mailbox and self._mailbox[0] is it:
                    self._mailbox.popleft()
                if it.request is STOP and not self._mailbox:
                    self._over = True
        finally:
            self._working = None
            if self._over:
                self._ticks.set(0)
                self._fail_all()
                self._outside.node.wheel.cancel(self)
                self._closed(self)
            else:
                self._outside.node.wheel.schedule(self, self._idle)

    async def _take(self, it: WaitingRequest) -> None:
        """One request, and its reply. Raises CancelledError when the room was abandoned meanwhile."""
        reply: RoomReply | FreshetError
        try:
            reply = await self._carry_out(it)
        except (StaleOwner, NotOwner) as why:
            bounded_log.warning("lost", "rooms: %r is no longer this node's, its clients stay: %s", self.channel, why)
            self._over = True
            self._settle(it, NotOwner(self.channel))
            self._lost(self.channel)
            return
        except FreshetError as why:
            reply = why
        except Exception:
            log.exception("rooms: %r failed, it begins anew from its store", self.channel)
            reply = Refusal.internal()
        if isinstance(reply, FreshetError):
            self._room = None
        else:
            if self._step.tick_rate and not self.ticks:
                self._begins_to_tick(self.channel)
            self._ticks.set(self._step.tick_rate)
        self._settle(it, reply)

    async def _carry_out(self, it: WaitingRequest) -> RoomReply:
        """Raises what makes the room begin anew."""
        if it.again and (known := await self._outside.store.reply(self.channel, it.id)) is not None:
            return decode_reply(known)
        self._outside.fence(self.channel)
        if self._room is not None:
            await self._step.let_out_changes()  # what could not go out before, for want of the engine
        if it.request.what == "stop":
            return await self._stop()
        if it.request.what == "alarm":
            return await self._ring(it)
        if self._room is None:
            await self._start()
        if it.request.what == "leave":
            self._step.occupancy.left(it.request.visitor)
        try:
            if it.request.what == "state":
                return await self._change(it)
            reply = await self._run(f"on_{it.request.what}", it)
            if it.request.change is not None and self._step.shared is not None:
                reply = replace(reply, result=self._step.shared.carry_out(it.request.change))
        except Refusal as why:
            if self._step.has_written or why.temporary:
                raise  # what the instance has in its attributes may be what it could not keep
            return RoomReply.refused(why)
        if it.request.what == "join":
            visitor = it.request.visitor
            kept = visitor if reply.kept is None else replace(visitor, kept=reply.kept)
            self._step.occupancy.joined(kept)
        return reply

    async def _start(self) -> None:
        room = self._rule.room()
        room.channel, room.parameters = self.channel, self._parameters
        room.store, room._step = RoomStore(self._step), self._step
        self._step.shared = await self._load() if self._rule.state is not None else None
        if self._step.shared is not None:
            room.state = self._step.shared
        self._room = room
        self._step.tick_rate = 0.0
        await self._run("on_start", None)

    async def _load(self) -> RoomState:
        """The room's state as it is kept; what an owner before could not let out any more goes out."""
        store, step = self._outside.store, self._step
        assert self._rule.state is not None  # by the caller
        shared = RoomState(step, self._rule.state)
        shared.load(await store.scan(self.channel, INTERNAL), await store.alarm(self.channel))
        step.shared = shared
        await step.let_out_changes()
        return shared

    async def _change(self, it: WaitingRequest) -> RoomReply:
        """What is asked of the room's state, as its hook wants it. Raises what makes the room begin anew, `Refusal`."""
        step, change, visitor = self._step, it.request.change, it.request.visitor
        if change is None or step.shared is None:
            raise Refusal.not_available(f"{self.channel!r} has no state")
        step.begin(visitor)
        try:
            hook = self._rule.hooks.get("on_change")
            if hook is not None and change.what in ("set", "add", "remove"):
                session = RoomSession(visitor, step) if visitor.client else None
                named = {"data": step.shared.preview(change), "removed": change.what == "remove"}
                invoke = self._outside.node.invoking.invoke
                returned = await invoke(hook, None, self._room, session, change.key, **named)
                if returned is not None:
                    change = replace(change, what="set", value=to_json(returned))
            return await step.commit(it.id, result=step.shared.carry_out(change))
        finally:
            step.open = False

    async def _tidy(self) -> float | None:
        """Remove what has expired in the state, and forget what has gone out. The answer: when the hooks' alarm is."""
        step, shared = self._step, self._step.shared
        assert shared is not None  # by the caller
        alarm = shared.hooks_alarm
        step.begin(STOP.visitor)
        try:
            shared.expire()
            shared.confirm()
            await step.commit()
        finally:
            step.open = False
        return alarm

    async def _stop(self) -> RoomReply:
        try:
            return await self._run("on_stop", None) if self._room is not None else RoomReply()
        finally:
            self._room = None

    async def _ring(self, it: WaitingRequest) -> RoomReply:
        outside = self._outside
        at, now = await outside.store.alarm(self.channel), outside.node.clock.wall()
        if at is None or at > now:
            return RoomReply()  # it was set anew, or another node was quicker
        try:
            if self._room is None:
                await self._start()
            if self._step.shared is not None and ((at := await self._tidy()) is None or at > now):
                return RoomReply()
            reply = await self._run("on_alarm", it)
        except (StaleOwner, NotOwner):
            raise
        except Exception:
            later = outside.node.clock.wall() + min(FIRST_RETRY * 2**self._failures, LAST_RETRY)
            self._failures = min(self._failures + 1, 10)
            rows: dict[str, bytes | None] = {}
            at = later
            if (shared := self._step.shared) is not None:
                shared.forget()
                kept, at = shared.prepare(later, KEEP)
                rows |= kept
            await outside.store.commit(self.channel, outside.fence(self.channel), Change(rows, alarm=at))
            outside.alarm(self.channel, at)
            raise
        self._failures = 0
        return reply

    async def _run(self, name: str, it: WaitingRequest | None) -> RoomReply:
        """A hook, within its time, and what it did made durable and let out."""
        step, request, answer = self._step, it.request if it is not None else STOP, b""
        step.begin(request.visitor, joining=name == "on_join")
        try:
            if (hook := self._rule.hooks.get(name)) is not None:
                arguments: list[Any] = [self._room]
                if request.visitor.client:
                    arguments.append(RoomSession(request.visitor, step))
                if name == "on_message":
                    arguments.append(_given(request))
                elif name == "on_request":
                    arguments.append(request_of(request.data))
                returned = await self._outside.node.invoking.invoke(hook, None, *arguments, data=request.data)
                if name == "on_request":
                    answer = to_bytes(_response(returned))
                elif name == "on_message" and returned is not None:
                    answer = to_json(returned)
            return await step.commit(it.id if it is not None else "", alarm=name == "on_alarm", answer=answer)
        finally:
            step.open = False


def _response(returned: Any) -> HttpResponse:
    """What `on_request` returned: anything but a response is JSON."""
    if isinstance(returned, HttpResponse):
        return returned
    return HttpResponse(to_json(returned), headers={"content-type": "application/json"})


def _given(request: RoomRequest) -> str | bytes | memoryview:
    """What a client published, as hooks get it: see `commands.publishing`."""
    if request.kind is Kind.TEXT:
        return request.data.decode()
    return memoryview(request.data) if request.kind is Kind.BYTES else request.data
