"""A cross-encoder as re-ranker: a model that scores query and chunk as one text.

Reference: Nogueira and Cho, https://arxiv.org/abs/1901.04085.
"""

from collections.abc import Sequence

from retriever.config import DEFAULTS
from retriever.embed import no_progress_bar
from retriever.errors import EmbedderError


class CrossEncoder:
    """A sequence classifier in the Hugging Face format, with one score; implements `Reranker`.

    A chunk is truncated at its end when query and chunk exceed the model's window.
    """

    def __init__(self, name: str) -> None:
        """Load the model.

        Args:
            name: local folder or hub id.

        Raises:
            EmbedderError: the model cannot be found or read, or has more than one score.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            with no_progress_bar():
                self._tokenizer = AutoTokenizer.from_pretrained(name)
                self._model = AutoModelForSequenceClassification.from_pretrained(name, dtype="float32").eval()
        except (OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise EmbedderError(
                f"cannot load the re-ranking model {name!r}: {reason}. Expected a local folder, or a hub id "
                "that can be reached"
            ) from error
        if self._model.config.num_labels != 1:
            raise EmbedderError(
                f"got the model {name!r} with {self._model.config.num_labels} labels, "
                "expected a re-ranker with one"
            )
        self.name = name

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """One score for each text, in their order."""
        scores = [0.0] * len(texts)
        order = sorted(
            range(len(texts)), key=lambda i: len(texts[i])
        )  # similar lengths together need little padding
        for start in range(0, len(order), DEFAULTS.max_batch_texts):
            rows = order[start : start + DEFAULTS.max_batch_texts]
            for row, score in zip(rows, self._score_batch(query, [texts[i] for i in rows]), strict=True):
                scores[row] = score
        return scores

    def _score_batch(self, query: str, texts: list[str]) -> list[float]:
        import torch

        window = min(int(self._tokenizer.model_max_length), int(self._model.config.max_position_embeddings))
        inputs = self._tokenizer(
            [query] * len(texts),
            texts,
            truncation="only_second",
            max_length=window,
            padding=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            scores: list[float] = self._model(**inputs).logits[:, 0].tolist()  # of [texts, 1]
        return scores
