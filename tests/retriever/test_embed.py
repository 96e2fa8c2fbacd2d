"""Embeddings: pooling on a tiny encoder built here, and the packaged model's own judgement."""

from pathlib import Path

import numpy as np
import pytest
import torch

from retriever.embed import TransformerEmbedder, open_embedder
from retriever.errors import EmbedderError
from tests.support.tiny_encoder import WORDS, save_encoder


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> TransformerEmbedder:
    return open_embedder(str(tiny_folder))


def mean_of_tokens(embedder: TransformerEmbedder, windows: list[str]) -> np.ndarray:
    """The naive twin: one window at a time, no padding, a plain mean over all tokens."""
    rows = []
    for window in windows:
        inputs = embedder._tokenizer(window, return_tensors="pt")
        with torch.inference_mode():
            rows.append(embedder._model(**inputs).last_hidden_state[0])
    mean = torch.cat(rows).mean(0)
    return (mean / mean.norm()).numpy()


def test_vectors_are_normed_means_in_the_order_of_the_texts(tiny: TransformerEmbedder) -> None:
    texts = [" ".join(WORDS[i : i + 1 + i % 9]) for i in range(40)]  # more than one batch, uneven lengths
    vectors = tiny.embed(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (40, tiny.dim) == (40, 32)
    for text, vector in zip(texts, vectors, strict=True):
        assert vector == pytest.approx(mean_of_tokens(tiny, [text]), abs=1e-5)


def test_a_text_longer_than_the_window_counts_to_its_end(tiny: TransformerEmbedder) -> None:
    head, tail = " ".join(WORDS[:14]), " ".join(WORDS[20:25])  # 14 words fill a window of 16 with its ends
    [vector] = tiny.embed([f"{head} {tail}"])
    assert vector == pytest.approx(mean_of_tokens(tiny, [head, tail]), abs=1e-5)
    assert vector != pytest.approx(tiny.embed([head])[0], abs=1e-3)


def test_no_texts(tiny: TransformerEmbedder) -> None:
    assert tiny.embed([]).shape == (0, 32)


def test_the_name_opens_the_same_model_again(tiny: TransformerEmbedder, tiny_folder: Path) -> None:
    assert Path(tiny.name) == tiny_folder
    assert np.array_equal(open_embedder(tiny.name).embed(["w1 w2"]), tiny.embed(["w1 w2"]))


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EmbedderError, match=r"cannot load the embedding model.*Expected a local folder"):
        open_embedder(str(tmp_path))


@pytest.mark.model
def test_the_packaged_model_knows_what_belongs_together(capfd: pytest.CaptureFixture[str]) -> None:
    embedder = open_embedder()
    question, answer, other = embedder.embed(
        [
            "How do I seek in the input file?",
            "-ss position seeks in this input file",
            "The cat sat on the mat.",
        ]
    )
    assert embedder.dim == 384
    assert question @ answer > question @ other + 0.2
    assert capfd.readouterr().err == ""
