"""What runs cost: the time to the first token that they add, CPU for each token, and the time from a stop to its end.

In one process, without a network, on the memory engine; beside FastAPI's StreamingResponse, called as ASGI.

Run: python -m bench.runs --help. With --write the table goes to bench/RESULTS.md.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from bench.arguments import benchmark_parser
from bench.results import write
from freshet import Freshet, Run
from freshet.config import Config, Tokens

TOKENS = 4000
PACE = 0.0005  # seconds between tokens of a model that is fast
api = FastAPI()
live = Freshet(config=Config(tokens=Tokens(anonymous=True)))
first: dict[str, float] = {}
cancelled: dict[str, asyncio.Future[float]] = {}


async def model(count: int, key: str) -> AsyncIterator[str]:
    first[key] = time.perf_counter()
    for number in range(count):
        yield f"{number} "
        await asyncio.sleep(PACE)


@api.get("/plain")
async def plain(count: int, key: str) -> StreamingResponse:
    return StreamingResponse(model(count, key), media_type="text/plain")


@live.run("chat:{chat}")
async def answer(run: Run, message: dict[str, Any], chat: str) -> None:
    try:
        async for token in model(int(message["text"]), chat):
            await run.write(token)
        await asyncio.sleep(message.get("stay", 0))
    except asyncio.CancelledError:
        if chat in cancelled:
            cancelled[chat].set_result(time.perf_counter())
        raise


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


def ask(chat: str, count: int) -> bytes:
    message = {"id": f"{chat}m", "role": "user", "parts": [{"type": "text", "text": str(count)}]}
    return msgspec.json.encode({"id": chat, "messages": [message]})


async def read(kind: str, chat: str, count: int) -> tuple[float, float]:
    """Seconds from the model's first token to the client's, and CPU seconds in all."""
    cpu, came = time.process_time(), 0.0
    if kind == "plain":
        stream = request(api, "GET", "/plain", f"count={count}&key={chat}")
    else:
        stream = request(live, "POST", "/ai/chat", body=ask(chat, count))
    async for chunk in stream:
        if not came and (kind == "plain" or b"text-delta" in chunk):
            came = time.perf_counter()
    return came - first[chat], time.process_time() - cpu


async def stop(number: int) -> float:
    """Seconds from a stop to the cancelled function."""
    chat = f"stop{number}"
    cancelled[chat] = asyncio.get_running_loop().create_future()
    await live.start(f"chat:{chat}", {"text": "1", "stay": 60})
    await asyncio.sleep(0.02)
    began = time.perf_counter()
    await live.stop(f"chat:{chat}")
    return await cancelled.pop(chat) - began


async def measure(rounds: int) -> list[str]:
    firsts: dict[str, list[float]] = {"plain": [], "run": []}
    costs: dict[str, list[float]] = {"plain": [], "run": []}
    async with live.lifespan():
        for number in range(rounds):
            for kind, seen in firsts.items():  # in turns, so that what else the machine does counts for both
                seen.append((await read(kind, f"{kind}{number}", 20))[0])
        for kind in [*costs] * 3:
            idle = (await read(kind, f"{kind}idle{len(costs[kind])}", 1))[1]
            costs[kind].append((await read(kind, f"{kind}long{len(costs[kind])}", TOKENS))[1] - idle)
        stops = sorted([await stop(number) for number in range(rounds)])
    rows = ["| | StreamingResponse | run, AI SDK's stream |", "|---|---|---|"]
    middle = {kind: 1000 * sorted(each)[len(each) // 2] for kind, each in firsts.items()}
    rows.append(f"| first token, p50, ms | {middle['plain']:.2f} | {middle['run']:.2f} |")
    cost = {kind: 1e6 * min(each) / TOKENS for kind, each in costs.items()}
    rows.append(f"| CPU for each token, us (with the model's own) | {cost['plain']:.1f} | {cost['run']:.1f} |")
    rows.append(f"| from stop to cancelled, p50, ms | | {1000 * stops[len(stops) // 2]:.2f} |")
    return rows


def main() -> None:
    options = benchmark_parser(__doc__, rounds=100).parse_args()
    lines = ["## Runs: what an answer costs beside a StreamingResponse", "", *asyncio.run(measure(options.rounds))]
    print("\n".join(lines))
    if options.write:
        write("runs", lines)


if __name__ == "__main__":
    main()
