"""What codecs cost a blend: its distance to full prefill with packed chunks, and with unpacked ones.

A score is a line of a journal as it comes, so that a run that was stopped goes on.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Protocol

import torch

from bench.fidelity.backend import Reference
from bench.fidelity.question import LabPrompt
from blend.chunks.chunk import ChunkKV
from blend.errors import RequestError
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
        kl: of the blend of packed chunks to full prefill.
        kl_unpacked: of the blend of the same chunks as they were computed.
        kl_between: of the first of these blends to the second.
    """

    question: str
    codec: str
    kl: float
    kl_unpacked: float
    kl_between: float


@dataclass(frozen=True, slots=True)
class CodecCost:
    """Means over questions.

    Attributes:
        kl_blend: of the blend of unpacked chunks to full prefill.
        kl_added: by the codec.
        kl_between: see `CodecScore`.
        num: of questions.
    """

    kl_blend: float
    kl_added: float
    kl_between: float
    num: int


def run(
    backend: CodingBackend,
    prompts: Sequence[LabPrompt],
    codecs: Mapping[str, Recode],
    journal: "CodecJournal",
    max_tokens: int,
    progress: Callable[[int], None] = lambda done: None,
) -> list[CodecScore]:
    """Measure what the journal does not know yet; returns all scores of these prompts and codecs.

    Args:
        codecs: by name, what a codec makes of a chunk.
        progress: called with the number of prompts that are done.

    Raises:
        RequestError: a prompt is too long for the model, or the journal cannot be written.
    """
    for done, prompt in enumerate(prompts):
        progress(done)
        missing = [name for name in codecs if (prompt.key, name) not in journal.scores]
        if missing:
            _measure(backend, prompt, {name: codecs[name] for name in missing}, journal, max_tokens)
    progress(len(prompts))
    return [journal.scores[prompt.key, name] for name in codecs for prompt in prompts]


def cost_of(scores: Sequence[CodecScore]) -> CodecCost:
    """Means of one codec's scores; one at least."""
    added = fmean(one.kl - one.kl_unpacked for one in scores)
    between = fmean(one.kl_between for one in scores)
    return CodecCost(fmean(one.kl_unpacked for one in scores), added, between, len(scores))


def _measure(
    backend: CodingBackend,
    prompt: LabPrompt,
    codecs: Mapping[str, Recode],
    journal: "CodecJournal",
    max_tokens: int,
) -> None:
    reference = backend.reference(prompt, max_tokens)
    shape = len(reference.token_ids), reference.logprobs.shape[-1]
    unpacked = check_logprobs(backend.forced(prompt, reference, lambda chunk: chunk), *shape)
    for name, recode in codecs.items():
        packed = check_logprobs(backend.forced(prompt, reference, recode), *shape)
        pairs = (reference.logprobs, packed), (reference.logprobs, unpacked), (unpacked, packed)
        journal.add(CodecScore(prompt.key, name, *(float(kl_per_token(*pair).mean()) for pair in pairs)))


class CodecJournal:
    """Scores in a file, or in memory alone.

    Args:
        path: the file; None for no file.
        header: what scores depend on beside question and codec.

    Attributes:
        scores: by question and codec.

    Raises:
        RequestError: the file is another run's, or cannot be read or written.
    """

    def __init__(self, path: Path | None, header: dict[str, object]) -> None:
        self.scores: dict[tuple[str, str], CodecScore] = {}
        self._path = path
        if path is None:
            return
        # A last line without its end was being written when the run was killed.
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        if lines and json.loads(lines[0]) != header:
            raise RequestError(f"{path} is another run's: got {lines[0]}, expected {json.dumps(header)}")
        for line in lines[1:]:
            self._remember(CodecScore(**json.loads(line)))
        path.write_text("".join(f"{line}\n" for line in (lines or [json.dumps(header)])))

    def add(self, score: CodecScore) -> None:
        """Remember, and write a line."""
        self._remember(score)
        if self._path is not None:
            with open(self._path, "a") as file:
                file.write(json.dumps(asdict(score)) + "\n")

    def _remember(self, score: CodecScore) -> None:
        self.scores[score.question, score.codec] = score
