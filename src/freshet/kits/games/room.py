"""A game as a room: the server's tick is the only time, and players get what changed."""

from collections import deque
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from freshet import Refusal, Room, RoomSession
from freshet.kits.games.world import Changes, Entity, GameWorld, Interest

QUEUE = 16  # inputs of a player that wait for a tick; beyond, the oldest are dropped


class Input(msgspec.Struct):
    """What a player does. seq: rises with each of a player's inputs; it comes back with the tick that used it.

    at: the client's time, milliseconds. tick: the one that the player had on the screen.
    """

    do: Any = None
    seq: Annotated[int, Meta(ge=0, le=2**53)] = 0
    at: float = 0
    tick: int = 0


class GameRoom(Room):
    """`@live.room("game:{name}")` over a class that derives from this, and has at least `spawn` and `step`.

    A player that joins is sent `{"you", "tick", "at", "rate", "full": {id: fields}}`, then with each tick in which
    something changed `{"tick", "at", "set": {id: changed fields}, "gone": [ids], "seen": {id: [seq, client's time]}}`.
    `at` is the server's time in milliseconds. Players publish an `Input`.

    tick_rate: ticks a second, 1 to 60. radius: of the area of which a player is told; None: of everything, which is
    encoded once for all. rewind: seconds back for which `world.at` knows where things were. save_every: seconds between
    two writes of what is kept; a crash loses no more than that. precision: digits behind the point. most: players.
    input_type: what `Input.do` is converted to; what does not fit is refused.

    While nobody is there the game stands still.
    """

    tick_rate: ClassVar[float] = 30.0
    radius: ClassVar[float | None] = None
    rewind: ClassVar[float] = 0.0
    save_every: ClassVar[float] = 5.0
    precision: ClassVar[int] = 2
    most: ClassVar[int] = 100
    input_type: ClassVar[Any] = Any

    world: GameWorld
    tick: int

    async def set_up(self) -> None:
        """A new game: put into `world.entities` what is there at first."""

    async def spawn(self, session: RoomSession, before: Entity | None) -> Entity:
        """The entity of a player who joins. before: what `leave` kept of the last one of the same user."""
        return before or {}

    async def leave(self, entity: Entity) -> Entity | None:
        """A player's entity is about to go; what is to be kept of it, for the same user, and None for nothing."""
        return None

    async def step(self, inputs: dict[str, list[Input]], seconds: float) -> None:
        """One tick: change `world.entities`. inputs: those that came since the last tick, by the players' entities."""

    # ----------------------------------------------------------------------------------------------------- the room

    async def on_start(self) -> None:
        self.world = GameWorld(keep=round(self.rewind * self.tick_rate), precision=self.precision)
        self._inputs: dict[str, deque[Input]] = {}
        self._seen: dict[str, set[str]] = {}  # what a player's session has been told of
        self._saved_at = self.now
        kept = await self.store.get("game")
        self.tick = kept["tick"] if kept else 0
        if kept:
            self.world.entities.update(kept["entities"])
        else:
            await self.set_up()
        # The players who are still there; those who are not left while there was no room.
        players = {it.state: it for it in await self.sessions() if it.state is not None}
        for id in [id for id in self.world if id.startswith("@") and id not in players]:
            await self._remove(id)
        for id, session in players.items():
            await self._add(id, session)
        self.world.end_tick(self.tick)
        if players:
            await self._wake(list(players.values()))

    async def on_join(self, session: RoomSession) -> None:
        players = [it for it in await self.sessions() if it.id != session.id]
        if len(players) >= self.most:
            raise Refusal(4000, "the game is full", temporary=True)
        session.state = id = f"@{session.id}"
        await self._add(id, session)
        await self._wake([session])

    async def on_leave(self, session: RoomSession) -> None:
        await self._remove(f"@{session.id}")
        self._seen.pop(session.id, None)
        if not await self.sessions():
            await self.set_tick_rate(0)
            await self._save()

    async def on_message(self, session: RoomSession, data: Input) -> None:
        try:
            data.do = msgspec.convert(data.do, self.input_type)
        except msgspec.ValidationError as why:
            raise Refusal.bad_request(f"do: {why}") from None
        self._inputs.setdefault(f"@{session.id}", deque(maxlen=QUEUE)).append(data)

    async def on_tick(self) -> None:
        self.tick += 1
        inputs = {id: list(queue) for id, queue in self._inputs.items() if id in self.world.entities}
        self._inputs.clear()
        await self.step(inputs, 1 / self.tick_rate)
        changes, gone = self.world.end_tick(self.tick)
        seen = {id: [it[-1].seq, it[-1].at] for id, it in inputs.items() if it}
        if self.radius is None:
            if changes or gone or seen:
                await self.broadcast(self._delta(changes, gone, seen))
        else:
            await self._tell_each(self.radius, changes, gone, seen)
        if self.now - self._saved_at >= self.save_every:
            await self._save()

    async def on_stop(self) -> None:
        await self._save()

    # ----------------------------------------------------------------------------------------------------- players

    async def _add(self, id: str, session: RoomSession) -> None:
        before = await self.store.get(f"player:{session.user}") if session.user else None
        self.world.entities.setdefault(id, await self.spawn(session, before))
        if session.user:
            self.world.entities[id]["_user"] = session.user

    async def _remove(self, id: str) -> None:
        entity = self.world.entities.pop(id, None)
        if entity is None:
            return
        kept = await self.leave(entity)
        if kept is not None and (user := entity.get("_user")):
            await self.store.put(f"player:{user}", kept)

    async def _wake(self, sessions: list[RoomSession]) -> None:
        await self.set_tick_rate(self.tick_rate)
        for session in sessions:
            you = f"@{session.id}"
            full = dict(self.world.snapshot())
            full[you] = self.world.shown(self.world.entities[you])
            if self.radius is not None:
                near = Interest(full, self.radius).near(full[you]["x"], full[you]["y"]) | {you}
                full = {id: it for id, it in full.items() if id in near}
                self._seen[session.id] = set(full)
            head = {"you": you, "tick": self.tick, "at": self.now * 1000, "rate": self.tick_rate}
            await session.send({**head, "full": full})

    async def _save(self) -> None:
        self._saved_at = self.now
        await self.store.put("game", {"tick": self.tick, "entities": self.world.entities})

    # ----------------------------------------------------------------------------------------------------- what is sent

    def _delta(self, changes: Changes, gone: set[str], seen: dict[str, list[Any]]) -> dict[str, Any]:
        delta: dict[str, Any] = {"tick": self.tick, "at": self.now * 1000, "set": changes}
        if gone:
            delta["gone"] = sorted(gone)
        if seen:
            delta["seen"] = seen
        return delta

    async def _tell_each(self, radius: float, changes: Changes, gone: set[str], seen: dict[str, list[Any]]) -> None:
        """Each player, of what is near: what is new there as a whole, of the rest what changed."""
        now = self.world.snapshot()
        interest = Interest(now, radius)
        for session in await self.sessions():
            you = f"@{session.id}"
            if you not in now:
                continue
            near, known = interest.near(now[you]["x"], now[you]["y"]) | {you}, self._seen.get(session.id, set())
            told = {id: now[id] if id not in known else changes[id] for id in near if id not in known or id in changes}
            lost = known - near
            self._seen[session.id] = near
            mine = {you: seen[you]} if you in seen else {}
            if told or lost or mine:
                await session.send(self._delta(told, lost, mine))
