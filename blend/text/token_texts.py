"""The text of each token of a prompt; joined, they are the prompt's text."""

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import DecodeStream

_LOST = "Invalid prefix encountered"
"""Start of the library's error when a decoder changes earlier text as more tokens follow."""


def token_texts(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """The text that each token adds; control tokens are written out.

    A character that consists of several tokens counts for the last one; the others have an empty text.

    Args:
        tokenizer: a Hugging Face fast tokenizer.
        token_ids: from the start of the prompt.
    """
    backend, texts = tokenizer.backend_tokenizer, []
    stream = DecodeStream(skip_special_tokens=False)
    for token in token_ids:
        try:
            text = stream.step(backend, token)
        except Exception as error:  # the library raises nothing narrower
            if not str(error).startswith(_LOST):
                raise
            stream = DecodeStream(skip_special_tokens=False)
            text = stream.step(backend, token)
        texts.append(text or "")
    return texts
