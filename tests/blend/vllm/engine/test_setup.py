"""The environment of an engine is prepared as often as engines are started, and stays the same."""

import os
import warnings

import pytest

from blend.vllm.engine.setup import DEPRECATED_IN_TORCH, prepare_environment


def test_a_second_engine_adds_no_second_warning_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ["PYTHONWARNINGS"] = "error,default::DeprecationWarning"
    with warnings.catch_warnings():
        prepare_environment()
        prepare_environment()
    ours = f"ignore:{DEPRECATED_IN_TORCH}:FutureWarning"
    assert os.environ["PYTHONWARNINGS"] == f"error,default::DeprecationWarning,{ours}", (
        "the user's come first"
    )
