"""Rows that are dropped on the way keep their cached KV from there on, and cost nothing more."""

from itertools import pairwise

import pytest
import torch
from transformers import PreTrainedModel

from bench.cost import blend_flops, shape_of
from bench.fidelity.narrowing import Narrowing
from blend.chunks.chunk import make_record
from blend.hf import blend, compute_chunks
from tests.conftest import RandomIds
from tests.reference.prefill import rows_of


def test_dropped_rows_are_the_cached_ones_and_kept_rows_are_fresh(
    llama: PreTrainedModel, random_ids: RandomIds
) -> None:
    a, b = compute_chunks(llama, [make_record("tiny", (), random_ids(n)) for n in (24, 17)])
    gap = random_ids(3)
    prompt = (*a.record.token_ids, *gap, *b.record.token_ids, 1)
    num_layers = llama.config.num_hidden_layers
    ratio = Narrowing.start(0.3)
    reused = blend(llama, prompt, [a, b], recompute_ratio=0.0, selector="deviation-values")
    whole = blend(llama, prompt, [a, b], recompute_ratio=ratio, selector="deviation-values")
    narrowed = blend(
        llama, prompt, [a, b], recompute_ratio=ratio, selector="deviation-values", keep=Narrowing(num_layers)
    )
    assert torch.equal(narrowed.selected, whole.selected)
    last = narrowed.by_layer[-1]
    assert len(last) < len(narrowed.by_layer[0]) == len(narrowed.selected)
    assert {24, 25, 26} <= set(last.tolist()), "a gap has no cached row to fall back to"
    dropped = narrowed.selected[~torch.isin(narrowed.selected, last)]
    values, cached = rows_of(narrowed.cache)[1], rows_of(reused.cache)[1]
    assert torch.equal(values[-1, dropped], cached[-1, dropped])
    kept = last[last >= 27]  # of the second chunk, which stands behind what it was not computed behind
    assert len(kept) and not torch.isclose(values[-1, kept], cached[-1, kept]).all(dim=(-2, -1)).any()


def test_each_layer_computes_a_part_of_the_rows_of_the_one_before() -> None:
    generator = torch.Generator().manual_seed(0)
    narrowing = Narrowing(num_layers=9)
    kept = [
        narrowing(layer, *(torch.randn(60, 2, 4, generator=generator) for _ in range(2)))
        for layer in range(9)
    ]
    counts = [int(mask.sum()) for mask in kept]
    assert counts[0] == 60 and counts[-1] == 20 and counts == sorted(counts, reverse=True)
    assert all(not (later & ~earlier).any() for earlier, later in pairwise(kept))
    assert sum(counts) / 9 == pytest.approx(60 / 1.5), "on the mean the rows that the ratio asks for"


def test_the_rows_that_deviate_least_go_first() -> None:
    narrowing = Narrowing(num_layers=2)
    cached = torch.zeros(6, 1, 1)
    fresh = torch.tensor([5.0, 1.0, 4.0, 2.0, 6.0, 3.0])[:, None, None]
    narrowing(0, cached, fresh)
    assert narrowing(1, cached, fresh).nonzero().flatten().tolist() == [0, 4]


def test_flops_count_the_rows_of_each_layer(llama: PreTrainedModel) -> None:
    shape = shape_of(llama)
    rows = [[0, 1, 2, 3]] * shape.num_layers
    fewer = [rows[0], *[[2, 3]] * (shape.num_layers - 1)]
    whole, narrowed = (blend_flops(shape, None, by_layer, 8, 2) for by_layer in (rows, fewer))
    assert blend_flops(shape, None, [[2, 3]] * shape.num_layers, 8, 2) < narrowed < whole
