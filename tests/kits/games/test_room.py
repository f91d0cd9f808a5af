"""A game in one process, whose time the test has in hand: ticks, deltas, snapshots, areas, and what is kept."""

from pathlib import Path
from typing import Any

import pytest

from freshet import Refusal
from freshet.kits.games import GameRoom
from freshet.testing import Client, ManualClock
from tests.kits.games.game_app import NearPoints, Points, game
from tests.rooms.test_rooms import application, awake
from tests.tools.patience import eventually

GAME = "game:1"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Player:
    """A client that keeps what it is told, as a page would."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.you = ""
        self.tick = 0
        self.entities: dict[str, dict[str, Any]] = {}
        self.seen: list[Any] = []
        self.told: list[dict[str, Any]] = []

    async def join(self) -> None:
        await self.client.subscribe(GAME)
        await self.read()

    async def move(self, x: float, y: float, seq: int = 0, at: float = 0) -> None:
        await self.client.publish(GAME, {"do": [x, y], "seq": seq, "at": at})

    async def read(self) -> None:
        """All that has come."""
        self.told.clear()
        while True:
            try:
                data = (await self.client.receive(within=0.01)).data
            except (TimeoutError, AssertionError):
                return
            self.told.append(data)
            self.tick = data["tick"]
            self.you = data.get("you", self.you)
            if "full" in data:
                self.entities = {id: dict(it) for id, it in data["full"].items()}
            for id, fields in data.get("set", {}).items():
                self.entities.setdefault(id, {}).update(fields)
            for id in data.get("gone", []):
                self.entities.pop(id, None)
            self.seen += data.get("seen", {}).get(self.you, [])

    @property
    def place(self) -> tuple[float, float]:
        return self.entities[self.you]["x"], self.entities[self.you]["y"]


async def test_inputs_count_at_the_next_tick_and_all_get_what_changed_and_nothing_else(clock: ManualClock) -> None:
    live = application(clock)
    game(live, Points)
    async with live.test_client("ann") as a, live.test_client("bob") as b:
        ann, bob = Player(a), Player(b)
        await ann.join()
        await clock.advance(0.05)
        await ann.read()
        assert ann.entities == {
            "rock": {"x": 50.0, "y": 50.0, "hits": 0},
            ann.you: {"x": 0.0, "y": 0.0, "name": "ann"},
        }
        await bob.join()
        assert bob.entities.keys() == {"rock", ann.you, bob.you}, "who joins gets all of it"
        await clock.advance(0.05)
        await ann.read()
        assert bob.you in ann.entities
        await bob.read()
        await ann.move(1.5, 0, seq=7, at=1234.5)
        await ann.move(1, 2, seq=8, at=1240.0)
        await ann.read()
        assert ann.told == [], "nothing before the tick"
        await clock.advance(0.05)
        for player in (ann, bob):
            await player.read()
            (delta,) = player.told
            assert delta["set"] == {ann.you: {"x": 2.5, "y": 2.0}}
            assert delta["seen"] == {ann.you: [8, 1240.0]}
        assert ann.seen == [8, 1240.0]
        await clock.advance(0.5)
        await bob.read()
        assert bob.told == [], "nothing has changed"
        await a.unsubscribe(GAME)
        await clock.advance(0.05)
        await bob.read()
        assert ann.you not in bob.entities


async def test_a_player_is_told_of_what_is_near_alone(clock: ManualClock) -> None:
    live = application(clock)
    game(live, NearPoints)
    async with live.test_client("ann") as a, live.test_client("bob") as b:
        ann, bob = Player(a), Player(b)
        for player in (ann, bob):
            await player.join()
            await clock.advance(0.05)
        await ann.read()
        assert ann.entities.keys() == {ann.you, bob.you}, "the rock is too far away"
        await bob.move(45, 45)
        await clock.advance(0.05)
        for player in (ann, bob):
            await player.read()
        assert ann.entities.keys() == {ann.you}
        assert bob.entities.keys() == {bob.you, "rock"}
        assert bob.entities["rock"] == {"x": 50.0, "y": 50.0, "hits": 0}, "what comes near comes whole"
        await ann.move(1, 0)
        await clock.advance(0.05)
        await bob.read()
        assert bob.told == []


async def test_when_all_have_left_the_game_stands_still_and_comes_back_as_it_was(
    clock: ManualClock, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path / 'rooms.db'}"
    live = application(clock, store=store, idle=5)
    game(live, Points)
    async with live.test_client("ann") as a:
        ann = Player(a)
        await ann.join()
        await ann.move(3, 4)
        await clock.advance(0.05)
        await ann.read()
        tick = ann.tick
        await a.unsubscribe(GAME)
        await eventually(lambda: _asleep(live, clock))
    again = application(clock, store=store)
    game(again, Points)
    async with again.test_client("ann") as a, again.test_client("bob") as b:
        ann, bob = Player(a), Player(b)
        await ann.join()
        assert ann.place == (3.0, 4.0)
        assert ann.tick >= tick
        await bob.join()
        assert bob.place == (0.0, 0.0)
        await clock.advance(0.05)
        await bob.read()
        assert len(bob.entities) == 3


async def _asleep(live: Any, clock: ManualClock) -> bool:
    """A store of files takes time of its own, so that nobody knows when a room is idle."""
    await clock.advance(6)
    return awake(live) == 0


async def test_a_game_that_fails_begins_anew_with_its_players(clock: ManualClock) -> None:
    class Fragile(Points):
        async def step(self, inputs: Any, seconds: float) -> None:
            await super().step(inputs, seconds)
            if any(it.seq == 13 for given in inputs.values() for it in given):
                raise RuntimeError

    live = application(clock)
    game(live, Fragile)
    async with live.test_client("ann") as a:
        ann = Player(a)
        await ann.join()
        await clock.advance(0.05)
        await ann.move(1, 1, seq=13)
        await clock.advance(0.05)
        await ann.move(2, 2, seq=14)
        await clock.advance(1.1)
        await clock.advance(0.1)
        await ann.read()
        assert any("full" in it for it in ann.told), "it is sent a snapshot"
        assert ann.place in ((2.0, 2.0), (0.0, 0.0))
        await ann.move(5, 0, seq=15)
        await clock.advance(0.1)
        await ann.read()
        assert 15 in ann.seen


async def test_a_full_game_asks_to_come_later(clock: ManualClock) -> None:
    class Duel(Points):
        most = 1

    live = application(clock)
    game(live, Duel)
    async with live.test_client("ann") as a, live.test_client("bob") as b:
        await Player(a).join()
        with pytest.raises(Refusal, match="full") as refusal:
            await Player(b).join()
        assert refusal.value.temporary
        await a.unsubscribe(GAME)
        await Player(b).join()


async def test_of_inputs_that_flood_the_newest_count(clock: ManualClock) -> None:
    live = application(clock)
    game(live, Points)
    async with live.test_client("ann") as a:
        ann = Player(a)
        await ann.join()
        for seq in range(100):
            await ann.move(1, 0, seq=seq)
        await clock.advance(0.05)
        await ann.read()
        assert ann.place == (16.0, 0.0)
        assert ann.seen[0] == 99


def test_a_game_has_sensible_rates() -> None:
    assert 20 <= GameRoom.tick_rate <= 60
