"""The file with the self-check's verdict and the calibration, beside the chunks of the model."""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from blend.chunks.chunk import FORMAT_VERSION
from blend.vllm.version import installed_vllm


@dataclass(frozen=True, slots=True)
class Calibration:
    """What `kvblend calibrate` measured for one model on built-in questions.

    Attributes:
        selector: the rule that was measured; the calibration is valid for it only.
        tolerance: maximum accepted mean KL to full prefill, in nats.
        curve: (recompute ratio, mean KL over the answers) in ascending order of ratios.
        recompute_ratio: the smallest ratio within the tolerance, or None when there is none.
        max_residual: what the ratio "auto" may leave: the mean residual at `recompute_ratio`.
        give_up_residual: residual above which a blend is given up and the request prefilled.
        num_questions: number of questions that were measured.
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
    """The result of a self-check, with its figures.

    Attributes:
        passed: whether the model is blended.
        reason: one sentence on why.
        vllm_version, format_version: versions that were checked; another version needs a new check.
        num_prompts: number of prompts compared with full prefill.
        exact_matches: prompts whose greedy text at ratio 1.0 equals full prefill's.
        exact_kl: maximum KL divergence of the first token at ratio 1.0.
        default_ratio, default_kl: the default recompute ratio, and mean KL of the first token there.
        reuse_kl: mean KL at ratio 0, where all chunks are reused unchanged.
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
    """A verdict with its calibration; it fails if the calibration's curve stays above the tolerance."""
    if calibration.recompute_ratio is not None or not verdict.passed:
        return replace(verdict, calibration=calibration)
    ratio, kl = calibration.curve[-1]
    limit = calibration.tolerance
    reason = f"at ratio {ratio} mean KL to full prefill is {kl:.3g}, above the tolerance of {limit}"
    return replace(verdict, passed=False, reason=reason, calibration=calibration)


class GateFile:
    """The verdict's file (`Settings.verdict_file`). Readers see a complete verdict or none."""

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
        """Write a verdict."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(f".{os.getpid()}.tmp")
        partial.write_text(json.dumps(asdict(verdict), indent=1))
        os.replace(partial, self._path)

    def current(self) -> Verdict | None:
        """The verdict if it passed, else None. A passed verdict is cached; otherwise each call reads the
        file."""
        if self._passed is None:
            verdict = self.read()
            self._passed = verdict if verdict is not None and verdict.passed else None
        return self._passed


def _calibration(data: dict[str, Any] | None) -> Calibration | None:
    if data is None:
        return None
    curve = tuple((float(ratio), float(kl)) for ratio, kl in data["curve"])
    return Calibration(**{**data, "curve": curve})
