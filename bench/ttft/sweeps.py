"""Sweeps: the cases of a run, from one case and what is varied in it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from bench.ttft.case import TIERS, Case, check_tier
from blend.errors import RequestError

Points = Sequence[str]

COMPARE = "compare"
CONVERSATION = "conversation"
CHUNKS = ("2", "4", "6", "10", "14")
TOKENS = ("128", "512", "1024")
FIRST_CONTEXT = 1024
KNOWN = ("0", "0.25", "0.5", "0.75", "1")
AT_ONCE = ("8",)


def cases_of(sweep: str, base: Case, points: Points | None, room: int) -> list[Case]:
    """The cases of a sweep, smallest first.

    Args:
        sweep: a name in `SWEEPS`.
        base: what is not varied.
        points: what is varied, as users write it (`4x512`, `2048`, `0.5`, `memory`, `8`); None: all of it.
        room: tokens that chunks and what joins them may take up in a prompt of the model's length.

    Raises:
        RequestError: a point is none, or no prompt of a case fits.
    """
    cases = list(dict.fromkeys(SWEEPS[sweep](base, points, room)))
    fitting = [case for case in cases if _length(case) <= room]
    if not fitting or (points is not None and len(fitting) < len(cases)):
        longest = max(map(_length, cases), default=0)
        raise RequestError(
            f"got prompts with {longest} tokens of chunks, expected at most {room} (the model's length less "
            "instruction, question and answer); use fewer or shorter chunks"
        )
    return fitting


def _length(case: Case) -> int:
    return case.chunks * (case.tokens + JOIN_TOKENS)


JOIN_TOKENS = 2
"""Most tokens of a separator between two chunks; less matter in no tokenizer that is known."""


def _one(base: Case, points: Points | None, room: int) -> list[Case]:
    if points is not None:
        raise RequestError(f"got points {','.join(points)}, expected none: this run has a single case")
    return [base]


def _chunks(base: Case, points: Points | None, room: int) -> list[Case]:
    """Number of chunks times their size."""
    points = points or [f"{chunks}x{tokens}" for tokens in TOKENS for chunks in CHUNKS]
    pairs = [point.partition("x")[::2] for point in points]
    return [replace(base, chunks=_number(a), tokens=_number(b)) for a, b in pairs]


def _context(base: Case, points: Points | None, room: int) -> list[Case]:
    """Context length in powers of two, and as much as fits: all in chunks of the base case's size."""
    if points is None:
        lengths, length = [], FIRST_CONTEXT
        while length < room:
            lengths.append(length)
            length *= 2
        lengths.append(room)
    else:
        lengths = [_number(point) for point in points]
    most = room // (base.tokens + JOIN_TOKENS)
    sizes = [max(1, length // base.tokens) for length in lengths]
    return [replace(base, chunks=size if points else min(size, most)) for size in sizes]


def _known(base: Case, points: Points | None, room: int) -> list[Case]:
    return [replace(base, known=_share(point)) for point in points or KNOWN]


def _tier(base: Case, points: Points | None, room: int) -> list[Case]:
    return [replace(base, tier=check_tier(point)) for point in points or TIERS]


def _together(base: Case, points: Points | None, room: int) -> list[Case]:
    return [replace(base, at_once=_number(point)) for point in points or AT_ONCE]


SWEEPS: dict[str, Callable[[Case, Points | None, int], list[Case]]] = {
    COMPARE: _one,
    "chunks": _chunks,
    "context": _context,
    "known": _known,
    "tier": _tier,
    "together": _together,
    CONVERSATION: _one,
}
"""What users write, and what makes its cases."""


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise RequestError(f"got {text!r} among the points, expected a number from 1 up")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise RequestError(f"got {text!r} among the points, expected a share from 0 to 1")
    return share
