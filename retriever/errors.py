"""What can go wrong in retrieval through the caller's or the data's fault.

RetrieverError
├── CollectionError         a collection cannot be read or written as asked
│   └── UnknownCollection   there is none of that name
├── EmbedderError           the embedding model cannot be found or read
└── QueryError              a search that cannot be done: empty query, no results asked for

Every message says what was got, what was expected and what to do. `assert` is for our own bugs.
"""


class RetrieverError(Exception):
    """Root of all errors that the retriever raises on purpose."""


class CollectionError(RetrieverError):
    """A collection cannot be read or written as asked."""


class UnknownCollection(CollectionError):
    """No collection of that name."""


class EmbedderError(RetrieverError):
    """The embedding model cannot be found or read."""


class QueryError(RetrieverError):
    """A search that cannot be done."""
