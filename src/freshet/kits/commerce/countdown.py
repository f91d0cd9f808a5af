"""A sale that begins and ends for all at the same moment: by the server's clock, which clients know."""

from typing import Any, ClassVar

from freshet import HttpRequest, Refusal, Room, RoomSession


class Countdown(Room):
    """`@live.room("sale:{name}")` over a class that derives from this.

    All subscribers see `{"phase", "starts", "ends", "at"}` when they come, and at each change of the phase, which is
    "soon", "open" or "over"; times are milliseconds of the epoch by the server's clock, `at` is now. A client that
    calls the room gets the server's time, and so the difference of its own clock: it takes the call with the shortest
    round trip, and half of that trip off. It shows the time until `ends` by that clock, and needs no message to end.

    duration: seconds from the first use on, unless `schedule` says otherwise.
    """

    duration: ClassVar[float] = 60.0

    starts: float
    ends: float

    async def schedule(self) -> tuple[float, float]:
        """When it starts and ends, epoch seconds; asked once. May raise `Refusal`."""
        return self.now, self.now + self.duration

    async def on_phase(self, phase: str) -> None:
        """It has started or ended."""

    @property
    def phase(self) -> str:
        now = self.now
        return "soon" if now < self.starts else "open" if now < self.ends else "over"

    def check(self) -> None:
        """Raises `Refusal` 107 when it is not open: for what a class of your own sells."""
        if self.phase != "open":
            raise Refusal.bad_request("not yet" if self.phase == "soon" else "it is over")

    @property
    def seen(self) -> dict[str, Any]:
        return {
            "phase": self.phase,
            "starts": self.starts * 1000,
            "ends": self.ends * 1000,
            "at": self.now * 1000,
        }

    async def on_start(self) -> None:
        if (kept := await self.store.get("schedule")) is None:
            await self._keep(*await self.schedule())
        else:
            self.starts, self.ends = kept

    async def set_schedule(self, starts: float, ends: float) -> None:
        """For hooks of a class of your own: at a new start, or when it is extended. All are told."""
        await self._keep(starts, ends)
        await self.broadcast(self.seen)

    async def _keep(self, starts: float, ends: float) -> None:
        if ends <= starts:
            raise ValueError("it must end after it starts")
        self.starts, self.ends = starts, ends
        await self.store.put("schedule", (starts, ends))
        await self._wait()

    async def on_join(self, session: RoomSession) -> None:
        await session.send(self.seen)

    async def on_message(self, session: RoomSession, data: Any) -> float:
        """The server's time, milliseconds of the epoch."""
        return self.now * 1000

    async def on_request(self, request: HttpRequest) -> Any:
        return self.seen

    async def on_alarm(self) -> None:
        phase = self.phase
        await self._wait()
        await self.broadcast(self.seen)
        if phase != "soon":
            await self.on_phase(phase)

    async def _wait(self) -> None:
        phase = self.phase
        at = self.starts if phase == "soon" else self.ends
        await self.set_alarm(None if phase == "over" else at - self.now)
