"""The re-ranker on a tiny classifier built here, and its place in a search."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from retriever.collection import Collection
from retriever.cross_encoder import CrossEncoder
from retriever.embed import Embedder
from retriever.errors import EmbedderError, QueryError
from retriever.retrieve import Retriever
from retriever.search import Method, Search

WORDS = [f"w{i}" for i in range(60)]


def save_classifier(folder: Path, num_labels: int) -> None:
    vocab = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=24
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=num_labels,
        initializer_range=0.5,
    )
    BertForSequenceClassification(config).eval().save_pretrained(folder)


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    folder = tmp_path_factory.mktemp("classifier")
    save_classifier(folder, num_labels=1)
    return CrossEncoder(str(folder))


def alone(reranker: CrossEncoder, query: str, text: str) -> float:
    """The naive twin: one pair, no padding."""
    inputs = reranker._tokenizer(query, text, return_tensors="pt")
    with torch.inference_mode():
        return float(reranker._model(**inputs).logits[0, 0])


def test_scores_are_the_models_own_in_the_order_of_the_texts(reranker: CrossEncoder) -> None:
    texts = [" ".join(WORDS[i : i + 1 + i % 9]) for i in range(40)]  # more than one batch, uneven lengths
    scores = reranker.score("w1 w2", texts)
    assert scores == pytest.approx([alone(reranker, "w1 w2", text) for text in texts], abs=1e-4)
    assert max(scores) - min(scores) > 0.1
    assert reranker.score("w1", []) == []


def test_a_chunk_that_is_too_long_is_cut_off_and_the_query_is_not(reranker: CrossEncoder) -> None:
    [score] = reranker.score("w1 w2", [" ".join(WORDS)])
    assert score == pytest.approx(alone(reranker, "w1 w2", " ".join(WORDS[:19])), abs=1e-4)  # 24 - 2 - 3


def test_a_model_that_is_no_re_ranker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbedderError, match="cannot load the re-ranking model"):
        CrossEncoder(str(tmp_path))
    save_classifier(tmp_path, num_labels=3)
    with pytest.raises(EmbedderError, match="with 3 labels, expected a re-ranker with one"):
        CrossEncoder(str(tmp_path))


class Shortest:
    """Prefers short texts, whatever is asked."""

    name = "shortest"

    def __init__(self) -> None:
        self.read: list[str] = []

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        self.read = list(texts)
        return [-float(len(text)) for text in texts]


def test_a_search_takes_the_re_rankers_order_of_its_best_candidates(
    make_collection: Callable[..., Collection], embedder: Embedder
) -> None:
    contents = {f"{i}.md": ["the cat sat on " + f"mat{i} " * (40 - i)] for i in range(30)}
    collection, reranker = make_collection(contents), Shortest()
    retriever = Retriever(collection, embedder, reranker)
    plain = Search(Method.BM25, top_k=30, rerank=False)
    before = [hit.text for hit in retriever.search("the cat", plain)]
    assert reranker.read == []
    hits = retriever.search("the cat", Search(Method.BM25, top_k=5))
    assert reranker.read == before[:24]
    assert [hit.text for hit in hits] == sorted(before[:24], key=len)[:5]
    assert hits[0].score == -len(hits[0].text)


def test_re_ranking_where_there_is_no_re_ranker(
    make_collection: Callable[..., Collection], embedder: Embedder
) -> None:
    retriever = Retriever(make_collection({"a.md": ["the cat"]}), embedder)
    with pytest.raises(QueryError, match="^rerank: got true, which needs a server started with"):
        retriever.search("cat", Search(rerank=True))
