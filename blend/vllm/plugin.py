"""What kvblend adds to vLLM's registries, named by the entry point `vllm.general_plugins`."""

from vllm.renderers.registry import RENDERER_REGISTRY
from vllm.tokenizers.registry import TokenizerRegistry, resolve_tokenizer_args

MODE = "kvblend"
"""Name of our tokenizer mode; `--tokenizer-mode kvblend`."""


def register() -> None:
    """Make the tokenizer mode known to vLLM; harmless when called again.

    The mode keeps vLLM's own tokenizer and replaces the renderer, so whatever else a process does with
    the tokenizer (structured output, detokenising) is exactly as without us.
    """
    if MODE not in TokenizerRegistry.tokenizers:
        TokenizerRegistry.register(MODE, "vllm.tokenizers.hf", "CachedHfTokenizer")
    if MODE not in RENDERER_REGISTRY.renderers:
        RENDERER_REGISTRY.register(MODE, "blend.vllm.tokenizer", "SegmentingRenderer")


def takes_our_mode(model: str) -> bool:
    """Whether a model's prompts go through vLLM's plain Hugging Face tokenizer, which our mode extends.

    Args:
        model: local folder or hub id.
    """
    mode, *_ = resolve_tokenizer_args(model, tokenizer_mode="auto")
    return bool(mode == "hf")
