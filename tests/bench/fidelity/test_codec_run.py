"""What a codec adds: measured once for each question, and never twice."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.fidelity.backend import Reference
from bench.fidelity.codec_run import CodecScore, cost_of, run
from bench.fidelity.journal import Journal
from bench.fidelity.question import LabPrompt
from blend.chunks.chunk import ChunkKV, make_record
from blend.maths.kl import kl_per_token
from tests.bench.fidelity.conftest import HEADER

PROMPTS = [
    LabPrompt(key, (1,), ((2, 3),), (4,), (), (5,), ("yes",), ((6, 7),)) for key in ("one", "two", "three")
]
CHUNK = ChunkKV(make_record("m", (1,), (2, 3)), torch.ones(1, 2, 1, 2), torch.ones(1, 2, 1, 2))


class Scaling:
    """Answers as the chunk's first number says: 1 is what was computed.

    Attributes:
        asked: keys of the prompts, in order.
    """

    def __init__(self, stop_after: int = 1000) -> None:
        self.asked: list[str] = []
        self._left = stop_after

    def reference(self, prompt: LabPrompt, max_tokens: int) -> Reference:
        return Reference((0,) * max_tokens, logprobs(2.0, max_tokens), "yes", None, 1.0)

    def forced(
        self, prompt: LabPrompt, reference: Reference, recode: Callable[[ChunkKV], ChunkKV]
    ) -> torch.Tensor:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        self.asked.append(prompt.key)
        return logprobs(float(recode(CHUNK).keys[0, 0, 0, 0]), len(reference.token_ids))


def logprobs(weight: float, num: int) -> torch.Tensor:
    return torch.tensor([[weight, 0.0, 0.5]] * num).log_softmax(dim=1)


def scaled(factor: float) -> Callable[[ChunkKV], ChunkKV]:
    return lambda chunk: ChunkKV(chunk.record, chunk.keys * factor, chunk.values)


CODECS = {"same": scaled(1.0), "less": scaled(0.5), "more": scaled(1.5)}


def measured(backend: Scaling, path: Path) -> dict[str, list[CodecScore]]:
    with Journal(path, HEADER, CodecScore.from_json) as journal:
        return run(backend, PROMPTS, CODECS, journal, 4)


def known(path: Path) -> int:
    with Journal(path, HEADER, CodecScore.from_json) as journal:
        return len(journal.scores((prompt.key, name) for prompt in PROMPTS for name in CODECS))


def test_distances_are_those_between_the_two_blends_and_full_prefill(tmp_path: Path) -> None:
    scores = measured(Scaling(), tmp_path / "journal.jsonl")
    assert {name: [one.question for one in own] for name, own in scores.items()} == {
        name: [prompt.key for prompt in PROMPTS] for name in CODECS
    }
    by_codec = {name: cost_of(own) for name, own in scores.items()}
    full, unpacked = logprobs(2.0, 1), logprobs(1.0, 1)
    for name, weight in (("same", 1.0), ("less", 0.5), ("more", 1.5)):
        packed, cost = logprobs(weight, 1), by_codec[name]
        assert cost.num == 3
        assert cost.kl_blend == pytest.approx(kl_per_token(full, unpacked).item())
        assert cost.kl_blend + cost.kl_added == pytest.approx(kl_per_token(full, packed).item())
        assert cost.kl_between == pytest.approx(kl_per_token(unpacked, packed).item(), abs=1e-9)
    assert by_codec["same"].kl_added == 0 and by_codec["more"].kl_added < 0 < by_codec["less"].kl_added


@pytest.mark.parametrize("stop", [0, 1, 3, 5, 9])
@pytest.mark.parametrize("torn", [False, True])
def test_a_run_that_was_stopped_goes_on(tmp_path: Path, stop: int, torn: bool) -> None:
    path = tmp_path / "journal.jsonl"
    with pytest.raises(KeyboardInterrupt):
        measured(Scaling(stop), path)
    if torn:
        path.write_text(path.read_text()[:-3])
    num_known = known(path)
    backend = Scaling()
    assert measured(backend, path) == measured(Scaling(), tmp_path / "whole.jsonl")
    assert len(backend.asked) <= len(PROMPTS) * len(CODECS) - num_known + len(PROMPTS)
    again = Scaling()
    measured(again, path)
    assert not again.asked
