"""Snapshots as Prometheus reads them: every metric with its help text, its labels, and every worker."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from freshet.observe.counts import Counts, Snapshot
from freshet.observe.exposition import COUNTERS, GAUGES, HISTOGRAMS, Shown, exposition, labelled
from freshet.observe.histograms import SECONDS, Histogram

WAYS = {("centrifuge", "websocket"): 31, ("socketio", "polling"): 32}


def snapshot(state: str = "ready") -> Snapshot:
    """Each number differs from all others."""
    it = Snapshot(Counts(), state, dict(WAYS), 0, 0, 0, 0, 0.0)
    number = iter(range(101, 200))
    for holder in (it.counts, it, it.counts.runs):
        for field in msgspec.structs.fields(holder):
            value = getattr(holder, field.name)
            if type(value) in (int, float):
                setattr(holder, field.name, type(value)(next(number)))
            elif isinstance(value, Histogram):
                value.observe(0.002, next(number))
    counts = it.counts
    counts.connected, counts.returned = {("sse", "http"): 41, **WAYS}, {("centrifuge", "sse"): 42}
    counts.delivered, counts.ended, counts.refusals = {"centrifuge": 43}, {3000: 44, 3008: 45}, {103: 46}
    counts.refused, counts.engine_errors = {"rates": 47, "origin": 48}, {"publish": 49}
    counts.runs.begun, counts.runs.left = 500, 451
    counts.runs.ended, counts.runs.usage = {"finished": 50, "failed": 51}, {"input_tokens": 52}
    counts.ran("publish", 0.2)
    it.memory, it.memory_before = 10_000, 3_700
    return it


def families(snapshots: Mapping[str, Snapshot]) -> dict[str, Metric]:
    text, media_type = exposition(snapshots)
    assert media_type.startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def values(family: Metric, *names: str) -> dict[tuple[str, ...], float]:
    """The samples by labels."""
    samples = (sample for sample in family.samples if not sample.name.endswith("_created"))
    return {tuple(sample.labels[name] for name in names): sample.value for sample in samples}


@pytest.fixture
def exposed() -> dict[str, Metric]:
    return families({"0": snapshot()})


@pytest.mark.parametrize(("table", "kind"), [(GAUGES, "gauge"), (COUNTERS, "counter")], ids=["gauges", "counters"])
def test_every_metric_of_the_tables_has_its_help_text_its_labels_and_its_own_values(
    exposed: dict[str, Metric], table: Mapping[str, Shown], kind: str
) -> None:
    seen: list[Any] = []
    for name, shown in table.items():
        family = exposed[f"freshet_{name}"]
        assert (family.type, family.documentation) == (kind, shown.meaning)
        assert all(set(sample.labels) == {"worker", *shown.labels} for sample in family.samples)
        found = values(family, *shown.labels)
        assert found == {tuple(labels): float(value) for labels, value in labelled(shown, snapshot())}
        assert found, name
        seen.append(tuple(found.items()))
    assert len(set(seen)) == len(seen)  # none shows what another one does


def test_clients_are_told_by_dialect_and_transport_and_reasons_by_code(exposed: dict[str, Metric]) -> None:
    way = ("dialect", "transport")
    assert values(exposed["freshet_clients"], *way) == WAYS
    assert values(exposed["freshet_connected"], *way) == {("sse", "http"): 41, **WAYS}
    assert values(exposed["freshet_reconnected"], *way) == {("centrifuge", "sse"): 42}
    assert values(exposed["freshet_ended"], "code") == {("3000",): 44, ("3008",): 45}
    assert values(exposed["freshet_policy_refusals"], "policy") == {("rates",): 47, ("origin",): 48}
    assert values(exposed["freshet_client_memory_bytes"]) == {(): 100}


def test_every_histogram_of_the_table_has_its_help_text_and_its_labels(exposed: dict[str, Metric]) -> None:
    for name, shown in HISTOGRAMS.items():
        family = exposed[f"freshet_{name}"]
        assert (family.type, family.documentation) == ("histogram", shown.meaning)
        counts = [sample for sample in family.samples if sample.name.endswith("_count")]
        assert counts
        assert all(set(sample.labels) == {"worker", *shown.labels} for sample in counts)
        assert all(sample.value for sample in counts)
    latency = [it for it in exposed["freshet_delivery_latency_seconds"].samples if it.name.endswith("_count")]
    assert {it.labels["accepted"] for it in latency} == {"here", "elsewhere"}


def test_nothing_is_told_that_no_table_names(exposed: dict[str, Metric]) -> None:
    assert set(exposed) == {f"freshet_{name}" for name in (*GAUGES, *COUNTERS, *HISTOGRAMS)}


@pytest.mark.parametrize(("state", "ready"), [("starting", 0), ("ready", 1), ("draining", 0)])
def test_only_a_node_that_takes_clients_is_ready(state: str, ready: int) -> None:
    assert values(families({"0": snapshot(state)})["freshet_ready"], "worker") == {("0",): ready}


def test_buckets_of_a_histogram_accumulate_up_to_the_count() -> None:
    it = Snapshot(Counts(), "ready", {}, 0, 0, 0, 0, 0.0)
    for seconds in (0.0005, 0.002, 0.003, 0.2, 99):
        it.counts.lag.observe(seconds)
    samples = families({"0": it})["freshet_loop_lag_seconds"].samples
    buckets = [(sample.labels["le"], sample.value) for sample in samples if sample.name.endswith("_bucket")]
    reached = {"0.001": 1, "0.0025": 2, "0.005": 3, "0.01": 3, "0.025": 3, "0.05": 3, "0.1": 3, "0.25": 4, "0.5": 4}
    assert buckets == [*reached.items(), ("1.0", 4), ("2.5", 4), ("5.0", 4), ("+Inf", 5)]
    assert len(buckets) == len(SECONDS) + 1
    (count,) = (sample.value for sample in samples if sample.name.endswith("_count"))
    (total,) = (sample.value for sample in samples if sample.name.endswith("_sum"))
    assert count == 5
    assert total == pytest.approx(99.2055)


def test_each_worker_has_its_own_numbers() -> None:
    other = snapshot("draining")
    other.users, other.clients = 7, {("centrifuge", "sse"): 9}
    other.counts.lag.observe(0.5, 1000)
    exposed = families({"0": snapshot(), "3": other})
    assert values(exposed["freshet_users"], "worker") == {("0",): snapshot().users, ("3",): 7}
    assert values(exposed["freshet_ready"], "worker") == {("0",): 1, ("3",): 0}
    clients = values(exposed["freshet_clients"], "worker", "dialect", "transport")
    assert clients == {("0", *way): number for way, number in WAYS.items()} | {("3", "centrifuge", "sse"): 9}
    lags = [sample for sample in exposed["freshet_loop_lag_seconds"].samples if sample.name.endswith("_count")]
    one, two = (sample.value for sample in lags)
    assert (lags[0].labels["worker"], lags[1].labels["worker"], two - one) == ("0", "3", 1000)


def test_a_node_that_has_seen_nothing_yet_still_names_every_metric() -> None:
    exposed = families({"0": Snapshot(Counts(), "starting", {}, 0, 0, 0, 0, 0.0)})
    assert set(exposed) == set(families({"0": snapshot()}))
    assert exposed["freshet_ended"].samples == []


def test_who_accepts_open_metrics_gets_them() -> None:
    it = snapshot()
    text, media_type = exposition({"0": it}, "application/openmetrics-text; version=1.0.0")
    assert media_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
    found = {family.name: family for family in open_metrics(text.decode())}
    assert values(found["freshet_published"], "worker") == {("0",): it.counts.published}
