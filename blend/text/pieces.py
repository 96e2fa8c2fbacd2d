"""Tokenises pieces of text, so that their ids can be joined into a prompt."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from tokenizers import Tokenizer

from blend.text.backend import DUMMY_PREFIX, has_dummy_prefix, middle_tokenizer, start_tokenizer
from blend.text.chunk_texts import Piece


class PieceTokenizer:
    """Tokenises pieces so that their joined ids decode to the joined text. Thread-safe.

    Tokenising a prompt as a whole would merge tokens across the edges of a chunk, and the chunk would not be
    found.

    Args:
        tokenizer: a Hugging Face fast tokenizer; it is never changed.

    Raises:
        NotBlendable: the tokenizer has no fast form.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._start = start_tokenizer(tokenizer)
        self._middle = middle_tokenizer(tokenizer)
        self._data = middle_tokenizer(tokenizer)
        self._data.encode_special_tokens = True
        added = self._middle.get_added_tokens_decoder()
        self._added = frozenset(added)
        # Characters that a tokenizer does not know become its unknown token, which is not a control token.
        unknown = _unknown_id(self._middle)
        self._control = frozenset(i for i, token in added.items() if token.special and i != unknown)
        self._before, self._after = _template(self._start)
        self._dummy = self._start.token_to_id(DUMMY_PREFIX) if has_dummy_prefix(self._start) else None

    def encode(self, text: str) -> list[int]:
        """Ids of a chunk's text in the middle of a prompt, with nothing added around it.

        The text is data: a control token written in it is encoded as ordinary characters, so a document can
        neither end a turn nor open one.

        Args:
            text: a chunk, or other text of a document.
        """
        encoding = self._data.encode(text, add_special_tokens=False)
        cuts = {
            start + 1
            for token, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True)
            if token in self._control and stop - start > 1
        }
        if not cuts:
            return list(encoding.ids)
        # Unigram models have control tokens as ordinary pieces too: cut the text so that none can form.
        edges = [0, *sorted(cuts), len(text)]
        parts = [text[a:b] for a, b in pairwise(edges)]
        return [token for part in parts for token in self.encode(part)]

    def encode_markup(self, text: str) -> list[int]:
        """Ids of text in the middle of a prompt that is not a document: control tokens in it take effect.

        Args:
            text: text between chunks or after them.
        """
        encoding = self._middle.encode(text, add_special_tokens=False)
        control = (
            start
            for token, (start, _) in zip(encoding.ids, encoding.offsets, strict=True)
            if token in self._added
        )
        edge = next(control, None)
        if edge is None:
            return list(encoding.ids)
        # Some tokenizers add a dummy prefix after a control token: keep it.
        head = self._middle.encode(text[:edge], add_special_tokens=False).ids
        return [*head, *self._start.encode(text[edge:], add_special_tokens=False).ids]

    def encode_start(self, text: str, add_special_tokens: bool) -> list[int]:
        """Ids of the start of a prompt, the same as the tokenizer's own `encode` gives.

        Args:
            text: everything before the first chunk; may be empty.
            add_special_tokens: whether the tokenizer's first tokens (BOS) go before it.
        """
        before = self._before if add_special_tokens else ()
        return [*before, *self._start.encode(text, add_special_tokens=False).ids]

    def join(self, pieces: Iterable[Piece], add_special_tokens: bool) -> list[int]:
        """Ids of a prompt in pieces.

        Args:
            pieces: the prompt's text, in order; empty pieces are ignored.
            add_special_tokens: whether the tokenizer's first and last tokens go around it.
        """
        first, *rest = [piece for piece in pieces if piece.text] or [Piece("", False)]
        ids = self.encode_start("" if first.is_chunk else first.text, add_special_tokens)
        if first.is_chunk:
            # The dummy prefix becomes a separate token: decoding drops it, and the chunk keeps its ids.
            ids += [] if self._dummy is None else [self._dummy]
            ids += self.encode(first.text)
        for piece in rest:
            ids += self.encode(piece.text) if piece.is_chunk else self.encode_markup(piece.text)
        return [*ids, *(self._after if add_special_tokens else ())]


def _template(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids that a tokenizer adds before and after any text."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    place = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return tuple(whole[:place]), tuple(whole[place + len(bare) :])


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    token = getattr(tokenizer.model, "unk_token", None)
    return tokenizer.token_to_id(token) if token else None
