"""The checker of the races can fail: whatever part of a node is made to disagree, it says so."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from freshet.commands.subscribing import Entry
from freshet.hub.subscribers import Delta
from freshet.session.session import Session
from freshet.session.subscription import Subscription
from tests.races.agreement import disagreements
from tests.races.gates import Gates
from tests.races.world import DIALECTS, HELD, ROOM, World, in_room, race, running


def session_of(world: World) -> Session:
    assert world.session is not None
    return world.session


def found(world: World) -> str:
    return "\n".join(disagreements(world.node, world.engine, world.clients))


async def run_for_ever(world: World) -> None:
    world.node.tasks.start(asyncio.Event().wait(), "for ever")


async def reserve(world: World) -> None:
    rule, _ = world.node.rules.find(ROOM)
    session = session_of(world)
    session.reserve("room:c", Entry(session, "room:c", Subscription(rule, msgspec.Raw(), 0, present=False), None))


async def enter_the_hub(world: World) -> None:
    """As a client that was subscribed twice, once of it with a filter."""
    world.node.hub._channels[ROOM].add(session_of(world), Delta.FIRST)


async def leave_the_hub(world: World) -> None:
    world.node.hub.leave(session_of(world), ROOM)


async def join_only(world: World) -> None:
    await world.node.hub.join(session_of(world), ROOM, world.node.rules.find(ROOM)[0])


async def lose_presence(world: World) -> None:
    await world.engine.set_presence(ROOM, session_of(world).id, None)


async def keep_presence(world: World) -> None:
    await world.engine.set_presence("room:c", "ghost", session_of(world).client_info())


async def renew_no_longer(world: World) -> None:
    world.node.presence.forget(session_of(world), ROOM)


async def subscribe_the_engine(world: World) -> None:
    await world.engine.subscribe("room:c", None)


async def unsubscribe_the_engine(world: World) -> None:
    await world.engine.unsubscribe(ROOM)


async def forget_the_user(world: World) -> None:
    del world.node.registry._by_user["alice"]


async def open_another(world: World) -> None:
    world.doors.dispatcher.open(session_of(world).dialect, session_of(world).handshake)  # type: ignore[arg-type]


async def believe_too_much(world: World) -> None:
    world.client.known.add("room:c")


async def close_in_silence(world: World) -> None:
    world.client.closed = False
    session_of(world).outbox.closed = None
    session_of(world).ended = None
    world.node.registry.ended(session_of(world))


WRONG: dict[Callable[[World], Awaitable[None]], str] = {
    run_for_ever: "tasks still run: ['for ever']",
    reserve: "is about to enter",
    enter_the_hub: "hub has",
    leave_the_hub: "lacks",
    join_only: "between the phases",
    lose_presence: "presence: the engine has",
    keep_presence: "ghost",
    renew_no_longer: "presence: renewed are",
    subscribe_the_engine: "engine delivers",
    unsubscribe_the_engine: "engine delivers",
    forget_the_user: "registry: by user",
    open_another: "registry: open",
    believe_too_much: "the client believes to be in",
    close_in_silence: "registry: open",
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("spoil", WRONG, ids=lambda spoil: spoil.__name__)
async def test_what_is_wrong_is_named(dialect: str, spoil: Callable[[World], Awaitable[None]]) -> None:
    async with running(dialect) as world:
        await in_room(world)
        assert found(world) == ""
        await spoil(world)
        assert WRONG[spoil] in found(world)


async def test_a_client_that_believes_to_be_out_where_it_is_in_is_named() -> None:
    async with running("centrifuge") as world:
        await in_room(world)
        world.client.known.discard(ROOM)
        assert "the client believes to be in" in found(world)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_publication_that_comes_twice_or_not_at_all_is_noticed(dialect: str) -> None:
    async with running(dialect) as world:
        await in_room(world)
        await world.agree()
        world.client.got.clear()
        world.client._published = lambda channel, data: None  # type: ignore[method-assign]
        with pytest.raises(AssertionError):
            await world.agree()


async def test_a_repeat_and_a_gap_are_noticed() -> None:
    async with running("centrifuge") as world:
        await in_room(world)
        for offsets, fault in (((1, 1), "offset 1"), ((2, 4), "offset 4")):
            for offset in offsets:
                world.client._came(ROOM, {"offset": offset, "data": 1})  # type: ignore[attr-defined]
            assert fault in found(world)


# ---------------------------------------------------------------------------------------------- that there is something


async def gates(dialect: str, held: str) -> list[str]:
    passed: list[str] = []
    while gate := await race(dialect, held, "server publish", len(passed)):
        passed.append(gate)
    return passed


@pytest.mark.parametrize(
    ("dialect", "held", "expected"),
    [
        (
            "centrifuge",
            "connect",
            ["on_connect", "subscribe", "subscribed", "history", "history read", "set presence", "presence set"],
        ),
        ("centrifuge", "publish", ["on_publish", "publish", "published"]),
        ("centrifuge", "rpc", ["rpc"]),
        ("centrifuge", "renewal", ["renew presence", "presence renewed"]),
        ("centrifuge", "presence", ["presence", "presence read"]),
        ("socketio", "event", ["event"]),
        ("socketio", "concurrent event", ["concurrent event"]),
    ],
)
async def test_each_wait_of_a_command_is_a_gate(dialect: str, held: str, expected: list[str]) -> None:
    assert await gates(dialect, held) == expected


async def test_every_hook_and_every_call_of_the_engine_is_held_somewhere() -> None:
    seen = {gate for dialect in DIALECTS for held in HELD for gate in await gates(dialect, held)}
    hooks = {"on_connect", "on_subscribe", "on_publish", "on_disconnect", "rpc", "event", "concurrent event"}
    engine = {"subscribe", "unsubscribe", "publish", "history", "presence", "set presence", "set absence"}
    assert seen >= hooks | engine | {"renew presence", "remove history"}


async def test_a_gate_holds_one_and_lets_the_others_pass() -> None:
    gates = Gates()
    gates.arm(1)
    coming = [asyncio.create_task(gates.come(name)) for name in ("first", "second", "third")]
    for _ in range(5):
        await asyncio.sleep(0)
    assert ([task.done() for task in coming], gates.held) == ([True, False, True], "second")
    gates.release()
    await asyncio.gather(*coming)
