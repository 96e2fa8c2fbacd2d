"""What a codec adds: measured once for each question, and never twice."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.fidelity.backend import Reference
from bench.fidelity.codec_run import CodecJournal, CodecScore, cost_of, run
from bench.fidelity.measures import kl_per_token
from bench.fidelity.question import LabPrompt
from blend.chunks.chunk import ChunkKV, make_record
from blend.errors import RequestError

PROMPTS = [
    LabPrompt(key, (1,), ((2, 3),), (4,), (), (5,), ("yes",), ((6, 7),)) for key in ("one", "two", "three")
]
CHUNK = ChunkKV(make_record("m", (1,), (2, 3)), torch.ones(1, 2, 1, 2), torch.ones(1, 2, 1, 2))
HEADER: dict[str, object] = {"seed": 0}


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


def test_distances_are_those_between_the_two_blends_and_full_prefill() -> None:
    scores = run(Scaling(), PROMPTS, CODECS, CodecJournal(None, HEADER), 4)
    assert [(one.question, one.codec) for one in scores] == [
        (prompt.key, name) for name in CODECS for prompt in PROMPTS
    ]
    by_codec = {name: cost_of([one for one in scores if one.codec == name]) for name in CODECS}
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
        run(Scaling(stop), PROMPTS, CODECS, CodecJournal(path, HEADER), 4)
    if torn:
        path.write_text(path.read_text()[:-3])
    known = len(CodecJournal(path, HEADER).scores)
    backend = Scaling()
    scores = run(backend, PROMPTS, CODECS, CodecJournal(path, HEADER), 4)
    assert scores == run(Scaling(), PROMPTS, CODECS, CodecJournal(None, HEADER), 4)
    assert len(backend.asked) <= len(PROMPTS) * len(CODECS) - known + len(PROMPTS)
    again = Scaling()
    run(again, PROMPTS, CODECS, CodecJournal(path, HEADER), 4)
    assert not again.asked


def test_the_journal_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    CodecJournal(path, HEADER).add(CodecScore("one", "raw", 0.1, 0.1, 0.0))
    with pytest.raises(RequestError, match="is another run's: got .*0.*, expected .*1"):
        CodecJournal(path, {"seed": 1})
    assert len(path.read_text().splitlines()) == 2 and json.loads(path.read_text().splitlines()[0]) == HEADER
