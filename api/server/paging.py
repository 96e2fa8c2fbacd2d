"""Pages of a list, as OpenAI's clients ask for them: by the id of the last object of the page before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel

from api.server.errors import FieldError

Direction = Literal["asc", "desc"]


class Named(Protocol):
    """What has an id."""

    @property
    def id(self) -> str: ...


Item = TypeVar("Item", bound=Named)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which page of a list.

    Attributes:
        limit: maximum number of objects on the page.
        order: by time of creation.
        after, before: ids of the objects between which the page lies.
    """

    limit: int
    order: Direction = "desc"
    after: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """A page, and whether the list goes on."""

    items: list[Item]
    has_more: bool

    @property
    def first_id(self) -> str | None:
        """Id of its first object; None for an empty page."""
        return self.items[0].id if self.items else None

    @property
    def last_id(self) -> str | None:
        """Id of its last object; None for an empty page."""
        return self.items[-1].id if self.items else None


Listed = TypeVar("Listed", bound=BaseModel)


class Listing(BaseModel, Generic[Listed]):
    """A page of objects, as a client sees it."""

    object: Literal["list"] = "list"
    data: list[Listed]
    first_id: str | None
    last_id: str | None
    has_more: bool


def listing(page: Page[Any], objects: list[Listed]) -> Listing[Listed]:
    """A page of records, as a client sees it.

    Args:
        objects: what the client sees of each record.
    """
    return Listing(data=objects, first_id=page.first_id, last_id=page.last_id, has_more=page.has_more)


def page(items: Sequence[Item], wanted: Wanted) -> Page[Item]:
    """The page that is wanted.

    Args:
        items: the oldest first.

    Raises:
        FieldError: `after` or `before` is not the id of an object in the list.
    """
    ordered = list(items) if wanted.order == "asc" else list(reversed(items))
    start = 0 if wanted.after is None else _place(ordered, "after", wanted.after) + 1
    end = len(ordered) if wanted.before is None else _place(ordered, "before", wanted.before)
    between = ordered[start:end]
    if wanted.before is not None and wanted.after is None:  # the page right before it, not the list's first
        return Page(between[-wanted.limit :], len(between) > wanted.limit)
    return Page(between[: wanted.limit], len(between) > wanted.limit)


def _place(items: Sequence[Item], field: str, key: str) -> int:
    for place, item in enumerate(items):
        if item.id == key:
            return place
    raise FieldError(f"{field}: got {key[:80]!r}, expected the id of an object in this list", field)
