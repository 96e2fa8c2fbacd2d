"""Dashboard, rules, container and compose file: by the linters of their formats, and by our own metrics."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from blend.report.metrics import Kind
from blend.vllm.exposition import METRICS
from tests.support.operate_files import OPERATE, dashboard, labels, metrics, panel_expressions, rules

ROOT = OPERATE.parents[1]
BIN = Path(sys.executable).parent
VARIABLES = {"$__rate_interval": "5m", "$job": ".+", "$instance": ".+", "$model": ".+"}
ENDINGS = {Kind.COUNTER: ("_total",), Kind.HISTOGRAM: ("_bucket", "_sum", "_count"), Kind.GAUGE: ("",)}


def promtool(*arguments: str) -> None:
    program = shutil.which("promtool", path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("needs promtool: run `make deps`")
    done = subprocess.run([program, *arguments], cwd=OPERATE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "prometheus-rules.yml"),
        ("test", "rules", "prometheus-rules.test.yml"),
        ("check", "config", "prometheus.yml"),
    ],
    ids=" ".join,
)
def test_prometheus_own_tool_finds_nothing_wrong(arguments: tuple[str, ...]) -> None:
    promtool(*arguments)


def test_every_alert_is_seen_to_fire_and_to_stay_quiet() -> None:
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    tests = yaml.safe_load((OPERATE / "prometheus-rules.test.yml").read_text())["tests"]
    seen = {(case["alertname"], bool(case["exp_alerts"])) for one in tests for case in one["alert_rule_test"]}
    assert seen >= {(alert, fires) for alert in alerts for fires in (True, False)}


def test_the_dashboards_expressions_are_promql(tmp_path: Path) -> None:
    asked = list(panel_expressions())
    for name, value in VARIABLES.items():
        asked = [one.replace(name, value) for one in asked]
    assert not any("$" in one for one in asked)
    named = [{"record": f"panel:{i}", "expr": one} for i, one in enumerate(asked)]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": named}]}))
    promtool("check", "rules", str(tmp_path / "panels.yml"))


def test_kvblends_own_series_and_labels_are_there() -> None:
    exposed = {metric.name + end for metric in METRICS for end in ENDINGS[metric.kind]}
    assert {name for name in metrics() if name.startswith("kvblend_")} <= exposed
    ours = {label for metric in METRICS for label in metric.labels} | {"process"}
    from_others = {"job", "instance", "le", "model_name", "engine", "finished_reason"}
    assert labels() <= ours | from_others


def differences(given: Any, read: Any, place: str = "") -> Iterator[str]:
    """Where something that was given is gone when it has been read; what is there besides is a default."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            yield from differences(value, read.get(key, "nothing"), f"{place}/{key}")
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for number, pair in enumerate(zip(given, read, strict=True)):
            yield from differences(*pair, f"{place}/{number}")
    elif given != read:
        yield f"{place}: got {given!r}, read {read!r}"


def test_the_dashboard_is_one_to_grafanas_own_types() -> None:
    register_default_plugins()
    board = dashboard()
    assert not list(differences(board, read_as_dashboard(board)))
    board["panels"][1]["targets"][0]["expression"] = board["panels"][1]["targets"][0].pop("expr")
    [wrong] = differences(board, read_as_dashboard(board))
    assert wrong.startswith("/panels/1/targets/0/expression: got 'sum ")


def read_as_dashboard(board: dict[str, Any]) -> Any:
    return json.loads(JSONEncoder().encode(Dashboard.from_json(board)))


def test_the_dashboards_panels_can_be_read() -> None:
    board = dashboard()
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"] and panel["targets"]
    cells = [
        (x, y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) == 23


def test_hadolint_finds_nothing_wrong_with_the_dockerfile() -> None:
    done = subprocess.run([BIN / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_compose_file_is_of_compose_own_schema() -> None:
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", ROOT / "compose.yml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_what_the_compose_file_mounts_and_the_image_copies_is_there() -> None:
    services = yaml.safe_load((ROOT / "compose.yml").read_text())["services"]
    mounted = [
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", ())
        if volume.startswith("./")
    ]
    assert len(mounted) >= 5 and all((ROOT / path).exists() for path in mounted)
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [
        path
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for path in line.split()[1:-1]
    ]
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == let_in and all((ROOT / path).exists() for path in copied)
