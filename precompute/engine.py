"""What a precompute job needs of an engine."""

from collections.abc import Sequence
from typing import Protocol

from blend.chunks.chunk import ChunkRecord
from blend.chunks.versions import Prefixes
from blend.store.base import ChunkStore
from blend.store.remote.exchange import Exchange


class ChunkEngine(Protocol):
    """Computes chunk KV with one model and stores it. Called from one thread, by one job at a time.

    Attributes:
        model_name: what users call the model.
        fingerprint: digest of the model; part of every chunk id, and what a collection is bound to.
        namespace: whose chunks these are, "" for nobody's; a collection is bound to it too.
        store: where `compute` puts chunk KV.
        exchange: takes chunks to a store that machines share and from there, or None where there is none.
        max_batch_tokens: tokens per `compute` call that are efficient.
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
        """What chunks behind this text are computed behind: all that stands before them, and the lead."""

    def compute(self, records: Sequence[ChunkRecord]) -> int:
        """Compute and store chunks that share one prefix; when this returns they are found.

        The prefix's own KV is stored as well, where it is not.

        Returns:
            Bytes of the chunks' keys and values.

        Raises:
            StoreFull: no space left. What was stored before stays.
        """
