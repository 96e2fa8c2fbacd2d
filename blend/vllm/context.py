"""The cached rows of one request's context: stored rows of this rank's heads, realigned layer by layer."""

import logging
from dataclasses import dataclass

import torch

from blend.chunk import ChunkKV
from blend.errors import CorruptChunk
from blend.plan import BlendPlan, Span
from blend.rope import Rotation, realign, rotation
from blend.store.base import ChunkStore
from blend.vllm.layers import LayerRunner
from blend.vllm.messages import BlendTask
from blend.vllm.ranks import Ranks

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A span of the plan with this rank's heads of its stored KV, and the rotation to its place."""

    span: Span
    keys: torch.Tensor
    values: torch.Tensor
    turn: Rotation


class Context:
    """The cached rows of a plan: where they come from and what they are at a layer.

    Args:
        task: what is to be blended.
        store: where chunk KV is.
        first: first row that is asked for; chunks that end before it are not read.

    Attributes:
        cold: bool [N - start], rows of gaps and of chunks that could not be read.
        loaded: the spans that were read, those before `task.start` included if they were asked for.
    """

    def __init__(
        self, task: BlendTask, store: ChunkStore, runner: LayerRunner, ranks: Ranks, first: int
    ) -> None:
        self._runner = runner
        self.plan: BlendPlan = task.plan
        self.start = task.start
        self.num_rows = task.plan.num_tokens - task.start
        wanted = [span for span in task.plan.spans if span.stop > first]
        found = [_read(store, span) for span in wanted]
        # A chunk that one rank cannot read is cold on all: the ranks must select the same tokens.
        readable = ranks.all_true([chunk is not None for chunk in found])
        self.unreadable = tuple(s.record.chunk_id for s, ok in zip(wanted, readable, strict=True) if not ok)
        self.loaded = [
            self._place(span, chunk, ranks)
            for span, chunk, ok in zip(wanted, found, readable, strict=True)
            if ok and chunk is not None
        ]
        covered = self.covered()
        self.cold = torch.ones(self.num_rows, dtype=torch.bool)
        self.cold[covered[covered >= self.start] - self.start] = False

    def _place(self, span: Span, chunk: ChunkKV, ranks: Ranks) -> Loaded:
        turn = rotation(self._runner.rotary_table, span.start - span.record.offset)
        keys, values = (ranks.own_heads(t, self._runner.num_kv_heads) for t in (chunk.keys, chunk.values))
        return Loaded(span, keys, values, turn)

    def covered(self) -> torch.Tensor:
        """Context positions of which there are cached rows: int64 [M], ascending."""
        spans = [torch.arange(one.span.start, self._stop(one)) for one in self.loaded]
        return torch.cat([torch.empty(0, dtype=torch.int64), *spans])

    def _stop(self, one: Loaded) -> int:
        return min(one.span.stop, self.plan.num_tokens)

    def at_layer(self, layer: int, first: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Realigned keys and values [N - first, H, D]; cold rows are zero.

        Args:
            first: the first row wanted; the task's start unless given.
        """
        runner, first = self._runner, self.start if first is None else first
        shape = (self.plan.num_tokens - first, runner.num_kv_heads, runner.head_size)
        keys = torch.zeros(shape, dtype=runner.dtype, device=runner.device)
        values = torch.zeros_like(keys)
        for one in self.loaded:
            begin, stop = max(one.span.start, first), self._stop(one)
            if begin >= stop:
                continue
            # Positions begin .. stop of the context are rows begin - span.start .. of the chunk.
            own = slice(begin - one.span.start, stop - one.span.start)
            rows = slice(begin - first, stop - first)
            stored = one.keys[layer, own].to(runner.device, runner.dtype)
            keys[rows] = realign(stored, one.turn, interleaved=runner.rotary_interleaved)
            values[rows] = one.values[layer, own].to(runner.device, runner.dtype)
        return keys, values


def _read(store: ChunkStore, span: Span) -> ChunkKV | None:
    try:
        return store.get(span.record)
    except CorruptChunk:
        return None  # dropped and counted by the store; the rows are computed cold
    except Exception:  # a rank that raised here would leave the others waiting for its vote
        logger.exception("cannot read chunk %s; it is computed", span.record.chunk_id)
        return None
