"""`freshet bench`: what a server of one's own bears, by the clients that it will have."""

import asyncio
import json
import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from freshet.cli.bench_dialects import DIALECTS
from freshet.cli.caller import HERE, Url
from freshet.cli.configuration import configuration
from freshet.cli.console import fail, printable
from freshet.cli.terminal import err, out
from freshet.config import api_key_of, secret_of
from freshet.errors import ConfigError
from freshet.load.conductor import Measured, conduct, cores, shares
from freshet.load.loads import LOADS
from freshet.load.plan import LoadError, Plan
from freshet.load.plot import latencies
from freshet.load.report import doubts, figures, lines, table
from freshet.policy.tokens import TokenVerifier

ALIASES = {"sse": ("fanout", "sse"), "poll": ("fanout", "poll")}
RATE = 100.0  # publications/s, where nothing is said
CLOSED = ("echo", "rpc")  # one in flight, where nothing is said
FILES = 100  # that a process of the load has open besides its clients
CLIENTS = 2000  # for which a further process is worth its start
WORKER = "freshet.cli.bench_worker"
HINT = "Give --token, or set FRESHET_SECRET to sign one for each client. If it is set here, it is not the server's."


def bench(
    load: Annotated[str, typer.Argument(help=f"{', '.join((*LOADS, *ALIASES))}.")] = "fanout",
    url: Url = HERE,
    dialect: Annotated[str, typer.Option(help=f"How the clients speak: {', '.join(DIALECTS)}.")] = "",
    clients: Annotated[int, typer.Option(min=1, help="Clients, of all processes together.")] = 100,
    channel: Annotated[str, typer.Option(help="The channel, or what the names of rooms begin with.")] = "bench",
    members: Annotated[int, typer.Option(min=2, help="Clients of a room of `chat`.")] = 10,
    rate: Annotated[float, typer.Option(min=0, help="Open loop: so many publications/s, whatever comes back.")] = 0,
    in_flight: Annotated[int, typer.Option(min=0, help="Closed loop: the next when one has come to all.")] = 0,
    payload: Annotated[int, typer.Option(min=1, max=1 << 20, help="Bytes of data in a publication.")] = 128,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of the measurement.")] = 10,
    processes: Annotated[int, typer.Option(min=0, help="Of the load; 0: by clients and cores.")] = 0,
    at_once: Annotated[int, typer.Option(min=1, help="Clients that are connecting at the same time.")] = 32,
    method: Annotated[str, typer.Option(help="What `rpc` calls; it has to return its data.")] = "echo",
    token: Annotated[str, typer.Option(envvar="FRESHET_TOKEN", help="One for all clients.")] = "",
    by_api: Annotated[bool, typer.Option("--api", help="Publish by the server API instead of as a client.")] = False,
    api_key: Annotated[
        str, typer.Option(help="For --api. Default: FRESHET_API_KEY, or \\[api] key in freshet.toml.")
    ] = "",
    insecure: Annotated[bool, typer.Option("--insecure", help="Take any certificate.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as one JSON object.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Write a plot of the latencies to this file.")] = None,
) -> None:
    """Measure a server: connect clients, publish, and count what comes, and when.

    Latency is measured from the time at which a publication was due, so that a server which keeps the publisher
    waiting does not look better; losses are counted by sequence. Ctrl-C gives the figures so far.

    [bold]Examples[/bold]

      freshet bench --clients 1000 --rate 50
      freshet bench chat --clients 2000 --members 10 --rate 500 --json
      freshet bench recovery --clients 5000 --svg recovery.svg
      freshet bench echo --dialect websocket --url ws://127.0.0.1:9000/echo
    """
    name, spoken = ALIASES.get(load, (load, dialect or "centrifuge"))
    rate, in_flight = _pace(name, rate, in_flight)
    plan = Plan(
        load=name,
        url=url,
        dialect=dialect or spoken,
        channel=channel,
        clients=clients,
        members=members,
        rate=rate,
        in_flight=in_flight,
        payload=payload,
        seconds=seconds,
        at_once=at_once,
        tokens=_tokens(token, clients) if spoken != "websocket" else [],
        api_key=_api_key(api_key) if by_api else "",
        method=method,
        insecure=insecure,
    )
    _must_fit(plan)
    _show(plan, _run(plan, processes or _processes(clients)), as_json, svg)


