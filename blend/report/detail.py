"""What became of each context token, for requests that ask for it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any

import torch

SCORE_DIGITS = 3
"""Significant digits: scores are for display."""


class TokenState(StrEnum):
    """Where a context token's KV comes from; the first four as `TokenCounts` has them."""

    EXACT = "exact"
    REUSED = "reused"
    RECOMPUTED = "recomputed"
    COLD = "cold"
    FOUND = "found"
    """In the engine's pages from an earlier request; counted as reused."""


@dataclass(frozen=True, slots=True)
class TokenRun:
    """Consecutive tokens of one state in one chunk.

    Attributes:
        chunk: index among the known chunks of the prompt; None in gaps.
    """

    start: int
    tokens: int
    state: TokenState
    chunk: int | None


@dataclass(frozen=True, slots=True)
class ContextDetail:
    """All context tokens of one request.

    Attributes:
        runs: ascending, without holes, over all context tokens.
        measure: what the scores measure.
        scores: by which the selector ranked each token; higher means recomputed sooner. None for tokens
            that it did not rank, or ranked by no finite number.
    """

    runs: tuple[TokenRun, ...]
    measure: str
    scores: tuple[float | None, ...]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ContextDetail":
        """Inverse of `dataclasses.asdict`."""
        runs = tuple(TokenRun(**{**run, "state": TokenState(run["state"])}) for run in data["runs"])
        return cls(runs, data["measure"], tuple(data["scores"]))


def states_of_rows(exact: torch.Tensor, cold: torch.Tensor, selected: torch.Tensor) -> tuple[TokenState, ...]:
    """States of blended rows.

    Args:
        exact, cold, selected: bool [N - start]; cold rows are selected too.

    >>> rows = [torch.tensor(row, dtype=torch.bool) for row in ([1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 1, 0])]
    >>> [state.value for state in states_of_rows(*rows)]
    ['exact', 'recomputed', 'cold', 'reused']
    """
    rows = zip(exact.tolist(), cold.tolist(), selected.tolist(), strict=True)
    return tuple(
        TokenState.COLD
        if is_cold
        else TokenState.RECOMPUTED
        if is_selected
        else TokenState.EXACT
        if is_exact
        else TokenState.REUSED
        for is_exact, is_cold, is_selected in rows
    )


def rounded(scores: torch.Tensor) -> tuple[float | None, ...]:
    """Scores rounded for display; None for a number that is not finite.

    >>> rounded(torch.tensor([0.012345, float("inf")]))
    (0.0123, None)
    """
    return tuple(
        float(f"{score:.{SCORE_DIGITS}g}") if math.isfinite(score) else None for score in scores.tolist()
    )


def context_detail(
    spans: Iterable[tuple[int, int]],
    states: Sequence[TokenState],
    scores: Sequence[float | None],
    measure: str,
) -> ContextDetail:
    """Combine spans, states and scores of a context.

    Args:
        spans: first token and number of tokens of each known chunk, ascending; the last may end beyond
            the context.
        states: of all `N` context tokens.
        scores: of the last context tokens; the tokens before them were not ranked.

    >>> state = TokenState.REUSED
    >>> context_detail([(1, 2)], [state] * 3, [0.5], "luck").scores
    (None, None, 0.5)
    """
    num_tokens = len(states)
    owners: list[int | None] = [None] * num_tokens
    for number, (start, length) in enumerate(spans):
        stop = min(start + length, num_tokens)
        owners[start:stop] = [number] * (stop - start)
    runs: list[TokenRun] = []
    at = 0
    for (state, owner), tokens in groupby(zip(states, owners, strict=True)):
        length = sum(1 for _ in tokens)
        runs.append(TokenRun(at, length, state, owner))
        at += length
    unseen = (None,) * (num_tokens - len(scores))
    return ContextDetail(tuple(runs), measure, (*unseen, *scores))
