"""An answer that is given: the engine writes it token by token, and says how likely it found each one.

A logits processor of vLLM's first model runner, named in the engine's arguments (see `FORCING` in
`blend.vllm.engine.setup`) by who needs it, so that no server carries it. Log-probabilities are taken before
processors run (vLLM's `raw_logprobs`): they are the model's own. vLLM's second model runner, the default on
CUDA, takes processors of another make and refuses this one; it can replay an answer by itself
(`enable_trace_replay`).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from blend.vllm.request_params import FORCED


class ForcedAnswers(AdapterLogitsProcessor):
    """Lets requests that bring an answer write only that; other requests of the batch are not touched."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse what is no answer, where the request comes in: in the worker it would stop the engine.

        Raises:
            ValueError: it is no list of token ids.
        """
        forced = (sampling_params.extra_args or {}).get(FORCED)
        if forced is None:
            return
        if not isinstance(forced, list) or not all(type(one) is int and one >= 0 for one in forced):
            raise ValueError(f"got {FORCED} {str(forced)[:80]}, expected a list of token ids")

    def is_argmax_invariant(self) -> bool:
        """Never: what is most likely is what this is about."""
        return False

    def new_req_logits_processor(
        self, params: SamplingParams
    ) -> Callable[[list[int], torch.Tensor], torch.Tensor] | None:
        """What forces one request's answer, or None for a request without one."""
        forced = (params.extra_args or {}).get(FORCED)
        return partial(force, tuple(forced)) if forced else None


def force(forced_ids: Sequence[int], output_ids: Sequence[int], logits: torch.Tensor) -> torch.Tensor:
    """Leave only the next token of a given answer possible; behind its end all are.

    Args:
        forced_ids: the answer.
        output_ids: what was written of it already.
        logits: float32 [V], written to; an id beyond it is left to the model.

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
