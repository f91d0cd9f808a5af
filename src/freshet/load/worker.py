"""One process of the load, with its plan on stdin.

It hears lines, and answers with lines of JSON: first the plan, and it connects (`connected`); `go`, and it measures
(`done`, with what it published); `finish N`, with what all published, and it waits for the rest and gives its counts,
and behind them the samples of each series. `stop` ends what it is doing. Meanwhile it tells how far it is.
"""

import asyncio
import contextlib
import resource
import sys
import time
from collections.abc import Coroutine, Mapping
from typing import Any

import msgspec
import uvloop

from freshet.load.clients import LoadClient
from freshet.load.crowd import Crowd
from freshet.load.loads import LOADS
from freshet.load.plan import LoadError, Plan
from freshet.load.tally import Tally

LINE = 64 << 20  # bytes of a plan: a hundred thousand tokens
TELL = 0.2  # seconds


def tell(**what: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


async def run(plan: Plan, kind: type[LoadClient], lines: asyncio.StreamReader) -> None:
    tally = Tally()
    crowd = Crowd(plan, tally, kind)
    load = LOADS[plan.load](crowd)
    telling = asyncio.create_task(_tell_on(tally))
    try:
        await _unless_stopped(_connect(load, crowd), lines, crowd)
        tell(event="connected", connects=len(tally.series["connect"]), seconds=crowd.connecting)
        if await _heard(lines, crowd, until="go"):
            begun = time.monotonic(), time.process_time()
            await _unless_stopped(load.run(), lines, crowd)
            tell(event="done", published=tally.published)
            word, _, published = (await _heard(lines, crowd, until="finish")).partition(" ")
            tally.due = load.due(int(published or 0)) if word == "finish" else tally.due
            await crowd.rest_arrives()
            busy = (time.process_time() - begun[1]) / max(1e-9, time.monotonic() - begun[0])
            telling.cancel()
            _result(tally, busy)
    finally:
        telling.cancel()
        crowd.close()


async def _connect(load: Any, crowd: Crowd) -> None:
    await load.prepare()
    await crowd.connect()


def _result(tally: Tally, busy: float) -> None:
    sizes = {name: len(samples) for name, samples in tally.series.items()}
    tell(event="result", counts=tally.counts(), reason=tally.reason, busy=busy, series=sizes)
    for samples in tally.series.values():
        sys.stdout.buffer.write(samples.tobytes())
    sys.stdout.buffer.flush()


async def _heard(lines: asyncio.StreamReader, crowd: Crowd, *, until: str = "") -> str:
    """The next line, or the next that begins so. An end of the lines is an order to stop."""
    while True:
        line = (await lines.readline()).decode().strip()
        if line in ("stop", ""):
            crowd.is_stopped.set()
        if line.startswith(until) or not line:
            return line


async def _unless_stopped(work: Coroutine[Any, Any, None], lines: asyncio.StreamReader, crowd: Crowd) -> None:
    """Do it to its end; a line that comes meanwhile stops it, gently."""
    doing = asyncio.create_task(work)
    hearing = asyncio.create_task(_heard(lines, crowd))
    await asyncio.wait({doing, hearing}, return_when=asyncio.FIRST_COMPLETED)
    if not doing.done():
        await asyncio.wait({doing}, timeout=2)
    hearing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await hearing
    if not doing.done():
        doing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await doing


async def _tell_on(tally: Tally) -> None:
    while True:
        await asyncio.sleep(TELL)
        back = len(tally.series["back"])
        tell(event="progress", connected=len(tally.series["connect"]), deliveries=tally.deliveries, back=back)


async def main(dialects: Mapping[str, type[LoadClient]]) -> None:
    lines = asyncio.StreamReader(limit=LINE)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    plan = msgspec.json.decode(await lines.readline(), type=Plan)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        await run(plan, dialects[plan.dialect], lines)
    except* LoadError as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        tell(event="failed", message=str(first), hint=getattr(first, "hint", ""))


def work(dialects: Mapping[str, type[LoadClient]]) -> None:
    """Until the load is over, or stdin is closed."""
    with contextlib.suppress(BrokenPipeError):  # nobody is there to be told
        uvloop.run(main(dialects))
