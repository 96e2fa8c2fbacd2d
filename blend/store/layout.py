"""Where the chunk files of each model stand in a store.

::

    <store>/models/<first 16 digits of the model's fingerprint>/chunks/
        <chunk id>.safetensors
        <chunk id>.pin             empty; this chunk is evicted after all others
        .<chunk id>.<random>.tmp   being written
"""

from pathlib import Path

from blend.errors import StoreError

MARK_DIGITS = 16
MAX_ID_CHARS = 128


def mark_of(fingerprint: str) -> str:
    """The name of a model's folder.

    >>> mark_of("0123456789abcdef0123")
    '0123456789abcdef'
    """
    return fingerprint[:MARK_DIGITS]


def chunks_folder(store: Path, mark: str) -> Path:
    """Folder of a model's chunk files."""
    return store / "models" / mark / "chunks"


def mark_of_folder(folder: Path) -> str:
    """The mark of the model whose chunk files a folder holds.

    >>> mark_of_folder(chunks_folder(Path("store"), "0123456789abcdef"))
    '0123456789abcdef'
    """
    return folder.parent.name


def list_marks(store: Path) -> list[str]:
    """Marks of all models that have a folder of chunk files, sorted."""
    return sorted(path.parent.name for path in (store / "models").glob("*/chunks"))


def is_id(text: str) -> bool:
    """Whether a text can be a chunk id; callers may ask for any text, and none may leave the folder.

    >>> is_id("0123abcd"), is_id("../escape")
    (True, False)
    """
    return text.isascii() and text.isalnum() and len(text) <= MAX_ID_CHARS


def check_id(text: str) -> None:
    """Refuse what can be no chunk id.

    Raises:
        StoreError: it is none.
    """
    if not is_id(text):
        raise StoreError(f"{text!r} is no chunk id: expected letters and digits only")
