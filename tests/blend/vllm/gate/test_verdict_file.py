"""The verdict's file: a whole verdict for this version, or none."""

from dataclasses import replace
from pathlib import Path

import pytest

from blend.vllm.gate.verdict_file import Calibration, GateFile, Verdict
from blend.vllm.version import installed_vllm


def test_no_file_is_no_verdict_and_does_not_pass(tmp_path: Path) -> None:
    assert GateFile(tmp_path / "verdict.json").read() is None
    assert not GateFile(tmp_path / "verdict.json").current()


def test_a_written_verdict_is_read_back_and_seen_by_a_reader_that_waited(tmp_path: Path) -> None:
    reader = GateFile(tmp_path / "verdict.json")
    assert not reader.current()
    calibration = Calibration("question-late", 0.03, ((0.0, 0.1), (0.15, 0.02)), 0.15, 0.05, 0.1, 10)
    verdict = Verdict(True, "agrees", installed_vllm(), num_prompts=5, exact_kl=1e-6, calibration=calibration)
    GateFile(tmp_path / "verdict.json").write(verdict)
    assert reader.read() == verdict
    assert reader.current() == verdict


def test_a_failed_verdict_does_not_pass(tmp_path: Path) -> None:
    GateFile(tmp_path / "verdict.json").write(Verdict(False, "does not agree", installed_vllm()))
    assert not GateFile(tmp_path / "verdict.json").current()


@pytest.mark.parametrize("change", [{"vllm_version": "vllm 0.1"}, {"format_version": 0}])
def test_a_verdict_of_another_version_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    verdict = replace(Verdict(True, "agrees", installed_vllm()), **change)  # type: ignore[arg-type]
    GateFile(tmp_path / "verdict.json").write(verdict)
    assert GateFile(tmp_path / "verdict.json").read() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"passed": true}', '{"unknown": 1}'])
def test_a_damaged_file_is_no_verdict(tmp_path: Path, text: str) -> None:
    (tmp_path / "verdict.json").write_text(text)
    assert GateFile(tmp_path / "verdict.json").read() is None
