"""Rows of tokens and blocks of pages, laid out for vLLM's paged attention kernels."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True, slots=True)
class Rows:
    """Tokens that run through a layer together, as sequences of the attention kernel.

    A kernel sequence is a run of consecutive positions: its query is the run, and its length is the last
    position plus one. The kernel's causal mask, aligned bottom right, then lets every token see exactly the
    positions at or before its own. ::

        positions   4 5 6      9      12 13         runs (4,7) (9,10) (12,14)
        query_start 0          3      4        6    seq_lens 7, 10, 14

    Attributes:
        positions: int64 [S].
        slots: int64 [S], where each token's key and value are written.
        query_start: int32 [R + 1].
        seq_lens: int32 [R].
        block_table: int32 [R, B].
        max_query_len, max_seq_len: largest of the runs.
    """

    positions: torch.Tensor
    slots: torch.Tensor
    query_start: torch.Tensor
    seq_lens: torch.Tensor
    block_table: torch.Tensor
    max_query_len: int
    max_seq_len: int

    @property
    def num_tokens(self) -> int:
        return self.positions.shape[0]

    def to(self, device: torch.device) -> "Rows":
        """The same rows on another device (the same object if they are on it)."""
        if self.positions.device == device:
            return self
        return replace(
            self,
            positions=self.positions.to(device),
            slots=self.slots.to(device),
            query_start=self.query_start.to(device),
            seq_lens=self.seq_lens.to(device),
            block_table=self.block_table.to(device),
        )


def slots_of(positions: torch.Tensor, block_ids: torch.Tensor, block_size: int) -> torch.Tensor:
    """The slot of each position of one sequence.

    >>> slots_of(torch.tensor([0, 3, 4]), torch.tensor([7, 2]), 4).tolist()
    [28, 31, 8]
    """
    return block_ids[positions // block_size].long() * block_size + positions % block_size


def runs_of(positions: torch.Tensor) -> torch.Tensor:
    """Boundaries of the runs of consecutive values: int64 [R + 1], indices into `positions`.

    >>> runs_of(torch.tensor([4, 5, 6, 9, 12, 13])).tolist()
    [0, 3, 4, 6]
    """
    breaks = torch.nonzero(positions[1:] != positions[:-1] + 1).flatten() + 1
    ends = torch.tensor([positions.shape[0]])
    return torch.cat([torch.zeros(1, dtype=torch.int64), breaks, ends])


def pieces_of(positions: torch.Tensor, max_tokens: int, max_runs: int) -> list[slice]:
    """Consecutive pieces of `positions`, each with at most `max_tokens` tokens in at most `max_runs` runs.

    A row sees only rows before it, so pieces that run one after another through a layer give the same result
    as one pass; and no piece exceeds what the engine was configured for.

    >>> pieces_of(torch.tensor([4, 5, 6, 9, 12, 13]), max_tokens=2, max_runs=2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 6, None)]
    """
    bounds = runs_of(positions).tolist()
    pieces, start = [], 0
    while start < bounds[-1]:
        run = bisect_right(bounds, start) - 1
        stop = min(start + max_tokens, bounds[min(run + max_runs, len(bounds) - 1)])
        pieces.append(slice(start, stop))
        start = stop
    return pieces


def rows_of_one(positions: torch.Tensor, block_ids: torch.Tensor, block_size: int) -> Rows:
    """Rows for chosen positions of one sequence.

    Args:
        positions: int64 [S], ascending, not empty, on the CPU.
        block_ids: int32 [B], the sequence's blocks in order, on the CPU.
        block_size: positions per block.
    """
    bounds = runs_of(positions)
    query_lens = bounds[1:] - bounds[:-1]
    seq_lens = positions[bounds[1:] - 1] + 1
    num_blocks = -(-int(seq_lens[-1]) // block_size)
    table = block_ids[:num_blocks].to(torch.int32).expand(len(query_lens), num_blocks).contiguous()
    return Rows(
        positions=positions,
        slots=slots_of(positions, block_ids, block_size),
        query_start=bounds.to(torch.int32),
        seq_lens=seq_lens.to(torch.int32),
        block_table=table,
        max_query_len=int(query_lens.max()),
        max_seq_len=int(seq_lens.max()),
    )


def rows_behind(start: int, lengths: Sequence[int], block_size: int) -> tuple[Rows, torch.Tensor]:
    """Rows for several sequences with a common beginning; each sequence is a run right behind it.

    All sequences share the blocks that the beginning fills; the other blocks belong to one sequence each.
    With a beginning of 6 positions and blocks of 4::

        positions   0 1 2 3 | 4 5  6 7 | 8 ..
        blocks      0       | 1        | 2        of the first sequence
                    0       | 3        | 4        of the second

    Args:
        start: length of the beginning; the caller must write its rows, see `beginning_of`.
        lengths: tokens of each run.

    Returns:
        The rows, and the blocks of each sequence, int32 [R, B], numbered from zero.
    """
    stops = [start + length for length in lengths]
    shared, width = start // block_size, -(-max(stops) // block_size)
    own = torch.arange(len(lengths) * (width - shared), dtype=torch.int32).view(len(lengths), -1) + shared
    table = torch.cat([torch.arange(shared, dtype=torch.int32).expand(len(lengths), shared), own], dim=1)
    positions = [torch.arange(start, stop) for stop in stops]
    slots = [slots_of(p, row, block_size) for p, row in zip(positions, table, strict=True)]
    rows = Rows(
        positions=torch.cat(positions),
        slots=torch.cat(slots),
        query_start=torch.tensor([0, *lengths]).cumsum(0).to(torch.int32),
        seq_lens=torch.tensor(stops, dtype=torch.int32),
        block_table=table,
        max_query_len=max(lengths),
        max_seq_len=max(stops),
    )
    return rows, table


def beginning_of(start: int, table: torch.Tensor, block_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where to write the rows of a common beginning, so that every sequence of `rows_behind` sees them.

    Args:
        start: length of the beginning.
        table: int32 [R, B], blocks of each sequence.

    Returns:
        int64 [W] each: rows of the beginning, and the slots to write them to.

    >>> _, table = rows_behind(6, [1, 3], block_size=4)
    >>> rows, slots = beginning_of(6, table, block_size=4)
    >>> rows.tolist(), slots.tolist()
    ([0, 1, 2, 3, 4, 5, 4, 5], [0, 1, 2, 3, 4, 5, 12, 13])
    """
    shared = torch.arange(start - start % block_size)
    rest = torch.arange(len(shared), start)
    slots = [slots_of(rest, row, block_size) for row in table]
    return torch.cat([shared, rest.repeat(len(table))]), torch.cat(
        [slots_of(shared, table[0], block_size), *slots]
    )


