"""What the dashboards show: panels by rows, with the queries of Prometheus and of Datadog."""

from typing import NamedTuple

from grafana_foundation_sdk.models import units

NODES = '{instance=~"$instance"}'


class Query(NamedTuple):
    """expr: PromQL. legend: what a line is called."""

    expr: str
    legend: str


class Panel(NamedTuple):
    """datadog: the same as a query of Datadog; empty: it is not there."""

    title: str
    description: str
    unit: str
    queries: list[Query]
    stacked: bool = False
    datadog: tuple[str, ...] = ()


def rate(metric: str, by: str = "", where: str = "") -> str:
    labels = NODES if not where else f'{{instance=~"$instance",{where}}}'
    return f"sum{f' by ({by}) ' if by else ''}(rate(freshet_{metric}_total{labels}[$__rate_interval]))"


def some(metric: str, where: str = "", by: str = "") -> str:
    """As `rate`, of what has perhaps never happened."""
    return f"{rate(metric, by, where)} or vector(0)"


def held(metric: str, by: str = "") -> str:
    return f"sum{f' by ({by}) ' if by else ''}(freshet_{metric}{NODES})"


def quantile(share: float, histogram: str, by: str = "") -> str:
    groups = f"le, {by}" if by else "le"
    buckets = f"sum by ({groups}) (rate(freshet_{histogram}_bucket{NODES}[$__rate_interval]))"
    return f"histogram_quantile({share}, {buckets})"


def percentiles(histogram: str) -> list[Query]:
    return [Query(quantile(share, histogram), name) for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))]


def datadog_percentiles(name: str) -> tuple[str, ...]:
    return tuple(f"{share}:freshet.{name}{{*}}" for share in ("p50", "p95", "p99"))


