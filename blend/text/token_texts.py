"""What each token of a prompt reads as, so that the texts joined are the prompt's text."""

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import DecodeStream

_LOST = "Invalid prefix encountered"
"""How the library's own error begins: a decoder wrote what stood before otherwise, now that more follows."""


def token_texts(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """The text that each token adds to those before it; control tokens as they are written.

    A character that several tokens make up is the last one's, and the others' texts are empty.

    Args:
        tokenizer: a Hugging Face fast tokenizer.
        token_ids: from the prompt's start on.
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
