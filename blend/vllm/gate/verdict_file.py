"""The self-check's verdict, kept beside the chunks it is about."""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from blend.chunks.chunk import FORMAT_VERSION
from blend.vllm.version import installed_vllm


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the laboratory found for one model on built-in questions; see `kvblend calibrate`.

    Attributes:
        selector: the rule that it was made with, and holds for.
        tolerance: largest mean KL to full prefill that is accepted, in nats.
        curve: (recompute ratio, mean KL over the answers) in ascending order of ratios.
        recompute_ratio: the smallest that keeps within the tolerance, or None when none does.
        max_residual: what the ratio "auto" may leave: the mean residual at `recompute_ratio`.
        give_up_residual: a blend that would leave more is left to full prefill.
        num_questions: how many were asked.
    """

    selector: str
    tolerance: float
    curve: tuple[tuple[float, float], ...]
    recompute_ratio: float | None
    max_residual: float
    give_up_residual: float
    num_questions: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of a self-check, with its figures.

    Attributes:
        passed: whether the model is blended.
        reason: one sentence.
        vllm_version, format_version: what it was found with; another version needs a check of its own.
        num_prompts: how many prompts were compared with full prefill.
        exact_matches: at ratio 1.0, prompts whose greedy text equals full prefill's.
        exact_kl: at ratio 1.0, largest KL divergence of the first token.
        default_ratio, default_kl: the default recompute ratio, and mean KL of the first token there.
        reuse_kl: the same at ratio 0, where every chunk is reused as it is.
        top1_agreement: share of prompts whose first token is full prefill's, at the default ratio.
        calibration: None until the model was calibrated.
    """

    passed: bool
    reason: str
    vllm_version: str
    format_version: int = FORMAT_VERSION
    num_prompts: int = 0
    exact_matches: int = 0
    exact_kl: float = 0.0
    default_ratio: float = 0.0
    default_kl: float = 0.0
    reuse_kl: float = 0.0
    top1_agreement: float = 0.0
    calibration: Calibration | None = None


def judged(verdict: Verdict, calibration: Calibration) -> Verdict:
    """A verdict with its calibration; one whose curve stays above the tolerance is no longer passed."""
    if calibration.recompute_ratio is not None or not verdict.passed:
        return replace(verdict, calibration=calibration)
    ratio, kl = calibration.curve[-1]
    limit = calibration.tolerance
    reason = f"at ratio {ratio} mean KL to full prefill is {kl:.3g}, above the tolerance of {limit}"
    return replace(verdict, passed=False, reason=reason, calibration=calibration)


class GateFile:
    """The verdict's file (`Settings.verdict_file`). Readers see a whole verdict or none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._passed: Verdict | None = None

    def read(self) -> Verdict | None:
        """The verdict for the installed vLLM and the current format, or None when there is none."""
        try:
            data = json.loads(self._path.read_text())
            verdict = Verdict(**{**data, "calibration": _calibration(data.get("calibration"))})
        except (OSError, ValueError, TypeError, AttributeError):
            return None
        current = (installed_vllm(), FORMAT_VERSION)
        return verdict if (verdict.vllm_version, verdict.format_version) == current else None

    def write(self, verdict: Verdict) -> None:
        """Record a verdict."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(f".{os.getpid()}.tmp")
        partial.write_text(json.dumps(asdict(verdict), indent=1))
        os.replace(partial, self._path)

    def current(self) -> Verdict | None:
        """The verdict, if it is one that passed; it is remembered, its absence is looked up again."""
        if self._passed is None:
            verdict = self.read()
            self._passed = verdict if verdict is not None and verdict.passed else None
        return self._passed


def _calibration(data: dict[str, Any] | None) -> Calibration | None:
    if data is None:
        return None
    curve = tuple((float(ratio), float(kl)) for ratio, kl in data["curve"])
    return Calibration(**{**data, "curve": curve})
