"""Two forms of a fast tokenizer: for the start of a text, and for the middle of a text.

Tokenizers from SentencePiece add a dummy prefix ("▁") before a text, others add a space. In the middle of a
prompt this would be a character that is not in the text.
"""

import json
from typing import Any

from tokenizers import Tokenizer

from blend.errors import NotBlendable

DUMMY_PREFIX = "▁"


def start_tokenizer(tokenizer: Any) -> Tokenizer:
    """A copy of a Hugging Face tokenizer's backend that neither pads nor truncates.

    Raises:
        NotBlendable: the tokenizer has no fast backend.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise NotBlendable(
            f"the tokenizer {type(tokenizer).__name__} has no fast form, so chunk texts cannot be tokenised "
            "apart: expected a Hugging Face fast tokenizer (tokenizer.json)"
        )
    return _copy(json.loads(backend.to_str()))


def middle_tokenizer(tokenizer: Any) -> Tokenizer:
    """The same without processing at a text's edges: no prefix spaces, no stripping.

    Raises:
        NotBlendable: the tokenizer has no fast backend.
    """
    content = json.loads(start_tokenizer(tokenizer).to_str())
    content["normalizer"] = _without_edges(content["normalizer"])
    content["pre_tokenizer"] = _without_edges(content["pre_tokenizer"])
    return _copy(content)


def has_dummy_prefix(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer adds "▁" before a text."""
    content = json.loads(tokenizer.to_str())
    steps = [*_steps(content["normalizer"]), *_steps(content["pre_tokenizer"])]
    return any(
        step["type"] == "Prepend" or (step["type"] == "Metaspace" and step["prepend_scheme"] != "never")
        for step in steps
    )


def _copy(content: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(content | {"truncation": None, "padding": None}, ensure_ascii=False))


def _without_edges(step: dict[str, Any] | None) -> dict[str, Any] | None:
    """The description of a normalizer or pre-tokenizer without its steps at a text's edges.

    >>> _without_edges({"type": "ByteLevel", "add_prefix_space": True})
    {'type': 'ByteLevel', 'add_prefix_space': False}
    >>> _without_edges({"type": "Prepend", "prepend": "▁"}) is None
    True
    """
    if step is None or step["type"] in ("Prepend", "Strip"):
        return None
    if step["type"] == "Sequence":
        part = "normalizers" if "normalizers" in step else "pretokenizers"
        kept = [inner for inner in map(_without_edges, step[part]) if inner is not None]
        return {"type": "Sequence", part: kept}
    if step["type"] == "Metaspace":
        return step | {"prepend_scheme": "never"}
    return step | {"add_prefix_space": False} if "add_prefix_space" in step else step


def _steps(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Steps of a sequence, at any depth."""
    if step is None:
        return []
    inner = step.get("normalizers") or step.get("pretokenizers") or []
    return [step] + [leaf for part in inner for leaf in _steps(part)]
