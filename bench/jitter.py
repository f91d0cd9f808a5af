"""What clients get whose connections are cut again and again: Freshet beside python-socketio and npm socket.io.

Two servers of each kind share one Redis. Clients are the official ones (peers/jitter.mjs): each loses its connection
at a random moment of every ten seconds and comes back two seconds later, while two numbers a second are published.
Counted is how many of all numbers reached the clients. The published figures of such a test, by AnyCable, are 84.6 %
for Socket.IO and 87.0 % for uWebSockets.

Run: python -m bench.jitter --help. With --write the table goes to bench/RESULTS.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from bench.arguments import benchmark_parser
from bench.clients import PEERS
from bench.process import free_port, served
from bench.results import report

PYTHON = sys.executable


class Contender(NamedTuple):
    """command: with {port} and {redis} in it. clients: which of the official ones."""

    name: str
    clients: str
    command: list[str]


FRESHET = [PYTHON, "-m", "freshet", "serve", "freshet_app:live", "--port", "{port}"]
UVICORN = [PYTHON, "-m", "uvicorn", "socketio_app:app", "--port", "{port}", "--log-level", "error"]
NODE = ["node", "server.mjs", "{port}", "{redis}"]
CONTENDERS = [
    Contender("Freshet, centrifuge-js", "centrifuge", FRESHET),
    Contender("Freshet, socket.io-client, recovery", "socket.io", FRESHET),
    Contender(
        "npm socket.io, Redis Streams, recovery", "socket.io", ["node", "server.mjs", "{port}", "{redis}", "yes"]
    ),
    Contender("npm socket.io, Redis Streams", "socket.io", NODE),
    Contender("python-socketio, Redis manager", "socket.io", UVICORN),
]


def run(it: Contender, options: argparse.Namespace) -> dict[str, int]:
    """One round: what was due, what came."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        redis = free_port()
        stack.enter_context(served(["redis-server", "--port", str(redis), "--save", ""], redis, cwd=Path(folder)))
        url = f"redis://127.0.0.1:{redis}"
        ports = [free_port() for _ in range(2)]
        for core, port in enumerate(ports):
            command = [part.format(port=port, redis=url) for part in it.command]
            stack.enter_context(served(command, port, core=core, cwd=PEERS, env={"REDIS_URL": url}))
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        command = ["node", "jitter.mjs", it.clients, str(options.clients), str(options.publications), *urls]
        done = subprocess.run(command, cwd=PEERS, check=True, capture_output=True, text=True, timeout=600)
    result: dict[str, int] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = benchmark_parser(__doc__, clients=300)
    parser.add_argument("--publications", type=int, default=60, help="two a second (default: 60)")
    options = parser.parse_args()
    if not (PEERS / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=PEERS, check=True, stdout=subprocess.DEVNULL)
    lines = [
        f"## Connections that break: {options.clients} clients, {options.publications} publications, two a second",
        "",
        "Two servers on one Redis; each client loses its connection once in ten seconds, and is away for two.",
        "",
        "| server | due | delivered | of it | twice | out of order |",
        "|---|---|---|---|---|---|",
    ]
    for it in CONTENDERS:
        got = run(it, options)
        part = got["delivered"] / got["due"]
        counts = f"{got['due']:,} | {got['delivered']:,} | {part:.1%} | {got['twice']:,} | {got['disordered']:,}"
        lines.append(f"| {it.name} | {counts} |")
        print(lines[-1], file=sys.stderr)
    report("jitter", lines, options)


if __name__ == "__main__":
    main()
