"""A laboratory's backend without a model: random logits, the more disturbed the less is recomputed."""

import hashlib
from typing import Any

import torch

from bench.fidelity.backend import Outcome, Reference
from bench.fidelity.methods import FLOORS, Method
from bench.fidelity.question import LabPrompt
from tests.blend.text.conftest import byte_level

VOCAB_SIZE = 40
NUM_LAYERS = 3
ANSWER_TOKENS = 4


class RandomBackend:
    """The same prompt and method always give the same outcome.

    Attributes:
        references, measured: keys of the calls, in order.
    """

    name = "random"
    fingerprint = "0" * 64

    def __init__(self, model: str = "tiny", threads: int | None = None) -> None:
        self.model_name = model
        self.tokenizer: Any = byte_level(add_prefix_space=False)
        self.references: list[str] = []
        self.measured: list[tuple[str, Method]] = []
        self.is_closed = False

    def reference(self, prompt: LabPrompt, max_tokens: int) -> Reference:
        self.references.append(prompt.key)
        logprobs = _logits(prompt.prompt_ids)[:max_tokens].log_softmax(dim=1)
        return Reference(tuple(logprobs.argmax(dim=1).tolist()), logprobs, prompt.answers[0], -1.0, 100.0)

    def measure(self, prompt: LabPrompt, reference: Reference, method: Method) -> Outcome:
        self.measured.append((prompt.key, method))
        disturbance = 4.0 if method.chunks in FLOORS else 1.0 - method.ratio
        logits = (
            reference.logprobs
            + disturbance * _logits([prompt.prompt_ids, method.name])[: len(reference.token_ids)]
        )
        num_selected = round(method.ratio * prompt.context_tokens)
        return Outcome(
            logprobs=logits.log_softmax(dim=1),
            text="something else",
            gold_logprob=-1.0 - disturbance,
            key_error=(disturbance,) * NUM_LAYERS,
            value_error=(disturbance / 2,) * NUM_LAYERS,
            flops_share=method.ratio,
            ms=100.0 * method.ratio,
            selected=tuple(range(num_selected)),
        )

    def close(self) -> None:
        self.is_closed = True


def _logits(what: object) -> torch.Tensor:
    """float32 [ANSWER_TOKENS, VOCAB_SIZE], from a digest of what they depend on."""
    seed = int.from_bytes(hashlib.sha256(repr(what).encode()).digest()[:4])
    return torch.randn(ANSWER_TOKENS, VOCAB_SIZE, generator=torch.Generator().manual_seed(seed))
