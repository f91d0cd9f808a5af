"""Rooms for games: a fixed tick, inputs, deltas, interest areas."""

from freshet.kits.games.room import GameRoom, Input
from freshet.kits.games.world import Entity, GameWorld

__all__ = ["Entity", "GameRoom", "GameWorld", "Input"]
