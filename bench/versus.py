"""Freshet beside everyone else: what a delivery costs the server, in one run, round by round.

All do the same: a publisher sends a message, and every subscriber gets it. The servers have one core, the load another;
each has its own load and its own subscribers, and only one of them has something to do at a time. Each does what its
documentation shows. A server that is not installed is named and left out.

Run: make peers, or python -m bench.versus --help. With --write the table and its plot go to bench/.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.arguments import benchmark_parser
from bench.beds import HERE, Bed, Cost, build, freshet_command, loaded, raise_open_files
from bench.plots import bars
from bench.process import free_port, served
from bench.results import write
from bench.speeches import SOCKETIO, Speech, centrifuge, centrifuge_protobuf, mqtt, nats, plain, socketio_channel

PEERS = HERE / "peers"
PYTHON = HERE.parent / ".venv" / "peers" / "bin" / "python"
LIMIT = "C loop of send()"
GO_PATH = Path("/usr/share/gocode")  # where Debian has the sources of Go's libraries
OPEN = {"FRESHET_TOKENS__ANONYMOUS": "true"}

NOTE = """\
*User* and *whole* are microseconds of the server's CPU for a delivery, *of the loop* how many times the whole of the C
loop it is, in the median of the rounds' ratios. p50 and p99 are from the publisher's send to the receipt, in
milliseconds, so many publications being in flight until all subscribers have all. Every server is one process on one
core, without compression and without TLS, as its documentation shows a broadcast; what each does besides (tokens,
offsets, limits, recovery) is its own.""".splitlines()


class MissingTool(Exception):
    """A peer is not installed; says what would install it."""


class Peer(NamedTuple):
    """command: of a port and a folder to work in."""

    name: str
    speech: Speech
    command: Callable[[int, Path], list[str]]


def peers(payload: int) -> list[Peer]:
    everyone = plain()
    return [
        Peer(LIMIT, centrifuge(), lambda port, work: [str(work / "limit"), str(port)]),
        Peer("**Freshet**, Centrifuge JSON", centrifuge(), _freshet),
        Peer("**Freshet**, Centrifuge Protobuf", centrifuge_protobuf(payload), _freshet),
        Peer("**Freshet**, channel's URL", plain("/channels/bench"), _freshet),
        Peer("**Freshet**, Socket.IO", socketio_channel(), _freshet),
        Peer("socketify (uWebSockets)", everyone, _python("socketify_server.py", "socketify")),
        Peer("picows", everyone, _python("picows_server.py", "picows")),
        Peer("websockets, `broadcast`", everyone, _python("websockets_server.py", "websockets")),
        Peer("aiohttp", everyone, _python("aiohttp_server.py", "aiohttp")),
        Peer("FastAPI on uvicorn", everyone, _uvicorn("fastapi_app:app", "fastapi")),
        Peer("python-socketio on uvicorn", SOCKETIO, _uvicorn("socketio_app:app", "socketio")),
        Peer("npm ws", everyone, _node("ws.mjs")),
        Peer("npm socket.io", SOCKETIO, _node("server.mjs")),
        Peer("Go, gorilla/websocket", everyone, _go),
        Peer("NATS, WebSocket", nats(payload), _nats),
        Peer("Mosquitto, WebSocket", mqtt(payload), _mosquitto),
    ]


# ----------------------------------------------------------------------------------------------- how each is started


def _freshet(port: int, _: Path) -> list[str]:
    return freshet_command(port)


def _python(file: str, package: str) -> Callable[[int, Path], list[str]]:
    return lambda port, _: [_with_package(package), file, str(port)]


def _uvicorn(application: str, package: str) -> Callable[[int, Path], list[str]]:
    quiet = ["--log-level", "error", "--no-access-log", "--ws-per-message-deflate", "false"]
    return lambda port, _: [_with_package(package), "-m", "uvicorn", application, "--port", str(port), *quiet]


def _with_package(package: str) -> str:
    if not PYTHON.exists() or subprocess.run([PYTHON, "-c", f"import {package}"], check=False).returncode:
        raise MissingTool("make .venv/peers/made")
    return str(PYTHON)


def _node(file: str) -> Callable[[int, Path], list[str]]:
    def command(port: int, _: Path) -> list[str]:
        node, npm = _tool("node", "nodejs"), _tool("npm", "npm")
        if not (PEERS / "node_modules").is_dir():
            subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=PEERS, check=True, stdout=subprocess.DEVNULL)
        return [node, file, str(port)]

    return command


def _go(port: int, work: Path) -> list[str]:
    go = _tool("go", "golang-go")
    if not (GO_PATH / "src/github.com/gorilla/websocket").is_dir():
        raise MissingTool("apt-get install golang-github-gorilla-websocket-dev")
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(GO_PATH), "GOCACHE": str(work / "go")}
    subprocess.run([go, "build", "-o", str(work / "gorilla"), "gorilla.go"], cwd=PEERS, env=environment, check=True)
    return [str(work / "gorilla"), str(port)]


def _nats(port: int, work: Path) -> list[str]:
    config = work / "nats.conf"
    config.write_text(f"listen: 127.0.0.1:-1\nwebsocket {{ listen: '127.0.0.1:{port}', no_tls: true }}\n")
    return [_tool("nats-server", "nats-server"), "--config", str(config)]


def _mosquitto(port: int, work: Path) -> list[str]:
    config = work / "mosquitto.conf"
    config.write_text(
        f"listener {port}\nprotocol websockets\nallow_anonymous true\nset_tcp_nodelay true\n"
        f"listener {free_port()} 127.0.0.1\n"  # 2.0.11 does not start with a WebSocket alone
    )
    return [_tool("mosquitto", "mosquitto"), "-c", str(config)]


def _tool(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        raise MissingTool(f"apt-get install {package}")
    return found


# ---------------------------------------------------------------------------------------------------------- measuring


def start(stack: ExitStack, chosen: list[Peer], work: Path, subscribers: int) -> tuple[dict[str, Bed], list[str]]:
    """Each with its subscribers; and a line for each that is not here."""
    beds, missing = {}, []
    for peer in chosen:
        port = free_port()
        try:
            command = peer.command(port, work)
            server = stack.enter_context(served(command, port, cwd=PEERS, env=OPEN))
            it = stack.enter_context(loaded(server, peer.speech, work))
            it.do(f"connect {subscribers}")
        except (MissingTool, RuntimeError, subprocess.CalledProcessError) as why:
            missing.append(f"- not measured: {peer.name} ({str(why).strip().splitlines()[-1]})")
            print(f"{peer.name}: {why}", file=sys.stderr)
            continue
        beds[peer.name] = it
        print(f"{peer.name}: {subscribers} subscribers", file=sys.stderr)
    return beds, missing


Costs = dict[tuple[str, int], list[Cost]]


def measure(beds: dict[str, Bed], options: argparse.Namespace) -> Costs:
    """Round by round, so that the machine's noise falls on all."""
    costs: Costs = defaultdict(list)
    for number in range(options.rounds):
        for window in options.windows:
            for name, it in beds.items():
                costs[name, window].append(it.round(f"closed {window} {options.payload} {options.seconds}"))
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    return costs


