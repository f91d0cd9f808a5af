"""What a run's function has called in a thread, or in another event loop, writes as the function itself does."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from freshet import Freshet, NotRunning, Run
from freshet.runs.run import SyncRun
from tests.tools.patience import eventually, seconds

Call = Callable[..., Awaitable[Any]]
METHODS = sorted(name for name, it in inspect.getmembers(Run) if inspect.iscoroutinefunction(it) and name[0] != "_")


def in_the_same_loop(run: Run) -> Call:
    return lambda name, *given, **named: getattr(run, name)(*given, **named)


def in_a_loop_of_a_thread(run: Run) -> Call:
    return lambda name, *given, **named: asyncio.to_thread(lambda: asyncio.run(getattr(run, name)(*given, **named)))


def without_await(run: Run) -> Call:
    return lambda name, *given, **named: asyncio.to_thread(lambda: getattr(run.sync, name)(*given, **named))


WAYS = [in_the_same_loop, in_a_loop_of_a_thread, without_await]


async def write_everything(call: Call, called: set[str]) -> None:
    def do(name: str, *given: Any, **named: Any) -> Awaitable[Any]:
        called.add(name)
        return call(name, *given, **named)

    assert [it["role"] for it in await do("history")] == ["user", "assistant"]
    assert await do("steering", wait=True) == ["shorter"]
    await do("enter", "writer")
    await do("reasoning", "hm")
    await do("write", "It is ")
    await do("write", "cold.")
    tool = await do("tool", "weather", {"city": "Bern"})
    await do("result", tool, {"degrees": 3})
    await do("source", "https://example.org", title="example")
    await do("data", "chart", [1, 2])
    await do("usage", input_tokens=7)
    await do("checkpoint", {"at": 1})
    await do("flush")
    await do("ask", await do("tool", "heating", {}, id="t2"))


@pytest.mark.parametrize("way", WAYS)
async def test_every_method_of_a_run_does_the_same_wherever_it_is_called(way: Callable[[Run], Call]) -> None:
    live, called = Freshet(dev=True, environment={}), set[str]()

    @live.run("chat:{chat}", presence=True)
    async def answer(run: Run, message: str) -> None:
        if message:
            await write_everything(way(run), called)

    async with live.lifespan():
        await live.start("chat:1", "", id="r0")
        await eventually(lambda: not live._runs._chats["chat:1"].producers, 5, "the run before")
        await live.start("chat:1", "is it cold?", id="r1")
        await live.steer("chat:1", "shorter")
        await eventually(lambda: "ask" in called, 5, "the function to have written all")

        async def written() -> bool:
            return len((await live.messages("chat:1"))[-1]["parts"]) >= 7

        await eventually(written, 5, "what it has written")
        message = (await live.messages("chat:1"))[-1]
    said = ["reasoning", "text", "tool-weather", "source-url", "data-chart", "tool-heating"]
    assert [part["type"] for part in message["parts"] if part["type"] != "steering-message"] == said
    assert sorted(called) == METHODS == sorted(vars(SyncRun(_Nothing(), _Nothing())))


class _Nothing:
    """Whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        return lambda *given: None


@pytest.mark.parametrize("way", WAYS[1:])
async def test_what_writes_in_a_thread_ends_when_its_run_is_stopped(way: Callable[[Run], Call]) -> None:
    live, ended, began = Freshet(dev=True, environment={}), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    @live.run("chat:{chat}")
    async def answer(run: Run, message: str) -> None:
        def generate() -> None:
            try:
                while True:
                    if way is without_await:
                        run.sync.write("more ")
                    else:
                        asyncio.run(run.write("more "))
                    loop.call_soon_threadsafe(began.set)
            except asyncio.CancelledError:
                loop.call_soon_threadsafe(ended.set)

        await asyncio.to_thread(generate)

    async with live.lifespan():
        await live.start("chat:1", "go on")
        await asyncio.wait_for(began.wait(), seconds(5))
        state = await live.stop("chat:1")
        assert state is not None
        assert state.state == "stopped"
        await asyncio.wait_for(ended.wait(), seconds(5))


async def test_in_the_event_loop_what_blocks_is_refused_and_after_the_end_it_does_not_run() -> None:
    live, runs = Freshet(dev=True, environment={}), list[Run]()

    @live.run("chat:{chat}")
    async def answer(run: Run, message: str) -> None:
        runs.append(run)
        with pytest.raises(RuntimeError, match="await"):
            run.sync.write("here")

    async with live.lifespan():
        await live.start("chat:1", "now")
        await eventually(lambda: bool(runs))
    with pytest.raises(NotRunning):
        await asyncio.to_thread(runs[0].sync.write, "too late")
