"""Deltas, areas and the past of a game: what a player is told adds up to what there is."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from freshet.kits.games import GameWorld
from freshet.kits.games.world import Interest

FIELDS = st.dictionaries(st.sampled_from("xyz"), st.floats(-100, 100) | st.integers(-5, 5), min_size=1)
STEPS = st.lists(st.dictionaries(st.sampled_from("abcd"), FIELDS), max_size=8)


@given(STEPS)
def test_the_deltas_of_all_ticks_together_are_what_there_is(steps: list[dict[str, dict[str, Any]]]) -> None:
    world, copy = GameWorld(), dict[str, dict[str, Any]]()
    for tick, entities in enumerate(steps):
        world.entities = {id: {"kind": 1, "x": 0, "y": 0, "z": 0, **it} for id, it in entities.items()}
        changes, gone = world.end_tick(tick)
        for id, fields in changes.items():
            copy.setdefault(id, {}).update(fields)
        for id in gone:
            del copy[id]
        assert copy == world.snapshot()
        again = world.end_tick(tick)
        assert again == ({}, set())


def test_the_past_is_known_as_far_as_it_was_asked_to_be_kept() -> None:
    world = GameWorld(keep=3)
    for tick in range(10, 16):
        world.entities["a"] = {"x": tick}
        world.end_tick(tick)
    assert [world.at(tick)["a"]["x"] for tick in (5, 12, 13, 14, 15, 99)] == [13, 13, 13, 14, 15, 15]


@given(
    st.dictionaries(st.integers(0, 30).map(str), st.tuples(st.floats(-50, 50), st.floats(-50, 50))),
    st.floats(-50, 50),
    st.floats(-50, 50),
    st.floats(1, 40),
)
def test_an_area_has_all_that_is_near_and_what_has_no_place(
    places: dict[str, tuple[float, float]], x: float, y: float, radius: float
) -> None:
    entities: dict[str, dict[str, Any]] = {id: {"x": place[0], "y": place[1]} for id, place in places.items()}
    entities["score"] = {"points": 1}
    near = {id for id, (ex, ey) in places.items() if (ex - x) ** 2 + (ey - y) ** 2 <= radius**2}
    assert Interest(entities, radius).near(x, y) == near | {"score"}
