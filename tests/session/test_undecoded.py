"""What waits as bytes: of many commands at once, a few are decoded at a time."""

from collections.abc import Iterator
from itertools import chain

import pytest

from freshet.errors import Disconnect
from freshet.model.commands import Command, Ping, Pong
from freshet.session.undecoded import Undecoded


class Batch:
    """The commands of a frame. decoded: how many were asked for."""

    def __init__(self, *commands: Command | Disconnect) -> None:
        self.decoded = 0
        self._commands = commands

    def __iter__(self) -> Iterator[Command]:
        for command in self._commands:
            self.decoded += 1
            if isinstance(command, Disconnect):
                raise command
            yield command


def taken(undecoded: Undecoded) -> list[list[Command]]:
    """All portions."""
    portions = []
    while undecoded:
        portions.append(undecoded.take())
    return portions


def pings(*ids: int) -> list[Command]:
    return [Ping(id) for id in ids]


def test_no_more_is_decoded_than_a_portion() -> None:
    undecoded, batch = Undecoded(10), Batch(*map(Ping, range(1000)))
    undecoded.put(batch)
    assert batch.decoded == 0
    assert undecoded.take() == pings(*range(10))
    assert batch.decoded == 10
    assert list(chain(*taken(undecoded))) == pings(*range(10, 1000))


def test_a_frame_waits_for_those_before_it() -> None:
    undecoded = Undecoded(3)
    undecoded.put(Batch(*map(Ping, range(4))))
    undecoded.put([Ping(4)])
    undecoded.put(Batch(Ping(5), Ping(6)))
    assert taken(undecoded) == [pings(0, 1, 2), pings(3), pings(4), pings(5, 6)]


def test_answers_to_heartbeats_are_left_out_and_count_as_decoded() -> None:
    undecoded, batch = Undecoded(10), Batch(*[Pong()] * 1000, Ping(1))
    undecoded.put(batch)
    assert (undecoded.take(), batch.decoded) == ([], 10)
    assert list(chain(*taken(undecoded))) == [Ping(1)]


def test_what_is_malformed_is_found_when_its_turn_comes() -> None:
    undecoded = Undecoded(2)
    undecoded.put(Batch(Ping(1), Ping(2), Disconnect.bad_request(), Ping(3)))
    assert undecoded.take() == pings(1, 2)
    with pytest.raises(Disconnect):
        undecoded.take()
