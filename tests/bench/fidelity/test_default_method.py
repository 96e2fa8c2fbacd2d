"""What the defaults are chosen for, held on the real model: each step comes closer to full prefill."""

from statistics import fmean

import pytest

from bench.fidelity.hf_backend import HFBackend
from bench.fidelity.methods import methods
from bench.fidelity.run import LabSettings, prompt_builder
from bench.fidelity.scores import score
from tests.bench.fidelity.built_in import built_in_questions

pytestmark = pytest.mark.model

NUM_QUESTIONS = 4


@pytest.fixture(scope="module")
def mean_kl() -> dict[tuple[str, float], float]:
    backend = HFBackend("smollm2-135m-instruct")
    wanted = methods(["reuse-alone", "reuse-prefixed", "reuse-led", "led-question-late", "random"], [0.1])
    build = prompt_builder(backend.tokenizer, LabSettings())
    found: dict[tuple[str, float], list[float]] = {}
    for question in built_in_questions()[::2][:NUM_QUESTIONS]:
        prompt = build(question)
        reference = backend.reference(prompt, max_tokens=8)
        for method in wanted:
            scores = score(prompt, reference, method, backend.measure(prompt, reference, method))
            found.setdefault((method.name, method.ratio), []).append(scores.kl_mean)
    backend.close()
    return {name: fmean(values) for name, values in found.items()}


def test_chunks_behind_the_prefix_are_closer_than_chunks_alone_and_behind_the_lead_closer_still(
    mean_kl: dict[tuple[str, float], float],
) -> None:
    alone, prefixed, led = (mean_kl[f"reuse-{kind}", 0.0] for kind in ("alone", "prefixed", "led"))
    assert led < prefixed < alone


def test_the_default_selector_beats_random_at_the_same_budget(
    mean_kl: dict[tuple[str, float], float],
) -> None:
    assert mean_kl["led-question-late", 0.1] < 0.8 * mean_kl["random", 0.1]


def test_the_floors_are_far_below(mean_kl: dict[tuple[str, float], float]) -> None:
    worst = max(kl for (name, _), kl in mean_kl.items() if name.startswith("led"))
    assert mean_kl["wrong-document", 0.0] > 5 * worst and mean_kl["no-context", 0.0] > 5 * worst
