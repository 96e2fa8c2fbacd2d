"""The bench's engines without a model: times that follow from tokens, pages that remember prompts by salt."""

from collections.abc import Sequence
from typing import Any

from bench.cost import ModelShape
from bench.ttft.arm import BLEND, PLAIN, Arm
from bench.ttft.backend import Reply, Request
from bench.ttft.prompts import Ids
from blend.report.stats import BlendStats, StageTimes
from tests.blend.text.conftest import byte_level

MS_PER_TOKEN = 2.0
SHAPE = ModelShape(
    num_layers=2, layer_weights=100, projection_weights=60, head_weights=1000, attention_width=8
)


class FakeEngines:
    """Every token that is computed takes the same time; see `bench.ttft.backend.Backend`.

    Attributes:
        asked: engine, arm and requests of each call, in order.
        stored: chunks, by prefix.
        dropped: how often the file cache was dropped.
    """

    version = "fake 1"
    device = "fake"
    shape = SHAPE
    max_tokens = 4096

    def __init__(self, model: str = "tiny", store: object = None, **overrides: Any) -> None:
        self.model_name = model
        self.tokenizer: Any = byte_level(add_prefix_space=False)
        self.processes: dict[str, tuple[int, ...]] = {BLEND: ()}
        self.asked: list[tuple[str, Arm, Sequence[Request]]] = []
        self.stored: set[Ids] = set()
        self.dropped = 0
        self.is_closed = False
        self._pages: dict[tuple[str, str, float | None], list[Ids]] = {}

    def open(self, tiers: Sequence[str]) -> None:
        self.processes[PLAIN] = ()

    def engine_of(self, arm: Arm, tier: str) -> str:
        return arm.engine

    def store(self, prefix_ids: Ids, chunks: Sequence[Ids]) -> None:
        self.stored |= set(chunks)

    def ask(self, engine: str, arm: Arm, requests: Sequence[Request]) -> list[Reply]:
        self.asked.append((engine, arm, requests))
        return [self._answer(engine, arm, request) for request in requests]

    def drop_file_cache(self) -> None:
        self.dropped += 1

    def close(self) -> None:
        self.is_closed = True

    def _answer(self, engine: str, arm: Arm, request: Request) -> Reply:
        ids, context = request.prompt.ids, len(request.prompt.context_ids)
        # A blend's blocks are found by just this blend only.
        pages = self._pages.setdefault((engine, request.salt, arm.ratio), [])
        hit = max((_alike(ids, other) for other in pages), default=0)
        pages.append(ids)
        if arm.ratio is None:
            prefill_ms = MS_PER_TOKEN * (len(ids) - hit)
            return Reply(prefill_ms + 1, hit, prefill_ms, BlendStats(fallback="it is plain"))
        selected = () if hit else tuple(range(int(arm.ratio * context)))
        recompute_ms, select_ms = MS_PER_TOKEN * len(selected), 0.0 if hit else 3.0
        stats = BlendStats(
            times=StageTimes(select_ms=select_ms, recompute_ms=recompute_ms),
            selector=arm.selector or "",
            selected=selected,
        )
        hit = max(hit, context)
        prefill_ms = MS_PER_TOKEN * (len(ids) - hit)
        return Reply(recompute_ms + select_ms + prefill_ms + 1, hit, prefill_ms, stats)


def _alike(ids: Ids, other: Ids) -> int:
    """Tokens with which both begin; never all of them, since the last is always computed."""
    most = min(len(ids) - 1, len(other))
    return next((i for i in range(most) if ids[i] != other[i]), most)
