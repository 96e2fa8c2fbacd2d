"""Where the chunk files of each model stand in a store.

::

    <store>/models/<first 16 digits of the model's fingerprint>/chunks/
        <chunk id>.safetensors
        <chunk id>.pin             empty; this chunk is evicted after all others
        .<chunk id>.<random>.tmp   being written
"""

from pathlib import Path

MARK_DIGITS = 16


def mark_of(fingerprint: str) -> str:
    """The name of a model's folder.

    >>> mark_of("0123456789abcdef0123")
    '0123456789abcdef'
    """
    return fingerprint[:MARK_DIGITS]


def chunks_folder(store: Path, mark: str) -> Path:
    """Folder of a model's chunk files."""
    return store / "models" / mark / "chunks"


def list_marks(store: Path) -> list[str]:
    """Marks of all models that have a folder of chunk files, sorted."""
    return sorted(path.parent.name for path in (store / "models").glob("*/chunks"))
