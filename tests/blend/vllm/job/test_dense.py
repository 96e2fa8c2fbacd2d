"""Dense attention of selected rows is causal attention: it gives what a full prefill's rows have."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from blend.vllm.job.dense import ROWS_PER_PIECE, DenseAttention, mask_bytes

NUM_ROWS, HEADS, KV_HEADS, HEAD_SIZE = 300, 6, 2, 16


def causal(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float) -> torch.Tensor:
    """All rows, by torch's own causal attention; [N, heads, D] in and out."""
    rows = (t.transpose(0, 1)[None] for t in (queries, keys, values))
    return scaled_dot_product_attention(*rows, is_causal=True, scale=scale, enable_gqa=True)[0].transpose(
        0, 1
    )


@pytest.fixture
def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((NUM_ROWS, HEADS, HEAD_SIZE), *2 * ((NUM_ROWS, KV_HEADS, HEAD_SIZE),))
    queries, keys, values = (torch.randn(shape, generator=generator) for shape in shapes)
    return queries, keys, values


SELECTIONS = {
    "the first": [0],
    "the last": [NUM_ROWS - 1],
    "scattered": list(range(1, NUM_ROWS, 7)),
    "one piece exactly": list(range(0, 3 * ROWS_PER_PIECE, 3)),
    "one row more than a piece": list(range(ROWS_PER_PIECE + 1)),
    "all": list(range(NUM_ROWS)),
}


@pytest.mark.parametrize("selection", SELECTIONS)
def test_selected_rows_get_what_all_rows_get(
    rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor], selection: str
) -> None:
    queries, keys, values = rows
    selected = torch.tensor(SELECTIONS[selection])
    attention = DenseAttention(selected, like=keys)
    got = attention(queries[selected], keys, values, scale=0.25)
    torch.testing.assert_close(got, causal(queries, keys, values, 0.25)[selected])


def test_no_row_sees_a_later_one(rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    queries, keys, values = rows
    selected = torch.arange(0, 200, 2)
    attention = DenseAttention(selected, like=keys)
    before = attention(queries[selected], keys, values, scale=0.25)
    keys[101:], values[101:] = 7.0, -7.0
    after = attention(queries[selected], keys, values, scale=0.25)
    assert torch.equal(before[selected <= 100], after[selected <= 100])
    assert not torch.equal(before[selected > 100], after[selected > 100])


def test_a_window_hides_what_is_too_far_back(rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    queries, keys, values = rows
    attention = DenseAttention(torch.tensor([50]), like=keys, window=10)
    before = attention(queries[50:51], keys, values, scale=0.25)
    values[:41] = 99.0
    assert torch.equal(attention(queries[50:51], keys, values, scale=0.25), before)
    values[41] = 99.0
    assert not torch.equal(attention(queries[50:51], keys, values, scale=0.25), before)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_the_masks_take_as_much_memory_as_is_said(selection: str) -> None:
    selected = torch.tensor(SELECTIONS[selection])
    pieces = DenseAttention(selected, like=torch.empty(0))._pieces
    assert mask_bytes(selected, torch.float32) == sum(piece.mask.numel() * 4 for piece in pieces)
