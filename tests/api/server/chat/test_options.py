"""The extra body fields: what is accepted, and what is refused by which name."""

import pytest

from api.server.chat.options import check_transfer_params, read_options, transfer_params
from api.server.errors import FieldError
from retriever.filters import Comparison
from retriever.search import Method, Order, Search


def test_nothing_said_asks_for_nothing():
    options = read_options(None)
    assert options.rag is None
    assert not options.merged().model_fields_set


def test_rag_goes_before_blend_and_blend_fills_in():
    body = {
        "rag": {"collection": "docs", "recompute_ratio": 0.5},
        "blend": {"recompute_ratio": 0.1, "selector": "first", "enabled": False},
    }
    merged = read_options(body).merged()
    assert (merged.recompute_ratio, merged.selector, merged.enabled) == (0.5, "first", False)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"rag": {"collection": "docs", "topk": 3}}, "rag.topk"),
        ({"rag": {}}, "rag.collection"),
        ({"rag": {"collection": "docs", "top_k": 0}}, "rag.top_k"),
        ({"rag": {"collection": "docs", "top_k": True}}, "rag.top_k"),
        ({"rag": {"collection": "docs", "recompute_ratio": 1.01}}, "rag.recompute_ratio"),
        ({"rag": {"collection": "docs", "recompute_ratio": "0.5"}}, "rag.recompute_ratio"),
        ({"rag": "docs"}, "rag"),
        ({"rag": {"collection": "docs", "top_k": 257}}, "rag.top_k"),
        ({"rag": {"collection": "docs", "method": "magic"}}, "rag.method"),
        ({"rag": {"collection": "docs", "order": "worst_first"}}, "rag.order"),
        ({"rag": {"collection": "docs", "max_tokens": 0}}, "rag.max_tokens"),
        ({"rag": {"collection": "docs", "min_score": float("inf")}}, "rag.min_score"),
        ({"rag": {"collection": "docs", "neighbours": -1}}, "rag.neighbours"),
        ({"rag": {"collection": "docs", "filter": {"type": "eq", "key": "year"}}}, "rag.filter.value"),
        ({"rag": {"collection": "docs", "filter": ["year"]}}, "rag.filter"),
        ({"rag": {"collection": "docs", "chunk_ids": ["a"], "top_k": 3}}, "rag.chunk_ids"),
        ({"rag": {"collection": "docs", "chunk_ids": "a"}}, "rag.chunk_ids"),
        ({"blend": {"recompute_ratio": -0.1}}, "blend.recompute_ratio"),
        ({"blend": {"recompute_ratio": float("nan")}}, "blend.recompute_ratio"),
        ({"blend": {"gate_key": "x"}}, "blend.gate_key"),
        ({"blend": {"trace": True}}, "blend.trace"),
        ({"blend": [1]}, "blend"),
    ],
)
def test_a_wrong_field_is_refused_by_its_path(body, param):
    with pytest.raises(FieldError) as refused:
        read_options(body)
    assert refused.value.param == param
    assert param in str(refused.value)


def test_what_is_said_of_a_search_reaches_the_retriever():
    said = {
        "collection": "docs",
        "method": "bm25",
        "max_tokens": 900,
        "min_score": 1,
        "filter": {"type": "gte", "key": "year", "value": 2020},
        "neighbours": 1,
        "deduplicate": False,
        "rerank": False,
        "order": "as_ranked",
    }
    rag = read_options({"rag": said}).rag
    assert rag is not None
    year = Comparison("gte", "year", 2020)
    assert rag.search() == Search(
        Method.BM25,
        None,
        900,
        1.0,
        year,
        neighbours=1,
        deduplicate=False,
        rerank=False,
        order=Order.AS_RANKED,
    )
    plain = read_options({"rag": {"collection": "docs"}}).rag
    assert plain is not None
    assert plain.search() == Search(order=Order.BEST_LAST), "the best chunk stands next to the question"


@pytest.mark.parametrize("ratio", [0, 1, 0.0, 1.0, 0.15])
def test_both_ends_of_the_ratio_are_allowed(ratio):
    assert read_options({"blend": {"recompute_ratio": ratio}}).blend.recompute_ratio == ratio


def test_a_client_cannot_smuggle_the_self_checks_key_or_a_trace_past_any_route():
    with pytest.raises(FieldError, match="gate_key"):
        check_transfer_params({"kvblend": {"gate_key": "guess"}})
    with pytest.raises(FieldError, match="trace"):
        check_transfer_params({"kvblend": {"trace": True}})
    with pytest.raises(FieldError):
        check_transfer_params({"kvblend": "guess"})


def test_what_we_send_ourselves_passes_the_same_check():
    said = read_options({"blend": {"recompute_ratio": 0.3, "selector": "first", "enabled": False}}).merged()
    check_transfer_params(transfer_params(said))
    check_transfer_params(None)
    check_transfer_params({"do_remote_prefill": False})
