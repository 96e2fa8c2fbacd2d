"""A renderer for vLLM that tokenises prompt text in pieces where known chunk texts stand.

Every route that takes text ends in `_tokenize_prompt`: chat (after the template was applied, as text), plain
completions and `/tokenize`. vLLM calls it from a pool of threads.
"""

from contextvars import Context, copy_context
from typing import Any, Protocol

from vllm.logger import init_logger
from vllm.renderers.hf import HfRenderer
from vllm.utils.async_utils import make_async

from blend.errors import NotBlendable
from blend.text.chunk_texts import ChunkTexts
from blend.text.pieces import PieceTokenizer

logger = init_logger(__name__)


class KnownTexts(Protocol):
    """Where a renderer gets the texts of known chunks from."""

    def chunk_texts(self) -> ChunkTexts:
        """The texts known now, to who asks. Called for every prompt, from any thread, in the request's
        context, so it must be quick.
        """


class SegmentingRenderer(HfRenderer):
    """Named to vLLM by the tokenizer mode `kvblend`; without known texts it is vLLM's own renderer."""

    def __init__(self, config: Any, tokenizer: Any) -> None:
        super().__init__(config, tokenizer)
        tokenize = make_async(self._tokenize_in, executor=self._executor)
        # vLLM's own pool leaves the caller's context behind, and with it whose request this is.
        self._tokenize_prompt_async = lambda prompt, params: tokenize(copy_context(), prompt, params)
        self._known: KnownTexts | None = None
        self._pieces: PieceTokenizer | None = None

    def know(self, texts: KnownTexts) -> None:
        """Tokenise in pieces from now on, where these texts stand."""
        try:
            self._pieces = PieceTokenizer(self.get_tokenizer())
        except NotBlendable as error:
            logger.warning("chunks pasted into prompts will not be found: %s", error)
            return
        self._known = texts

    def _tokenize_in(self, context: Context, prompt: Any, params: Any) -> Any:
        return context.run(self._tokenize_prompt, prompt, params)

    def _tokenize_prompt(self, prompt: Any, params: Any) -> Any:
        if self._known is None or self._pieces is None:
            return super()._tokenize_prompt(prompt, params)
        pieces = self._known.chunk_texts().split(prompt["prompt"])
        if not any(piece.is_chunk for piece in pieces):
            return super()._tokenize_prompt(prompt, params)
        # Truncation and the length check follow in vLLM's own post-processing. Character offsets are
        # left out, as for any tokenizer that has none.
        return self._build_tokens_prompt(self._pieces.join(pieces, params.add_special_tokens), prompt)
