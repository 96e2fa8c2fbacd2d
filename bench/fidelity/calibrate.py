"""Calibrating a model: the laboratory on built-in questions, and what follows from its curve.

The curve is mean KL to full prefill against the recompute ratio. The model's default is the smallest ratio
that keeps within a tolerance; a model that no ratio of the curve brings there is served unblended.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from bench.fidelity.backend import Backend
from bench.fidelity.journal import Header, Journal
from bench.fidelity.method import Method
from bench.fidelity.methods import LED
from bench.fidelity.question import Question
from bench.fidelity.run import LabSettings, Step, run
from bench.fidelity.scores import Scores
from blend.settings.defaults import DEFAULTS
from blend.vllm.gate.prompts import PROMPTS
from blend.vllm.gate.verdict_file import Calibration

TOLERANCE = 0.02
"""Mean KL over an answer, in nats."""

RATIOS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
NUM_ORDERS = 2
MAX_TOKENS = 12
TRUSTED = 2.0
"""A prompt may leave so many times the largest residual that calibration has seen at the chosen ratio."""


def calibrate(
    backend: Backend, tolerance: float = TOLERANCE, progress: Callable[[Step], None] = lambda step: None
) -> Calibration:
    """The curve of a model, and the ratio that follows from it.

    Args:
        backend: of the engine that will serve the model.
        tolerance: largest mean KL to full prefill that is accepted, in nats.
        progress: called after each measurement.
    """
    methods = [Method("calibration", LED, DEFAULTS.selector, None, ratio) for ratio in RATIOS]
    with TemporaryDirectory() as folder, Journal(Path(folder) / "journal.jsonl", _header(backend)) as journal:
        scores = run(
            backend, built_in_questions(), methods, journal, LabSettings(max_tokens=MAX_TOKENS), progress
        )
    return conclude({method.ratio: _of(scores, method) for method in methods}, tolerance)


def conclude(scores: dict[float, Sequence[Scores]], tolerance: float) -> Calibration:
    """What follows from the scores at each ratio.

    The chosen ratio is the smallest from which on the curve stays within the tolerance.
    """
    curve = tuple((ratio, fmean(one.kl_mean for one in scores[ratio])) for ratio in sorted(scores))
    above = [ratio for ratio, kl in curve if kl > tolerance]
    within = [ratio for ratio, _ in curve if not above or ratio > above[-1]]
    chosen = within[0] if within else None
    residuals = [one.residual or 0.0 for one in scores[curve[-1][0] if chosen is None else chosen]]
    return Calibration(
        selector=DEFAULTS.selector,
        tolerance=tolerance,
        curve=curve,
        recompute_ratio=chosen,
        max_residual=fmean(residuals),
        give_up_residual=min(1.0, TRUSTED * max(residuals)),
        num_questions=len(residuals),
    )


def built_in_questions() -> list[Question]:
    """The self-check's questions, each behind all of its passages, in several orders."""
    passages = tuple(dict.fromkeys(text for prompt in PROMPTS for text in prompt.passages))
    questions = []
    for number, prompt in enumerate(PROMPTS):
        for order in range(NUM_ORDERS):
            shift = number + order * 2
            turned = passages[shift % len(passages) :] + passages[: shift % len(passages)]
            questions.append(Question(f"built-in-{number}-{order}", prompt.question, ("",), turned, passages))
    return questions


def _header(backend: Backend) -> Header:
    return Header(
        model=backend.model_name,
        fingerprint=backend.fingerprint,
        backend=backend.name,
        data="built-in",
        data_digest="",
        passages=len(built_in_questions()[0].passages),
        join=1,
        prefix=LabSettings().prefix,
        question_first=False,
        max_tokens=MAX_TOKENS,
        seed=0,
        threads=None,
    )


def _of(scores: Sequence[Scores], method: Method) -> list[Scores]:
    return [one for one in scores if one.method == method]
