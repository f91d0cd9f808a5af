"""What runs cost: the time to the first token, CPU for each token, a fan-out to many tabs, a stop, a death, memory.

In one process, without a network; beside FastAPI's StreamingResponse and, where it is installed, the package
`fastapi-resumable-stream` (0.2.1) on Redis, all called as ASGI. The CPU of redis-server is not in it.

Run: python -m bench.runs --help. With --write the table goes to bench/RESULTS.md.
"""

import asyncio
import gc
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import msgspec
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from redis.asyncio import Redis

from bench.arguments import benchmark_parser
from bench.results import report
from freshet import Freshet, Run
from freshet.config import Config, Runs, Tokens
from freshet.endpoints.in_process import Listening
from freshet.model.frame import Handshake
from tests.runs.two import nodes
from tests.tools.patience import eventually
from tests.tools.redis import redis
from tests.tools.serving import serving

TOKENS = 2000
PACE = 0.0005  # seconds between tokens of a model that is fast
CHATS, TABS, PIECES = 100, 100, 40  # of the fan-out
DEATHS, APP = 3, "tests.runs.chat_app:live"
FINISHED, LENGTH = 500, 2000  # runs that stay in memory, characters of each
PEER = "fastapi_resumable_stream"
first: dict[str, float] = {}
cancelled: dict[str, asyncio.Future[float]] = {}
Read = Callable[[str, int], AsyncIterator[bytes]]


async def model(count: int, key: str) -> AsyncIterator[str]:
    first[key] = time.perf_counter()
    for number in range(count):
        yield f"{number} "
        await asyncio.sleep(PACE)


def application(engine: str = "memory://") -> Freshet:
    live = Freshet(config=Config(engine=engine, tokens=Tokens(anonymous=True)))
    answers(live)
    return live


def answers(live: Freshet) -> None:
    """What a message asks: `text` tokens, `stay` seconds behind them, `size` characters at once."""

    @live.run("chat:{chat}")
    async def answer(run: Run, message: dict[str, Any], chat: str) -> None:
        try:
            async for token in model(int(message["text"]), chat):
                await run.write(token)
            await run.write("x" * message.get("size", 0))
            await asyncio.sleep(message.get("stay", 0))
        except asyncio.CancelledError:
            if chat in cancelled:
                cancelled[chat].set_result(time.perf_counter())
            raise


def api_of(store: Redis | None) -> FastAPI:
    api = FastAPI()

    @api.get("/plain")
    async def plain(count: int, key: str) -> StreamingResponse:
        return StreamingResponse(model(count, key), media_type="text/plain")

    if store is not None:
        peer = import_module(PEER)
        stream, registry, stop = (
            peer.ResumableStream(store),
            peer.ActiveStreamRegistry(store),
            peer.StopController(store),
        )

        @api.get("/resumable")
        async def resumable(count: int, key: str) -> Any:
            return await peer.start_conversation_stream(
                stream, registry, stop, key, f"{key}:1", producer=lambda: model(count, key)
            )

    return api


