"""What the files in `demo/operate` speak of."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

OPERATE = Path(__file__).parents[2] / "demo" / "operate"
RULES = OPERATE / "prometheus-rules.yml"
DASHBOARD = OPERATE / "grafana-dashboard.json"

_METRIC = re.compile(r"\b(?:kvblend|vllm)[_:][a-z0-9_:]+")
_GROUPING = re.compile(r"\bby \(([^)]*)\)")
_MATCHER = re.compile(r'([a-z_]+)(?:=~|!~|!=|=)"')


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return board


def rules() -> list[dict[str, str]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panel_expressions() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def expressions() -> list[str]:
    return [*panel_expressions(), *(rule["expr"] for rule in rules())]


def metrics() -> set[str]:
    """Names of series that something else than our own rules has to give."""
    named = {name for expression in expressions() for name in _METRIC.findall(expression)}
    return named - {rule["record"] for rule in rules() if "record" in rule}


def labels() -> set[str]:
    """Names of labels that expressions group by or match."""
    grouped = {
        name.strip() for one in expressions() for by in _GROUPING.findall(one) for name in by.split(",")
    }
    return grouped | {name for one in expressions() for name in _MATCHER.findall(one)}
