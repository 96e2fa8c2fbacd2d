"""Chunks ranked by the words that they share with a query: BM25, with the library `bm25s`.

References: Robertson and Zaragoza, https://doi.org/10.1561/1500000019; bm25s, https://arxiv.org/abs/2407.03618.
"""

import io
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from retriever.index import Ranking, Rows

# Han and kana are written without spaces: there each character is a word.
_IDEOGRAPH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{_IDEOGRAPH}]|[^\W{_IDEOGRAPH}]+")


def words_of(text: str) -> list[str]:
    """Words in the form in which they are compared.

    >>> words_of("Paged-Attention, \N{CJK UNIFIED IDEOGRAPH-6771}\N{CJK UNIFIED IDEOGRAPH-4EAC}!")
    ['paged', 'attention', '\N{CJK UNIFIED IDEOGRAPH-6771}', '\N{CJK UNIFIED IDEOGRAPH-4EAC}']
    """
    return WORD.findall(text.casefold())


def terms_of(text: str) -> list[str]:
    """English word stems, which are what is indexed and searched: stemming raises recall (see the log).

    >>> terms_of("Chunks are blended")
    ['chunk', 'are', 'blend']
    """
    from Stemmer import Stemmer

    terms: list[str] = Stemmer("english").stemWords(
        words_of(text)
    )  # a stemmer must not be shared between threads
    return terms


class Bm25Index:
    """Scores of each word in each chunk that holds it; immutable, and safe to call from several threads."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Index the words of texts; row i is `texts[i]`."""
        import bm25s

        self._bm25: Any = bm25s.BM25()
        vocabulary: dict[str, int] = {}  # by first occurrence, so that equal texts give equal bytes
        corpus = [[vocabulary.setdefault(word, len(vocabulary)) for word in terms_of(text)] for text in texts]
        self._num_rows = len(texts)
        if vocabulary:
            self._bm25.index((corpus, vocabulary), create_empty_token=False, show_progress=False)
        else:
            empty = np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int32), np.zeros(1, dtype=np.int32)
            self._take(*empty, vocabulary=[])

    @classmethod
    def from_bytes(cls, data: bytes) -> "Bm25Index":
        """Inverse of `to_bytes`.

        Raises:
            ValueError: the bytes are not such an index.
        """
        import bm25s

        index = cls.__new__(cls)
        index._bm25 = bm25s.BM25()
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                index._num_rows = int(file["num_rows"])
                vocabulary = json.loads(file["vocabulary"].tobytes())
                index._take(file["data"], file["indices"], file["indptr"], vocabulary)
        except (OSError, KeyError, EOFError) as error:
            raise ValueError(f"not a word index: {error!r}") from error
        return index

    def to_bytes(self) -> bytes:
        """The index in numpy's file format, with the vocabulary as JSON."""
        scores, file = self._bm25.scores, io.BytesIO()
        vocabulary = sorted(self._bm25.vocab_dict, key=self._bm25.vocab_dict.get)
        np.savez(
            file,
            num_rows=np.int64(self._num_rows),
            vocabulary=np.frombuffer(json.dumps(vocabulary).encode(), dtype=np.uint8),
            data=scores["data"],
            indices=scores["indices"],
            indptr=scores["indptr"],
        )
        return file.getvalue()

    def search(self, query: str, top_k: int, rows: Rows | None = None) -> Ranking:
        """At most `top_k` rows that share a word with `query`, best first, then ascending.

        Args:
            rows: int64, ascending: restricts the search to these rows; None searches all.
        """
        known = self._bm25.get_tokens_ids(terms_of(query))
        if not known:
            return []
        scores = self._bm25.get_scores_from_ids(known)  # [N]
        places = np.flatnonzero(scores > 0) if rows is None else rows[scores[rows] > 0]
        best = places[np.argsort(-scores[places], kind="stable")[:top_k]]
        return [(int(row), float(scores[row])) for row in best]

    def _take(self, data: Any, indices: Any, indptr: Any, vocabulary: list[str]) -> None:
        self._bm25.scores = {"data": data, "indices": indices, "indptr": indptr, "num_docs": self._num_rows}
        self._bm25.vocab_dict = {word: i for i, word in enumerate(vocabulary)}
        self._bm25.unique_token_ids_set = set(self._bm25.vocab_dict.values())
        self._bm25.nonoccurrence_array = None
