"""What stops a precompute job, beside the errors of blend and retriever."""


class PrecomputeError(Exception):
    """The job cannot be done; the message says what was got, what was expected and what to do."""


class StoreInUse(PrecomputeError):
    """Another job writes to the store: to be tried again when it has ended."""
