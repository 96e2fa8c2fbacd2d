"""Registers kvblend's tokenizer mode with vLLM; named by the entry point `vllm.general_plugins`."""

from blend.vllm.vllm_names import RENDERER_REGISTRY, TokenizerRegistry, resolve_tokenizer_args

MODE = "kvblend"
"""Name of the tokenizer mode: `--tokenizer-mode kvblend`."""


def register() -> None:
    """Register the tokenizer mode; a second call does nothing.

    The mode keeps vLLM's own tokenizer and replaces only the renderer, so everything else that uses the
    tokenizer (structured output, detokenising) works as in stock vLLM.
    """
    if MODE not in TokenizerRegistry.tokenizers:
        TokenizerRegistry.register(MODE, "vllm.tokenizers.hf", "CachedHfTokenizer")
    if MODE not in RENDERER_REGISTRY.renderers:
        RENDERER_REGISTRY.register(MODE, "blend.vllm.tokenizer", "SegmentingRenderer")


def takes_our_mode(model: str) -> bool:
    """Whether a model uses vLLM's plain Hugging Face tokenizer, which the mode extends.

    Args:
        model: local folder or hub id.
    """
    mode, *_ = resolve_tokenizer_args(model, tokenizer_mode="auto")
    return bool(mode == "hf")
