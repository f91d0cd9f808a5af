"""Paper boats on a pond: a game with a fixed tick. Collect drops; ram others at full speed to have theirs."""

import math
import random
from typing import Annotated

import msgspec
from msgspec import Meta

from freshet import Freshet, RoomSession
from freshet.demos.kept import kept, name_of, welcome
from freshet.kits.games import Entity, GameRoom, Input

live = Freshet(environment=kept("ships"))
live.on_connect(welcome)

WIDTH, HEIGHT, EDGE = 1600.0, 900.0, 30.0
DROPS, ROBOTS = 28, ("Robot Perch", "Robot Pike")
PUSH, BOOST, DRAG = 620.0, 1250.0, 1.7  # units / s², and what of the speed is lost in a second
REACH, HULL, RAM = 38.0, 44.0, 330.0  # units; units / s


class Row(msgspec.Struct):
    """Where to, at most 1 long, and whether as fast as one can."""

    x: Annotated[float, Meta(ge=-1, le=1)]
    y: Annotated[float, Meta(ge=-1, le=1)]
    boost: bool = False


@live.room("pond:{name}")
class Pond(GameRoom):
    """Boats have x, y, their speed, the angle of the bow, a name, and points; drops have x, y and a worth."""

    tick_rate, precision, most, input_type = 30.0, 2, 60, Row

    async def set_up(self) -> None:
        for number in range(DROPS):
            self.world.entities[f"drop{number}"] = self.drop(number)
        for number, name in enumerate(ROBOTS):
            self.world.entities[f"robot{number}"] = self.boat(name, 0)
        self.world.entities["best"] = {"name": "", "points": 0}

    def drop(self, number: int) -> Entity:
        worth = 5 if number % 7 == 0 else 1
        return {"x": random.uniform(EDGE, WIDTH - EDGE), "y": random.uniform(EDGE, HEIGHT - EDGE), "worth": worth}

    def boat(self, name: str, points: int) -> Entity:
        place = {"x": random.uniform(200, WIDTH - 200), "y": random.uniform(150, HEIGHT - 150)}
        return {**place, "vx": 0.0, "vy": 0.0, "a": 0.0, "name": name, "points": points, "boost": False, "hit": 0}

    async def spawn(self, session: RoomSession, before: Entity | None) -> Entity:
        return self.boat(name_of(session.info), before["points"] if before else 0)

    async def leave(self, entity: Entity) -> Entity | None:
        return {"points": entity["points"]}

    async def step(self, inputs: dict[str, list[Input]], seconds: float) -> None:
        boats = {id: it for id, it in self.world.entities.items() if "points" in it and id != "best"}
        drops = {id: it for id, it in self.world.entities.items() if "worth" in it}
        for id, boat in boats.items():
            if given := inputs.get(id):
                self.steer(boat, given[-1].do)
            elif id.startswith("robot"):
                self.chase(boat, drops)
            move(boat, seconds)
        for id, boat in boats.items():
            self.collect(boat, drops)
            for other in (it for key, it in boats.items() if key > id):
                self.bump(boat, other)
        best = self.world.entities["best"]
        top = max(boats.values(), key=lambda it: it["points"], default=best)
        if top["points"] > best["points"] and not top["name"].startswith("Robot"):
            best |= {"name": top["name"], "points": top["points"]}

    def steer(self, boat: Entity, row: Row) -> None:
        scale = 1 / max(1.0, math.hypot(row.x, row.y))
        boat["_x"], boat["_y"], boat["boost"] = row.x * scale, row.y * scale, row.boost

    def chase(self, boat: Entity, drops: dict[str, Entity]) -> None:
        near = min(drops.values(), key=lambda it: math.dist((it["x"], it["y"]), (boat["x"], boat["y"])) / it["worth"])
        angle = math.atan2(near["y"] - boat["y"], near["x"] - boat["x"])
        boat["_x"], boat["_y"] = 0.55 * math.cos(angle), 0.55 * math.sin(angle)

    def collect(self, boat: Entity, drops: dict[str, Entity]) -> None:
        for number, drop in enumerate(drops.values()):
            if math.dist((drop["x"], drop["y"]), (boat["x"], boat["y"])) < REACH:
                boat["points"] += drop["worth"]
                drop.update(self.drop(number))

    def bump(self, one: Entity, two: Entity) -> None:
        """They bounce. Who was hit by a faster one loses a third of what they have to it."""
        dx, dy = two["x"] - one["x"], two["y"] - one["y"]
        distance = math.hypot(dx, dy) or 0.1
        if distance > HULL:
            return
        nx, ny = dx / distance, dy / distance
        closing = (one["vx"] - two["vx"]) * nx + (one["vy"] - two["vy"]) * ny
        for boat, way in ((one, -1), (two, 1)):
            boat["x"] += way * nx * (HULL - distance) / 2
            boat["y"] += way * ny * (HULL - distance) / 2
            boat["vx"] += way * nx * max(0.0, closing)
            boat["vy"] += way * ny * max(0.0, closing)
        if closing > RAM:
            hit, by = (two, one) if one["boost"] and not two["boost"] else (one, two) if two["boost"] else (two, one)
            lost = math.ceil(hit["points"] / 3)
            hit["points"] -= lost
            by["points"] += lost
            hit["hit"] += 1


def move(boat: Entity, seconds: float) -> None:
    push = BOOST if boat["boost"] else PUSH
    for speed, place, wanted, end in (("vx", "x", "_x", WIDTH), ("vy", "y", "_y", HEIGHT)):
        boat[speed] += push * boat.get(wanted, 0.0) * seconds
        boat[speed] *= 1 - DRAG * seconds
        boat[place] += boat[speed] * seconds
        if not EDGE <= boat[place] <= end - EDGE:
            boat[place] = min(max(boat[place], EDGE), end - EDGE)
            boat[speed] *= -0.6
    if abs(boat["vx"]) + abs(boat["vy"]) > 8:
        boat["a"] = math.atan2(boat["vy"], boat["vx"])
