"""One method over all questions, with intervals, and against a baseline at the same budget."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from bench.fidelity.intervals import Interval, mean_interval, ratio_interval, sign_flip_p
from bench.fidelity.methods import Method
from bench.fidelity.scores import Scores


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over questions, with its bootstrap interval."""

    mean: float
    ci: Interval


@dataclass(frozen=True, slots=True)
class Against:
    """A method's KL beside a baseline's, over the questions that both have.

    Attributes:
        kl_ratio: mean KL over the baseline's mean KL; None when that is zero.
        ci: bootstrap interval of the ratio; None when some resample's baseline is zero.
        p: of the paired sign-flip test on the differences.
    """

    baseline: Method
    num: int
    kl_ratio: float | None
    ci: Interval | None
    p: float


@dataclass(frozen=True, slots=True)
class Summary:
    """One method over `num` questions; names as in `Scores`.

    Attributes:
        gold_margin: None when no question has one.
        ms, full_ms: medians.
        key_error, value_error: means per layer; empty where unknown.
        against: None without a baseline at this budget.
    """

    method: Method
    num: int
    kl_mean: Mean
    kl_median: float
    kl_first: Mean
    kl_first_median: float
    top1: Mean
    match_tokens: Mean
    catastrophic: Mean
    gold_margin: Mean | None
    f1: Mean
    em: Mean
    full_f1: float
    full_em: float
    key_error: tuple[float, ...]
    value_error: tuple[float, ...]
    flops_share: float
    ms: float
    full_ms: float
    against: Against | None


def summarise(scores: Iterable[Scores], baseline: str | None = None, seed: int = 0) -> list[Summary]:
    """One summary per method, in the order in which the methods first come.

    Args:
        scores: at most one per question and method.
        baseline: name of the method that others are held against: at their own ratio, or at its only one; the
            first of several kinds of chunks.
        seed: of the resampling.
    """
    by_method: defaultdict[Method, dict[str, Scores]] = defaultdict(dict)
    for one in scores:
        by_method[one.method][one.question] = one
    baselines = [method for method in by_method if method.name == baseline]
    return [
        _summary(method, list(own.values()), _against(method, by_method, baselines, seed), seed)
        for method, own in by_method.items()
    ]


def _summary(method: Method, scores: Sequence[Scores], against: Against | None, seed: int) -> Summary:
    def values(name: str) -> list[float]:
        return [getattr(one, name) for one in scores if getattr(one, name) is not None]

    def mean(name: str) -> Mean:
        return Mean(fmean(values(name)), mean_interval(values(name), seed))

    return Summary(
        method=method,
        num=len(scores),
        kl_mean=mean("kl_mean"),
        kl_median=median(values("kl_mean")),
        kl_first=mean("kl_first"),
        kl_first_median=median(values("kl_first")),
        top1=mean("top1"),
        match_tokens=mean("match_tokens"),
        catastrophic=mean("catastrophic"),
        gold_margin=mean("gold_margin") if values("gold_margin") else None,
        f1=mean("f1"),
        em=mean("em"),
        full_f1=fmean(values("full_f1")),
        full_em=fmean(values("full_em")),
        key_error=_per_layer([one.key_error for one in scores]),
        value_error=_per_layer([one.value_error for one in scores]),
        flops_share=fmean(values("flops_share")),
        ms=median(values("ms")),
        full_ms=median(values("full_ms")),
        against=against,
    )


def _against(
    method: Method,
    by_method: Mapping[Method, Mapping[str, Scores]],
    baselines: Sequence[Method],
    seed: int,
) -> Against | None:
    same_ratio = [one for one in baselines if one.ratio == method.ratio]
    chosen = same_ratio or (baselines if len(baselines) == 1 else [])
    if not chosen or chosen[0] == method:
        return None
    own, theirs = by_method[method], by_method[chosen[0]]
    both = [key for key in own if key in theirs]
    if not both:
        return None
    kl, base = [own[key].kl_mean for key in both], [theirs[key].kl_mean for key in both]
    return Against(
        baseline=chosen[0],
        num=len(both),
        kl_ratio=fmean(kl) / fmean(base) if any(base) else None,
        ci=ratio_interval(kl, base, seed),
        p=sign_flip_p([a - b for a, b in zip(kl, base, strict=True)], seed),
    )


def _per_layer(errors: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    known = [layers for layers in errors if layers]
    return tuple(fmean(layer) for layer in zip(*known, strict=True))
