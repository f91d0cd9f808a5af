"""Snapshots of nodes in the text that Prometheus, and all that reads it, understands."""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from freshet.observe.counts import LAGS, Snapshot

GAUGES = {
    "users": "Users with a client here.",
    "channels": "Channels that somebody listens to here.",
    "subscriptions": "Listeners of all channels together.",
}
COUNTERS = {
    "published": "Publications of clients and the application that the engine accepted.",
    "unpublished": "Publications that the engine could not take.",
    "fanned_out": "Publications, and who joined or left, as they came to this node's listeners.",
    "recovered": "Subscriptions that got all they had missed.",
    "unrecovered": "Subscriptions that could not get all they had missed, and were told.",
    "gaps": "Times that the live flow had missed something, which was read from the log.",
    "losses": "Times that it had missed something which the log no longer had: the listeners came back.",
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
        yield from self._gauges()
        yield from self._counters()
        yield from self._process()
        lag = HistogramMetricFamily("freshet_loop_lag_seconds", "How late the event loop was.", labels=["worker"])
        for worker, it in self._snapshots.items():
            reached = [sum(it.counts.lags[: place + 1]) for place in range(len(LAGS) + 1)]
            buckets = zip([*map(str, LAGS), "+Inf"], reached, strict=True)
            lag.add_metric([worker], list(buckets), it.counts.lag)
        yield lag

    def _gauges(self) -> Iterator[Metric]:
        clients = GaugeMetricFamily("freshet_clients", "Clients that are connected.", labels=["worker", "dialect"])
        ready = GaugeMetricFamily("freshet_ready", "1: it takes new clients.", labels=["worker"])
        for worker, it in self._snapshots.items():
            ready.add_metric([worker], it.state == "ready")
            for dialect, number in it.clients.items():
                clients.add_metric([worker, dialect], number)
        yield ready
        yield clients
        for name, meaning in GAUGES.items():
            gauge = GaugeMetricFamily(f"freshet_{name}", meaning, labels=["worker"])
            for worker, it in self._snapshots.items():
                gauge.add_metric([worker], getattr(it, name))
            yield gauge

    def _counters(self) -> Iterator[Metric]:
        for name, meaning in COUNTERS.items():
            counter = CounterMetricFamily(f"freshet_{name}", meaning, labels=["worker"])
            for worker, it in self._snapshots.items():
                counter.add_metric([worker], getattr(it.counts, name))
            yield counter
        for label, names in (("dialect", BY_DIALECT), ("code", BY_CODE)):
            for name, meaning in names.items():
                counter = CounterMetricFamily(f"freshet_{name}", meaning, labels=["worker", label])
                for worker, it in self._snapshots.items():
                    for value, number in getattr(it.counts, name).items():
                        counter.add_metric([worker, str(value)], number)
                yield counter
        turned_away = CounterMetricFamily(
            "freshet_turned_away",
            "Clients for whom there was no time: they were asked to come later.",
            labels=["worker"],
        )
        for worker, it in self._snapshots.items():
            turned_away.add_metric([worker], it.turned_away)
        yield turned_away

    def _process(self) -> Iterator[Metric]:
        cpu = CounterMetricFamily("freshet_cpu_seconds", "CPU that the process has used.", labels=["worker"])
        memory = GaugeMetricFamily("freshet_memory_bytes", "Resident memory of the process.", labels=["worker"])
        uptime = GaugeMetricFamily("freshet_uptime_seconds", "Since the node began.", labels=["worker"])
        for worker, it in self._snapshots.items():
            cpu.add_metric([worker], it.cpu)
            memory.add_metric([worker], it.memory)
            uptime.add_metric([worker], it.uptime)
        yield from (cpu, memory, uptime)
