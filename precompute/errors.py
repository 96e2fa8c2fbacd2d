"""Errors of a precompute job, beside those of blend and retriever."""


class PrecomputeError(Exception):
    """The job cannot be done; the message says what was got, what was expected and what to do."""


class StoreInUse(PrecomputeError):
    """Another job writes to the store: try again when it has ended."""
