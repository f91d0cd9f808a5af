"""What is in a game, without I/O: entities with fields, what changed since the last tick, and where they were."""

from collections import deque
from collections.abc import Iterator
from typing import Any, TypeAlias

Entity: TypeAlias = dict[str, Any]
"""The fields of a thing in a game. Players see those that do not begin with `_`. With areas it has `x` and `y`."""

Changes: TypeAlias = dict[str, Entity]


class GameWorld:
    """Entities by id. What is written into one is noticed by comparing at the end of a tick.

    keep: how many ticks back it is known where entities were. precision: digits of numbers behind the point that count,
    and are sent.
    """

    def __init__(self, *, keep: int = 0, precision: int = 2) -> None:
        self.entities: dict[str, Entity] = {}
        self._sent: dict[str, Entity] = {}  # as all have it
        self._precision = precision
        self._past: deque[tuple[int, dict[str, Entity]]] = deque(maxlen=keep or None)
        self._keep = keep

    def __iter__(self) -> Iterator[str]:
        return iter(self.entities)

    def end_tick(self, tick: int) -> tuple[Changes, set[str]]:
        """What has changed since the last tick, field by field, and which entities are gone."""
        changes: Changes = {}
        for id, entity in self.entities.items():
            now = self.shown(entity)
            before = self._sent.get(id)
            changed = now if before is None else {k: v for k, v in now.items() if k not in before or before[k] != v}
            if changed:
                changes[id] = changed
                self._sent[id] = now
        gone = self._sent.keys() - self.entities.keys()
        for id in gone:
            del self._sent[id]
        if self._keep:
            self._past.append((tick, dict(self._sent)))  # what has not changed is shared
        return changes, gone

    def snapshot(self) -> dict[str, Entity]:
        """All as it was at the end of the last tick. Not to be changed."""
        return self._sent

    def at(self, tick: int) -> dict[str, Entity]:
        """As players saw it who had this tick before them, for lag compensation; the oldest that is known, if it is too
        long ago, and the latest, if it has not come yet. Not to be changed."""
        found = self._sent
        for number, entities in reversed(self._past):
            found = entities
            if number <= tick:
                break
        return found

    def shown(self, entity: Entity) -> Entity:
        """As players see it."""
        return {name: self._rounded(value) for name, value in entity.items() if name[0] != "_"}

    def _rounded(self, value: Any) -> Any:
        return round(value, self._precision) if type(value) is float else value


class Interest:
    """Which entities a player is near to. radius: of its area, in the units of `x` and `y`."""

    def __init__(self, entities: dict[str, Entity], radius: float) -> None:
        self._radius = radius
        self._cell_size = 1.001 * radius  # what is just at the radius is in a cell beside, however numbers are rounded
        self._entities = entities
        self._cells: dict[tuple[int, int], list[str]] = {}
        self._everywhere: list[str] = []  # what has no place, such as a score board
        for id, it in entities.items():
            if "x" in it and "y" in it:
                self._cells.setdefault(self._cell(it["x"], it["y"]), []).append(id)
            else:
                self._everywhere.append(id)

    def _cell(self, x: float, y: float) -> tuple[int, int]:
        return int(x // self._cell_size), int(y // self._cell_size)

    def near(self, x: float, y: float) -> set[str]:
        column, row = self._cell(x, y)
        found = set(self._everywhere)
        for each in ((column + dx, row + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)):
            for id in self._cells.get(each, ()):
                it = self._entities[id]
                if (it["x"] - x) ** 2 + (it["y"] - y) ** 2 <= self._radius**2:
                    found.add(id)
        return found
