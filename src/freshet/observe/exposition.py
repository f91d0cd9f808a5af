"""Snapshots of nodes in the text that Prometheus, and all that reads it, understands."""

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from freshet.observe.counts import LAGS, Snapshot

Of = Callable[[Snapshot], float]
GAUGES: dict[str, tuple[str, Of]] = {
    "ready": ("1: it takes new clients; 0: it starts, or drains.", lambda it: it.state == "ready"),
    "users": ("Users with a client here.", lambda it: it.users),
    "channels": ("Channels with a subscriber here.", lambda it: it.channels),
    "subscriptions": ("Subscribers of all channels together.", lambda it: it.subscriptions),
    "memory_bytes": ("Resident memory of the process.", lambda it: it.memory),
    "uptime_seconds": ("Since the node started.", lambda it: it.uptime),
}
COUNTERS: dict[str, tuple[str, Of]] = {
    "turned_away": ("Clients that were not admitted, and were asked to try again later.", lambda it: it.turned_away),
    "published": (
        "Publications of clients and the application that the engine accepted.",
        lambda it: it.counts.published,
    ),
    "unpublished": ("Publications that failed, as the engine was not available.", lambda it: it.counts.unpublished),
    "fanned_out": (
        "Publications, joins and leaves that were fanned out to this node's subscribers.",
        lambda it: it.counts.fanned_out,
    ),
    "recovered": ("Subscriptions that recovered: they got all that they had missed.", lambda it: it.counts.recovered),
    "unrecovered": (
        "Subscriptions that could not recover, and learned that.",
        lambda it: it.counts.unrecovered,
    ),
    "gaps": (
        "Gaps between broker and node that were filled from the log.",
        lambda it: it.counts.gaps,
    ),
    "losses": (
        "Gaps that the log could not fill: the channel's subscribers were disconnected, to reconnect.",
        lambda it: it.counts.losses,
    ),
    "cpu_seconds": ("CPU that the process has used.", lambda it: it.cpu),
}
BY_DIALECT = {
    "connected": "Clients that connected.",
    "delivered": "Publications, joins and leaves, each time for one subscriber.",
}
BY_CODE = {
    "ended": "Clients that disconnected or were disconnected, by the code of the reason.",
    "refusals": "Commands that were refused, by the code of the error.",
}


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
            for name, (meaning, of) in table.items():
                family = kind(f"freshet_{name}", meaning, labels=["worker"])
                for worker, it in self._snapshots.items():
                    family.add_metric([worker], of(it))
                yield family
        yield self._clients()
        yield from self._by_label()
        yield self._lag()

    def _clients(self) -> Metric:
        clients = GaugeMetricFamily("freshet_clients", "Clients that are connected.", labels=["worker", "dialect"])
        for worker, it in self._snapshots.items():
            for dialect, number in it.clients.items():
                clients.add_metric([worker, dialect], number)
        return clients

    def _by_label(self) -> Iterator[Metric]:
        for label, names in (("dialect", BY_DIALECT), ("code", BY_CODE)):
            for name, meaning in names.items():
                counter = CounterMetricFamily(f"freshet_{name}", meaning, labels=["worker", label])
                for worker, it in self._snapshots.items():
                    for value, number in getattr(it.counts, name).items():
                        counter.add_metric([worker, str(value)], number)
                yield counter

    def _lag(self) -> Metric:
        lag = HistogramMetricFamily("freshet_loop_lag_seconds", "How late the event loop was.", labels=["worker"])
        for worker, it in self._snapshots.items():
            reached = accumulate(it.counts.lags)
            buckets = zip([*map(str, LAGS), "+Inf"], reached, strict=True)
            lag.add_metric([worker], list(buckets), it.counts.lag)
        return lag
