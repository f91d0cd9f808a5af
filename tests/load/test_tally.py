"""What a client has by sequence, and what of it counts."""

import json
from time import monotonic_ns

import pytest

from freshet.load.tally import REMEMBERED, Flights, Sequences, Tally, stamped


def numbers(*given: int) -> list[bool]:
    sequences = Sequences()
    return [sequences.take(7, number) for number in given]


def test_each_number_is_new_once() -> None:
    assert numbers(0, 1, 2, 2, 0) == [True, True, True, False, False]


def test_what_comes_out_of_order_is_new_and_its_repetition_is_not() -> None:
    assert numbers(0, 3, 1, 2, 1, 4) == [True, True, True, True, False, True]


def test_publishers_are_counted_apart() -> None:
    sequences = Sequences()
    assert [sequences.take(publisher, 0) for publisher in (1, 2, 1)] == [True, True, False]


def test_what_a_client_remembers_of_a_gap_is_bounded() -> None:
    sequences = Sequences()
    assert sequences.take(1, 10 * REMEMBERED)
    assert len(sequences.missing) == REMEMBERED


@pytest.mark.parametrize("payload", [1, 128, 1024])
def test_data_is_json_of_the_size_that_was_asked_for_or_what_the_stamp_takes(payload: int) -> None:
    data = stamped(monotonic_ns(), 3, 12, payload)
    assert json.loads(data)["stamp"].endswith(":3:12~")
    assert len(data) == max(payload, len(stamped(monotonic_ns(), 3, 12, 0)))


def test_the_latency_is_from_when_it_was_due_and_not_from_when_it_was_sent() -> None:
    tally = Tally()
    late = 5_000_000_000
    tally.take(Sequences(), stamped(monotonic_ns() - late, 0, 0, 128))
    assert tally.delivery[0] >= late


def test_all_that_come_in_one_piece_are_counted_whatever_is_around_them() -> None:
    tally, client = Tally(), Sequences()
    stamps = [stamped(monotonic_ns(), 0, number, 100) for number in range(3)]
    end = tally.take(client, b"data: " + b"\n\ndata: ".join(stamps) + b"\n")
    assert (tally.deliveries, tally.repeated) == (3, 0)
    assert tally.take(client, stamps[1]) > 0
    assert (tally.deliveries, tally.repeated) == (3, 1)
    assert end > 200


def test_half_a_stamp_is_left_for_the_next_piece() -> None:
    tally, client = Tally(), Sequences()
    data = stamped(monotonic_ns(), 0, 0, 100)
    assert tally.take(client, data[:20]) == 0
    assert tally.take(client, data) > 0
    assert tally.deliveries == 1


def test_a_publication_lands_when_the_last_of_its_audience_has_it() -> None:
    flights = Flights()
    flights.begin(0, 5, audience=3)
    assert [flights.arrived(0, 5) for _ in range(4)] == [False, False, True, False]
    assert len(flights) == 0


def test_the_closed_loop_goes_on_when_one_has_landed() -> None:
    tally, landed = Tally(), []
    tally.landed = lambda: landed.append(tally.deliveries)  # type: ignore[method-assign]
    tally.flights.begin(0, 0, audience=2)
    for _ in range(2):
        tally.take(Sequences(), stamped(monotonic_ns(), 0, 0, 64))
    assert landed == [2]


def test_what_was_lost_is_given_up_and_what_is_young_is_not() -> None:
    flights = Flights()
    flights.begin(0, 0, audience=1)
    assert flights.give_up(60_000_000_000) == 0
    assert flights.give_up(0) == 1
    assert len(flights) == 0
