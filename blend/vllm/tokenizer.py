"""A renderer for vLLM that tokenises a prompt in pieces, so that known chunks in it keep their token ids.

Every route that takes text calls `_tokenize_prompt`: chat (after the template was applied), completions and
`/tokenize`. vLLM calls it from a thread pool.
"""

from contextvars import Context, copy_context
from typing import Any, Protocol

from vllm.logger import init_logger

from blend.errors import NotBlendable
from blend.text.chunk_texts import ChunkTexts
from blend.text.pieces import PieceTokenizer
from blend.vllm.vllm_names import HfRenderer, make_async

logger = init_logger(__name__)


class KnownTexts(Protocol):
    """The source of the texts of known chunks."""

    def chunk_texts(self) -> ChunkTexts:
        """The texts known now to the tenant of the request. Called for every prompt, from any thread, in the
        request's context, so it must be quick.
        """


class SegmentingRenderer(HfRenderer):
    """The renderer of the tokenizer mode `kvblend`; without known texts it works as vLLM's own."""

    def __init__(self, config: Any, tokenizer: Any) -> None:
        super().__init__(config, tokenizer)
        tokenize = make_async(self._tokenize_in, executor=self._executor)
        # vLLM's own pool does not copy the caller's context, which names the tenant of the request.
        self._tokenize_prompt_async = lambda prompt, params: tokenize(copy_context(), prompt, params)
        self._known: KnownTexts | None = None
        self._pieces: PieceTokenizer | None = None

    def know(self, texts: KnownTexts) -> None:
        """From now on, tokenise prompts in pieces at these texts."""
        try:
            self._pieces = PieceTokenizer(self.get_tokenizer())
        except NotBlendable as error:
            logger.warning("cannot find chunks that are pasted into prompts: %s", error)
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
        # vLLM's own post-processing truncates and checks the length. Offsets are omitted, as for any
        # tokenizer without offsets.
        return self._build_tokens_prompt(self._pieces.join(pieces, params.add_special_tokens), prompt)
