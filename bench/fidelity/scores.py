"""What one method scored on one question."""

from dataclasses import asdict, dataclass
from typing import Any

from bench.fidelity.backend import Outcome, Reference
from bench.fidelity.measures import greedy_agreement, is_catastrophic, match_length
from bench.fidelity.methods import Method
from bench.fidelity.question import LabPrompt
from bench.fidelity.text_scores import exact_match, token_f1
from blend.maths.kl import check_logprobs, kl_per_token


@dataclass(frozen=True, slots=True)
class Scores:
    """One method on one question, all measures; `full_` is full prefill's own.

    Attributes:
        question: the question's key.
        kl_mean, kl_first: KL divergence from full prefill in nats, over the answer and of its first token.
        top1: share of the answer's tokens that are also this method's most likely ones.
        answer_tokens: length of full prefill's answer.
        match_tokens: length of the greedy answer's part that is the same.
        catastrophic: see `bench.fidelity.measures.is_catastrophic`.
        gold_margin: mean log-probability per token of the gold answer, less full prefill's.
        f1, em: of the method's own answer against the gold answers.
        key_error, value_error: relative error per layer; empty where unknown.
        flops_share: FLOPs up to the first token over full prefill's.
        ms, full_ms: time to the first token.
        text, full_text: the answers.
        selected: context positions that were recomputed.
        residual: see `blend.select.choose`.
    """

    question: str
    method: Method
    kl_mean: float
    kl_first: float
    top1: float
    answer_tokens: int
    match_tokens: int
    catastrophic: bool
    gold_margin: float | None
    f1: float
    em: float
    full_f1: float
    full_em: float
    key_error: tuple[float, ...]
    value_error: tuple[float, ...]
    flops_share: float
    ms: float
    full_ms: float
    text: str
    full_text: str
    selected: tuple[int, ...]
    residual: float | None = None

    @property
    def key(self) -> tuple[str, Method]:
        """What a journal tells scores apart by."""
        return self.question, self.method

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready object with one key per attribute."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Scores":
        """Inverse of `to_json`.

        Raises:
            TypeError, KeyError: keys are missing, or unknown.
        """
        lists = {name: tuple(data[name]) for name in ("key_error", "value_error", "selected")}
        return cls(**{**data, **lists, "method": Method(**data["method"])})


def score(prompt: LabPrompt, reference: Reference, method: Method, outcome: Outcome) -> Scores:
    """All measures of one outcome.

    Raises:
        ModelError: the log-probabilities of either are no whole distributions over the same tokens.
    """
    shape = len(reference.token_ids), reference.logprobs.shape[-1]
    full = check_logprobs(reference.logprobs, *shape)
    got = check_logprobs(outcome.logprobs, *shape)
    kl = kl_per_token(full, got)
    agreement = greedy_agreement(reference.token_ids, got)
    golds = outcome.gold_logprob, reference.gold_logprob
    return Scores(
        question=prompt.key,
        method=method,
        kl_mean=float(kl.mean()),
        kl_first=float(kl[0]),
        top1=float(agreement.double().mean()),
        answer_tokens=len(agreement),
        match_tokens=match_length(agreement),
        catastrophic=is_catastrophic(full, got),
        gold_margin=None if golds[0] is None or golds[1] is None else golds[0] - golds[1],
        f1=token_f1(outcome.text, prompt.answers),
        em=float(exact_match(outcome.text, prompt.answers)),
        full_f1=token_f1(reference.text, prompt.answers),
        full_em=float(exact_match(reference.text, prompt.answers)),
        key_error=outcome.key_error,
        value_error=outcome.value_error,
        flops_share=outcome.flops_share,
        ms=outcome.ms,
        full_ms=reference.ms,
        text=outcome.text,
        full_text=reference.text,
        selected=outcome.selected,
        residual=outcome.residual,
    )
