"""The scores of a run as they come, one JSON line each, so that a run that was stopped goes on.

The first line is the header: what was measured, and how. It says nothing of which questions and methods, so a
journal can be gone on with for more of them.
"""

import fcntl
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from bench.fidelity.method import Method
from bench.fidelity.scores import Scores
from blend.errors import RequestError

VERSION = 1
"""Of the lines, and of what their numbers mean."""


@dataclass(frozen=True, slots=True)
class Header:
    """What scores depend on, beside question and method.

    Attributes:
        fingerprint: of the model.
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
        """Where another header, as JSON, says something else; names do not count where digests do."""
        return [
            f"{field.name} {getattr(self, field.name)!r} (there: {other.get(field.name)!r})"
            for field in fields(self)
            if field.name not in ("model", "data") and getattr(self, field.name) != other.get(field.name)
        ]


class Journal:
    """The file of a run, held by one process. Use as a context manager, or call `close`.

    A last line without its end (the run was killed while it wrote) is dropped.

    Args:
        path: the file; made with its folder when it is not there.
        header: of this run.

    Raises:
        RequestError: the file is another run's, is damaged, is in use, or cannot be written.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._known: dict[tuple[str, Method], Scores] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b")  # noqa: SIM115 (closed below)
        except OSError as error:
            raise RequestError(f"cannot write {path}: {error.strerror}") from error
        try:
            self._lock()
            self._read(header)
        except BaseException:
            self._file.close()
            raise

    def __contains__(self, key: tuple[str, Method]) -> bool:
        """Whether a question's key and a method have been measured."""
        return key in self._known

    def add(self, scores: Scores) -> None:
        """Write a line; it is on its way to the disk when this returns.

        Raises:
            RequestError: it cannot be written.
        """
        self._write(scores.to_json())
        self._known[scores.question, scores.method] = scores

    def scores(self, questions: Sequence[str], methods: Sequence[Method]) -> list[Scores]:
        """What is known of some questions under some methods, method by method."""
        keys = ((question, method) for method in methods for question in questions)
        return [self._known[key] for key in keys if key in self._known]

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RequestError(f"another run is writing {self._path}: wait for it to end") from error

    def _read(self, header: Header) -> None:
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
            self._remember(number, line)

    def _check(self, line: bytes, header: Header) -> None:
        try:
            found: dict[str, Any] = json.loads(line)["header"]
        except (ValueError, KeyError, TypeError) as error:
            raise RequestError(f"{self._path} is no journal of a run: choose another folder") from error
        different = header.differences(found)
        if different:
            raise RequestError(
                f"{self._path} is the journal of another run: got {', '.join(different)}; give the settings "
                "that it was begun with, or another folder"
            )

    def _remember(self, number: int, line: bytes) -> None:
        try:
            scores = Scores.from_json(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise RequestError(
                f"line {number} of {self._path} is damaged, expected scores: remove that line, and it is "
                "measured again"
            ) from error
        self._known[scores.question, scores.method] = scores

    def _write(self, content: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(content).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise RequestError(f"cannot write {self._path}: {error.strerror}") from error
