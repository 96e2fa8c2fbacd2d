"""Realign keys: rotate them from the positions they were computed at to the positions they take now.

Rotary embedding multiplies key `k` at position `p` by a rotation `R(p)`, and `R(p + d) = R(d) R(p)`: one
constant rotation moves a whole chunk by `d` positions, whatever position each of its tokens has. Chunks
that move by different distances are rotated together with `side_by_side`.

References: RoFormer, https://arxiv.org/abs/2104.09864; the two layouts are GPT-NeoX's (pairs are `i` and
`i + R/2`) and GPT-J's (pairs are `2i` and `2i + 1`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from blend.errors import RequestError


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotation of keys.

    Attributes:
        cos, sin: float32 [R / 2], of the angle by which each pair of dimensions is rotated; or
            [T, 1, R / 2], one angle per row of `T`.
        is_identity: all angles are zero.
    """

    cos: torch.Tensor
    sin: torch.Tensor
    is_identity: bool = False


def rotation(table: torch.Tensor, delta: int) -> Rotation:
    """Rotation by `delta` positions, read from a model's own rotary table.

    Args:
        table: float32 [P, R], row `p` holds the cosines and then the sines of position `p`, `R / 2` each.
            A constant factor folded into it (YaRN's attention factor) is divided out: stored keys
            carry it already.
        delta: positions to move by, in `1 - P .. P - 1`.

    Raises:
        RequestError: the table has no row for this distance.

    >>> angle = torch.arange(8.0)[:, None]
    >>> rotation(torch.cat([angle.cos(), angle.sin()], dim=1), -2).sin.item() == -angle[2].sin().item()
    True
    """
    assert table.dtype == torch.float32, f"expected a float32 table, got {table.dtype}"
    num_positions, width = table.shape
    if abs(delta) >= num_positions:
        raise RequestError(
            f"cannot move a chunk by {delta} positions: the model's rotary table has {num_positions}; "
            "use a shorter prompt"
        )
    half = width // 2
    factor = table[0, :half]  # cos(0) = 1, times the factor that the model folds in
    row = table[abs(delta)]
    cos, sin = row[:half] / factor, row[half:] / factor
    return Rotation(cos, -sin if delta < 0 else sin, is_identity=delta == 0)


def side_by_side(parts: Sequence[tuple[Rotation, int]]) -> Rotation:
    """One rotation for consecutive rows with different rotations.

    Args:
        parts: a rotation from `rotation`, and the number of rows that it applies to; at least one part.

    >>> one, zero = torch.ones(1), torch.zeros(1)
    >>> both = side_by_side([(Rotation(zero, one), 1), (Rotation(one, zero), 1)])
    >>> realign(torch.tensor([[[1.0, 2.0]], [[1.0, 2.0]]]), both).tolist()
    [[[-2.0, 1.0]], [[1.0, 2.0]]]
    """
    cos = torch.cat([part.cos.expand(rows, -1) for part, rows in parts])
    sin = torch.cat([part.sin.expand(rows, -1) for part, rows in parts])
    identity = all(part.is_identity for part, _ in parts)
    return Rotation(cos[:, None], sin[:, None], identity)  # [T, 1, R / 2]


def realign(keys: torch.Tensor, rotation: Rotation, interleaved: bool = False) -> torch.Tensor:
    """Keys after a rotation; never writes to its argument.

    Args:
        keys: [..., D], or [T, H, D] with one angle per row; rotated for their stored positions. Only the
            first `R` of `D` dimensions are rotated.
        rotation: from `rotation` or `side_by_side`, on the same device.
        interleaved: True for GPT-J's layout, False for GPT-NeoX's.

    Returns:
        [..., D] of the same dtype, computed in float32 and cast once; `keys` itself for the identity.

    >>> quarter = Rotation(torch.tensor([0.0]), torch.tensor([1.0]))
    >>> realign(torch.tensor([1.0, 2.0, 3.0]), quarter).tolist()
    [-2.0, 1.0, 3.0]
    """
    if rotation.is_identity:
        return keys
    moved = keys.clone()
    realign_(moved, rotation, interleaved)
    return moved


def realign_(keys: torch.Tensor, rotation: Rotation, interleaved: bool = False) -> None:
    """The same in place; pass only a private copy of stored keys."""
    if rotation.is_identity:
        return
    half = rotation.cos.shape[-1]
    first = slice(0, 2 * half, 2) if interleaved else slice(0, half)
    second = slice(1, 2 * half, 2) if interleaved else slice(half, 2 * half)
    wide = keys if keys.dtype == torch.float32 else keys.float()
    k1, k2, cos, sin = wide[..., first], wide[..., second], rotation.cos, rotation.sin
    # This runs for every layer of a context, and each temporary tensor costs a pass over new memory.
    rotated = k1 * sin
    k1.mul_(cos).addcmul_(k2, sin, value=-1)
    k2.mul_(cos).add_(rotated)
    if wide is not keys:
        keys.copy_(wide)
