"""A file of embedded vectors, so that a run that was stopped goes on from them."""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from retriever.embed import Embedder
from retriever.index import Vectors

KEY_BYTES = 16


class KeptVectors:
    """An embedder that caches its vectors in a file; implements `Embedder`. One process at a time.

    The file is a row of records, each a digest of model and text and the vector. One that was cut off
    when a run was killed is overwritten.

    Args:
        embedder: for texts that are not in the file.
        folder: of the file; made where it is missing.

    Attributes:
        num_embedded: texts that were not in the file.
    """

    def __init__(self, embedder: Embedder, folder: Path) -> None:
        self.name, self.dim = embedder.name, embedder.dim
        self.num_embedded = 0
        self._embedder = embedder
        self._record = np.dtype([("key", f"V{KEY_BYTES}"), ("vector", "<f4", (embedder.dim,))])
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"{self._key('').hex()}.vectors"
        data = self._file.read_bytes() if self._file.is_file() else b""
        self._whole_bytes = len(data) - len(data) % self._record.itemsize
        records = np.frombuffer(data[: self._whole_bytes], dtype=self._record)
        self._known = {bytes(record["key"]): record["vector"] for record in records}

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [len(texts), dim], rows of length 1."""
        keys = [self._key(text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if missing:
            self._keep(list(missing), self._embedder.embed(list(missing.values())))
        return np.stack([self._known[key] for key in keys])

    def _keep(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        records = np.empty(len(keys), dtype=self._record)
        records["key"] = np.frombuffer(b"".join(keys), dtype=f"V{KEY_BYTES}")
        records["vector"] = vectors
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.seek(self._whole_bytes)
            file.write(records.tobytes())
        self._whole_bytes += records.nbytes
        self._known.update(zip(keys, records["vector"], strict=True))
        self.num_embedded += len(keys)

    def _key(self, text: str) -> bytes:
        return blake2b(f"{self.name}\0{text}".encode(), digest_size=KEY_BYTES).digest()
