"""`freshet top`: all nodes at a glance, in the terminal, as the admin page shows them."""

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from freshet.cli.caller import HERE, Url
from freshet.cli.console import printable
from freshet.cli.terminal import out
from freshet.cli.trace import HINT, AdminKey, key_of, operate
from freshet.cli.wire import Wire, endpoint, sessions
from freshet.observe.histograms import Distribution

KIB = 1024
MILLISECOND = 0.001
SPARKS = "▁▂▃▄▅▆▇█"
KEPT = 60  # samples
WINDOW = 10  # samples over which a percentile is taken
ROWS = 12  # channels
WIDE = 100  # characters of a terminal that has room for all columns
NUMBER = 8  # characters of a column of numbers, at least: it stands still while they change
SLOW = 5  # clients, and lines of the log

Sample = dict[str, Any]


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one view, and end.")] = False,
    url: Url = HERE,
    admin_key: AdminKey = None,
) -> None:
    """Show what all nodes hold and do, once a second: clients, messages, latency, the busiest channels.

    It reads what the admin page reads, with the same key.

    [bold]Examples[/bold]

      freshet top
      FRESHET_ADMIN_KEY=... freshet top --url https://live.example.org
      freshet top --once
    """
    screen = Screen(url)
    shown = _shown(screen, endpoint(url, "admin/connection/websocket"), key_of(admin_key))
    try:
        if once:
            for _ in shown:
                if screen.complete:
                    out.print(screen.view())
                    return
        with Live(screen.view(), console=out, screen=out.is_terminal, auto_refresh=False) as live:
            for _ in shown:
                live.update(screen.view(), refresh=True)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _shown(screen: "Screen", place: str, key: str) -> Iterator[None]:
    """One step after the other, each with something new on the screen."""

    def run(wire: Wire) -> Iterator[None]:
        operate(wire, key, "overview", "lists")
        while True:
            push = wire.next() or {}
            if "pub" in push:
                screen.take(push["channel"], push["pub"]["data"])
                yield

    return sessions(place, run, HINT)


