"""The cache salt of a blended request, so that only an equal request finds its blocks.

vLLM hashes a request's salt into the keys of its blocks. Block keys are causal, a blend is not: which tokens
of the first chunk are recomputed depends on the chunks after it. So the salt covers everything that the blend
depends on.

The salt does not cover how a chunk is packed in the store (`blend.store.codecs`). A codec is not a choice of
the request but a state of the store, like the tier that a chunk is read from, and each codec approximates the
same full prefill. A hit returns what the first equal request got, until its blocks are evicted. With the
codec in the salt, recompressing a store would hide all known blends, and a lookup would have to read every
chunk's header.
"""

import hashlib
import struct
from collections.abc import Sequence

from blend.chunks.chunk import FORMAT_VERSION, pack_ids
from blend.plan.plan import BlendPlan
from blend.plan.ratio import Ratio


def blend_salt(
    user_salt: str | None,
    plan: BlendPlan,
    ratio: Ratio,
    selector_name: str,
    suffix_ids: Sequence[int] | None = None,
    limits: Sequence[float | None] = (),
) -> str:
    """A salt that differs whenever something differs that the blended rows depend on.

    Args:
        user_salt: the request's own salt; None and "" give different salts.
        plan: chunk ids with their positions, and all context tokens, including gaps.
        ratio: recompute ratio, or "auto".
        selector_name: the rule in force.
        limits: on the residual: what "auto" may leave, and above which a blend is given up.
        suffix_ids: the tokens after the context when the selector looks at them, else None.

    Returns:
        64 hexadecimal digits.

    >>> plan = BlendPlan((1, 2), ())
    >>> blend_salt(None, plan, 0.15, "first") == blend_salt("", plan, 0.15, "first")
    False
    """
    digest = hashlib.sha256(struct.pack("<Q", FORMAT_VERSION))
    _add(digest, ratio.encode() if isinstance(ratio, str) else struct.pack("<d", ratio))
    # Each field starts with its length, or -1 when absent, so different fields never give equal bytes.
    for text in (user_salt, selector_name):
        _add(digest, None if text is None else text.encode())
    for limit in limits:
        _add(digest, None if limit is None else struct.pack("<d", limit))
    _add(digest, pack_ids(plan.token_ids))
    for span in plan.spans:
        _add(digest, span.record.chunk_id.encode())
        digest.update(struct.pack("<Q", span.start))
        # The tokens determine which rows come from the echo.
        _add(digest, None if span.echoed is None else span.echoed.record.chunk_id.encode())
    _add(digest, None if suffix_ids is None else pack_ids(suffix_ids))
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", field: bytes | None) -> None:
    digest.update(struct.pack("<q", -1 if field is None else len(field)))
    digest.update(field or b"")
