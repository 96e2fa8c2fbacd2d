"""What codecs cost a blend: its distance to full prefill with packed chunks, and with unpacked ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Protocol

import torch

from bench.fidelity.backend import Reference
from bench.fidelity.journal import Journal
from bench.fidelity.question import LabPrompt
from blend.chunks.chunk import ChunkKV
from blend.maths.kl import check_logprobs, kl_per_token

Recode = Callable[[ChunkKV], ChunkKV]


class CodingBackend(Protocol):
    """A model that answers by full prefill, and by the default blend of chunks that were recoded."""

    def reference(self, prompt: LabPrompt, max_tokens: int) -> Reference:
        """See `bench.fidelity.backend.Backend`."""

    def forced(self, prompt: LabPrompt, reference: Reference, recode: Recode) -> torch.Tensor:
        """float32 [A, V], log-probabilities, teacher-forced on the reference's answer."""


@dataclass(frozen=True, slots=True)
class CodecScore:
    """One codec on one question; means over the tokens of full prefill's answer, in nats.

    Attributes:
        kl: from full prefill to the blend of packed chunks.
        kl_unpacked: from full prefill to the blend of the same chunks as they were computed.
        kl_between: from the blend of unpacked chunks to that of packed ones.
    """

    question: str
    codec: str
    kl: float
    kl_unpacked: float
    kl_between: float

    @property
    def key(self) -> tuple[str, str]:
        return self.question, self.codec

    def to_json(self) -> dict[str, Any]:
        """A line of the journal."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "CodecScore":
        """Inverse of `to_json`."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class CodecCost:
    """Means over `num` questions.

    Attributes:
        kl_blend: from full prefill to the blend of unpacked chunks.
        kl_added: what the codec adds to it.
        kl_between: see `CodecScore`.
    """

    kl_blend: float
    kl_added: float
    kl_between: float
    num: int


def run(
    backend: CodingBackend,
    prompts: Sequence[LabPrompt],
    codecs: Mapping[str, Recode],
    journal: Journal[CodecScore],
    max_tokens: int,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> dict[str, list[CodecScore]]:
    """Measure what the journal lacks; returns the scores of these prompts by codec.

    Args:
        codecs: by name, what a codec makes of a chunk.
        progress: see `bench.progress`.

    Raises:
        RequestError: a prompt is too long for the model, or the journal cannot be written.
    """
    for done, prompt in enumerate(prompts):
        progress(done, len(prompts), "questions with every codec")
        missing = {name: recode for name, recode in codecs.items() if (prompt.key, name) not in journal}
        if missing:
            _measure(backend, prompt, missing, journal, max_tokens)
    progress(len(prompts), len(prompts), "questions with every codec")
    return {name: journal.scores((prompt.key, name) for prompt in prompts) for name in codecs}


def cost_of(scores: Sequence[CodecScore]) -> CodecCost:
    """Means of one codec's scores; one at least."""
    return CodecCost(
        kl_blend=fmean(one.kl_unpacked for one in scores),
        kl_added=fmean(one.kl - one.kl_unpacked for one in scores),
        kl_between=fmean(one.kl_between for one in scores),
        num=len(scores),
    )


def _measure(
    backend: CodingBackend,
    prompt: LabPrompt,
    codecs: Mapping[str, Recode],
    journal: Journal[CodecScore],
    max_tokens: int,
) -> None:
    reference = backend.reference(prompt, max_tokens)
    shape = len(reference.token_ids), reference.logprobs.shape[-1]
    unpacked = check_logprobs(backend.forced(prompt, reference, lambda chunk: chunk), *shape)
    for name, recode in codecs.items():
        packed = check_logprobs(backend.forced(prompt, reference, recode), *shape)
        pairs = (reference.logprobs, packed), (reference.logprobs, unpacked), (unpacked, packed)
        journal.add(CodecScore(prompt.key, name, *(float(kl_per_token(*pair).mean()) for pair in pairs)))
