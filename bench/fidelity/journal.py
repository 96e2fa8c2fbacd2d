"""The scores of a run, one JSON line each, written as they come: a run that was stopped goes on from them.

The first line is the header: what was measured, and how. It does not name questions and methods, so that a
later run can add more of them.
"""

import fcntl
import json
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, Protocol, TypeVar

from blend.errors import RequestError

VERSION = 2
"""Of the lines, and of what their numbers mean."""


@dataclass(frozen=True, slots=True)
class Header:
    """What scores depend on, beside question and method.

    Attributes:
        fingerprint: of the model.
        backend: what ran the model, and what was compared if not methods.
        data: name of the data file.
        data_digest: SHA-256 of its bytes.
        passages, join: chunks of a prompt, and passages that each is made of.
        threads: of the model; None for the backend's own choice. Times depend on them.
    """

    model: str
    fingerprint: str
    backend: str
    data: str
    data_digest: str
    passages: int
    join: int
    prefix: str
    question_first: bool
    max_tokens: int
    seed: int
    threads: int | None
    version: int = VERSION

    def differences(self, other: dict[str, Any]) -> list[str]:
        """Where another header, as JSON, has other values; names do not count where digests do."""
        return [
            f"{field.name} {getattr(self, field.name)!r} (there: {other.get(field.name)!r})"
            for field in fields(self)
            if field.name not in ("model", "data") and getattr(self, field.name) != other.get(field.name)
        ]


class Line(Protocol):
    """A frozen dataclass that can be written to a journal.

    Attributes:
        key: identifies what was measured.
    """

    @property
    def key(self) -> Hashable: ...

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready object."""


Score = TypeVar("Score", bound=Line)


class Journal(Generic[Score]):
    """The file of a run, locked for one process. Use as a context manager, or call `close`.

    A last line without a line end is dropped: the process was killed while it wrote.

    Args:
        path: the file; created with its folder when it is missing.
        header: of this run.
        read: the inverse of a score's `to_json`.

    Raises:
        RequestError: the file belongs to another run, is damaged, is in use, or cannot be written.
    """

    def __init__(self, path: Path, header: Header, read: Callable[[dict[str, Any]], Score]) -> None:
        self._path = path
        self._known: dict[Hashable, Score] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b")  # noqa: SIM115 (closed below)
        except OSError as error:
            raise RequestError(f"cannot write {path}: {error.strerror}") from error
        try:
            self._lock()
            self._read(header, read)
        except BaseException:
            self._file.close()
            raise

    def __contains__(self, key: Hashable) -> bool:
        """Whether the score of this key is known."""
        return key in self._known

    def add(self, score: Score) -> None:
        """Write a line; it is handed to the operating system when this returns.

        Raises:
            RequestError: the file cannot be written.
        """
        self._write(score.to_json())
        self._known[score.key] = score

    def scores(self, keys: Iterable[Hashable]) -> list[Score]:
        """The known scores among these keys, in their order."""
        return [self._known[key] for key in keys if key in self._known]

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> "Journal[Score]":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RequestError(f"another run is writing {self._path}: wait for it to end") from error

    def _read(self, header: Header, read: Callable[[dict[str, Any]], Score]) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._file.truncate(len(whole))
        first, *rest = whole.splitlines() or [b""]
        if not first:
            self._write({"header": asdict(header)})
            return
        self._check(first, header)
        for number, line in enumerate(rest, start=2):
            try:
                score = read(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise RequestError(
                    f"line {number} of {self._path} is damaged, expected scores: remove that line, and it is "
                    "measured again"
                ) from error
            self._known[score.key] = score

    def _check(self, line: bytes, header: Header) -> None:
        try:
            found: dict[str, Any] = json.loads(line)["header"]
        except (ValueError, KeyError, TypeError) as error:
            raise RequestError(f"{self._path} is no journal of a run: choose another folder") from error
        different = header.differences(found)
        if different:
            raise RequestError(
                f"{self._path} is the journal of another run: got {', '.join(different)}; use the settings "
                "of that run, or another folder"
            )

    def _write(self, content: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(content).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise RequestError(f"cannot write {self._path}: {error.strerror}") from error


@contextmanager
def open_journal(
    folder: Path | None, header: Header, read: Callable[[dict[str, Any]], Score]
) -> Iterator[Journal[Score]]:
    """The journal in a folder; in a temporary one when that is None."""
    with (
        TemporaryDirectory() as temporary,
        Journal((folder or Path(temporary)) / "journal.jsonl", header, read) as journal,
    ):
        yield journal
