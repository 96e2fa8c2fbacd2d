"""Names of vLLM that moved between its versions, each imported from its module in the supported version.

A name is imported at its first use: not every process needs all of them, and some modules must not be
imported before vLLM is set up. HTTP's names are in `api.server.vllm_names`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm.model_executor.layers.attention import Attention as Attention
    from vllm.renderers.hf import HfRenderer as HfRenderer
    from vllm.renderers.registry import RENDERER_REGISTRY as RENDERER_REGISTRY
    from vllm.tokenizers.registry import TokenizerRegistry as TokenizerRegistry
    from vllm.tokenizers.registry import resolve_tokenizer_args as resolve_tokenizer_args
    from vllm.utils.async_utils import make_async as make_async
    from vllm.utils.ompmultiprocessing import OMPProcessManager as OMPProcessManager
    from vllm.v1.attention.backend import CommonAttentionMetadata as CommonAttentionMetadata

MODULES = {
    "Attention": "vllm.model_executor.layers.attention",
    "CommonAttentionMetadata": "vllm.v1.attention.backend",
    "HfRenderer": "vllm.renderers.hf",
    "OMPProcessManager": "vllm.utils.ompmultiprocessing",
    "RENDERER_REGISTRY": "vllm.renderers.registry",
    "TokenizerRegistry": "vllm.tokenizers.registry",
    "make_async": "vllm.utils.async_utils",
    "resolve_tokenizer_args": "vllm.tokenizers.registry",
}


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return getattr(import_module(MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