def of_the_loop(costs: Costs, name: str, window: int) -> float:
    """How many times the C loop's whole CPU, in the median of the rounds."""
    pairs = zip(costs[name, window], costs[LIMIT, window], strict=True)
    return median(ours.total / theirs.total if theirs.total else math.inf for ours, theirs in pairs)


def table(costs: Costs, windows: list[int]) -> list[str]:
    names = sorted({name for name, _ in costs}, key=lambda name: of_the_loop(costs, name, windows[-1]))
    heads = [f"{window} in flight: user | whole | of the loop | p50 | p99" for window in windows]
    lines = [f"| server | {' | '.join(heads)} |", "|---|" + "---|" * 5 * len(windows)]
    for name in names:
        cells = []
        for window in windows:
            user, whole, p50, p99 = (median(each) for each in zip(*costs[name, window], strict=True))
            ratio = of_the_loop(costs, name, window)
            cells.append(f"{user:.3f} | {whole:.2f} | {ratio:.2f} | {p50:.2f} | {p99:.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def plot(costs: Costs, windows: list[int]) -> str:
    """Of the most in flight, where a server's own work shows, and not the kernel's."""
    window = windows[-1]
    whole = {name: median(cost.total for cost in costs[name, window]) for name, w in costs if w == window}
    return bars(
        f"CPU for a delivery, microseconds, {window} in flight (logarithmic)",
        {name.replace("*", "").replace("`", ""): value for name, value in sorted(whole.items(), key=lambda it: it[1])},
        ours="Freshet",
    )


def main() -> None:
    parser = benchmark_parser(__doc__, subscribers=1000, payload=128, windows=[1, 8], seconds=1.0, rounds=5)
    parser.add_argument("--only", default="", help="servers with one of these in their name: Freshet,npm")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write: the table has all rows")
    raise_open_files()
    words = options.only.split(",")
    chosen = [it for it in peers(options.payload) if it.name == LIMIT or any(word in it.name for word in words)]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        build(Path(folder))
        beds, missing = start(stack, chosen, Path(folder), options.subscribers)
        costs = measure(beds, options)
    what = f"{options.subscribers:,} subscribers, {options.payload} bytes, {options.rounds} interleaved rounds"
    lines = [f"## Beside everyone else: {what}", "", *NOTE, "", *table(costs, options.windows)]
    if missing:
        lines += ["", *missing]
    print("\n".join(lines))
    if options.write:
        (HERE / "versus.svg").write_text(plot(costs, options.windows))
        write("versus", [*lines, "", "![CPU for a delivery, by server](versus.svg)"])


if __name__ == "__main__":
    main()
