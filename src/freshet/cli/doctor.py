"""`freshet doctor`: what would hurt in production, tried on this machine with this configuration."""

import asyncio
import os
import resource
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer
from rich.markup import escape
from rich.table import Table

from freshet.cli.configuration import configuration
from freshet.cli.console import fail, printable
from freshet.cli.terminal import out
from freshet.config import Config, secret_of
from freshet.engines.base import Receiver
from freshet.errors import ConfigError, EngineUnavailable
from freshet.serving.server import BACKLOG
from freshet.serving.supervisor import place, reserve
from freshet.wiring.engines import engine_of

FEW_FILES = 10_000
SLOW = 0.02  # seconds to a broker and back
WEAK = 32  # bytes of an HMAC secret
LITTLE = 1 << 30  # bytes of disk


class Symptom(NamedTuple):
    """level: `bad` stops clients, `weak` will hurt under load or later. what: was found. do: about it."""

    level: Literal["good", "weak", "bad"]
    part: str
    what: str
    do: str = ""


COLOURS = {"good": "green", "weak": "yellow", "bad": "red"}


def doctor(
    config_path: Annotated[
        Path | None, typer.Option("--config", help="Default: freshet.toml, if there is one.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address on which `serve` is to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port.")] = 8000,
) -> None:
    """Look for what would hurt in production: limits of this machine, the port, the engine, the clock, the secret.

    [bold]Example[/bold]

      freshet doctor --config freshet.toml --host 0.0.0.0

    It exits with 1 if something is bad. `freshet check --security` looks for what is open.
    """
    try:
        config = configuration(config_path)
    except ConfigError as error:
        fail(str(error), "Run `freshet check` to see what is allowed and what there is.")
    found = [
        *_machine(),
        *_port(host, port),
        *asyncio.run(_engine(config)),
        *_clock(),
        *_secret(config),
        *_proxy(config),
    ]
    table = Table.grid(padding=(0, 2, 0, 0))
    for level, part, what, do in found:
        table.add_row(f"[{COLOURS[level]}]{level}[/]", f"[bold]{part}[/bold]", escape(printable(what)))
        if do:
            table.add_row("", "", escape(do))
    out.print(table)
    if any(each.level == "bad" for each in found):
        raise typer.Exit(1)


def _machine() -> Iterator[Symptom]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = f"{hard} open files, one for each client, in each process"
    if hard < FEW_FILES:
        yield Symptom("weak", "files", files, "Raise it: LimitNOFILE= in systemd, ulimits in Docker, `ulimit -Hn`.")
    else:
        yield Symptom("good", "files", files)
    with suppress(OSError, ValueError):
        backlog = int(Path("/proc/sys/net/core/somaxconn").read_text())
        waiting = f"{min(backlog, BACKLOG)} clients may wait to be accepted"
        if backlog < BACKLOG:
            yield Symptom("weak", "backlog", waiting, f"For storms of reconnects: sysctl net.core.somaxconn={BACKLOG}")
        else:
            yield Symptom("good", "backlog", waiting)
    for module, is_for in (("uvloop", "the event loop"), ("websockets.speedups", "unmasking")):
        if find_spec(module) is None:
            yield Symptom("weak", "speed", f"{module} is not installed: {is_for} is slow", "pip install it.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Symptom("good", "cores", f"{cores}: one process uses one of them, `--workers {cores}` all")


def _port(host: str, port: int) -> Iterator[Symptom]:
    try:
        reserve(host, port).close()
    except OSError as error:
        if _is_freshet(host, port):
            yield Symptom("good", "port", f"{place(host, port)} is served by Freshet already")
        else:
            says = f"{place(host, port)}: {error.strerror}"
            yield Symptom("bad", "port", says, "Choose another one, or end what has it.")
    else:
        yield Symptom("good", "port", f"{place(host, port)} is free")


def _is_freshet(host: str, port: int) -> bool:
    connection = HTTPConnection(host, port, timeout=1)
    with closing(connection), suppress(OSError, HTTPException):
        connection.request("GET", "/")
        return b"Freshet" in connection.getresponse().read(2048)
    return False


async def _engine(config: Config) -> list[Symptom]:
    scheme = config.engine.partition("://")[0]
    try:
        engine = engine_of(config)
        await engine.start("doctor", Receiver(lambda delivery: None, lambda channel: None, lambda message: None))
    except (ConfigError, EngineUnavailable) as error:
        return [Symptom("bad", "engine", str(error), "Start it, or repair `engine`: no client would be served.")]
    began = time.perf_counter()
    try:
        await engine.presence("freshet:doctor")
    finally:
        took = time.perf_counter() - began
        await engine.stop()
    says = f"{scheme} answers in {1000 * took:.1f} ms"
    found = [Symptom("good", "engine", says)]
    if took > SLOW:
        found = [Symptom("weak", "engine", says, "Each publication waits for it: put it nearer.")]
    if scheme == "memory":
        found.append(Symptom("good", "log", "in memory: a restart of the server empties every channel's history"))
    if scheme == "sqlite":
        free = shutil.disk_usage(Path.cwd()).free
        level: Literal["good", "weak"] = "weak" if free < LITTLE else "good"
        found.append(Symptom(level, "disk", f"{free >> 20} MiB are free here"))
    return found


def _clock() -> Iterator[Symptom]:
    """Tokens expire by the wall clock. Whether it is kept right, the kernel knows."""
    synchronised = Path("/run/systemd/timesync/synchronized")
    if synchronised.parent.exists() and not synchronised.exists():
        yield Symptom("weak", "clock", "it is not synchronised", "Tokens expire by it: see `timedatectl`.")
    else:
        yield Symptom("good", "clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def _secret(config: Config) -> Iterator[Symptom]:
    secret = secret_of(config)
    if secret is not None and len(secret.encode()) < WEAK:
        yield Symptom("weak", "secret", f"shorter than {WEAK} bytes", "Make a new one: openssl rand -hex 32")
    elif secret is not None:
        yield Symptom("good", "secret", f"{config.tokens.secret_env} or tokens.secret is set")
    elif not (config.tokens.anonymous or config.tokens.keys or config.tokens.jwks or config.tokens.public_key):
        yield Symptom("bad", "secret", "none is set: nobody can connect", f"Set {config.tokens.secret_env}.")


def _proxy(config: Config) -> Iterator[Symptom]:
    trusted = os.environ.get("FORWARDED_ALLOW_IPS", "").strip()
    if trusted == "*":
        yield Symptom(
            "weak",
            "proxy",
            "FORWARDED_ALLOW_IPS=* believes every client's X-Forwarded-For",
            "Name your proxies' addresses.",
        )
    else:
        yield Symptom(
            "good",
            "proxy",
            f"X-Forwarded-For is believed of {trusted or '127.0.0.1'}: from any other proxy, all have its address",
        )
    if not config.hosts:
        yield Symptom(
            "weak", "hosts", f"any Host is answered, such as {socket.gethostname()}", 'Set hosts = ["example.org"].'
        )
