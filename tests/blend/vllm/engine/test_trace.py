"""Which rows were recomputed: told to who asked for it, and carried for nobody else."""

import json

import pytest

from blend.report.stats import BlendStats, ChunkUse
from blend.vllm.request_params import KEY, BlendParams


def test_only_who_asks_is_told() -> None:
    assert "trace" not in BlendParams().to_transfer()[KEY]
    assert "detail" not in BlendParams().to_transfer()[KEY]
    assert BlendParams.from_transfer(BlendParams().to_transfer()) == BlendParams()
    asked = BlendParams(trace=True, detail=True, gate_key="k")
    assert BlendParams.from_transfer(asked.to_transfer()) == asked


@pytest.mark.parametrize("odd", ["yes", 1, [True], None])
def test_an_odd_value_asks_for_nothing(odd: object) -> None:
    params = BlendParams.from_transfer({KEY: {"trace": odd, "detail": odd}})
    assert not params.trace and not params.detail


@pytest.mark.parametrize("selected", [(), (3, 4, 9)])
def test_statistics_carry_rows_only_where_there_are_any(selected: tuple[int, ...]) -> None:
    stats = BlendStats((ChunkUse("a", 3, 7),), context_tokens=10, selected=selected)
    data = json.loads(json.dumps(stats.to_json()))
    assert ("selected" in data) == bool(selected)
    assert BlendStats.from_json(data) == stats
