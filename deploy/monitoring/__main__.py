"""Makes the dashboards and the alert rules that are beside it, of one list of panels and one of alerts.

    python -m deploy.monitoring --write

The Grafana dashboard by Grafana's own `grafana-foundation-sdk`, the alerts for Prometheus, and the dashboard for
Datadog. A test compares the files with what this makes.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, StackingMode, VisibilityMode
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, VariableRefresh

from deploy.monitoring.alerts import ALERTS
from deploy.monitoring.panels import ROWS, Panel

DEPLOY = Path(__file__).parents[1]
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")


def grafana() -> str:
    board = (
        dashboard.Dashboard("Freshet")
        .uid("freshet")
        .tags(["freshet"])
        .refresh("10s")
        .time("now-30m", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .editable()
        .with_variable(
            dashboard.QueryVariable("instance")
            .label("node")
            .datasource(SOURCE)
            .query("label_values(freshet_ready, instance)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .include_all(True)
            .multi(True)
        )
    )
    for title, panels in ROWS.items():
        board.with_row(dashboard.Row(title))
        for panel in panels:
            board.with_panel(_panel(panel))
    return json.dumps(board.build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def _panel(it: Panel) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(it.title)
        .description(it.description)
        .datasource(SOURCE)
        .unit(it.unit)
        .min(0)
        .span(8)
        .height(8)
        .fill_opacity(10)
        .show_points(VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    if it.stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    for index, query in enumerate(it.queries):
        panel.with_target(prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id("ABCDEFGH"[index]))
    return panel


def rules() -> str:
    made = [
        {
            "alert": it.name,
            "expr": it.expr,
            "for": it.wait,
            "labels": {"severity": it.severity},
            "annotations": {"summary": it.summary, "impact": it.impact, "action": it.action},
        }
        for it in ALERTS
    ]
    text = yaml.safe_dump({"groups": [{"name": "freshet", "rules": made}]}, sort_keys=False, width=110)
    return f"# Alerts. Each says what happened, who feels it, and what to do first. Made by deploy/monitoring.\n{text}"


def datadog() -> str:
    groups = [
        {
            "definition": {
                "type": "group",
                "layout_type": "ordered",
                "title": title,
                "widgets": [_widget(panel) for panel in panels if panel.datadog],
            }
        }
        for title, panels in ROWS.items()
    ]
    board = {
        "title": "Freshet",
        "description": "What `statsd` sends. Percentiles want them enabled for the distributions `freshet.*_seconds`.",
        "layout_type": "ordered",
        "template_variables": [],
        "widgets": groups,
    }
    return json.dumps(board, indent=1) + "\n"


def _widget(it: Panel) -> dict[str, Any]:
    queries = [
        {"data_source": "metrics", "name": f"query{index}", "query": query} for index, query in enumerate(it.datadog)
    ]
    formulas = [{"formula": query["name"]} for query in queries]
    request = {"response_format": "timeseries", "display_type": "area" if it.stacked else "line"}
    return {
        "definition": {
            "type": "timeseries",
            "title": it.title,
            "requests": [{**request, "queries": queries, "formulas": formulas}],
        }
    }


def files() -> Iterator[tuple[Path, str]]:
    yield DEPLOY / "grafana/freshet.json", grafana()
    yield DEPLOY / "prometheus/freshet.rules.yml", rules()
    yield DEPLOY / "datadog/dashboard.json", datadog()


if __name__ == "__main__":
    for path, text in files():
        if "--write" in sys.argv:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        elif path.read_text() != text:
            sys.exit(f"{path} is not what this makes: python -m deploy.monitoring --write")
