"""Dense attention of selected rows to a whole context in memory: one masked attention per layer, in pieces.

The paged kernel reads the context once for each run of selected tokens. Here all rows of a piece share one
read, and a piece ends at its last row's position, so that little is computed and then masked.

Axes: `S` selected rows, `N` context rows, `Hq` query heads, `H` key/value heads, `D` head size.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention

ROWS_PER_PIECE = 64
"""Fewer rows share less of a read; more rows mask more. From 45 to 90 it made no measurable difference."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows `rows` of the selected ones, which see context rows `0 .. stop - 1` under a mask [rows, stop]."""

    rows: slice
    stop: int
    mask: torch.Tensor


class DenseAttention:
    """Causal attention of selected context rows, the same for every layer of one window.

    Args:
        positions: int64 [S], context positions of the rows, ascending, on the CPU.
        like: any tensor of the dtype and on the device of queries, keys and values.
        window: number of positions that a row sees, its own included; None: all.

    >>> keys, values = torch.zeros(3, 1, 2), torch.tensor([1.0, 3.0, 9.0])[:, None, None].expand(3, 1, 2)
    >>> attention = DenseAttention(torch.tensor([1]), like=keys)
    >>> attention(torch.ones(1, 1, 2), keys, values, scale=1.0).tolist()
    [[[2.0, 2.0]]]
    """

    def __init__(self, positions: torch.Tensor, like: torch.Tensor, window: int | None = None) -> None:
        self._pieces = [
            _piece(positions, slice(start, start + ROWS_PER_PIECE), like, window)
            for start in range(0, len(positions), ROWS_PER_PIECE)
        ]

    def __call__(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """The attention output of the selected rows: [S, Hq, D].

        Args:
            queries: [S, Hq, D], rotated.
            keys, values: [N, H, D]; the rows of the selected tokens are fresh.
        """
        all_keys, all_values = (rows.transpose(0, 1)[None] for rows in (keys, values))  # [1, H, N, D]
        all_queries = queries.transpose(0, 1)[None]  # [1, Hq, S, D]
        out = torch.empty_like(queries)
        for piece in self._pieces:
            mixed = scaled_dot_product_attention(
                all_queries[:, :, piece.rows],
                all_keys[:, :, : piece.stop],
                all_values[:, :, : piece.stop],
                attn_mask=piece.mask,
                scale=scale,
                enable_gqa=True,
            )
            out[piece.rows] = mixed[0].transpose(0, 1)
        return out


def mask_bytes(positions: torch.Tensor, dtype: torch.dtype) -> int:
    """Memory that the masks of these rows take.

    >>> mask_bytes(torch.tensor([3, 9]), torch.float32)
    80
    """
    last = positions[ROWS_PER_PIECE - 1 :: ROWS_PER_PIECE]
    seen = int(last.sum() + len(last)) * ROWS_PER_PIECE
    if left := len(positions) % ROWS_PER_PIECE:
        seen += (int(positions[-1]) + 1) * left
    return seen * dtype.itemsize


def _piece(positions: torch.Tensor, rows: slice, like: torch.Tensor, window: int | None) -> _Piece:
    piece = positions[rows]
    stop = int(piece[-1]) + 1
    distance = piece[:, None] - torch.arange(stop)  # [rows, stop]
    hidden = distance < 0
    if window is not None:
        hidden |= distance >= window
    mask = torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
    return _Piece(rows, stop, mask.to(like.device, like.dtype))
