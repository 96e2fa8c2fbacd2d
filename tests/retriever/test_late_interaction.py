"""Late interaction on a tiny encoder built here, against one token at a time."""

import pytest
import torch

from retriever.embed import TransformerEmbedder
from retriever.errors import EmbedderError
from retriever.late_interaction import LateInteraction
from retriever.rerank import open_reranker
from tests.support.embedding_server import embedding_server
from tests.support.tiny_encoder import MAX_TOKENS, WORDS, save_encoder


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> LateInteraction:
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(folder)
    opened = open_reranker(f"late:{folder}")
    assert isinstance(opened, LateInteraction) and opened.name == f"late:{folder}"
    return opened


def vectors_of(encoder: TransformerEmbedder, text: str) -> list[torch.Tensor]:
    """The text's own tokens, of one text alone, without the tokenizer's first and last."""
    inputs = encoder._tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        return list(encoder._model(**inputs).last_hidden_state[0, 1:-1])


def naive(encoder: TransformerEmbedder, query: str, text: str) -> float:
    best = [
        max(float(torch.cosine_similarity(one, other, dim=0)) for other in vectors_of(encoder, text))
        for one in vectors_of(encoder, query)
    ]
    return sum(best) / len(best)


def test_scores_are_means_of_best_cosines_in_the_order_of_the_texts(reranker: LateInteraction) -> None:
    encoder = reranker._encoder
    texts = [" ".join(WORDS[i : i + 1 + i % 9]) for i in range(40)]  # more than one batch, uneven lengths
    scores = reranker.score("w1 w20 w3", texts)
    assert scores == pytest.approx([naive(encoder, "w1 w20 w3", text) for text in texts], abs=1e-5)
    assert max(scores) - min(scores) > 0.1
    assert reranker.score("w1", ["w1"]) == pytest.approx([1.0])
    assert reranker.score("w1", []) == []


def test_a_text_beyond_the_window_is_cut_off_and_an_empty_one_comes_last(reranker: LateInteraction) -> None:
    kept = " ".join(WORDS[: MAX_TOKENS - 2])
    whole, cut, empty = reranker.score("w1", [kept, " ".join(WORDS), ""])
    assert whole == pytest.approx(cut, abs=1e-6) and empty == -1.0


def test_an_embedding_service_is_no_re_ranker() -> None:
    with (
        embedding_server() as service,
        pytest.raises(EmbedderError, match="expected late: and the name of a local embedding model"),
    ):
        open_reranker(f"late:{service.url}#words-3")
