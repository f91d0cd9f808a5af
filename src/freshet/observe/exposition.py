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
    "ready": ("1: it takes new clients.", lambda it: it.state == "ready"),
    "users": ("Users with a client here.", lambda it: it.users),
    "channels": ("Channels that somebody listens to here.", lambda it: it.channels),
    "subscriptions": ("Listeners of all channels together.", lambda it: it.subscriptions),
    "memory_bytes": ("Resident memory of the process.", lambda it: it.memory),
    "uptime_seconds": ("Since the node began.", lambda it: it.uptime),
}
COUNTERS: dict[str, tuple[str, Of]] = {
    "turned_away": ("Clients for whom there was no time: they were asked to come later.", lambda it: it.turned_away),
    "published": (
        "Publications of clients and the application that the engine accepted.",
        lambda it: it.counts.published,
    ),
    "unpublished": ("Publications that the engine could not take.", lambda it: it.counts.unpublished),
    "fanned_out": (
        "Publications, and who joined or left, as they came to this node's listeners.",
        lambda it: it.counts.fanned_out,
    ),
    "recovered": ("Subscriptions that got all they had missed.", lambda it: it.counts.recovered),
    "unrecovered": (
        "Subscriptions that could not get all they had missed, and were told.",
        lambda it: it.counts.unrecovered,
    ),
    "gaps": (
        "Times that the live flow had missed something, which was read from the log.",
        lambda it: it.counts.gaps,
    ),
    "losses": (
        "Times that it had missed something which the log no longer had: the listeners came back.",
        lambda it: it.counts.losses,
    ),
    "cpu_seconds": ("CPU that the process has used.", lambda it: it.cpu),
}
BY_DIALECT = {
    "connected": "Clients that connected.",
    "delivered": "Publications, and who joined or left, each time for one client.",
}
BY_CODE = {
    "ended": "Clients that had connected and are gone, by the code of the reason.",
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
