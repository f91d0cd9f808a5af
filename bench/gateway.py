"""What the gateway costs: a message through each kind of integration, and a call of `@connections`.

CPU of the server alone: its functions' processes count, a back end behind HTTP and the clients do not. With
`--serverless FOLDER` serverless-offline (as in tests/endpoints/gateway/conformance.py) is measured in the same run.

Run: python -m bench.gateway --help. With --write the table goes to bench/RESULTS.md.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from websockets.asyncio.client import ClientConnection, connect

from bench.arguments import benchmark_parser
from bench.results import report
from tests.endpoints.gateway.conformance import serverless_offline
from tests.tools.ports import HOST
from tests.tools.serving import UNLIMITED, serving

IN_FLIGHT = 8  # messages of one client
TICK = 100  # of /proc, a second

APP = """
from freshet import Freshet
live = Freshet.from_config("freshet.toml")
gateway = live.gateway()

@gateway.route("python")
async def python(connection, data):
    return data

def echo(event, context):
    return {"statusCode": 200, "body": event["body"]}

gateway.handler("thread", echo, response=True)

@gateway.route("event")
def event(connection, data):
    return connection.id
"""
BACK_END = """
import json
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

async def echo(request):
    return Response(json.loads(await request.body())["body"])

api = Starlette(routes=[Route("/", echo, methods=["POST"])])
"""
OPTIONS = """
[tokens]
anonymous = true
[gateway]
stage = "dev"
auth = "none"
[[gateway.keys]]
id = "AKID"
secret = "secret"
[[gateway.routes]]
key = "process"
function = "app.echo"
concurrency = 1
response = true
[[gateway.routes]]
key = "http"
url = "%s"
response = true
"""


class Measured(NamedTuple):
    """cpu: microseconds of the server for one. rate: a second, with what the load's core could do."""

    cpu: float
    rate: float


def cpu_of(pid: int) -> float:
    """Seconds, of a process and all that it began."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(fields[11]) + int(fields[12])) / TICK + sum(cpu_of(int(child)) for child in children)


async def talk(client: ClientConnection, message: str, until: float) -> int:
    """Messages and their answers, so many in flight; the answer is how many."""
    done = 0
    for _ in range(IN_FLIGHT):
        await client.send(message)
    while time.monotonic() < until:
        await client.recv()
        await client.send(message)
        done += 1
    for _ in range(IN_FLIGHT):
        await client.recv()
    return done + IN_FLIGHT


async def messages(url: str, action: str, clients: int, seconds: float, pid: int) -> Measured:
    async with asyncio.timeout(seconds + 60):
        connections = await asyncio.gather(*(connect(url, compression=None) for _ in range(clients)))
        message = json.dumps({"action": action, "text": "x" * 80})
        await asyncio.gather(*(talk(each, message, time.monotonic() + 0.3) for each in connections))  # warm
        before, began = cpu_of(pid), time.monotonic()
        done = sum(await asyncio.gather(*(talk(each, message, began + seconds) for each in connections)))
        took, used = time.monotonic() - began, cpu_of(pid) - before
        for each in connections:
            await each.close()
    return Measured(used / done * 1e6, done / took)


async def latency(url: str, action: str, seconds: float) -> list[float]:
    """Milliseconds until the answer, of one client that sends one message at a time."""
    message, found = json.dumps({"action": action, "text": "x" * 80}), []
    async with connect(url, compression=None) as client:
        await client.send(message)  # a function's process begins
        await client.recv()
        end = time.monotonic() + seconds
        while (began := time.monotonic()) < end:
            await client.send(message)
            await client.recv()
            found.append((time.monotonic() - began) * 1000)
    return found


async def posts(
    port: int, path: str, ids: Sequence[str], seconds: float, pid: int, headers: Callable[[str], str]
) -> Measured:
    """Calls of `post_to_connection` over connections that stay open."""

    async def caller(id: str, until: float) -> int:
        reader, writer = await asyncio.open_connection(HOST, port)
        done, target = 0, f"{path}/@connections/{id.replace('=', '%3D')}"
        while time.monotonic() < until:
            head = f"POST {target} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Length: 100\r\n{headers(target)}\r\n"
            writer.write(head.encode() + b"x" * 100)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert b" 20" in answer[:16], answer
            done += 1
        writer.close()
        return done

    before, began = cpu_of(pid), time.monotonic()
    done = sum(await asyncio.gather(*(caller(id, began + seconds) for id in ids)))
    return Measured((cpu_of(pid) - before) / done * 1e6, done / (time.monotonic() - began))


def signed(port: int) -> Callable[[str], str]:
    """Headers of a signed request, made by botocore beforehand: it costs more than the server does."""
    from itertools import count

    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    calls, made = count(), dict[str, tuple[float, str]]()

    def headers(target: str) -> str:
        at, text = made.get(target, (0.0, ""))
        if time.monotonic() - at > 2:
            request = AWSRequest("POST", f"http://{HOST}:{port}{target}", data=b"x" * 100)
            SigV4Auth(Credentials("AKID", "secret"), "execute-api", "local").add_auth(request)
            text = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
            made[target] = time.monotonic(), text
        return f"{text}amz-sdk-invocation-id: {next(calls)}\r\n"

    return headers


async def ids_of(url: str, action: str, count: int, stack: list[ClientConnection]) -> list[str]:
    ids = []
    for _ in range(count):
        client = await connect(url, compression=None)
        stack.append(client)
        await client.send(json.dumps({"action": action}))
        answer = await client.recv()
        ids.append(json.loads(answer)["requestContext"]["connectionId"] if answer[:1] == "{" else str(answer))
        stack_reader = asyncio.ensure_future(_drain(client))
        stack_reader.add_done_callback(lambda _: None)
    return ids


async def _drain(client: ClientConnection) -> None:
    async for _ in client:
        pass


@contextmanager
def freshet() -> Iterator[tuple[int, int]]:
    """Its process and its port."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        here = Path(folder)
        (here / "app.py").write_text(APP)
        (here / "back_end.py").write_text(BACK_END)
        back_end = stack.enter_context(serving("back_end:api", cwd=here))
        (here / "freshet.toml").write_text(OPTIONS % back_end.http("/") + UNLIMITED)
        server = stack.enter_context(serving("app:live", cwd=here))
        yield server.pid, server.port


