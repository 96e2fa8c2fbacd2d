"""Errors of retrieval that the caller or the data causes.

RetrieverError
├── CollectionError         a collection cannot be read or written as asked
│   ├── UnknownCollection   no collection of that name
│   └── OtherFormat         another version of kvblend wrote it
├── EmbedderError           an embedding or re-ranking model cannot be found, read or reached
└── QueryError              an invalid search: empty query, an option out of range

Every message says what was got, what was expected and what to do. `assert` is for our own bugs.
"""


class RetrieverError(Exception):
    """Root of all errors that the retriever raises on purpose."""


class CollectionError(RetrieverError):
    """A collection cannot be read or written as asked."""


class UnknownCollection(CollectionError):
    """No collection of that name."""


class OtherFormat(CollectionError):
    """Another version of kvblend wrote the collection."""


class EmbedderError(RetrieverError):
    """An embedding or re-ranking model cannot be found, read or reached."""


class QueryError(RetrieverError):
    """An invalid search.

    Attributes:
        option: dotted path of the wrong option, or None when the query is wrong.
    """

    def __init__(self, message: str, option: str | None = None) -> None:
        super().__init__(message if option is None else f"{option}: {message}")
        self.option = option
