"""Token ids of the parts of a prompt, and the prefixes that a collection's chunks are computed behind."""

from typing import Any

from blend.chunks.versions import Prefixes
from blend.text.frame import ChatFrame
from blend.text.lead import lead_ids
from blend.text.pieces import PieceTokenizer


class PromptIds:
    """Tokenises the parts of a prompt, each as it stands there.

    Args:
        tokenizer: the model's Hugging Face tokenizer.
        scope: the model's fingerprint, or that of a namespace, see `blend.chunks.namespace.scoped`.
        max_tokens: the model's length.

    Raises:
        NotBlendable: the tokenizer has no fast form.
    """

    def __init__(self, tokenizer: Any, scope: str, max_tokens: int) -> None:
        self._pieces = PieceTokenizer(tokenizer)
        self._frame = ChatFrame(tokenizer)
        self._scope = scope
        self._max_tokens = max_tokens

    def encode(self, text: str) -> list[int]:
        """Ids of a text in the middle of a prompt, with nothing added around it."""
        return self._pieces.encode(text)

    def prefix_ids(self, prefix: str) -> tuple[int, ...]:
        """Ids of everything before the first chunk: the chat template's head with `prefix` in it."""
        head = self._frame.head(prefix)
        return tuple(self._pieces.encode_start(head, self._frame.add_special_tokens))

    def prefixes(self, prefix: str) -> Prefixes:
        """What the chunks of a collection are computed behind: its prefix, with and without the lead."""
        return Prefixes(self._scope, self.prefix_ids(prefix), lead_ids(self.encode), self._max_tokens)

    def tail_ids(self, question: str) -> list[int]:
        """Ids of everything after the last chunk."""
        return self._pieces.encode_markup(self._frame.tail(question))
