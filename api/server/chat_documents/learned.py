"""Texts of chunks from chat requests, on disk, with eviction of the least recently used."""

import hashlib
import os
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path


class LearnedTexts:
    """One file for each text, with the time of its last use as modification time; for one thread at a time.

    A file that a crash has truncated holds a text of no prompt, and is evicted in time.

    Args:
        folder: created with the first text.
        max_texts: maximum number of texts.
    """

    def __init__(self, folder: Path, max_texts: int) -> None:
        self._folder = folder
        self._max_texts = max_texts
        self._texts = OrderedDict.fromkeys(self._read())  # the least recently used first

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts, the least recently used first."""
        return tuple(self._texts)

    def use(self, texts: Iterable[str]) -> list[str]:
        """Mark texts as used, and store the new ones; returns the evicted texts.

        Raises:
            OSError: a new text cannot be written.
        """
        for text in texts:
            path = self._path(text)
            if text in self._texts:
                with suppress(OSError):
                    os.utime(path)
            else:
                self._write(path, text)
            self._texts[text] = None
            self._texts.move_to_end(text)
        evicted = list(self._texts)[: max(0, len(self._texts) - self._max_texts)]
        for text in evicted:
            del self._texts[text]
            self._path(text).unlink(missing_ok=True)
        return evicted

    def _read(self) -> Iterator[str]:
        files = [(path.stat().st_mtime_ns, path) for path in self._folder.glob("*.txt")]
        for _, path in sorted(files):
            with suppress(OSError, UnicodeDecodeError):
                yield path.read_bytes().decode()

    def _write(self, path: Path, text: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        temporary.write_bytes(text.encode())
        temporary.rename(path)

    def _path(self, text: str) -> Path:
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.txt"
