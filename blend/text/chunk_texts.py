"""Finds known chunk texts in a prompt's text."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

ANCHOR_CHARS = 16
"""Number of first characters by which a text is looked up; then all of it is compared."""


class Piece(NamedTuple):
    """A part of a prompt.

    Attributes:
        is_chunk: the text is exactly the text of a known chunk.
    """

    text: str
    is_chunk: bool


class ChunkTexts:
    """An index of known chunk texts. Immutable; any thread may use it.

    A text shorter than `ANCHOR_CHARS` ("user", "Yes") occurs in prompts by chance, even inside the markup of
    a chat template. It counts only where it fills whole lines.

    Args:
        texts: chunk texts; empty ones and duplicates are ignored.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        known = {text for text in texts if text}
        anchored: defaultdict[str, list[str]] = defaultdict(list)
        for text in known:
            anchored[text[:ANCHOR_CHARS]].append(text)
        longest_first = {anchor: sorted(found, key=len, reverse=True) for anchor, found in anchored.items()}
        self._long = {anchor: found for anchor, found in longest_first.items() if len(anchor) == ANCHOR_CHARS}
        self._short = sorted((text for text in known if len(text) < ANCHOR_CHARS), key=len, reverse=True)
        self._count = len(known)

    def __len__(self) -> int:
        return self._count

    def plus(self, texts: Iterable[str]) -> "ChunkTexts":
        """A new index with these texts added; quick if they are few.

        >>> len(ChunkTexts(["one known text of a chunk"]).plus(["another one", "one known text of a chunk"]))
        2
        """
        new = {text for text in texts if text and not self._knows(text)}
        both = ChunkTexts()
        both._long, both._count = dict(self._long), self._count + len(new)
        for text in new:
            if len(text) >= ANCHOR_CHARS:
                anchor = text[:ANCHOR_CHARS]
                both._long[anchor] = sorted((*both._long.get(anchor, ()), text), key=len, reverse=True)
        short = (text for text in new if len(text) < ANCHOR_CHARS)
        both._short = sorted((*self._short, *short), key=len, reverse=True)
        return both

    def _knows(self, text: str) -> bool:
        return text in self._long.get(text[:ANCHOR_CHARS], ()) or text in self._short

    def split(self, text: str) -> list[Piece]:
        """Cut a text at the known chunk texts in it: left to right, the longest at each position, no overlap.

        Args:
            text: a prompt.

        Returns:
            Pieces whose concatenation is the text; none is empty.

        >>> ChunkTexts(["a chunk of known text"]).split("Read: a chunk of known text!")
        [Piece(text='Read: ', is_chunk=False), Piece(text='a chunk of known text', is_chunk=True), \
Piece(text='!', is_chunk=False)]
        """
        pieces: list[Piece] = []
        done = 0
        for position in self._candidates(text):
            found = self._at(text, position) if position >= done else None
            if found is None:
                continue
            if done < position:
                pieces.append(Piece(text[done:position], False))
            pieces.append(Piece(found, True))
            done = position + len(found)
        if done < len(text):
            pieces.append(Piece(text[done:], False))
        return pieces

    def _candidates(self, text: str) -> list[int]:
        """Positions where a known text may stand, ascending."""
        anchors = self._long
        found = [i for i in range(len(text)) if text[i : i + ANCHOR_CHARS] in anchors]
        if not self._short:
            return found
        lines = [0, *(i + 1 for i, character in enumerate(text) if character == "\n")]
        return sorted({*found, *lines})

    def _at(self, text: str, position: int) -> str | None:
        """The longest known text at a position, or None."""
        for known in self._long.get(text[position : position + ANCHOR_CHARS], ()):
            if text.startswith(known, position):
                return known
        if self._short and (position == 0 or text[position - 1] == "\n"):
            for known in self._short:
                stop = position + len(known)
                if text.startswith(known, position) and (stop == len(text) or text[stop] == "\n"):
                    return known
        return None