async def request(app: Any, method: str, path: str, query: str = "", body: bytes = b"") -> AsyncIterator[bytes]:
    """The body of a response, as it comes."""
    chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
    gone, given = asyncio.Event(), [body]

    async def receive() -> dict[str, Any]:
        if given:
            return {"type": "http.request", "body": given.pop(), "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            chunks.put_nowait(message["body"])
            if not message.get("more_body"):
                chunks.put_nowait(None)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode()}
    scope |= {"headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1), "root_path": ""}
    serving = asyncio.ensure_future(app({**scope, "scheme": "http", "http_version": "1.1", "asgi": {}}, receive, send))
    while (chunk := await chunks.get()) is not None:
        yield chunk
    gone.set()
    await serving


def ask(chat: str, count: int | str) -> bytes:
    message = {"id": f"{chat}m", "role": "user", "parts": [{"type": "text", "text": str(count)}]}
    return msgspec.json.encode({"id": chat, "messages": [message]})


def readers(api: FastAPI, memory: Freshet, shared: Freshet | None, peer: bool) -> dict[str, Read]:
    """By column: how its answer is read."""

    def get(path: str) -> Read:
        return lambda key, count: request(api, "GET", path, f"count={count}&key={key}")

    def run(live: Freshet) -> Read:
        return lambda key, count: request(live, "POST", "/ai/chat", body=ask(key, count))

    read = {"StreamingResponse": get("/plain"), "run, memory": run(memory)}
    if shared is not None:
        read["run, Redis"] = run(shared)
    if peer:
        read["fastapi-resumable-stream, Redis"] = get("/resumable")
    return read


async def timed(read: Read, key: str, count: int) -> tuple[float, float]:
    """Seconds from the model's first token to the client's, and CPU seconds in all."""
    cpu, came = time.process_time(), 0.0
    async for chunk in read(key, count):
        if not came and b"0 " in chunk:
            came = time.perf_counter()
    return came - first[key], time.process_time() - cpu


async def stop(asked: Freshet, owner: Freshet, number: int) -> float:
    """Seconds from a stop to the cancelled function. asked: which may be another node than the owner."""
    chat = f"stop{number}"
    cancelled[chat] = asyncio.get_running_loop().create_future()
    await owner.start(f"chat:{chat}", {"text": "1", "stay": 60})
    await asyncio.sleep(0.05)
    began = time.perf_counter()
    await asked.stop(f"chat:{chat}")
    return await cancelled.pop(chat) - began


async def stops(live: Freshet, rounds: int) -> str:
    """The row."""
    here = [await stop(live, live, number) for number in range(rounds)]
    with tempfile.TemporaryDirectory() as folder:
        async with nodes("redis", Path(folder), answers) as two:
            there = [await stop(two.b, two.a, number) for number in range(rounds)]
    return (
        f"- from a stop to the cancelled function, p50: {1000 * median(here):.2f} ms;"
        f" from the other of two nodes on Redis {1000 * median(there):.2f} ms"
    )


async def told(url: str) -> float:
    """Seconds from the kill of the owner (`kill -9`) until a client of the other node is told that its run failed."""
    env = {"FRESHET_ENGINE": url, "CHAT_LEASE": "3"}  # the default
    chat = f"told{time.time_ns()}"
    with serving(APP, env=env) as owner, serving(APP, env=env) as other:
        async with httpx.AsyncClient(timeout=30) as http:
            async with http.stream("POST", owner.http("/ai/chat"), content=ask(chat, "wait")) as answer:
                await anext(answer.aiter_lines())  # it runs there
            async with http.stream("GET", other.http(f"/ai/chat/{chat}/stream")) as stream:
                began = 0.0
                async for line in stream.aiter_lines():
                    if '"text-delta"' in line:
                        owner.kill()
                        began = time.perf_counter()
                    if '"error"' in line:
                        return time.perf_counter() - began
    raise RuntimeError("nobody was told")


async def deaths() -> str:
    """The row."""
    with redis() as server:
        times = [await told(str(server.url)) for _ in range(DEATHS)]
    return (
        f"- the owner of a run killed (`kill -9`), the default lease of 3 s, until a client of the other node is told:"
        f" {median(times):.1f} s (median of {DEATHS}; {min(times):.1f} to {max(times):.1f})"
    )


async def fan_out(live: Freshet) -> str:
    """Tabs that take what comes at once. The row."""
    taken = 0
    dispatcher = live._dispatcher
    for number in range(CHATS * TABS):
        session = dispatcher.open(Listening(), Handshake("/"))
        session.enter()

        def take(session: Any = session) -> None:
            nonlocal taken
            taken += len(session.outbox.take())

        session.outbox.attach(take)
        await dispatcher.join(session, f"chat:wide{number % CHATS}")
    cpu, began = time.process_time(), time.perf_counter()
    for number in range(CHATS):
        await live.start(f"chat:wide{number}", {"text": str(PIECES)})
    await eventually(lambda: not live._runs.statistics()[1], 60)
    cpu, took = time.process_time() - cpu, time.perf_counter() - began
    tokens = CHATS * TABS * PIECES
    return (
        f"- {CHATS} chats with {TABS} tabs each: {tokens / took:,.0f} tokens/s to tabs ({taken:,} events, coalesced),"
        f" {1e6 * cpu / tokens:.2f} us CPU for a token of a tab"
    )


async def memory_of_finished() -> str:
    """What finished runs leave, on the memory engine, once their channels are quiet. The row."""
    live = Freshet(config=Config(tokens=Tokens(anonymous=True), runs=Runs(lease=0.5, idle=0)))
    answers(live)
    async with live.lifespan():
        await live.start("chat:warm", {"text": "1"})
        gc.collect()
        tracemalloc.start()
        for number in range(FINISHED):
            await live.start(f"chat:done{number}", {"text": "0", "size": LENGTH})
        await eventually(lambda: not live._runs.statistics()[0], 60)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    return f"- a finished run of {LENGTH:,} characters, alone in its channel: {held / FINISHED:,.0f} bytes"


async def measure(rounds: int) -> list[str]:
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(redis())
        peer = find_spec(PEER) is not None
        store = Redis.from_url(str(broker.url)) if peer else None
        memory, shared = application(), application(str(broker.url))
        for live in (memory, shared):
            await stack.enter_async_context(live.lifespan())
        read = readers(api_of(store), memory, shared, peer)
        firsts: dict[str, list[float]] = {kind: [] for kind in read}
        costs: dict[str, list[float]] = {kind: [] for kind in read}
        for number in range(rounds):
            for kind, each in read.items():  # in turns, so that what else the machine does counts for all
                firsts[kind].append((await timed(each, f"{kind[:3]}{kind[-3:]}{number}", 20))[0])
        for number in range(3):
            for kind, each in read.items():
                key = f"{kind[:3]}{kind[-3:]}long{number}"
                costs[kind].append((await timed(each, key, TOKENS))[1])
        rows = [f"| | {' | '.join(read)} |", f"|---{'|---' * len(read)}|"]
        rows.append(f"| first token, p50, ms | {' | '.join(f'{1000 * median(it):.2f}' for it in firsts.values())} |")
        cost = " | ".join(f"{1e6 * min(it) / TOKENS:.1f}" for it in costs.values())
        rows += [f"| CPU for each token, us (with the model's own) | {cost} |", ""]
        rows.append(await fan_out(memory))
        rows.append(await stops(memory, rounds))
        if store is not None:
            await store.aclose()
    rows += [await deaths(), await memory_of_finished()]
    return rows if peer else [*rows, f"- `{PEER}` is not installed, and not in the table"]


def main() -> None:
    options = benchmark_parser(__doc__, rounds=100).parse_args()
    lines = ["## Runs: what an answer costs beside a StreamingResponse", "", *asyncio.run(measure(options.rounds))]
    report("runs", lines, options)


if __name__ == "__main__":
    main()