async def measure_freshet(clients: int, seconds: float, waits: dict[str, list[float]]) -> dict[str, Measured]:
    found = {}
    with freshet() as (pid, port):
        url, stack = f"ws://{HOST}:{port}/dev", list[ClientConnection]()
        for action in ("python", "thread", "process", "http"):
            waits.setdefault(action, []).extend(await latency(url, action, seconds / 2))
            found[action] = await messages(url, action, clients, seconds, pid)
        ids = await ids_of(url, "event", clients, stack)
        found["post, signed"] = await posts(port, "/dev", ids, seconds, pid, signed(port))
    return found


async def measure_serverless(packages: Path, clients: int, seconds: float) -> dict[str, Measured]:
    found = {}
    with serverless_offline(packages) as place:
        port, stack = int(place.full.rpartition(":")[2]), list[ClientConnection]()
        pid = int(place.pid)
        found["event"] = await messages(place.full, "event", clients, seconds, pid)
        ids = await ids_of(place.full, "event", clients, stack)
        found["post"] = await posts(port, "", ids, seconds, pid, lambda target: "")
    return found


def row(name: str, rounds: list[Measured]) -> str:
    cpu, rate = (statistics.median(getattr(each, part) for each in rounds) for part in ("cpu", "rate"))
    return f"| {name} | {cpu:.0f} | {1e6 / cpu:,.0f} | {rate:,.0f} |"


NAMES = {
    "python": "Freshet: a message, a Python route",
    "thread": "Freshet: a message, a Lambda handler in a thread",
    "process": "Freshet: a message, a Lambda handler in a process",
    "http": "Freshet: a message, a back end over HTTP",
    "post, signed": "Freshet: `post_to_connection`, signed",
}
PEER = {"event": "serverless-offline: a message, a Lambda handler", "post": "serverless-offline: `post_to_connection`"}


def main() -> None:
    parser = benchmark_parser(__doc__, clients=8, rounds=3, seconds=2.0)
    parser.add_argument("--serverless", type=Path, help="a folder with the npm packages")
    options = parser.parse_args()
    found: dict[str, list[Measured]] = {}
    waits: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, measured in asyncio.run(measure_freshet(options.clients, options.seconds, waits)).items():
            found.setdefault(NAMES[name], []).append(measured)
        if options.serverless:
            work = measure_serverless(options.serverless, options.clients, options.seconds)
            for name, measured in asyncio.run(work).items():
                found.setdefault(PEER[name], []).append(measured)
    lines = [
        f"## Gateway: {options.clients} clients, {IN_FLIGHT} messages in flight each, {options.rounds} rounds",
        "",
        "| | us CPU of the server for one | of a core, a second | as it ran, a second |",
        "|---|---|---|---|",
        *(row(name, rounds) for name, rounds in found.items()),
        "",
        "Until the answer, one message at a time, median and 99th percentile: "
        + "; ".join(
            f"{name} {statistics.median(each):.2f} and {sorted(each)[len(each) * 99 // 100]:.2f} ms"
            for name, each in waits.items()
        )
        + ".",
    ]
    report("gateway", lines, options)


if __name__ == "__main__":
    main()
