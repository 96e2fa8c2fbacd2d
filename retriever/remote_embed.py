"""Embeddings from a service with OpenAI's `/v1/embeddings`; the only module of this package that uses HTTP.

Reference: https://platform.openai.com/docs/api-reference/embeddings
"""

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from retriever.errors import EmbedderError
from retriever.index import Vectors

KEY = "KVBLEND_EMBEDDINGS_API_KEY"
"""Environment variable with the service's API key; without it a placeholder is sent."""
MAX_BATCH_TEXTS = 64
MAX_RETRIES = 4
TIMEOUT_S = 60.0


class RemoteEmbedder:
    """One model of an embedding service; implements `Embedder`. Safe to call from several threads.

    A temporary failure (too many requests, a server error, a lost connection) is retried a few times, after
    the time that the service names or with exponential back-off.
    """

    def __init__(self, name: str) -> None:
        """Request one vector, to learn the vectors' length.

        Args:
            name: base URL and model, such as `https://embed.example/v1#some-model`.

        Raises:
            EmbedderError: the name is invalid, or the service returns no vector.
        """
        import openai

        parts = urlsplit(name)
        if not parts.hostname or not parts.fragment or parts.username is not None or parts.query:
            raise EmbedderError(
                f"got the embedding service {_without_secrets(name)!r}, expected its base URL and the model, "
                f"such as https://host/v1#model; its key is read from {KEY}"
            )
        self.name = name
        self._model = parts.fragment
        self._client = openai.OpenAI(
            base_url=parts._replace(fragment="").geturl(),
            api_key=os.environ.get(KEY) or "none",
            max_retries=MAX_RETRIES,
            timeout=TIMEOUT_S,
        )
        self.dim: int = self._ask(["dimensions"]).shape[1]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [len(texts), dim], rows of length 1.

        Raises:
            EmbedderError: the service cannot be reached, refuses, or answers with something else.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), MAX_BATCH_TEXTS):
            batch = list(texts[start : start + MAX_BATCH_TEXTS])
            found = self._ask(batch)
            if found.shape[1] != self.dim:
                raise self._error(f"got vectors of {found.shape[1]} numbers, expected {self.dim} as before")
            vectors[start : start + len(batch)] = found
        return vectors

    def _ask(self, texts: list[str]) -> Vectors:
        import openai

        try:
            answer: Any = self._client.embeddings.create(
                model=self._model, input=texts, encoding_format="float"
            )
        except openai.APIStatusError as error:
            raise self._error(f"status {error.status_code}, {str(error.message)[:200]}") from error
        except openai.OpenAIError as error:
            raise self._error(f"no answer ({str(error)[:200]})") from error
        try:
            items = sorted(answer.data, key=lambda item: item.index)
            vectors: Vectors = np.array([item.embedding for item in items], dtype=np.float32)
            places = [item.index for item in items]
        except (AttributeError, TypeError, ValueError) as error:
            raise self._error(f"no list of vectors in its answer ({str(error)[:100]})") from error
        if places != list(range(len(texts))) or vectors.ndim != 2:
            raise self._error(f"got {len(places)} vectors, expected one for each of {len(texts)} texts")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.all(np.isfinite(lengths)) or not np.all(lengths > 0):
            raise self._error("got a vector without a direction, expected finite numbers, not all zero")
        vectors /= lengths
        return vectors

    def _error(self, reason: str) -> EmbedderError:
        return EmbedderError(
            f"embedding service {self.name}: {reason}. Expected OpenAI's /embeddings under that URL, with "
            f"that model; its key is read from {KEY}"
        )


def _without_secrets(name: str) -> str:
    """A URL without credentials, to be printed.

    >>> _without_secrets("https://me:secret@host/v1#model")
    'https://...@host/v1#model'
    """
    scheme, mark, rest = name.partition("://")
    return f"{scheme}{mark}...@{rest.rpartition('@')[2]}" if "@" in rest else name
