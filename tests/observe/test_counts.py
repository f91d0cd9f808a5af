"""What a node counts: numbers by their key, times by command, and the same behind the bus."""

import msgspec

from freshet.observe.counts import Counts, Snapshot, Statistics, add

WAY = ("centrifuge", "websocket")


def test_numbers_add_up_by_their_key() -> None:
    numbers: dict[str, int] = {}
    for key, number in (("a", 1), ("b", 5), ("a", 2)):
        add(numbers, key, number)
    add(numbers, "b")
    assert numbers == {"a": 3, "b": 6}


def test_two_nodes_share_no_numbers() -> None:
    one, two = Counts(), Counts()
    add(one.connected, WAY)
    add(one.ended, 3000)
    one.lag.observe(1)
    one.ran("publish", 1)
    assert (two.connected, two.ended, two.lag.read().count, two.commands) == ({}, {}, 0, {})


def test_each_command_has_times_of_its_own() -> None:
    counts = Counts()
    for command, seconds in (("publish", 0.1), ("publish", 0.2), ("subscribe", 3.0)):
        counts.ran(command, seconds)
    assert {name: it.read().count for name, it in counts.commands.items()} == {"publish": 2, "subscribe": 1}


def test_a_snapshot_is_the_same_behind_the_bus() -> None:
    counts = Counts(published=3, refusals={103: 2}, delivered={"centrifuge": 9}, connected={WAY: 1})
    counts.lag.observe(0.2)
    counts.replayed.observe(7)
    counts.ran("publish", 0.1)
    snapshot = Snapshot(counts, "ready", {WAY: 1}, 1, 2, 3, 4, 5.5, cpu=6.5, memory=7)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(snapshot), type=Snapshot) == snapshot


def test_statistics_are_the_same_behind_the_bus() -> None:
    counts = Counts()
    counts.lag.observe(0.2)
    statistics = Statistics(clients=3, lag=counts.lag.read())
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(statistics), type=Statistics) == statistics


def test_memory_of_a_client_is_what_the_process_has_grown_by_shared_among_all() -> None:
    def of(clients: int, memory: int, before: int) -> float:
        them = {WAY: clients} if clients else {}
        return Snapshot(Counts(), "ready", them, 0, 0, 0, 0, 0.0, memory=memory, memory_before=before).memory_of_client

    assert of(10, 3_000, 1_000) == 200
    assert of(0, 3_000, 1_000) == of(10, 900, 1_000) == of(10, 900, 0) == 0
