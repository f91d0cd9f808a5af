"""A state on two nodes: one writes, and what an owner left behind or lets out too late changes nothing back."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from freshet import Refusal
from freshet.errors import EngineUnavailable
from tests.rooms.test_nodes import counter
from tests.rooms.two import LEASE, World, world
from tests.tools.patience import eventually


def with_state(here: World) -> None:
    for live in (here.a, here.b):
        live.state("s:{name}")


async def test_every_node_writes_to_the_one_state_and_its_clients_see_one_order(tmp_path: Path) -> None:
    async with (
        world(tmp_path, counter=counter) as here,
        here.a.test_client("alice") as alice,
        here.b.test_client("bob") as bob,
    ):
        with_state(here)
        for client in (alice, bob):
            await client.subscribe("s:x")
            assert (await client.receive()).data == {"state": {}}
        for number in range(5):
            await asyncio.gather(
                here.a.add_to_entry("s:x", "n"),
                here.b.add_to_entry("s:x", "n"),
                bob.publish("s:x", {"key": "last", "value": number}),
            )
        seen = [[(await client.receive()).data for _ in range(15)] for client in (alice, bob)]
        assert seen[0] == seen[1]
        assert await here.a.entries("s:x") == await here.b.entries("s:x") == {"n": 10, "last": 4}
        assert not await here.b.set_entry("s:x", "n", 0, expect=9)


async def test_what_an_owner_lets_out_after_another_has_taken_over_changes_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was paused between what it wrote and what goes out."""
    async with world(tmp_path, counter=counter) as here, here.b.test_client("bob") as bob:
        with_state(here)
        await here.a.set_entry("s:x", "k", 0)
        await bob.subscribe("s:x")
        assert (await bob.receive()).data == {"state": {"k": 0}}
        reached, gate, publish = asyncio.Event(), asyncio.Event(), here.a._node.engine.publish

        async def late(*arguments: Any) -> Any:
            reached.set()
            await gate.wait()
            return await publish(*arguments)

        monkeypatch.setattr(here.a._node.engine, "publish", late)
        writing = asyncio.create_task(here.a.set_entry("s:x", "k", 1))
        await reached.wait()
        await here.advance(LEASE + 1, "b")  # to `a` no time has passed
        assert await here.b.set_entry("s:x", "k", 2)
        gate.set()
        await asyncio.wait([writing])
        await here.advance(1, "b")
        got = [(await bob.receive()).data["value"] for _ in range(2)]
        assert got == [1, 2], "the other one has let out what was written, and then what it wrote itself"
        await bob.expect_nothing()
        assert await here.b.entries("s:x") == {"k": 2}


async def test_a_stale_owner_writes_nothing_and_its_caller_gets_the_answer_of_the_new_one(tmp_path: Path) -> None:
    async with world(tmp_path, counter=counter) as here:
        with_state(here)
        assert await here.a.add_to_entry("s:x", "n") == 1
        await here.advance(LEASE + 1, "b")
        assert await here.b.add_to_entry("s:x", "n") == 2
        try:  # it believes that it is the owner, until the store says no
            assert await here.a.add_to_entry("s:x", "n") == 3
        except (Refusal, EngineUnavailable) as why:
            pytest.fail(f"nobody replied: {why}")
        await eventually(lambda: "s:x" not in here.a._rooms._active)
        assert await here.b.entries("s:x") == {"n": 3}
