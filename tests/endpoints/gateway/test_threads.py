"""What an application does with connections, it may do from any thread and any event loop."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from freshet import Connection, Freshet, Gateway, Gone, NotRunning
from freshet.testing.gateway import ConnectionClosed, GatewayClient

Call = Callable[..., Awaitable[Any]]
METHODS = sorted(
    name
    for name, it in inspect.getmembers(Gateway)
    if inspect.iscoroutinefunction(it) and name[0] != "_" and name not in ("start", "stop")
)


def in_the_same_loop(gateway: Gateway) -> Call:
    return lambda name, *given: getattr(gateway, name)(*given)


def in_a_loop_of_a_thread(gateway: Gateway) -> Call:
    return lambda name, *given: asyncio.to_thread(lambda: asyncio.run(getattr(gateway, name)(*given)))


def without_await(gateway: Gateway) -> Call:
    return lambda name, *given: asyncio.to_thread(lambda: getattr(gateway.sync, name)(*given))


WAYS = [in_the_same_loop, in_a_loop_of_a_thread, without_await]


@pytest.mark.parametrize("way", WAYS)
async def test_every_method_does_the_same_wherever_it_is_called(way: Callable[[Gateway], Call]) -> None:
    live = Freshet(dev=True, environment={})
    gateway = live.gateway(stage="dev")
    make, called = way(gateway), set[str]()

    def call(name: str, *given: Any) -> Awaitable[Any]:
        called.add(name)
        return make(name, *given)

    async with GatewayClient(live) as client:
        await call("post", client.id, "to one")
        assert await client.receive() == "to one"
        assert await call("post_all", [client.id, "over"], "to all") == ["over"]
        assert await client.receive() == "to all"
        assert (await call("get", client.id)).connected_at > 0
        await call("subscribe", client.id, "news")
        await live.publish("news", "published")
        assert await client.receive_json() == "published"
        await call("unsubscribe", client.id, "news")
        await live.publish("news", "for others")
        await client.expect_nothing()
        await call("delete", client.id)
        with pytest.raises(ConnectionClosed):
            await client.receive()
        with pytest.raises(Gone):
            await call("post", client.id, "nobody is there")
    assert sorted(called) == METHODS
    with pytest.raises(NotRunning):
        await make("post", client.id, "nothing runs")


async def test_a_connection_is_used_in_a_thread_of_its_function() -> None:
    live = Freshet(dev=True, environment={})

    @live.gateway(stage="dev").route("work")
    async def work(connection: Connection, data: Any) -> None:
        await asyncio.to_thread(lambda: asyncio.run(connection.send("from a thread")))

    async with GatewayClient(live) as client:
        await client.send({"action": "work"})
        assert await client.receive() == "from a thread"
