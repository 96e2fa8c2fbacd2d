"""What a repeated request finds in the cache, so that its answer is the same to the bit.

Kernels are not batch-invariant: a row that is computed among other rows differs in its last bits, and in
bfloat16 that is enough for another answer. For the first answer vLLM's prefill began at the end of the
context. By itself vLLM finds other rows the second time, since it caches whole blocks: fewer, where the
context ends within a block, or more, where blocks of the question are whole. Prefill begins elsewhere then::

    0                        F     N            P
    |  blocks of the context | tail | question  |
    first answer             blended 0 .. N, prefilled N .. P
    again, vLLM by itself    found 0 .. F or 0 .. N and more, prefilled from there
    again, here              found 0 .. F, restored F .. N, prefilled N .. P

So a request that is asked again is shown only the blocks that it was shown the first time, and the last rows
of its context, its tail, are restored from a copy of their page that the workers keep. A follow-up, which
begins behind what was found of its conversation, is shown that much again.
"""

import hashlib
from collections import OrderedDict

from vllm.v1.request import Request

from blend.chunks.chunk import pack_ids
from blend.vllm.scheduler.lineage import KeptNames

MAX_PROMPTS = 4096
"""Cap on remembered prompts; an entry takes about 200 bytes, and the oldest is forgotten first."""

MAX_TAIL_BYTES = 128 << 20
"""Cap on the pages that each worker keeps: 44 contexts of the default model in bfloat16, with blocks of 128
tokens."""


class Repeats:
    """Where vLLM's own prefill of each prompt began; one per scheduler, called from its thread only.

    Attributes:
        tails: contexts whose tail the workers keep, by the salt of their blend.
    """

    def __init__(self) -> None:
        self._began: OrderedDict[bytes, int] = OrderedDict()
        self.tails = KeptNames(MAX_TAIL_BYTES)

    def began_at(self, request: Request) -> int | None:
        """The first token that vLLM itself computed when this prompt was asked before under this salt.

        None if it was not asked before, or if the answer is sampled: such a request finds all cached blocks.
        """
        if not _is_repeatable(request):
            return None
        return self._began.get(_key(request))

    def begins_at(self, request: Request, num_tokens: int) -> None:
        """Remember that vLLM computes the prompt from this token on."""
        key = _key(request)
        self._began[key] = num_tokens
        self._began.move_to_end(key)
        if len(self._began) > MAX_PROMPTS:
            self._began.popitem(last=False)


def show_blocks(request: Request, num_blocks: int) -> None:
    """Let vLLM's next lookup find at most this many blocks of a request; undo it with `show_all_blocks`."""
    del request.block_hashes[num_blocks:]


def show_all_blocks(request: Request) -> None:
    """Undo `show_blocks`. Call it before the request's blocks are allocated, or vLLM cannot cache them."""
    request.update_block_hashes()


def _key(request: Request) -> bytes:
    digest = hashlib.sha256((request.cache_salt or "").encode())
    digest.update(pack_ids(request.prompt_token_ids or ()))
    return digest.digest()


def _is_repeatable(request: Request) -> bool:
    sampling = request.sampling_params
    return sampling is not None and (sampling.temperature == 0 or sampling.seed is not None)
