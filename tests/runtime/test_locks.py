"""A lock for each key: those who come for the same go one after the other, and nothing stays behind."""

import asyncio
from typing import Any

from freshet.runtime.locks import Locks


async def turns(number: int = 3) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def acquire(locks: Locks[Any], key: Any) -> None:
    if not locks.take(key):
        await locks.wait(key)


async def test_those_who_come_for_the_same_go_in_order_and_others_do_not_wait() -> None:
    locks, order, go = Locks[str](), list[str](), asyncio.Event()

    async def use(key: str, name: str) -> None:
        await acquire(locks, key)
        try:
            order.append(name)
            if key == "a":
                await go.wait()
        finally:
            locks.release(key)

    names = ("a", "first"), ("a", "second"), ("b", "other"), ("a", "third")
    using = [asyncio.create_task(use(*each)) for each in names]
    await turns()
    assert (order, len(locks)) == (["first", "other"], 1)
    go.set()
    await asyncio.gather(*using)
    assert (order, len(locks)) == (["first", "other", "second", "third"], 0)


async def test_one_that_is_cancelled_while_it_waits_lets_the_next_one_through() -> None:
    locks = Locks[int]()
    assert locks.take(1)
    impatient, patient = (asyncio.create_task(acquire(locks, 1)) for _ in range(2))
    await turns()
    impatient.cancel()
    await turns()
    locks.release(1)
    await patient
    assert impatient.cancelled()
    locks.release(1)
    assert len(locks) == 0


async def test_one_that_is_cancelled_as_its_turn_comes_lets_the_next_one_through() -> None:
    locks = Locks[int]()
    assert locks.take(1)
    late, patient = (asyncio.create_task(acquire(locks, 1)) for _ in range(2))
    await turns()
    locks.release(1)
    late.cancel()
    await patient
    assert late.cancelled()
    locks.release(1)
    assert len(locks) == 0
