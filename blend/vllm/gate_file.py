"""The self-check's verdict, kept beside the chunks it is about."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from blend.chunk import FORMAT_VERSION
from blend.vllm.version import installed_vllm


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


class GateFile:
    """The verdict's file (`Settings.verdict_file`). Readers see a whole verdict or none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._passed = False

    def read(self) -> Verdict | None:
        """The verdict for the installed vLLM and the current format, or None when there is none."""
        try:
            data = json.loads(self._path.read_text())
            verdict = Verdict(**data)
        except (OSError, ValueError, TypeError):
            return None
        current = (installed_vllm(), FORMAT_VERSION)
        return verdict if (verdict.vllm_version, verdict.format_version) == current else None

    def write(self, verdict: Verdict) -> None:
        """Record a verdict."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(f".{os.getpid()}.tmp")
        partial.write_text(json.dumps(asdict(verdict), indent=1))
        os.replace(partial, self._path)

    def passed(self) -> bool:
        """Whether a passed verdict is there; a pass is remembered, its absence is looked up again."""
        if not self._passed:
            verdict = self.read()
            self._passed = verdict is not None and verdict.passed
        return self._passed
