"""Rows laid out for paged attention: the mask that the kernel's causal rule makes of them is exact."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from blend.vllm.layers.rows import (
    Rows,
    beginning_of,
    piece_of_rows,
    pieces_of,
    rows_behind,
    rows_of_one,
    runs_of,
)

BLOCK = 4


def visible(rows: Rows) -> dict[int, set[int]]:
    """For each row, the slots that bottom-right causal masking lets it see, computed the slow way."""
    seen = {}
    for run, (a, b) in enumerate(
        zip(rows.query_start[:-1].tolist(), rows.query_start[1:].tolist(), strict=True)
    ):
        length = int(rows.seq_lens[run])
        slots = [int(rows.block_table[run, p // BLOCK]) * BLOCK + p % BLOCK for p in range(length)]
        for row in range(a, b):
            seen[row] = set(slots[: length - (b - 1 - row)])
    return seen


@given(st.sets(st.integers(0, 40), min_size=1), st.permutations(range(11)))
def test_every_row_sees_exactly_the_positions_at_or_before_its_own(
    chosen: set[int], blocks: list[int]
) -> None:
    positions = torch.tensor(sorted(chosen))
    rows = rows_of_one(positions, torch.tensor(blocks, dtype=torch.int32), BLOCK)
    assert rows.positions.tolist() == sorted(chosen)
    for row, seen in visible(rows).items():
        own = int(positions[row])
        assert seen == {blocks[p // BLOCK] * BLOCK + p % BLOCK for p in range(own + 1)}
        assert int(rows.slots[row]) in seen


def test_a_single_position_is_one_run_of_one() -> None:
    assert runs_of(torch.tensor([7])).tolist() == [0, 1]


@given(st.integers(0, 9), st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_sequences_with_one_beginning_share_what_it_fills_and_nothing_else(
    start: int, lengths: list[int]
) -> None:
    rows, table = rows_behind(start, lengths, BLOCK)
    assert rows.positions.tolist() == [p for length in lengths for p in range(start, start + length)]
    assert rows.seq_lens.tolist() == [start + length for length in lengths]
    assert len(set(rows.slots.tolist())) == rows.num_tokens
    which, slots = (found.tolist() for found in beginning_of(start, table, BLOCK))
    assert len(set(slots)) == len(slots) and not set(slots) & set(rows.slots.tolist())
    for row, seen in visible(rows).items():
        # Each row sees the whole beginning, once, and of the rows its own sequence's up to itself.
        assert sorted(which[slots.index(slot)] for slot in seen if slot in slots) == list(range(start))
        run = int(torch.searchsorted(rows.query_start, row, right=True)) - 1
        own = range(int(rows.query_start[run]), row + 1)
        assert seen - set(slots) == {int(rows.slots[i]) for i in own}


@given(st.sets(st.integers(0, 60), min_size=1), st.integers(1, 9), st.integers(1, 4))
def test_pieces_cover_everything_once_and_keep_to_both_limits(
    chosen: set[int], max_tokens: int, max_runs: int
) -> None:
    positions = torch.tensor(sorted(chosen))
    pieces = [positions[cut] for cut in pieces_of(positions, max_tokens, max_runs)]
    assert torch.cat(pieces).tolist() == positions.tolist()
    for piece in pieces:
        assert 0 < len(piece) <= max_tokens
        assert len(runs_of(piece)) - 1 <= max_runs


@given(st.integers(0, 9), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 40))
def test_pieces_of_several_sequences_see_what_they_see_together(
    begin: int, lengths: list[int], piece_tokens: int
) -> None:
    rows, _ = rows_behind(begin, lengths, BLOCK)
    together = visible(rows)
    for start in range(0, rows.num_tokens, piece_tokens):
        piece = piece_of_rows(rows, slice(start, min(start + piece_tokens, rows.num_tokens)))
        assert visible(piece) == {row: together[start + row] for row in range(piece.num_tokens)}
        assert piece.positions.tolist() == rows.positions[start : start + piece_tokens].tolist()
        assert piece.slots.tolist() == rows.slots[start : start + piece_tokens].tolist()
        assert piece.max_seq_len == int(piece.seq_lens.max())
        assert piece.max_query_len == int(piece.query_start.diff().max())
        assert piece.query_start.dtype == piece.seq_lens.dtype == torch.int32