OVERVIEW = [
    Panel(
        "Clients",
        "Connected now, by what they speak and how.",
        units.Short,
        [Query(held("clients", "dialect, transport"), "{{dialect}} {{transport}}")],
        stacked=True,
        datadog=("sum:freshet.clients{*} by {dialect,transport}",),
    ),
    Panel(
        "Connects and reconnects",
        "Clients that connected, and those of them that came back. Many at once: a node or a network went.",
        units.CountsPerSecond,
        [Query(rate("connected"), "connected"), Query(some("reconnected"), "came back")],
        datadog=("sum:freshet.connected{*}.as_rate()", "sum:freshet.reconnected{*}.as_rate()"),
    ),
    Panel(
        "Ends",
        "Clients that disconnected or were disconnected, by the code of the reason: 3000 left, 3008 was slow.",
        units.CountsPerSecond,
        [Query(rate("ended", "code"), "{{code}}")],
        stacked=True,
        datadog=("sum:freshet.ended{*} by {code}.as_rate()",),
    ),
    Panel(
        "Messages",
        "From clients and to them, each time for one.",
        units.CountsPerSecond,
        [Query(rate("received"), "in"), Query(rate("sent"), "out")],
        datadog=("sum:freshet.received{*}.as_rate()", "sum:freshet.sent{*}.as_rate()"),
    ),
    Panel(
        "Payload",
        "Bytes of these messages.",
        units.BytesPerSecondIEC,
        [Query(rate("received_bytes"), "in"), Query(rate("sent_bytes"), "out")],
        datadog=("sum:freshet.received_bytes{*}.as_rate()", "sum:freshet.sent_bytes{*}.as_rate()"),
    ),
    Panel(
        "Refusals",
        "By policy, and commands by the code of their error. None are for nothing: the log has the reasons.",
        units.CountsPerSecond,
        [Query(rate("policy_refusals", "policy"), "{{policy}}"), Query(rate("refusals", "code"), "code {{code}}")],
        datadog=("sum:freshet.policy_refusals{*} by {policy}.as_rate()",),
    ),
]
LATENCY = [
    Panel(
        "Delivery",
        "From when a publication was accepted, on whichever node, until it was given to a subscriber's socket.",
        units.Seconds,
        percentiles("delivery_latency_seconds"),
        datadog=datadog_percentiles("delivery_latency_seconds"),
    ),
    Panel(
        "Delivery p99, on the node and across nodes",
        "What the engine adds. Clocks of machines that differ show here.",
        units.Seconds,
        [Query(quantile(0.99, "delivery_latency_seconds", "accepted"), "accepted {{accepted}}")],
        datadog=("p99:freshet.delivery_latency_seconds{*} by {accepted}",),
    ),
    Panel(
        "Round trip",
        "From a ping to the client's answer: the clients' networks, and how busy they are.",
        units.Seconds,
        percentiles("round_trip_seconds"),
        datadog=datadog_percentiles("round_trip_seconds"),
    ),
    Panel(
        "Commands p95",
        "How long clients wait for what they ask, your hooks included.",
        units.Seconds,
        [Query(quantile(0.95, "command_seconds", "command"), "{{command}}")],
        datadog=("p95:freshet.command_seconds{*} by {command}",),
    ),
]
CHANNELS = [
    Panel(
        "Channels and subscriptions",
        "Channels with a subscriber, and all subscribers of them together.",
        units.Short,
        [Query(held("channels"), "channels"), Query(held("subscriptions"), "subscriptions")],
        datadog=("sum:freshet.channels{*}", "sum:freshet.subscriptions{*}"),
    ),
    Panel(
        "Publications",
        "Accepted by the engine, and those that failed.",
        units.CountsPerSecond,
        [Query(rate("published"), "accepted"), Query(some("unpublished"), "failed")],
        datadog=("sum:freshet.published{*}.as_rate()", "sum:freshet.unpublished{*}.as_rate()"),
    ),
    Panel(
        "Deliveries",
        "Each publication, each time for one subscriber.",
        units.CountsPerSecond,
        [Query(rate("delivered", "dialect"), "{{dialect}}")],
        stacked=True,
        datadog=("sum:freshet.delivered{*} by {dialect}.as_rate()",),
    ),
    Panel(
        "Recovery",
        "Subscriptions that said where they stood: they got all that they had missed, or learned that they could not.",
        units.CountsPerSecond,
        [Query(rate("recovered"), "recovered"), Query(rate("unrecovered"), "not recovered")],
        datadog=("sum:freshet.recovered{*}.as_rate()", "sum:freshet.unrecovered{*}.as_rate()"),
    ),
    Panel(
        "Slow clients",
        "Those for which much waits, those that were disconnected for that, and messages that were left out.",
        units.Short,
        [
            Query(held("clients_behind"), "behind"),
            Query(some("ended", 'code="3008"'), "disconnected/s"),
            Query(rate("dropped"), "dropped/s"),
            Query(rate("conflated"), "conflated/s"),
        ],
        datadog=("sum:freshet.clients_behind{*}", "sum:freshet.dropped{*}.as_rate()"),
    ),
    Panel(
        "Outboxes",
        "What waits for all clients together, and for the one for which most does.",
        units.BytesIEC,
        [Query(held("outbox_bytes"), "all"), Query(f"max(freshet_outbox_largest_bytes{NODES})", "fullest")],
        datadog=("sum:freshet.outbox_bytes{*}", "max:freshet.outbox_largest_bytes{*}"),
    ),
]
ENGINE = [
    Panel(
        "Until a publication is accepted",
        "How long the engine takes to give it its place in the log.",
        units.Seconds,
        percentiles("publish_seconds"),
        datadog=datadog_percentiles("publish_seconds"),
    ),
    Panel(
        "Engine lag",
        "How long it takes to answer when it is asked, every 5 seconds; none on the memory engine.",
        units.Seconds,
        percentiles("engine_lag_seconds"),
        datadog=datadog_percentiles("engine_lag_seconds"),
    ),
    Panel(
        "Engine errors",
        "Operations that failed, as it was not available; and since when it has been away.",
        units.Short,
        [Query(some("engine_errors"), "errors/s"), Query(f"max(freshet_engine_away_seconds{NODES})", "seconds away")],
        datadog=("sum:freshet.engine_errors{*} by {operation}.as_rate()", "max:freshet.engine_away_seconds{*}"),
    ),
    Panel(
        "Gaps",
        "Between broker and node: filled from the log, or lost, so that subscribers were told.",
        units.CountsPerSecond,
        [Query(rate("gaps"), "filled"), Query(rate("losses"), "lost")],
        datadog=("sum:freshet.gaps{*}.as_rate()", "sum:freshet.losses{*}.as_rate()"),
    ),
]
RUNS = [
    Panel(
        "Runs",
        "AI answers and other long work that is under way.",
        units.Short,
        [Query(held("runs", "instance"), "{{instance}}")],
        stacked=True,
        datadog=("sum:freshet.runs{*} by {host}",),
    ),
    Panel(
        "Ends of runs",
        "By how they ended, beside those that were asked for.",
        units.CountsPerSecond,
        [Query(rate("runs_started"), "started"), Query(some("runs_ended", by="state"), "{{state}}")],
        datadog=("sum:freshet.runs_started{*}.as_rate()", "sum:freshet.runs_ended{*} by {state}.as_rate()"),
    ),
    Panel(
        "Until the first text",
        "From when a run's task began: what its model takes to answer.",
        units.Seconds,
        percentiles("run_first_seconds"),
        datadog=datadog_percentiles("run_first_seconds"),
    ),
    Panel(
        "Tokens",
        "Calls in which runs wrote something, and what those that ended said that they cost.",
        units.CountsPerSecond,
        [Query(rate("run_parts"), "written"), Query(some("run_usage", by="kind"), "{{kind}}")],
        datadog=("sum:freshet.run_parts{*}.as_rate()", "sum:freshet.run_usage{*} by {kind}.as_rate()"),
    ),
]
WORKERS = [
    Panel(
        "How late the event loop is, p99",
        "Everything waits for it. Above some 50 ms: too much for one core, or a hook that blocks.",
        units.Seconds,
        [Query(quantile(0.99, "loop_lag_seconds", "instance, worker"), "{{instance}} {{worker}}")],
        datadog=("p99:freshet.loop_lag_seconds{*} by {host,worker}",),
    ),
    Panel(
        "CPU",
        "Of each worker: 1 is a core.",
        units.PercentUnit,
        [Query(rate("cpu_seconds", "instance, worker"), "{{instance}} {{worker}}")],
        datadog=("sum:freshet.cpu_seconds{*} by {host,worker}.as_rate()",),
    ),
    Panel(
        "Memory",
        "Resident, of each worker.",
        units.BytesIEC,
        [Query(held("memory_bytes", "instance, worker"), "{{instance}} {{worker}}")],
        datadog=("sum:freshet.memory_bytes{*} by {host,worker}",),
    ),
    Panel(
        "Memory of a client",
        "What a worker has grown by since it began, for each client that it has.",
        units.BytesIEC,
        [Query(f"avg by (instance) (freshet_client_memory_bytes{NODES})", "{{instance}}")],
        datadog=("avg:freshet.client_memory_bytes{*} by {host}",),
    ),
    Panel(
        "Files",
        "Of those that a worker may open; each client is one.",
        units.PercentUnit,
        [
            Query(
                f"max by (instance, worker) (freshet_open_files{NODES} / (freshet_max_files{NODES} > 0))",
                "{{instance}} {{worker}}",
            )
        ],
        datadog=("max:freshet.open_files{*} by {host,worker}",),
    ),
    Panel(
        "Ready",
        "Nodes and workers that take new clients.",
        units.Short,
        [Query(held("ready", "instance"), "{{instance}}")],
        stacked=True,
        datadog=("sum:freshet.ready{*} by {host}",),
    ),
]
ROWS = {
    "Overview": OVERVIEW,
    "Latency": LATENCY,
    "Channels": CHANNELS,
    "Engine": ENGINE,
    "Runs": RUNS,
    "Workers": WORKERS,
}
