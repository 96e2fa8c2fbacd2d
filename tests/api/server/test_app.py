"""A real server, a real model, a real socket, an unchanged `openai` client."""

import json
from typing import Any

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from transformers import AutoTokenizer

from api.cli.main import main
from tests.support.processes import wait_for
from tests.support.server_process import Served

pytestmark = pytest.mark.engine

QUESTION = "How many bytes of KV cache does one token take?"
KINDS = ("exact_tokens", "reused_tokens", "recomputed_tokens", "cold_tokens")


def chat(served: Served, content: str, body: dict[str, Any] | None = None, **options: Any) -> Any:
    """One question; `body` holds the fields that the client does not know."""
    settings: dict[str, Any] = {"max_tokens": 16, "temperature": 0.0, **options}
    return served.client.chat.completions.create(
        model=served.model, messages=[{"role": "user", "content": content}], extra_body=body, **settings
    )


def pasted(served: Served, number: int) -> tuple[str, list[str]]:
    """A plain prompt with the question first, and chunks in another order than their documents'."""
    texts = [chunk.text for chunk in served.collection.chunks]
    chosen = [texts[5], texts[2], texts[8], texts[1]][:number]
    return "\n\n".join([QUESTION, *chosen, "Answer in one sentence."]), chosen


def tokens_of(served: Served, text: str) -> list[int]:
    body = {"model": served.model, "prompt": text, "add_special_tokens": False}
    answer = httpx.post(f"{served.url}/tokenize", json=body)
    answer.raise_for_status()
    ids: list[int] = answer.json()["tokens"]
    return ids


def test_while_the_engine_starts_the_server_says_so(served):
    assert 503 in served.statuses


def test_vllms_own_routes_are_there(served):
    assert [model.id for model in served.client.models.list().data] == [served.model]
    assert httpx.get(f"{served.url}/health").status_code == 200
    assert "vllm:num_requests_running" in httpx.get(f"{served.url}/metrics").text


def test_a_plain_chat_says_why_it_was_not_blended(served):
    answer = chat(served, "What is the capital of France?")
    assert "Paris" in answer.choices[0].message.content
    assert answer.blend["fallback"] == "no known chunk in the prompt"
    assert answer.blend["chunks"] == []
    assert answer.usage.prompt_tokens_details.cached_tokens is not None


