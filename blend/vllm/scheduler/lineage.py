"""Which blend a request goes on from: none, one of its own conversation, or one of the same context.

Three cases have a blend to go on from:

- a *follow-up*: its suffix begins with that of an earlier request on the same context. It finds the rows
  that the conversation has been answered from so far, and what was said since, as prefix caching does;
- with blends *shared as they are*, any question on the same context;
- with blends *topped up*, any question on the same context: the rows that it looks at, and that no earlier
  question has had recomputed, are recomputed on top of the rows that the workers kept.
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
from blend.vllm.scheduler.kept_names import KeptNames
from blend.vllm.scheduler.terms import Terms

Mark = tuple[int, bytes]
"""Length and digest of a suffix: what was said may be long, and is kept by those who said it."""

MAX_CONTEXTS = 1024
MAX_TURNS = 64
"""Suffixes that are remembered of one context; the oldest are forgotten."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a request's rows are made of.

    Attributes:
        salt: of its blocks.
        onto: name of the kept blend that it is topped up from, or None.
        keep_as: the name under which the workers are to keep its rows, or None.
        is_found: its rows are those of an earlier blend, and lie in the engine's pages.
    """

    salt: str
    onto: str | None = None
    keep_as: str | None = None
    is_found: bool = False


Salts = OrderedDict[Mark, str]
"""Of the blends of one context on one set of terms, by suffix, latest last."""


class Lineage:
    """Remembers what was blended; one per scheduler, called from its thread only.

    Args:
        sharing: what other questions on the same context get.
        kept_bytes: most bytes that each worker keeps of blends to top up.
        is_there: whether a request's first so many tokens lie in the engine's pages, under the salt that
            it bears now.

    Attributes:
        kept: blends whose rows the workers keep, to be topped up.
    """

    def __init__(self, sharing: Sharing, kept_bytes: int, is_there: Callable[[Request, int], bool]) -> None:
        self._sharing = sharing
        self._is_there = is_there
        self._contexts: OrderedDict[str, Salts] = OrderedDict()
        self.kept = KeptNames(kept_bytes)

    def salt(self, request: Request, plan: BlendPlan, terms: Terms, *, looks: bool) -> Origin:
        """Give a request the salt of the rows that it is to have.

        Args:
            looks: whether the selector looks at the suffix; if not, all suffixes have the same rows.
        """
        context = _salt(request, plan, terms)
        if not looks or self._sharing is Sharing.AS_IS:
            set_salt(request, context)
            return Origin(context)
        salts = self._salts_of(context)
        origin = self._found(request, plan, salts)
        if origin is None:
            origin = self._new(request, context, plan, terms)
            set_salt(request, origin.salt)
        mark = _mark(plan.suffix_ids)
        salts[mark] = origin.salt
        salts.move_to_end(mark)
        if len(salts) > MAX_TURNS:
            salts.popitem(last=False)
        return origin

    def lost(self, request: Request) -> Origin:
        """Rows that were found for a request have gone before it took them: what is left of them and what is
        blended anew belong to it alone."""
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
        """The blend of the longest earlier suffix that this one begins with, where its rows are all there."""
        lengths = {length for length, _ in salts if length <= len(plan.suffix_ids)}
        begun = [mark for length in lengths if (mark := _mark(plan.suffix_ids[:length])) in salts]
        if not begun:
            return None
        own_salt, salt = request.cache_salt, salts[max(begun)]
        set_salt(request, salt)
        if self._is_there(request, plan.num_tokens):
            return Origin(salt, is_found=True)
        set_salt(request, own_salt)
        return None

    def _new(self, request: Request, context: str, plan: BlendPlan, terms: Terms) -> Origin:
        if self.kept.use(context):
            # What they are topped up from differs from time to time: these rows are this request's alone.
            return Origin(uuid4().hex, onto=context, keep_as=context)
        salt = _salt(request, plan, terms, plan.suffix_ids)
        return Origin(salt, keep_as=None if self._sharing is Sharing.NO else context)


def set_salt(request: Request, salt: str | None) -> None:
    """Give a request another cache salt, and with it other block keys."""
    request.cache_salt = salt
    request.block_hashes.clear()
    request.update_block_hashes()


def _salt(request: Request, plan: BlendPlan, terms: Terms, suffix_ids: tuple[int, ...] | None = None) -> str:
    limits = (terms.max_residual, terms.give_up_residual)
    return blend_salt(request.cache_salt, plan, terms.ratio, terms.selector, suffix_ids, limits=limits)


def _mark(ids: tuple[int, ...]) -> Mark:
    return len(ids), hashlib.sha256(pack_ids(ids)).digest()
