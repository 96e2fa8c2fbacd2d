"""Means over questions, and against a baseline over the questions that both have."""

from dataclasses import replace

import pytest

from bench.fidelity.methods import Method
from bench.fidelity.scores import Scores
from bench.fidelity.summary import summarise

OURS, THEIRS = Method("ours", "alone", "x", 0.15), Method("base", "alone", "y", 0.15)


def one(question: str, method: Method, kl: float, **others: object) -> Scores:
    plain = Scores(
        question=question,
        method=method,
        kl_mean=kl,
        kl_first=kl,
        top1=1.0,
        answer_tokens=4,
        match_tokens=4,
        catastrophic=False,
        gold_margin=None,
        f1=0.5,
        em=0.0,
        full_f1=1.0,
        full_em=1.0,
        key_error=(),
        value_error=(),
        flops_share=0.2,
        ms=10.0,
        full_ms=100.0,
        text="",
        full_text="",
        selected=(),
    )
    return replace(plain, **others)  # type: ignore[arg-type]


def test_means_medians_and_intervals() -> None:
    (summary,) = summarise(one(str(i), OURS, kl, ms=kl) for i, kl in enumerate((1.0, 2.0, 9.0)))
    assert (summary.num, summary.kl_mean.mean, summary.kl_median, summary.ms) == (3, 4.0, 2.0, 2.0)
    assert 1.0 <= summary.kl_mean.ci.low <= 4.0 <= summary.kl_mean.ci.high <= 9.0
    assert (summary.gold_margin, summary.against, summary.key_error) == (None, None, ())


def test_questions_without_a_margin_or_layers_are_left_out_of_their_means() -> None:
    scores = [one("a", OURS, 1.0, gold_margin=-2.0, key_error=(0.1, 0.3)), one("b", OURS, 1.0)]
    (summary,) = summarise([*scores, one("c", OURS, 1.0, key_error=(0.3, 0.5))])
    assert summary.gold_margin is not None and summary.gold_margin.mean == -2.0
    assert summary.key_error == pytest.approx((0.2, 0.4))


def test_a_method_is_held_against_the_baseline_question_by_question() -> None:
    ours = [one(str(i), OURS, kl) for i, kl in enumerate((1.0, 2.0, 3.0))]
    theirs = [one(str(i), THEIRS, kl) for i, kl in enumerate((2.0, 4.0, 6.0, 50.0))]
    first, second = summarise([*ours, *theirs], "base")
    assert first.against is not None and second.against is None
    assert first.against.baseline == THEIRS and first.against.num == 3
    assert first.against.kl_ratio == 0.5
    assert first.against.ci == pytest.approx((0.5, 0.5))
    assert first.against.p == 0.25  # three differences of one sign: two of eight patterns reach as far


def test_the_baseline_of_the_same_ratio_is_taken_or_its_only_one() -> None:
    more, far = replace(OURS, ratio=0.5), replace(OURS, ratio=0.3)
    base_more = replace(THEIRS, ratio=0.5)
    scores = [one("q", method, 1.0) for method in (OURS, more, far, THEIRS, base_more)]
    found = {summary.method: summary.against for summary in summarise(scores, "base")}
    baselines = {method: against.baseline for method, against in found.items() if against}
    assert baselines == {OURS: THEIRS, more: base_more}
    (lone, _) = summarise([one("q", far, 1.0), one("q", THEIRS, 1.0)], "base")
    assert lone.against is not None and lone.against.baseline == THEIRS


def test_a_baseline_without_error_has_no_ratio() -> None:
    summary, _ = summarise([one("q", OURS, 1.0), one("q", THEIRS, 0.0)], "base")
    assert summary.against is not None
    assert (summary.against.kl_ratio, summary.against.ci) == (None, None)
