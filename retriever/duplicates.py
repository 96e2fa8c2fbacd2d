"""Removal of near-duplicates: texts that say nearly the same as an earlier text.

Two texts are near-duplicates when their resemblance, the Jaccard index of their runs of five words, is at
least 0.8 and their numbers are the same: rows of a table differ in little else than those.

Reference: Broder, https://doi.org/10.1109/SEQUEN.1997.666900 (resemblance of shingles).
"""

from collections.abc import Callable, Iterable, Iterator

from retriever.bm25 import words_of

SHINGLE_WORDS = 5
LEAST_RESEMBLANCE = 0.8

Shingles = frozenset[tuple[str, ...]]


def without_duplicates(rows: Iterable[int], text_of: Callable[[int], str]) -> Iterator[int]:
    """Rows whose texts are not near-duplicates of an earlier row's; lazily.

    >>> texts = ["Rome is old.", "rome  is OLD", "Paris is old."]
    >>> list(without_duplicates(range(3), texts.__getitem__))
    [0, 2]
    """
    kept: list[tuple[Shingles, frozenset[str]]] = []
    for row in rows:
        words = words_of(text_of(row))
        seen = shingles(words), frozenset(word for word in words if any(map(str.isdigit, word)))
        if not any(
            seen[1] == other[1] and resemblance(seen[0], other[0]) >= LEAST_RESEMBLANCE for other in kept
        ):
            kept.append(seen)
            yield row


def shingles(words: list[str]) -> Shingles:
    """All runs of five words; a shorter text is one run."""
    if len(words) <= SHINGLE_WORDS:
        return frozenset({tuple(words)} if words else ())
    return frozenset(zip(*(words[i:] for i in range(SHINGLE_WORDS)), strict=False))


def resemblance(one: Shingles, other: Shingles) -> float:
    """Jaccard index; 0 for texts without words.

    >>> resemblance(frozenset({("a",), ("b",)}), frozenset({("b",), ("c",)}))
    0.3333333333333333
    """
    together = len(one | other)
    return len(one & other) / together if together else 0.0
