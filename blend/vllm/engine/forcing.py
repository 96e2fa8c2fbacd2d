"""Forced answers: the engine writes a given answer token by token and returns how likely each token was.

A logits processor for vLLM's first model runner. Benchmarks name it in the engine's arguments (see `FORCING`
in `blend.vllm.engine.setup`); no server loads it. Log-probabilities are taken before processors run (vLLM's
`raw_logprobs`), so they are the model's own. vLLM's second model runner, the default on CUDA, has another
interface for processors and refuses this one; it can replay an answer by itself (`enable_trace_replay`).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from blend.vllm.request_params import FORCED


class ForcedAnswers(AdapterLogitsProcessor):
    """Forces requests that bring an answer to write it; changes no other request of the batch."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse an invalid answer when the request comes in: in the worker it would stop the engine.

        Raises:
            ValueError: the answer is not a list of token ids.
        """
        forced = (sampling_params.extra_args or {}).get(FORCED)
        if forced is None:
            return
        if not isinstance(forced, list) or not all(type(token) is int and token >= 0 for token in forced):
            raise ValueError(f"got {FORCED} {str(forced)[:80]}, expected a list of token ids")

    def is_argmax_invariant(self) -> bool:
        """False: forcing changes the most likely token."""
        return False

    def new_req_logits_processor(
        self, params: SamplingParams
    ) -> Callable[[list[int], torch.Tensor], torch.Tensor] | None:
        """The function that forces one request's answer, or None for a request without one."""
        forced = (params.extra_args or {}).get(FORCED)
        return partial(force, tuple(forced)) if forced else None


def force(forced_ids: Sequence[int], output_ids: Sequence[int], logits: torch.Tensor) -> torch.Tensor:
    """Leave only the next token of a forced answer possible; after its end, leave all possible.

    Args:
        forced_ids: the answer.
        output_ids: the tokens of it that were written so far.
        logits: float32 [V], changed in place; an id beyond `V` is not forced.

    >>> force([2, 0], [2], torch.zeros(3)).tolist()
    [0.0, -inf, -inf]
    >>> force([2, 0], [2, 0], torch.zeros(3)).tolist()
    [0.0, 0.0, 0.0]
    """
    step = len(output_ids)
    if step < len(forced_ids) and forced_ids[step] < len(logits):
        logits.fill_(-torch.inf)
        logits[forced_ids[step]] = 0.0
    return logits
