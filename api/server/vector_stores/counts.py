"""How many files are how far, and how much of a vector store they fill."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from api.server.vector_stores.kept import MemberRecord


@dataclass(frozen=True, slots=True)
class Counts:
    """Files by status.

    Attributes:
        num_bytes: of the files that are there.
    """

    in_progress: int
    completed: int
    failed: int
    cancelled: int
    num_bytes: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.in_progress + self.completed + self.failed + self.cancelled


def count(members: Iterable[MemberRecord | None]) -> Counts:
    """Count files; one that was taken out again is None here, and counts as cancelled."""
    there = list(members)
    by_status = Counter("cancelled" if member is None else member.status for member in there)
    done = (member.num_bytes for member in there if member is not None and member.status == "completed")
    return Counts(
        in_progress=by_status["in_progress"],
        completed=by_status["completed"],
        failed=by_status["failed"],
        cancelled=by_status["cancelled"],
        num_bytes=sum(done),
    )