class Screen:
    """samples: the last minute, oldest first."""

    def __init__(self, url: str) -> None:
        self.samples: list[Sample] = []
        self._url = url
        self._lists: dict[str, Any] = {"channels": [], "slow": [], "problems": []}
        self._rates: dict[str, float] = {}
        self._listed = 0.0
        self._lists_seen = 0

    @property
    def complete(self) -> bool:
        """Whether there are two of all, whose difference is a rate."""
        return len(self.samples) > 1 and self._lists_seen > 1

    def take(self, channel: str, data: dict[str, Any]) -> None:
        if channel == "overview":
            self.samples = [*self.samples, data][-KEPT:]
            return
        now, before = time.monotonic(), {name: events for name, _, events in self._lists["channels"]}
        for name, _, events in data["channels"]:
            if name in before and now > self._listed:
                self._rates[name] = max(0, events - before[name]) / (now - self._listed)
        self._lists, self._listed = data, now
        self._lists_seen += 1

    # ------------------------------------------------------------------------------------------------------- the view

    def view(self) -> RenderableType:
        if not self.samples:
            return Text(f"{self._url}: waiting for the first numbers", "dim")
        parts = [self._nodes(), self._channels(), *self._slow(), *self._problems()]
        return Group(self._figures(), *(each for part in parts for each in ("", part)))

    def _figures(self) -> RenderableType:
        last = self.samples[-1]["nodes"]
        latency = self._percentiles("latency")
        clients = [sum(node["clients"] for node in it["nodes"]) for it in self.samples]
        delivered = self._per_second("delivered")
        published = self._per_second("published")
        cpu = self._per_second("cpu")
        tiles = [
            ("connections", f"{clients[-1]:,}", _sparks(clients)),
            ("delivered/s", f"{_last(delivered):,.0f}", _sparks(delivered)),
            ("published/s", f"{_last(published):,.0f}", _sparks(published)),
            ("p50 p95 p99", _times(latency), ""),
            ("CPU", f"{_last(cpu):.0%}", _sparks(cpu)),
            ("memory", _bytes(sum(node["memory"] for node in last)), ""),
        ]
        panels = []
        for name, value, sparks in tiles:
            text = Text.assemble((value, "bold"), "\n", (sparks or " ", "cyan"))
            panels.append(Panel(text, title=name, title_align="left", border_style="dim", padding=(0, 1)))
        return Columns(panels, equal=True, expand=True)

    def _nodes(self) -> Table:
        wide = out.width >= WIDE
        table = _table(
            "node", "state", "clients", *(["subscriptions"] if wide else []), "delivered/s", "CPU", "memory", "up"
        )
        for node in self.samples[-1]["nodes"]:
            table.add_row(
                printable(f"{node['host']}:{node['process']}"),
                Text(node["state"], "green" if node["state"] == "ready" else "yellow"),
                f"{node['clients']:,}",
                *([f"{node['subscriptions']:,}"] if wide else []),
                f"{_last(self._per_second('delivered', node['id'])):,.0f}",
                f"{_last(self._per_second('cpu', node['id'])):.0%}",
                _bytes(node["memory"]),
                _age(node["uptime"]),
            )
        return table

    def _channels(self) -> RenderableType:
        table = _table("channel", "subscribers", "events/s")
        found = sorted(self._lists["channels"], key=lambda it: (-self._rates.get(it[0], 0.0), -it[1], it[0]))
        for name, subscribers, _ in found[:ROWS]:
            table.add_row(Text(printable(name), "cyan"), f"{subscribers:,}", f"{self._rates.get(name, 0.0):,.1f}")
        return table if found else Text("No channel has a subscriber.", "dim")

    def _slow(self) -> list[Table]:
        if not self._lists["slow"]:
            return []
        table = _table("slow client", "user", "waiting")
        for it in self._lists["slow"][:SLOW]:
            table.add_row(it["id"], Text(printable(it["user"] or "anonymous")), _bytes(it["waiting"]))
        return [table]

    def _problems(self) -> list[RenderableType]:
        if not self._lists["problems"]:
            return []
        lines = Text("lately in the log\n", "dim", no_wrap=True, overflow="ellipsis")
        for it in self._lists["problems"][:SLOW]:
            at = time.strftime("%H:%M:%S", time.localtime(it["at"]))
            lines.append(f"{at} ", "dim").append(printable(it["text"]), "red" if it["level"] == "error" else "yellow")
            lines.append("\n")
        lines.rstrip()
        return [lines]

    # ------------------------------------------------------------------------------------------------------ the numbers

    def _per_second(self, name: str, node: str = "") -> list[float]:
        """What a counter of all nodes, or of one, rose by, between each two samples."""
        rates = []
        for before, after in zip(self.samples, self.samples[1:], strict=False):
            earlier = {it["id"]: it[name] for it in before["nodes"]}
            risen = sum(
                max(0, it[name] - earlier[it["id"]])
                for it in after["nodes"]
                if it["id"] in earlier and node in ("", it["id"])
            )
            rates.append(risen / max(0.001, after["at"] - before["at"]))
        return rates

    def _percentiles(self, name: str) -> list[float]:
        """Of the last seconds: p50, p95, p99; seconds."""
        recent = self.samples[-WINDOW:]
        earlier = {it["id"]: Distribution(tuple(it[name])) for it in recent[0]["nodes"]}
        lately = Distribution()
        for it in recent[-1]["nodes"]:
            lately += Distribution(tuple(it[name])).since(earlier.get(it["id"], Distribution()))
        return [lately.percentile(share) for share in (0.5, 0.95, 0.99)]


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, expand=True, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="ellipsis", no_wrap=True, ratio=1)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True, min_width=max(len(name), NUMBER))
    return table


def _last(values: list[float]) -> float:
    return values[-1] if values else 0.0


def _sparks(values: list[Any]) -> str:
    shown = values[-20:]
    most = max(shown, default=0) or 1
    return "".join(SPARKS[min(len(SPARKS) - 1, int(value / most * (len(SPARKS) - 1)))] for value in shown)


def _times(seconds: list[float]) -> str:
    """In one unit, as `1 / 26 / 45 ms`."""
    if not any(seconds):
        return "-"
    if max(seconds) >= 1:
        return " / ".join(f"{it:.1f}" for it in seconds) + " s"
    return " / ".join(f"{it * 1000:.0f}" if it >= MILLISECOND else "<1" for it in seconds) + " ms"


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < KIB or unit == "GiB":
            return f"{number:,.0f} {unit}"
        number /= KIB
    raise AssertionError


def _age(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{int(seconds)} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
