"""The cache salt of a blended request, so that its blocks are found by the same request only.

vLLM hashes a request's salt into the keys of its blocks. Block keys are causal, a blend is not: which tokens
of the first chunk are recomputed depends on the chunks after it. So everything that the blend depends on is
in the salt.

How a chunk is packed in the store is not (`blend.store.codecs`). A codec is no choice of the request but a
state of the store, as the tier is that a chunk is read from; each of its approximations is one of the same
full prefill, and the next request would get it from the memory tier too. A hit gives what the first such
request got, until its blocks go. Were the codec in the salt, packing a store again would only make known
blends unfindable, and finding one would need every chunk's header.
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
    """Salt that differs when anything differs that the blended rows depend on.

    Args:
        user_salt: the request's own salt; None and "" are different salts.
        plan: chunk ids with their positions, and all context tokens, those of gaps too.
        ratio: recompute ratio, or "auto".
        selector_name: the rule in force.
        limits: of the residual: what "auto" may leave, and from where on a blend is given up.
        suffix_ids: the tokens after the context when the selector looks at them, else None.

    Returns:
        64 hexadecimal digits.

    >>> plan = BlendPlan((1, 2), ())
    >>> blend_salt(None, plan, 0.15, "first") == blend_salt("", plan, 0.15, "first")
    False
    """
    digest = hashlib.sha256(struct.pack("<Q", FORMAT_VERSION))
    _add(digest, ratio.encode() if isinstance(ratio, str) else struct.pack("<d", ratio))
    # Each field is led by its length, or by -1 when absent: no two requests give the same bytes.
    for text in (user_salt, selector_name):
        _add(digest, None if text is None else text.encode())
    for limit in limits:
        _add(digest, None if limit is None else struct.pack("<d", limit))
    _add(digest, pack_ids(plan.token_ids))
    for span in plan.spans:
        _add(digest, span.record.chunk_id.encode())
        digest.update(struct.pack("<Q", span.start))
        # Which of its rows are an echo's follows from the tokens.
        _add(digest, None if span.again is None else span.again.record.chunk_id.encode())
    _add(digest, None if suffix_ids is None else pack_ids(suffix_ids))
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", field: bytes | None) -> None:
    digest.update(struct.pack("<q", -1 if field is None else len(field)))
    digest.update(field or b"")
