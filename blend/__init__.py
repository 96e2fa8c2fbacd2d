"""One coherent context KV from chunk KV that was computed apart: tensors, never HTTP, never files of text.

::

    from blend import Engine            the blend inside vLLM
    from blend.hf import blend          the same blend on a Hugging Face model
"""

from typing import TYPE_CHECKING, Any

from blend.errors import BlendError

if TYPE_CHECKING:
    from blend.vllm.engine.answer import Answer as Answer
    from blend.vllm.engine.answer import Delta as Delta
    from blend.vllm.engine.engine import Engine as Engine

__all__ = ["Answer", "BlendError", "Delta", "Engine"]

_LAZY = {
    "Answer": "blend.vllm.engine.answer",
    "Delta": "blend.vllm.engine.answer",
    "Engine": "blend.vllm.engine.engine",
}


def __getattr__(name: str) -> Any:
    # The engine brings vllm with it, which takes seconds to import and is not needed for `blend.hf`.
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'blend' has no attribute {name!r}")
