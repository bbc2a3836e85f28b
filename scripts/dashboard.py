"""Writes deploy/grafana/dashboards/nibble.json from the rows of `scripts/dashboard_rows.py`.

`make dashboard` calls this; standard library only.
"""

import json
from pathlib import Path

from dashboard_rows import ROWS, Panel

TARGET = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "dashboards" / "nibble.json"
WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def main() -> None:
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(render())


def render() -> str:
    """The dashboard as Grafana reads it."""
    dashboard = {
        "uid": "nibble",
        "title": "Nibble",
        "description": "Requests, tokens, latency and models. Written by scripts/dashboard.py.",
        "tags": ["nibble", "llm"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "timezone": "browser",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "graphTooltip": 1,
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": _panels(),
    }
    return json.dumps(dashboard, indent=1) + "\n"


def expressions() -> list[str]:
    """Every expression of the list, as Prometheus is asked, but for the variables."""
    return [query.expression for row in ROWS for panel in row.panels for query in panel.queries]


def _variables() -> list[dict[str, object]]:
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        *(
            {
                "name": label,
                "label": label.capitalize(),
                "type": "query",
                "datasource": DATASOURCE,
                "query": {"query": f"label_values({metric}, {label})", "refId": label},
                "refresh": 2,
                "multi": True,
                "includeAll": True,
                "allValue": ".+",
                "current": {"text": ["All"], "value": ["$__all"]},
            }
            for label, metric in (
                ("job", "nibble_build_info"),
                ("model", 'nibble_model_state{job=~"$job"}'),
                ("instance", 'nibble_build_info{job=~"$job"}'),
            )
        ),
    ]


def _panels() -> list[dict[str, object]]:
    made: list[dict[str, object]] = []
    top = 0
    for row in ROWS:
        made.append(
            {
                "id": len(made) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
            }
        )
        top += 1
        left = tallest = 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                top, left, tallest = top + tallest, 0, 0
            position = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            made.append(_panel(panel, len(made) + 1, position))
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest
    return made


def _panel(panel: Panel, number: int, position: dict[str, int]) -> dict[str, object]:
    shape = {"table": "table", "heatmap": "heatmap"}.get(panel.kind, "time_series")
    made: dict[str, object] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": query.expression,
                "legendFormat": query.legend or "__auto",
                "format": shape,
                "instant": panel.kind == "table",
                "range": panel.kind != "table",
            }
            for index, query in enumerate(panel.queries)
        ],
    }
    if panel.kind == "stat":
        made["options"] = {
            "reduceOptions": {"calcs": ["lastNotNull"]},
            "colorMode": "value",
            "graphMode": "area",
        }
    if panel.kind == "heatmap":
        made["options"] = {"calculate": False, "yAxis": {"unit": panel.unit}, "color": {"scheme": "Oranges"}}
    return made


if __name__ == "__main__":
    main()
