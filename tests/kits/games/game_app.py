"""A game for the tests: points that go where their players say, as fast as they may."""

from freshet import Freshet, RoomSession
from freshet.kits.games import Entity, GameRoom, Input


class Points(GameRoom):
    tick_rate = 20

    async def set_up(self) -> None:
        self.world.entities["rock"] = {"x": 50.0, "y": 50.0, "hits": 0}

    async def spawn(self, session: RoomSession, before: Entity | None) -> Entity:
        return before or {"x": 0.0, "y": 0.0, "name": session.user}

    async def leave(self, entity: Entity) -> Entity | None:
        return entity

    async def step(self, inputs: dict[str, list[Input]], seconds: float) -> None:
        for id, given in inputs.items():
            for each in given:
                self.world.entities[id]["x"] += each.do[0]
                self.world.entities[id]["y"] += each.do[1]


class NearPoints(Points):
    radius = 10.0


def game(live: Freshet, kind: type[GameRoom]) -> None:
    live.room("game:{name}")(kind)
