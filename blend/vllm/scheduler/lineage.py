"""Which earlier blend a request continues from: none, its own conversation's, or one of the same context.

Three kinds of request continue from an earlier blend:

- a *follow-up*: its suffix begins with the suffix of an earlier request on the same context. It finds the
  rows that the conversation was answered from, and the turns since, as prefix caching does;
- with blends *shared as they are*, any question on the same context;
- with blends *topped up*, any question on the same context: the rows that it needs and that no earlier
  question had recomputed are recomputed in addition to the rows that the workers kept.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from vllm.v1.request import Request

from blend.chunks.chunk import pack_ids
from blend.plan.plan import BlendPlan
from blend.plan.salt import blend_salt
from blend.plan.sharing import Sharing
from blend.vllm.scheduler.terms import Terms

SuffixKey = tuple[int, bytes]
"""Length and digest of a suffix. The digest is kept rather than its tokens, which can be many."""

MAX_CONTEXTS = 1024
MAX_TURNS = 64
"""Cap on the suffixes remembered per context; the oldest are forgotten."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a request's rows are made of.

    Attributes:
        salt: of its blocks.
        onto: name of the kept blend that is topped up for it, or None.
        keep_as: name under which the workers are to keep its rows, or None.
        is_found: its rows are those of an earlier blend, in the engine's pages.
    """

    salt: str
    onto: str | None = None
    keep_as: str | None = None
    is_found: bool = False


Salts = OrderedDict[SuffixKey, str]
"""Salts of the blends of one context on one set of terms, by suffix, latest last."""


class KeptNames:
    """The scheduler's list of what the workers keep in memory, by name, within a budget of bytes.

    The least recently used name is dropped first. One object per kind of thing that is kept.

    Args:
        max_bytes: that each worker keeps.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, int] = OrderedDict()  # bytes by name
        self._dropped: list[str] = []

    def use(self, name: str) -> bool:
        """Whether the workers keep something under this name; if so, it becomes the last to be dropped."""
        if name not in self._kept:
            return False
        self._kept.move_to_end(name)
        return True

    def add(self, name: str, num_bytes: int) -> None:
        """The workers keep this many bytes under a name, in place of earlier ones; 0 bytes: nothing."""
        self._kept.pop(name, None)
        if name in self._dropped:
            self._dropped.remove(name)
        while self._kept and sum(self._kept.values()) + num_bytes > self._max_bytes:
            self._dropped.append(self._kept.popitem(last=False)[0])
        if num_bytes > self._max_bytes:
            self._dropped.append(name)
        elif num_bytes:
            self._kept[name] = num_bytes

    def drop(self, name: str) -> None:
        """The workers are to forget what they may keep under this name."""
        self._kept.pop(name, None)
        self._dropped.append(name)

    def pop_dropped(self) -> tuple[str, ...]:
        """Names that the workers are to forget; each is returned once."""
        dropped, self._dropped = tuple(self._dropped), []
        return dropped


class Lineage:
    """Remembers the blends of each context; one per scheduler, called from its thread only.

    Args:
        sharing: whether other questions on the same context use a blend.
        kept_bytes: maximum number of bytes that each worker keeps of blends to top up.
        has_cached_prefix: returns whether the engine's pages hold a number of leading tokens of a request
            under its current salt.

    Attributes:
        kept: blends whose rows the workers keep, to be topped up.
    """

    def __init__(
        self, sharing: Sharing, kept_bytes: int, has_cached_prefix: Callable[[Request, int], bool]
    ) -> None:
        self._sharing = sharing
        self._has_cached_prefix = has_cached_prefix
        self._contexts: OrderedDict[str, Salts] = OrderedDict()
        self.kept = KeptNames(kept_bytes)

    def salt(self, request: Request, plan: BlendPlan, terms: Terms, *, sees_suffix: bool) -> Origin:
        """Set the request's salt to that of the rows it is to get.

        Args:
            sees_suffix: whether the selector looks at the suffix; if not, all suffixes have the same rows.
        """
        context = _salt(request, plan, terms)
        if not sees_suffix or self._sharing is Sharing.AS_IS:
            set_salt(request, context)
            return Origin(context)
        salts = self._salts_of(context)
        origin = self._found(request, plan, salts)
        if origin is None:
            origin = self._new(request, context, plan, terms)
            set_salt(request, origin.salt)
        key = _suffix_key(plan.suffix_ids)
        salts[key] = origin.salt
        salts.move_to_end(key)
        if len(salts) > MAX_TURNS:
            salts.popitem(last=False)
        return origin

    def lost(self, request: Request) -> Origin:
        """The rows that were found for a request were evicted before it took them: give it a salt of its own,
        for what is left of them and what is blended again."""
        origin = Origin(uuid4().hex)
        set_salt(request, origin.salt)
        return origin

    def _salts_of(self, context: str) -> Salts:
        salts = self._contexts.setdefault(context, OrderedDict())
        self._contexts.move_to_end(context)
        if len(self._contexts) > MAX_CONTEXTS:
            self._contexts.popitem(last=False)
        return salts

    def _found(self, request: Request, plan: BlendPlan, salts: Salts) -> Origin | None:
        """The blend of the longest earlier suffix that this suffix begins with, if all its rows are
        cached."""
        lengths = {length for length, _ in salts if length <= len(plan.suffix_ids)}
        keys = [key for length in lengths if (key := _suffix_key(plan.suffix_ids[:length])) in salts]
        if not keys:
            return None
        own_salt, salt = request.cache_salt, salts[max(keys)]
        set_salt(request, salt)
        if self._has_cached_prefix(request, plan.num_tokens):
            return Origin(salt, is_found=True)
        set_salt(request, own_salt)
        return None

    def _new(self, request: Request, context: str, plan: BlendPlan, terms: Terms) -> Origin:
        if self.kept.use(context):
            # The rows that are topped up change over time, so the result belongs to this request alone.
            return Origin(uuid4().hex, onto=context, keep_as=context)
        salt = _salt(request, plan, terms, plan.suffix_ids)
        return Origin(salt, keep_as=None if self._sharing is Sharing.NO else context)


def set_salt(request: Request, salt: str | None) -> None:
    """Change a request's cache salt, and with it its block keys."""
    request.cache_salt = salt
    request.block_hashes.clear()
    request.update_block_hashes()


def _salt(request: Request, plan: BlendPlan, terms: Terms, suffix_ids: tuple[int, ...] | None = None) -> str:
    limits = (terms.max_residual, terms.give_up_residual)
    return blend_salt(request.cache_salt, plan, terms.ratio, terms.selector, suffix_ids, limits=limits)


def _suffix_key(ids: tuple[int, ...]) -> SuffixKey:
    return len(ids), hashlib.sha256(pack_ids(ids)).digest()
