"""Snapshots as Prometheus reads them: every metric with its help text, its labels, and every worker."""

from collections.abc import Mapping

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from freshet.observe.counts import LAGS, Counts, Snapshot
from freshet.observe.exposition import BY_CODE, BY_DIALECT, COUNTERS, GAUGES, exposition

COUNTED = {
    "published": 11,
    "unpublished": 12,
    "fanned_out": 13,
    "recovered": 14,
    "unrecovered": 15,
    "gaps": 16,
    "losses": 17,
}
HELD = {"users": 21, "channels": 22, "subscriptions": 23, "turned_away": 24, "uptime": 25.5, "cpu": 26.5, "memory": 27}
VALUES = {
    **COUNTED,
    **{name: HELD[name] for name in ("users", "channels", "subscriptions", "turned_away")},
    "uptime_seconds": 25.5,
    "cpu_seconds": 26.5,
    "memory_bytes": 27,
    "ready": 1,
}


def snapshot(state: str = "ready") -> Snapshot:
    counts = Counts(
        connected={"centrifuge": 31, "socketio": 32},
        delivered={"centrifuge": 33},
        ended={3000: 34, 3008: 35},
        refusals={103: 36},
        **COUNTED,
    )
    return Snapshot(counts=counts, state=state, clients={"centrifuge": 41, "channel_url": 42}, **HELD)


def families(snapshots: Mapping[str, Snapshot]) -> dict[str, Metric]:
    text, media_type = exposition(snapshots)
    assert media_type.startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def values(family: Metric, label: str) -> dict[str, float]:
    """The samples by a label."""
    return {sample.labels[label]: sample.value for sample in family.samples if not sample.name.endswith("_created")}


@pytest.fixture
def exposed() -> dict[str, Metric]:
    return families({"0": snapshot()})


@pytest.mark.parametrize(("table", "kind"), [(GAUGES, "gauge"), (COUNTERS, "counter")], ids=["gauges", "counters"])
def test_every_metric_of_the_tables_has_its_help_text_and_its_own_value(
    exposed: dict[str, Metric], table: Mapping[str, tuple[str, object]], kind: str
) -> None:
    for name, (meaning, _) in table.items():
        family = exposed[f"freshet_{name}"]
        assert (family.type, family.documentation) == (kind, meaning)
        assert values(family, "worker") == {"0": VALUES[name]}, name


def test_numbers_by_dialect_and_by_code_have_that_label_and_their_help_text(exposed: dict[str, Metric]) -> None:
    for label, table in (("dialect", BY_DIALECT), ("code", BY_CODE)):
        for name, meaning in table.items():
            family = exposed[f"freshet_{name}"]
            assert (family.type, family.documentation) == ("counter", meaning)
            assert all(set(sample.labels) == {"worker", label} for sample in family.samples)
    assert values(exposed["freshet_connected"], "dialect") == {"centrifuge": 31, "socketio": 32}
    assert values(exposed["freshet_delivered"], "dialect") == {"centrifuge": 33}
    assert values(exposed["freshet_ended"], "code") == {"3000": 34, "3008": 35}
    assert values(exposed["freshet_refusals"], "code") == {"103": 36}


def test_clients_that_are_connected_are_counted_by_dialect(exposed: dict[str, Metric]) -> None:
    assert exposed["freshet_clients"].type == "gauge"
    assert values(exposed["freshet_clients"], "dialect") == {"centrifuge": 41, "channel_url": 42}


def test_nothing_is_told_that_no_table_names(exposed: dict[str, Metric]) -> None:
    named = {*GAUGES, *COUNTERS, *BY_DIALECT, *BY_CODE, "clients", "loop_lag_seconds"}
    assert set(exposed) == {f"freshet_{name}" for name in named}


@pytest.mark.parametrize(("state", "ready"), [("starting", 0), ("ready", 1), ("draining", 0)])
def test_only_a_node_that_takes_clients_is_ready(state: str, ready: int) -> None:
    assert values(families({"0": snapshot(state)})["freshet_ready"], "worker") == {"0": ready}


def test_buckets_of_the_histogram_accumulate_up_to_the_count() -> None:
    it = snapshot()
    for seconds in (0.0005, 0.002, 0.003, 0.2, 99):
        it.counts.late(seconds)
    samples = families({"0": it})["freshet_loop_lag_seconds"].samples
    buckets = [(sample.labels["le"], sample.value) for sample in samples if sample.name.endswith("_bucket")]
    reached = {"0.001": 1, "0.005": 3, "0.01": 3, "0.025": 3, "0.05": 3, "0.1": 3, "0.25": 4}
    assert buckets == [*reached.items(), ("0.5", 4), ("1.0", 4), ("2.5", 4), ("+Inf", 5)]
    assert len(buckets) == len(LAGS) + 1
    (count,) = (sample.value for sample in samples if sample.name.endswith("_count"))
    (total,) = (sample.value for sample in samples if sample.name.endswith("_sum"))
    assert count == 5
    assert total == pytest.approx(99.2055)


def test_each_worker_has_its_own_numbers() -> None:
    other = snapshot("draining")
    other.users, other.counts.published, other.clients = 7, 8, {"centrifuge": 9}
    other.counts.late(0.5)
    exposed = families({"0": snapshot(), "3": other})
    assert values(exposed["freshet_users"], "worker") == {"0": 21, "3": 7}
    assert values(exposed["freshet_published"], "worker") == {"0": 11, "3": 8}
    assert values(exposed["freshet_ready"], "worker") == {"0": 1, "3": 0}
    clients = {
        (each.labels["worker"], each.labels["dialect"]): each.value for each in exposed["freshet_clients"].samples
    }
    assert clients == {("0", "centrifuge"): 41, ("0", "channel_url"): 42, ("3", "centrifuge"): 9}
    lags = [sample for sample in exposed["freshet_loop_lag_seconds"].samples if sample.name.endswith("_count")]
    assert {sample.labels["worker"]: sample.value for sample in lags} == {"0": 0, "3": 1}


def test_a_node_that_has_seen_nothing_yet_still_names_every_metric() -> None:
    empty = Snapshot(Counts(), "starting", {}, 0, 0, 0, 0, 0.0)
    exposed = families({"0": empty})
    assert set(exposed) == set(families({"0": snapshot()}))
    assert exposed["freshet_ended"].samples == []


def test_who_accepts_open_metrics_gets_them() -> None:
    text, media_type = exposition({"0": snapshot()}, "application/openmetrics-text; version=1.0.0")
    assert media_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
    found = {family.name: family for family in open_metrics(text.decode())}
    assert values(found["freshet_published"], "worker") == {"0": 11}
