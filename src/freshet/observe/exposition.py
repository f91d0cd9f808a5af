"""Snapshots of nodes in the text that Prometheus, and all that reads it, understands."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from freshet.observe.counts import Snapshot
from freshet.observe.histograms import Histogram


class Shown(NamedTuple):
    """A metric. of: its value, or with labels its values by what the labels are; of a histogram, histograms."""

    meaning: str
    of: Callable[[Snapshot], Any]
    labels: tuple[str, ...] = ()


GAUGES: dict[str, Shown] = {
    "ready": Shown("1: it takes new clients; 0: it starts, or drains.", lambda it: it.state == "ready"),
    "clients": Shown("Clients that are connected.", lambda it: it.clients, ("dialect", "transport")),
    "users": Shown("Users with a client here.", lambda it: it.users),
    "channels": Shown("Channels with a subscriber here.", lambda it: it.channels),
    "subscriptions": Shown("Subscribers of all channels together.", lambda it: it.subscriptions),
    "runs": Shown("Runs that have a task here.", lambda it: it.counts.runs.begun - it.counts.runs.left),
    "outbox_bytes": Shown("What waits in the outboxes of all clients together.", lambda it: it.outbox),
    "outbox_largest_bytes": Shown("What waits in the fullest of them.", lambda it: it.outbox_largest),
    "clients_behind": Shown("Clients for which half of `limits.outbox` waits, or more.", lambda it: it.behind),
    "engine_away_seconds": Shown("Since when the engine does not answer; 0: it does.", lambda it: it.engine_away),
    "memory_bytes": Shown("Resident memory of the process.", lambda it: it.memory),
    "client_memory_bytes": Shown(
        "What the process has grown by since it began, for each client.", lambda it: it.memory_of_client
    ),
    "open_files": Shown("File descriptors of the process, sockets too.", lambda it: it.open_files),
    "max_files": Shown("How many of them it may have; 0: it is not known.", lambda it: it.most_files),
    "uptime_seconds": Shown("Since the node started.", lambda it: it.uptime),
}
COUNTERS: dict[str, Shown] = {
    "connected": Shown("Clients that connected.", lambda it: it.counts.connected, ("dialect", "transport")),
    "reconnected": Shown(
        "Those of them that came back: they said where they stood, or resumed a session.",
        lambda it: it.counts.returned,
        ("dialect", "transport"),
    ),
    "ended": Shown(
        "Clients that disconnected or were disconnected, by the code of the reason.",
        lambda it: it.counts.ended,
        ("code",),
    ),
    "turned_away": Shown(
        "Clients that were not admitted, and were asked to try again later.", lambda it: it.turned_away
    ),
    "received": Shown("Messages of clients.", lambda it: it.counts.received),
    "received_bytes": Shown("Their payload.", lambda it: it.counts.received_bytes),
    "sent": Shown("Messages to clients, each time for one.", lambda it: it.counts.sent),
    "sent_bytes": Shown("Their payload.", lambda it: it.counts.sent_bytes),
    "published": Shown(
        "Publications of clients and the application that the engine accepted.", lambda it: it.counts.published
    ),
    "unpublished": Shown(
        "Publications that failed, as the engine was not available.", lambda it: it.counts.unpublished
    ),
    "fanned_out": Shown(
        "Publications, joins and leaves that were fanned out to this node's subscribers.",
        lambda it: it.counts.fanned_out,
    ),
    "delivered": Shown(
        "Publications, joins and leaves, each time for one subscriber.", lambda it: it.counts.delivered, ("dialect",)
    ),
    "dropped": Shown("Messages that were dropped for a client that did not read in time.", lambda it: it.dropped),
    "conflated": Shown("Messages that a later one of the same key replaced before they left.", lambda it: it.conflated),
    "refusals": Shown(
        "Commands that were refused, by the code of the error.", lambda it: it.counts.refusals, ("code",)
    ),
    "policy_refusals": Shown(
        "Requests and commands that a policy refused, by the policy.", lambda it: it.counts.refused, ("policy",)
    ),
    "recovered": Shown(
        "Subscriptions that recovered: they got all that they had missed.", lambda it: it.counts.recovered
    ),
    "unrecovered": Shown("Subscriptions that could not recover, and learned that.", lambda it: it.counts.unrecovered),
    "gaps": Shown("Gaps between broker and node that were filled from the log.", lambda it: it.counts.gaps),
    "losses": Shown(
        "Gaps that the log could not fill: the channel's subscribers were disconnected, to reconnect.",
        lambda it: it.counts.losses,
    ),
    "engine_errors": Shown(
        "Operations that failed, as the engine was not available.",
        lambda it: it.counts.engine_errors,
        ("operation",),
    ),
    "runs_started": Shown("Runs that were asked for.", lambda it: it.counts.runs.started),
    "runs_ended": Shown("Runs that ended, by how.", lambda it: it.counts.runs.ended, ("state",)),
    "run_parts": Shown(
        "What runs wrote, each call of theirs: with most models, their tokens.", lambda it: it.counts.runs.parts
    ),
    "run_characters": Shown("The length of that.", lambda it: it.counts.runs.characters),
    "run_usage": Shown(
        "What runs that ended said that they cost, by kind, such as `input_tokens`.",
        lambda it: it.counts.runs.usage,
        ("kind",),
    ),
    "cpu_seconds": Shown("CPU that the process has used.", lambda it: it.cpu),
}
HISTOGRAMS: dict[str, Shown] = {
    "delivery_latency_seconds": Shown(
        "From when a publication was accepted, on this node or another one, until it was given to a socket.",
        lambda it: {"here": it.counts.here, "elsewhere": it.counts.elsewhere},
        ("accepted",),
    ),
    "round_trip_seconds": Shown("From a ping to the client's answer.", lambda it: {"": it.counts.round_trips}),
    "command_seconds": Shown("Clients' commands, hooks included.", lambda it: it.counts.commands, ("command",)),
    "publish_seconds": Shown("Until the engine accepted a publication.", lambda it: {"": it.counts.publishing}),
    "engine_lag_seconds": Shown(
        "Until the engine answered when it was asked something, now and then.", lambda it: {"": it.counts.engine}
    ),
    "recovery_publications": Shown(
        "How many publications a subscription got that recovered.", lambda it: {"": it.counts.replayed}
    ),
    "run_first_seconds": Shown(
        "From when a run's task began until its first text was in the log.", lambda it: {"": it.counts.runs.first}
    ),
    "loop_lag_seconds": Shown("How late the event loop was.", lambda it: {"": it.counts.lag}),
}


def labelled(shown: Shown, it: Snapshot) -> Iterator[tuple[list[str], Any]]:
    """The values of its labels, and the value for these; once where there are none."""
    value = shown.of(it)
    if not isinstance(value, Mapping):
        yield [], value
        return
    for key, each in value.items():
        yield _texts(key) if shown.labels else [], each


def _texts(key: Hashable) -> list[str]:
    return [str(each) for each in key] if isinstance(key, tuple) else [str(key)]


def exposition(snapshots: Mapping[str, Snapshot], accept: str = "") -> tuple[bytes, str]:
    """The text, and its media type, which `accept` (a header) chooses. snapshots: by the place of the worker."""
    registry = CollectorRegistry()
    registry.register(_Snapshots(snapshots))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _Snapshots(Collector):
    def __init__(self, snapshots: Mapping[str, Snapshot]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        for kind, table in ((GaugeMetricFamily, GAUGES), (CounterMetricFamily, COUNTERS)):
            for name, shown in table.items():
                family = kind(f"freshet_{name}", shown.meaning, labels=["worker", *shown.labels])
                for worker, it in self._snapshots.items():
                    for labels, value in labelled(shown, it):
                        family.add_metric([worker, *labels], value)
                yield family
        for name, shown in HISTOGRAMS.items():
            yield self._histogram(name, shown)

    def _histogram(self, name: str, shown: Shown) -> Metric:
        family = HistogramMetricFamily(f"freshet_{name}", shown.meaning, labels=["worker", *shown.labels])
        for worker, it in self._snapshots.items():
            for labels, histogram in labelled(shown, it):
                assert isinstance(histogram, Histogram)
                bounds = [*map(str, histogram.bounds), "+Inf"]
                buckets = list(zip(bounds, histogram.reached(), strict=True))
                family.add_metric([worker, *labels], buckets, histogram.sum)
        return family
