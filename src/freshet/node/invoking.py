"""Where the user's hooks run: each within its time limit, and no longer than its client is there.

A hook may wait for whatever it likes, for ever. So it is cancelled when its time is over, or its client gone; what
called it goes on from there as after any refusal or disconnect. The limits cost no timer: the wheel visits.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from freshet.config import Timing
from freshet.errors import Disconnect, FreshetError, Refusal
from freshet.observe.logs import BoundedLog
from freshet.rules.hooks import HookLimits
from freshet.runtime.tasks import behind, in_task
from freshet.runtime.wheel import Wheel
from freshet.session.session import Session

log = logging.getLogger("freshet.hooks")


class Invocable(Protocol):
    """A hook."""

    name: str
    limits: HookLimits

    def __call__(self, *arguments: Any, **named: Any) -> Coroutine[Any, Any, Any]: ...


class _Invocation:
    """One hook that runs in the current task. Implements `wheel.Member`.

    due: when its time is over, in monotonic seconds. grace: seconds that it has when its client is gone.
    """

    __slots__ = ("_bounded_log", "_cancelled_before", "_name", "_task", "_why", "due", "grace", "slot")

    def __init__(self, name: str, due: float, grace: float, bounded_log: BoundedLog) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._name = name
        self._bounded_log = bounded_log
        self._task = task
        self._cancelled_before = task.cancelling()
        self._why: FreshetError | None = None
        self.due = due
        self.grace = grace
        self.slot = -1

    def visit(self, now: float) -> float:
        if now < self.due:
            return self.due - now
        message = "%s did not end in time and was cancelled: see timing.hook_timeout, or give the hook its own timeout"
        self._bounded_log.warning(self._name, message, self._name)
        self.cancel(Refusal.timeout())
        return 0

    def cancel(self, why: FreshetError) -> None:
        """Where it waits; what called it gets `why`. A hook that ends its own client goes on."""
        if self._why is None and self._task is not asyncio.current_task():
            self._why = why
            self._task.cancel()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        if self._why is None:
            return
        ours = self._task.uncancel() <= self._cancelled_before  # nobody else has cancelled it: see asyncio.timeout
        if kind is asyncio.CancelledError and ours:
            raise self._why from None


class Invoking:
    """The hooks that run now, by their client."""

    def __init__(self, wheel: Wheel, timing: Timing) -> None:
        self._wheel = wheel
        self._timing = timing
        self._bounded_log = BoundedLog(log)
        self._of: dict[Session, tuple[_Invocation, ...]] = {}  # mostly one, for which a set would be large

    def __len__(self) -> int:
        """How many clients wait for a hook."""
        return len(self._of)

    async def invoke(self, hook: Invocable, client: Session | None, *arguments: Any, **named: Any) -> Any:
        """Call a hook. client: with whose end it ends too; None: it does not.

        Raises what the hook raises; `Refusal` 100, temporary, when its time is over; `Disconnect` when its client is
        gone.
        """
        await in_task()
        work = hook(*arguments, **named)
        try:
            waits_for = work.send(None)  # one that does not wait cannot be cancelled, and needs no limits
        except StopIteration as done:
            return done.value
        timeout, grace = hook.limits
        timeout = self._timing.hook_timeout if timeout is None else timeout
        grace = self._timing.hook_grace if grace is None else grace
        invocation = _Invocation(hook.name, self._wheel.clock.monotonic() + timeout, grace, self._bounded_log)
        self._wheel.schedule(invocation, timeout)
        if client is not None:
            self._of[client] = (*self._of.get(client, ()), invocation)
        try:
            with invocation:
                return await behind(work, waits_for)
        finally:
            self._wheel.cancel(invocation)
            if client is not None:
                self._forget(client, invocation)

    def _forget(self, client: Session, invocation: _Invocation) -> None:
        of = self._of.pop(client)
        if len(of) > 1:
            self._of[client] = tuple(each for each in of if each is not invocation)

    def client_gone(self, client: Session) -> None:
        """Its hooks end now, or after their grace."""
        now = self._wheel.clock.monotonic()
        for invocation in self._of.get(client, ()):
            if not invocation.grace:
                invocation.cancel(Disconnect.normal())
            elif now + invocation.grace < invocation.due:
                invocation.due = now + invocation.grace
                self._wheel.schedule(invocation, invocation.grace)
