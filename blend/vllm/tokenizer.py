"""A renderer for vLLM that tokenises prompt text in pieces where known chunk texts stand.

Every route that takes text ends in `_tokenize_prompt`: chat (after the template was applied, as text), plain
completions and `/tokenize`. vLLM calls it from a pool of threads.
"""

import copy
import threading
from typing import Any, Protocol

from vllm.renderers.hf import HfRenderer

from blend.text.segment import ChunkTexts, PieceTokenizer, encode_segmented


class KnownTexts(Protocol):
    """Where a renderer gets the texts of known chunks from."""

    def chunk_texts(self) -> ChunkTexts:
        """The texts known now. Called for every prompt, from any thread, so it must be quick."""


class SegmentingRenderer(HfRenderer):  # type: ignore[misc]  # vllm is untyped from here
    """Named to vLLM by the tokenizer mode `kvblend`; without known texts it is vLLM's own renderer."""

    def __init__(self, config: Any, tokenizer: Any) -> None:
        super().__init__(config, tokenizer)
        self._known: KnownTexts | None = None
        # A copy of its own: vLLM's pooled tokenizer changes its truncation between calls.
        self._pieces = PieceTokenizer(copy.deepcopy(tokenizer)) if tokenizer is not None else None
        self._one_at_a_time = threading.Lock()

    def know(self, texts: KnownTexts) -> None:
        """Tokenise in pieces from now on, where these texts stand."""
        self._known = texts

    def _tokenize_prompt(self, prompt: Any, params: Any) -> Any:
        text = prompt["prompt"]
        if self._known is None or self._pieces is None:
            return super()._tokenize_prompt(prompt, params)
        known = self._known.chunk_texts()
        if not any(piece.is_chunk for piece in known.split(text)):
            return super()._tokenize_prompt(prompt, params)
        with self._one_at_a_time:
            ids = encode_segmented(self._pieces, known, text, add_special_tokens=params.add_special_tokens)
        # Truncation and the length check follow in vLLM's own post-processing. Character offsets are
        # left out, as for any tokenizer that has none.
        return self._build_tokens_prompt(ids, prompt)
