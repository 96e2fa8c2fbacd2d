"""The laboratory's contract with whatever runs the model.

Axes: `A` tokens of full prefill's answer, `V` vocabulary.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from bench.fidelity.methods import Method
from bench.fidelity.question import LabPrompt


@dataclass(frozen=True, slots=True)
class Reference:
    """Full prefill of one prompt.

    Attributes:
        token_ids: its greedy answer, one token at least; ends with the end-of-text token if that came.
        logprobs: float32 [A, V], `A == len(token_ids)`, on the CPU.
        text: the answer without special tokens.
        gold_logprob: mean log-probability per token of the first gold answer, teacher-forced.
        ms: time to the first token.
    """

    token_ids: tuple[int, ...]
    logprobs: torch.Tensor
    text: str
    gold_logprob: float | None
    ms: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """One method on one prompt.

    Attributes:
        logprobs: float32 [A, V], teacher-forced on the reference's answer, on the CPU.
        text: the method's own greedy answer.
        gold_logprob: as in `Reference`, with this method's context.
        key_error, value_error: relative Frobenius error of the context's keys and values, one number per
            layer; empty where a backend cannot see them.
        flops_share: FLOPs up to the first token, over full prefill's.
        ms: time to the first token.
        selected: context positions that were recomputed, ascending.
        residual: see `blend.select.choose`; None where the method does not look at the question.
    """

    logprobs: torch.Tensor
    text: str
    gold_logprob: float | None
    key_error: tuple[float, ...]
    value_error: tuple[float, ...]
    flops_share: float
    ms: float
    selected: tuple[int, ...]
    residual: float | None = None


class Backend(Protocol):
    """A model that answers by full prefill and by any method. Called from one thread, one call at a time.

    The same prompt and method give the same outcome, except for `ms`, whatever was measured before: a resumed
    run ends as one that never stopped.

    Attributes:
        name: "hf", "engine".
        model_name: what users read.
        fingerprint: digest of the model.
        tokenizer: a Hugging Face fast tokenizer, the model's own.
    """

    name: str
    model_name: str
    fingerprint: str
    tokenizer: Any

    def reference(self, prompt: LabPrompt, max_tokens: int) -> Reference:
        """Full prefill's greedy answer, of at most `max_tokens` tokens.

        Raises:
            RequestError: the prompt is longer than the model takes.
        """

    def measure(self, prompt: LabPrompt, reference: Reference, method: Method) -> Outcome:
        """One method, teacher-forced on the reference; called after `reference` with the same prompt.

        Raises:
            RequestError: this backend cannot run the method.
        """

    def close(self) -> None:
        """Release the model; a second call does nothing."""