def _pace(load: str, rate: float, in_flight: int) -> tuple[float, int]:
    if rate and in_flight:
        raise typer.BadParameter("expected one of them: an open loop has a rate", param_hint="--rate, --in-flight")
    if load == "recovery" and in_flight:
        raise typer.BadParameter("what is published while clients are away has a rate", param_hint="--in-flight")
    return rate or (0 if in_flight or load in CLOSED else RATE), in_flight or 1


def _must_fit(plan: Plan) -> None:
    """The load exists, speaks that dialect, and the URL is one of it."""
    if plan.load not in LOADS:
        known = ", ".join((*LOADS, *ALIASES))
        raise typer.BadParameter(f"{plan.load!r}: expected one of {known}", param_hint="LOAD")
    spoken = [name for name, kind in DIALECTS.items() if LOADS[plan.load].suits(kind)]
    if plan.dialect not in spoken:
        what = f"{plan.dialect!r}: expected for {plan.load} one of {', '.join(spoken)}"
        raise typer.BadParameter(what, param_hint="--dialect")
    schemes = ("ws", "wss") if plan.dialect == "websocket" else ("http", "https")
    parts = urlsplit(plan.url)
    if parts.scheme not in schemes or not parts.hostname:
        raise typer.BadParameter(f"{plan.url!r}: expected {schemes[0]}://HOST[:PORT][/PATH]", param_hint="--url")


def _processes(clients: int) -> int:
    """As many as their open files ask for; and one for each core but one, which the server may need."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    needed = math.ceil(clients / max(1, files - FILES))
    return max(needed, min(max(1, cores() - 1), math.ceil(clients / CLIENTS)))


def _tokens(token: str, clients: int) -> list[str]:
    """The one that was given; or one for each client, where the secret is known."""
    if token:
        return [token]
    try:
        config = configuration()
        secret = secret_of(config)
        if not secret:
            return []
        tokens = TokenVerifier.from_config(config.tokens, secret)
        return [tokens.issue(f"bench{number}", expires_in=3600) for number in range(clients)]
    except ConfigError as error:
        fail(str(error), "Give --token.")


def _api_key(given: str) -> str:
    try:
        return given or api_key_of(configuration()) or "none"
    except ConfigError as error:
        fail(str(error), "Give --api-key.")


def _run(plan: Plan, processes: int) -> Measured:
    try:
        with _shown(plan) as progress:
            return asyncio.run(conduct(shares(plan, min(processes, plan.clients)), WORKER, progress))
    except LoadError as error:
        fail(str(error), error.hint or HINT, code=1)


@contextmanager
def _shown(plan: Plan) -> Iterator[Any]:
    """Bars of the clients that are in, and of the time; on a terminal alone."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        clients = bars.add_task("connected", total=plan.clients)
        counted = bars.add_task("deliveries", total=None, visible=False)
        back = bars.add_task("back", total=plan.clients, visible=False)

        def progress(name: str, number: int) -> None:
            task = {"connected": clients, "deliveries": counted, "back": back}[name]
            bars.update(task, completed=number, visible=number > 0 or task == clients)

        yield progress


def _show(plan: Plan, measured: Measured, as_json: bool, svg: Path | None) -> None:
    pace = f"{plan.rate:g}/s" if plan.rate else f"{plan.in_flight} in flight"
    published = f", {plan.payload} bytes, {pace}" if measured.counts["published"] else ""
    title = f"{plan.load}, {plan.dialect}: {plan.clients:,} clients{published}"
    if as_json:
        about = {name: getattr(plan, name) for name in ("load", "url", "dialect", "clients", "payload", "rate")}
        print(json.dumps(figures(measured, about | {"in_flight": 0 if plan.rate else plan.in_flight})))
    else:
        out.print(f"[bold]{title}[/bold], {measured.seconds:.1f} s", highlight=False)
        out.print(table(measured))
        for line in lines(measured):
            out.print(printable(line), markup=False, highlight=False, soft_wrap=True)
    for doubt in doubts(measured):
        err.print(f"[yellow]note:[/yellow] {doubt}", highlight=False, soft_wrap=True)
    if svg is not None:
        shown = {name: samples for name, samples in measured.series.items() if name != "lag"}
        svg.write_text(latencies(title, shown))
        err.print(f"wrote {svg}", markup=False, highlight=False)
    if not measured.is_whole:
        raise typer.Exit(130)