def test_a_streamed_chat_ends_with_the_blend_and_the_usage(served):
    stream = chat(served, "Say hello.", stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    *tokens, finish, usage = chunks
    assert all(chunk.model_extra.get("blend") is None for chunk in tokens)
    assert finish.choices[0].finish_reason
    assert finish.blend == usage.blend
    assert usage.usage.prompt_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_that_names_a_collection_is_retrieved_and_blended(served, stream):
    body = {"rag": {"collection": "docs", "top_k": 4, "recompute_ratio": 0.2}}
    if stream:
        *_, answer = chat(served, QUESTION, body, stream=True, stream_options={"include_usage": True})
    else:
        answer = chat(served, QUESTION, body)
    blend = answer.blend
    assert blend["fallback"] is None
    named = [chunk for chunk in blend["chunks"] if chunk["source"]]
    assert len(named) == 4
    assert all(chunk["source"].endswith(".md") for chunk in named)
    assert sum(blend[kind] for kind in KINDS) == blend["context_tokens"]
    assert (blend["ratio"], blend["selector"]) == (0.2, "question-late")
    assert answer.usage.prompt_tokens_details.cached_tokens == blend["exact_tokens"] + blend["reused_tokens"]


def test_the_prefix_is_exact_and_the_first_chunk_behind_it_but_for_what_its_codec_has_dropped(served):
    asked = {"rag": {"collection": "docs", "top_k": 2}, "cache_salt": "first", "blend": {"detail": True}}
    blend = chat(served, QUESTION, asked).blend
    first = min((chunk for chunk in blend["chunks"] if chunk["source"]), key=lambda chunk: chunk["start"])
    assert blend["exact_tokens"] == first["start"] > 0
    states = [run["state"] for run in blend["tokens"]["runs"] for _ in range(run["tokens"])]
    own = states[first["start"] : first["start"] + first["tokens"]]
    assert set(own) == {"reused"} and "recomputed" in states, "its rows take nothing of the budget"


def test_a_request_may_name_its_chunks_itself(served):
    ids = [served.collection.chunks[i].chunk_id for i in (5, 2, 3)]
    blend = chat(served, QUESTION, {"rag": {"collection": "docs", "chunk_ids": ids}}).blend
    assert [chunk["id"] for chunk in blend["chunks"] if chunk["source"]] == ids


def test_a_filter_and_a_token_budget_hold(served):
    source = served.collection.chunks[-1].places[0].source
    only = {"type": "eq", "key": "path", "value": source}
    rag = {"collection": "docs", "filter": only, "max_tokens": 300, "neighbours": 1}
    named = [chunk for chunk in chat(served, QUESTION, {"rag": rag}).blend["chunks"] if chunk["source"]]
    assert {chunk["source"] for chunk in named} == {source}
    assert 0 < sum(chunk["tokens"] for chunk in named) <= 300


def test_recomputing_everything_answers_as_full_prefill_does(served):
    rag = {"collection": "docs", "top_k": 3, "recompute_ratio": 1.0}
    blended = chat(served, QUESTION, {"rag": rag, "cache_salt": "a"})
    full = chat(served, QUESTION, {"rag": rag, "blend": {"enabled": False}, "cache_salt": "b"})
    assert blended.blend["fallback"] is None
    assert full.blend["fallback"]
    assert blended.choices[0].message.content == full.choices[0].message.content
    assert blended.usage.prompt_tokens == full.usage.prompt_tokens


def test_chunks_pasted_by_an_unchanged_client_are_reused(served):
    prompt, chosen = pasted(served, 3)
    answer = chat(served, prompt)
    in_chunks = sum(chunk["tokens"] for chunk in answer.blend["chunks"] if chunk["source"])
    assert in_chunks == sum(len(tokens_of(served, text)) for text in chosen)
    assert answer.blend["reused_tokens"] > 0.8 * in_chunks


def test_a_plain_completion_is_blended_too_and_each_prompt_has_its_own_figures(served):
    prompt, _ = pasted(served, 2)
    answer = served.client.completions.create(
        model=served.model,
        prompt=[prompt, "Hello"],
        max_tokens=4,
        extra_body={"blend": {"selector": "first"}},
    )
    assert [blend["fallback"] for blend in answer.blend] == [None, "no known chunk in the prompt"]
    assert answer.blend[0]["selector"] == "first"


def counted(served: Served) -> dict[str, float]:
    """kvblend's own metrics as the server exposes them, by name and labels."""
    found = {}
    for family in text_string_to_metric_families(httpx.get(f"{served.url}/metrics").text):
        for sample in family.samples:
            name, labels = sample.name.removeprefix("kvblend_"), dict(sample.labels)
            if name != sample.name:
                assert (labels.pop("model_name"), labels.pop("engine")) == (served.model, "0")
                found[" ".join([name, *(labels[key] for key in sorted(labels))])] = sample.value
    return found


def test_metrics_count_what_answers_say(served):
    prompt, _ = pasted(served, 3)
    before = counted(served)
    answers = [chat(served, prompt, {"cache_salt": "metrics"}) for _ in range(2)]
    chat(served, "What is the capital of France?")
    after = counted(served)
    new = {name: value - before.get(name, 0) for name, value in after.items()}
    blended, found = (answer.blend for answer in answers)
    assert new["blends_total blended "] == new["blends_total found "] == 1
    assert new["blends_total refused nothing_known"] == 1
    for kind in ("exact", "cold"):
        assert new[f"context_tokens_total {kind}"] == blended[f"{kind}_tokens"]
    assert new["context_tokens_total reused"] == blended["reused_tokens"]
    assert new["context_tokens_total found"] == found["reused_tokens"]
    assert new["context_tokens_total recomputed"] == blended["recomputed_tokens"] + found["recomputed_tokens"]
    for stage in ("load", "realign", "select", "recompute", "write"):
        assert new[f"stage_seconds_count {stage}"] == 1
        assert new[f"stage_seconds_sum {stage}"] == pytest.approx(blended[f"{stage}_ms"] / 1e3)
    assert new["stage_seconds_count match"] == 2
    looked_up = len(blended["chunks"])
    assert new.get("store_hits_total memory", 0) + new.get("store_misses_total memory", 0) == looked_up
    assert new.get("store_bytes_total read disk", 0) + new.get("store_bytes_total read memory", 0) > 0
    assert after["store_held_bytes rank 0 memory"] > 0


def test_blending_can_be_switched_off_for_a_request(served):
    prompt, _ = pasted(served, 2)
    assert chat(served, prompt, {"blend": {"enabled": False}}).blend["reused_tokens"] == 0


def test_a_conversation_keeps_its_documents_and_its_turns(served):
    answer = served.client.chat.completions.create(
        model=served.model,
        messages=[
            {"role": "system", "content": "Answer briefly."},
            {"role": "user", "content": "What is a KV cache?"},
            {"role": "assistant", "content": "Stored keys and values."},
            {"role": "user", "content": QUESTION},
        ],
        max_tokens=8,
        extra_body={"rag": {"collection": "docs", "top_k": 2}},
    )
    assert answer.blend["fallback"] is None
    assert answer.blend["exact_tokens"] > 0


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"rag": {"collection": "nowhere"}}, 404, None),
        ({"rag": {"collection": "docs", "recompute_ratio": 1.5}}, 400, "rag.recompute_ratio"),
        ({"rag": {"collection": "docs", "topk": 2}}, 400, "rag.topk"),
        ({"rag": {"collection": "docs", "filter": {"type": "like"}}}, 400, "rag.filter.type"),
        ({"rag": {"collection": "docs", "chunk_ids": ["nowhere"]}}, 400, "rag.chunk_ids"),
        ({"rag": {"collection": "docs", "rerank": True}}, 400, "rag.rerank"),
        ({"blend": {"selector": "nonesuch"}}, 400, None),
        ({"kv_transfer_params": {"kvblend": {"gate_key": "x"}}}, 400, "kv_transfer_params.kvblend.gate_key"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_asks_for_the_wrong_thing_is_refused(served, body, status, param, stream):
    with pytest.raises(openai.APIStatusError) as refused:
        chat(served, QUESTION, body, stream=stream)
    error = refused.value.response.json()["error"]
    assert refused.value.status_code == error["code"] == status
    assert error["param"] == param
    assert error["message"]


def test_an_empty_question_is_refused(served):
    with pytest.raises(openai.BadRequestError, match="question"):
        chat(served, "  ", {"rag": {"collection": "docs"}})


def test_a_prompt_over_the_models_length_is_refused(served):
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        chat(served, QUESTION, {"rag": {"collection": "docs", "top_k": 60}})


def test_a_known_chunk_keeps_its_ids_inside_other_text_and_other_text_keeps_its_own(served):
    chunk = served.collection.chunks[3].text
    alone, inside = tokens_of(served, chunk), tokens_of(served, f"before {chunk}after")
    assert any(inside[i : i + len(alone)] == alone for i in range(len(inside)))
    root = httpx.get(f"{served.url}/v1/models").json()["data"][0]["root"]
    plain = "Nothing here is known <|im_end|>\n to anyone."
    expected = AutoTokenizer.from_pretrained(root).encode(plain, add_special_tokens=False)
    assert tokens_of(served, plain) == expected


def test_tools_are_vllms_own(served):
    tool = {
        "type": "function",
        "function": {"name": "now", "parameters": {"type": "object", "properties": {}}},
    }
    answer = chat(served, "What time is it?", {"rag": {"collection": "docs", "top_k": 1}}, tools=[tool])
    assert answer.choices[0].finish_reason


def test_structured_output_is_vllms_own(served):
    schema = {"type": "object", "properties": {"bytes": {"type": "integer"}}, "required": ["bytes"]}
    form = {"type": "json_schema", "json_schema": {"name": "size", "schema": schema}}
    body = {"rag": {"collection": "docs", "top_k": 2}}
    answer = chat(served, QUESTION, body, response_format=form, max_tokens=60)
    assert answer.blend["fallback"] is None
    # The grammar admits nothing else, whatever the model has to say.
    assert answer.choices[0].message.content.lstrip().startswith("{")


def metric(served: Served, name: str) -> float:
    lines = httpx.get(f"{served.url}/metrics").text.splitlines()
    [value] = [line.rsplit(" ", 1)[1] for line in lines if line.startswith(f"{name}{{")]
    return float(value)


def test_a_client_that_leaves_in_the_middle_frees_the_engine(served):
    body = {
        "model": served.model,
        "messages": [{"role": "user", "content": "Count upwards from one, for ever."}],
        "stream": True,
        "max_tokens": 2000,
        "ignore_eos": True,
    }
    before = metric(served, "vllm:generation_tokens_total")
    with httpx.stream("POST", f"{served.url}/v1/chat/completions", json=body, timeout=60) as answer:
        lines = answer.iter_lines()
        for _ in range(6):
            next(lines)
    wait_for(lambda: metric(served, "vllm:num_requests_running") == 0)
    assert metric(served, "vllm:generation_tokens_total") - before < 2000


def test_kvblend_ask_is_a_client_of_it(served, capsys):
    argv = ["ask", QUESTION, "--collection", "docs", "--top-k", "3", "--max-tokens", "8", "--url", served.url]
    assert main(argv) == 0
    shown = capsys.readouterr().out
    assert "Sources: " in shown
    assert "reused" in shown
    assert main([*argv, "--compare", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["answer"]
    assert told["full"]["answer"]
    assert told["blend"]["reused_tokens"] > 0
    assert told["speedup"] == pytest.approx(told["full"]["ttft_ms"] / told["ttft_ms"])


def test_kvblend_ask_passes_on_what_the_server_refuses(served, capsys):
    assert main(["ask", "Why?", "--collection", "nowhere", "--url", served.url]) == 1
    assert capsys.readouterr().err == "kvblend: no collection 'nowhere' is served here (served: docs)\n"
