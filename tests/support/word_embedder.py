"""An embedder that needs no model."""

import hashlib
from collections.abc import Sequence

import numpy as np

from retriever.index import Vectors


class WordEmbedder:
    """Hashed bag of words: texts that share words are near."""

    name = "words"
    dim = 64

    def __init__(self, name: str = name) -> None:
        self.name = name

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                vectors[row, hashlib.sha256(word.encode()).digest()[0] % self.dim] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
