"""What can be wrong with a request to change a managed collection.

IngestError
├── CollectionExists    a collection of that name is there already
├── NotManaged          the collection comes from a folder of its owner's, who runs precompute
├── UnknownDocument     the collection has no document of that path
├── UnknownJob          there is no job of that id, or it ended long ago
├── BadUpload           a path, a name or a description that cannot be stored
├── TooLarge            a document, or a number of documents, over its limit
└── Busy                as many jobs wait as may wait
"""


class IngestError(Exception):
    """Root of all errors of ingestion; the message says what was got, what was expected and what to do."""


class CollectionExists(IngestError):
    """A collection of that name is there already."""


class NotManaged(IngestError):
    """The collection is not one of those that the server manages."""


class UnknownDocument(IngestError):
    """The collection has no document of that path."""


class UnknownJob(IngestError):
    """No job of that id."""


class BadUpload(IngestError):
    """A path, a name or a description that cannot be stored."""


class TooLarge(IngestError):
    """Over a limit of size or number."""


class Busy(IngestError):
    """Too many jobs wait already."""
