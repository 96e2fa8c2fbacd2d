"""The contract of an engine that computes chunk KV."""

from collections.abc import Sequence
from typing import Protocol

from blend.chunks.chunk import ChunkRecord
from blend.chunks.versions import Prefixes
from blend.store.base import ChunkStore
from blend.store.remote.exchange import Exchange


class ChunkEngine(Protocol):
    """Computes chunk KV with one model and stores it. Called from one thread, by one job at a time.

    Attributes:
        model_name: the name that users write.
        fingerprint: digest of the model; part of every chunk id. A collection is bound to it.
        namespace: tenant that owns the chunks, "" for none. A collection is bound to it.
        store: where `compute` puts chunk KV.
        exchange: sends chunks to a shared remote store and fetches them from it, or None without a remote.
        max_batch_tokens: efficient number of tokens per `compute` call.
    """

    @property
    def model_name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def namespace(self) -> str: ...

    @property
    def store(self) -> ChunkStore: ...

    @property
    def exchange(self) -> Exchange | None: ...

    @property
    def max_batch_tokens(self) -> int: ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a piece of text as it stands in the middle of a prompt."""

    def prefixes(self, prefix: str) -> Prefixes:
        """The contexts behind which chunks are computed: everything before the first chunk, and the lead."""

    def compute(self, records: Sequence[ChunkRecord]) -> int:
        """Compute and store chunks that share one prefix; when this returns, they are in the store.

        The prefix's own KV is stored as well, if it is missing.

        Returns:
            Bytes of the chunks' keys and values.

        Raises:
            StoreFull: no space left. Chunks stored before stay.
        """
