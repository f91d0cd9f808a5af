"""Every alert is shown to fire on its fault, and to stay silent without: by `promtool`, on series that are made up."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.monitoring.alerts import ALERTS
from tests.tools.need import ROOT, require

RULES = ROOT / "deploy/prometheus/freshet.rules.yml"
AT = 'instance="one:9000",worker="0"'


def counter(name: str, per_minute: float, labels: str = "") -> tuple[str, str]:
    return f"freshet_{name}_total{{{AT}{labels}}}", f"0+{per_minute / 4}x120"


def gauge(name: str, value: float) -> tuple[str, str]:
    return f"freshet_{name}{{{AT}}}", f"{value}x120"


def histogram(name: str, fast: int, slow: int, bound: str) -> list[tuple[str, str]]:
    """fast, slow: a minute; the fast ones are below `bound`, the slow ones a second and more."""
    buckets = ((bound, fast), ("1.0", fast), ("2.5", fast + slow), ("+Inf", fast + slow))
    return [(f'freshet_{name}_bucket{{{AT},le="{le}"}}', f"0+{number / 4}x120") for le, number in buckets]


SLOW = ',code="3008"'
FAULTS: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {
    "FreshetDown": (
        [('up{job="freshet",instance="one:9000"}', "0x120")],
        [('up{job="freshet",instance="one:9000"}', "1x120")],
    ),
    "FreshetReconnectStorm": (
        [counter("reconnected", 200), gauge("clients", 1000)],
        [counter("reconnected", 20), gauge("clients", 1000)],
    ),
    "FreshetDeliveryLate": (
        histogram("delivery_latency_seconds", 900, 100, "0.005"),
        histogram("delivery_latency_seconds", 9990, 10, "0.005"),
    ),
    "FreshetLate": (
        histogram("loop_lag_seconds", 55, 5, "0.005"),
        histogram("loop_lag_seconds", 60, 0, "0.005"),
    ),
    "FreshetCannotPublish": ([counter("unpublished", 6)], [counter("unpublished", 0)]),
    "FreshetEngineAway": ([gauge("engine_away_seconds", 20)], [gauge("engine_away_seconds", 2)]),
    "FreshetLogsLost": ([counter("losses", 1)], [counter("losses", 0), counter("gaps", 100)]),
    "FreshetUnrecovered": (
        [counter("unrecovered", 10), counter("recovered", 90)],
        [counter("unrecovered", 1), counter("recovered", 99)],
    ),
    "FreshetTurnsAway": ([counter("turned_away", 120)], [counter("turned_away", 30)]),
    "FreshetSlowClients": (
        [counter("ended", 10, SLOW), gauge("clients", 1000)],
        [counter("ended", 10, SLOW), gauge("clients", 100_000), counter("ended", 9999, ',code="3000"')],
    ),
    "FreshetNearFileLimit": (
        [gauge("open_files", 900), gauge("max_files", 1000)],
        [gauge("open_files", 900), gauge("max_files", 2000)],
    ),
}


def fired(series: list[tuple[str, str]], folder: Path) -> set[str]:
    """The alerts that fire when these have lasted for 20 minutes, as promtool says."""
    expectations = [{"eval_time": "20m", "alertname": alert.name, "exp_alerts": []} for alert in ALERTS]
    test: dict[str, Any] = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in series],
                "alert_rule_test": expectations,
            }
        ],
    }
    path = folder / "test.yml"
    path.write_text(yaml.safe_dump(test))
    ran = subprocess.run([require("promtool"), "test", "rules", path], capture_output=True, text=True, check=False)
    output = ran.stdout + ran.stderr
    assert ran.returncode in (0, 1), output
    found = {alert.name for alert in ALERTS if f"alertname: {alert.name}," in output}
    assert bool(found) is (ran.returncode == 1), output
    return found


def test_every_alert_has_a_fault() -> None:
    assert list(FAULTS) == [alert.name for alert in ALERTS]


@pytest.mark.parametrize("name", FAULTS)
def test_an_alert_fires_on_its_fault_and_no_other_does(name: str, tmp_path: Path) -> None:
    assert fired(FAULTS[name][0], tmp_path) == {name}


@pytest.mark.parametrize("name", FAULTS)
def test_an_alert_is_silent_while_things_are_as_they_should_be(name: str, tmp_path: Path) -> None:
    assert fired(FAULTS[name][1], tmp_path) == set()


def test_what_fires_says_where(tmp_path: Path) -> None:
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in FAULTS["FreshetLate"][0]],
                "alert_rule_test": [{"eval_time": "20m", "alertname": "FreshetLate", "exp_alerts": []}],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    command = [require("promtool"), "test", "rules", tmp_path / "test.yml"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "one:9000, worker 0: the event loop is more than 100 ms late" in ran.stdout + ran.stderr
