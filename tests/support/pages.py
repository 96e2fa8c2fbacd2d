"""vLLM's own book of its pages, without any: which blocks are cached under which keys."""

import torch
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.request import Request

BLOCK = 16

init_none_hash(sha256)


class Pages:
    """The engine's cache as the scheduler sees it.

    Args:
        num_blocks: of 16 tokens each; one of them is never used.
    """

    def __init__(self, num_blocks: int = 64) -> None:
        spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=4, dtype=torch.float32)
        config = KVCacheConfig(num_blocks, [], [KVCacheGroupSpec(["layer"], spec)])
        self.manager = KVCacheManager(
            config, max_model_len=4096, scheduler_block_size=BLOCK, hash_block_size=BLOCK
        )

    def found(self, request: Request) -> int:
        """How many leading tokens of a request lie there, under the salt that it bears now."""
        return self.manager.get_computed_blocks(request)[1]

    def answer(self, request: Request) -> None:
        """The request was computed, and has ended: its whole blocks can be found from now on."""
        blocks, num_found, _ = self.manager.get_computed_blocks(request)
        left = request.num_tokens - num_found
        assert self.manager.allocate_slots(request, left, num_found, blocks) is not None
        self.manager.free(request)


def make_request(prompt: list[int], request_id: str = "r", **more: object) -> Request:
    """A request as the scheduler gets it."""
    hasher = get_request_block_hasher(BLOCK, sha256)
    return Request(request_id, prompt, SamplingParams(max_tokens=4), None, block_hasher=hasher, **more)  # type: ignore[arg-type]