def piece_of_rows(rows: Rows, piece: slice) -> Rows:
    """A consecutive part of rows on the CPU; a run that the part cuts keeps the tokens inside it.

    Pieces run one after another through a layer give what all rows give together.

    >>> rows, _ = rows_behind(4, [3, 2], block_size=8)
    >>> piece = piece_of_rows(rows, slice(2, 5))
    >>> piece.positions.tolist(), piece.query_start.tolist(), piece.seq_lens.tolist()
    ([6, 4, 5], [0, 1, 3], [7, 6])
    """
    bounds = rows.query_start.clamp(piece.start, piece.stop) - piece.start  # [R + 1]
    query_lens = bounds.diff()
    runs = torch.nonzero(query_lens).flatten()
    ends = bounds[1:][runs]
    positions = rows.positions[piece]
    seq_lens = (positions[(ends - 1).long()] + 1).to(torch.int32)
    return Rows(
        positions=positions,
        slots=rows.slots[piece],
        query_start=torch.cat([bounds.new_zeros(1), ends]),
        seq_lens=seq_lens,
        block_table=rows.block_table[runs],
        max_query_len=int(query_lens.max()),
        max_seq_len=int(seq_lens.max()),
    )


Page = list[torch.Tensor]
"""One block of each layer's pages, in the attention backend's layout."""


def pages_like(pages: torch.Tensor, num_blocks: int) -> torch.Tensor:
    """New pages of the same layout."""
    order = _by_stride(pages)
    shape = list(pages.shape)
    shape[_block_dim(pages)] = num_blocks
    permuted = torch.zeros([shape[dim] for dim in order], dtype=pages.dtype, device=pages.device)
    return permuted.permute([order.index(dim) for dim in range(pages.ndim)])


def blocks_of(pages: torch.Tensor, first: int, num_blocks: int) -> torch.Tensor:
    """A view of some consecutive blocks.

    >>> pages = torch.arange(12).view(2, 3, 2, 1, 1)  # keys and values, blocks, rows
    >>> blocks_of(pages, 1, 2).flatten().tolist()
    [2, 3, 4, 5, 8, 9, 10, 11]
    """
    return pages.narrow(_block_dim(pages), first, num_blocks)


def _block_dim(pages: torch.Tensor) -> int:
    """The dimension that counts blocks."""
    order = _by_stride(pages)
    # A leading pair (keys, values) may have the largest stride; the block dimension is the larger one.
    return order[1] if pages.shape[order[0]] == 2 and pages.ndim == 5 else order[0]


def _by_stride(pages: torch.Tensor) -> list[int]:
    strides = pages.stride()
    return sorted(range(pages.ndim), key=lambda dim: -strides[dim])
