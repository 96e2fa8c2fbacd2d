"""A kept blend of packed chunks: what of it is exact, and what ratio 1 computes again."""

import torch

from blend.chunks.chunk import make_record
from blend.plan.plan import make_plan
from blend.plan.ratio import Ratio
from blend.select.choose import choose
from blend.vllm.job.context import KeptContext, KeptRows
from blend.vllm.messages import BlendTask

PREFIX = make_record("m", (), (1, 2))
FIRST = make_record("m", (1, 2), (10, 11, 12))
PLAN = make_plan((1, 2, 10, 11, 12, 30), [(0, PREFIX), (2, FIRST)])


def kept_context(ratio: Ratio, *, is_lossless: bool) -> KeptContext:
    exact = torch.tensor([True, True, *[is_lossless] * 3])
    task = BlendTask("r", PLAN, 0, (0,), ratio, "question-late", 0.05)
    return KeptContext(task, KeptRows(torch.zeros(5, dtype=torch.bool), exact))


def chosen(context: KeptContext, ratio: float) -> list[int]:
    return choose(context.plan, 0, torch.ones(5), context.cold, ratio).tolist()


def test_a_packed_first_chunk_is_open_to_selection_at_ratio_one_only() -> None:
    packed, whole = (kept_context(1.0, is_lossless=lossless) for lossless in (False, True))
    assert int(packed.exact_from_first.sum()) == 2 and int(whole.exact_from_first.sum()) == 5
    assert chosen(packed, 1.0) == [2, 3, 4] and chosen(whole, 1.0) == []
    assert chosen(kept_context(0.9, is_lossless=False), 0.9) == []
