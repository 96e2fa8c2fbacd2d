"""The examples of `demo/clients`, run as users run them, against one real server; and what operators see."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.operate_files import labels, metrics
from tests.support.server_process import Served

pytestmark = pytest.mark.engine

CLIENTS = Path(__file__).parents[2] / "demo" / "clients"
PYTHON = Path(sys.prefix) / "clients" / "bin" / "python"
LEAST_REUSED = 0.8


def run(command: list[str], served: Served) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, "KVBLEND_URL": served.url, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def example(name: str, served: Served) -> str:
    if not PYTHON.exists():
        pytest.skip("no environment for clients: make install-clients")
    return run([str(PYTHON), str(CLIENTS / name)], served)


def reused_tokens(served: Served) -> float:
    """By the server's own account, over all requests until now."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(httpx.get(f"{served.url}/metrics").text)
        for sample in family.samples
        if sample.name == "kvblend_context_tokens_total" and sample.labels["kind"] == "reused"
    )


def test_openai_chat(served: Served) -> None:
    printed = example("openai_chat.py", served)
    assert "attention-sinks.md" in printed.split("sources:")[1]
    assert int(re.findall(r"reused tokens: (\d+)", printed)[0]) > 0
    assert int(re.findall(r"not computed: (\d+)", printed)[0]) > 0
    assert "known chunks: 4" in printed


def test_openai_file_search(served: Served) -> None:
    printed = example("openai_file_search.py", served)
    assert "status: completed" in printed and "found: lighthouse.md" in printed
    assert "cited: lighthouse.md" in printed
    assert not served.client.vector_stores.list().data and not served.client.files.list().data


def test_langchains_own_stuff_documents_chain_is_blended_and_streamed(served: Served) -> None:
    before = reused_tokens(served)
    printed = example("langchain_retriever.py", served)
    told = [(int(a), int(b)) for a, b in re.findall(r"not computed: (\d+) of (\d+) tokens", printed)]
    assert len(told) == 2  # at once, and streamed
    assert all(cached >= LEAST_REUSED * documents for cached, documents in told)
    assert reused_tokens(served) - before >= LEAST_REUSED * sum(documents for _, documents in told)


def test_llamaindexs_own_query_engine_is_blended_and_streamed(served: Served) -> None:
    before = reused_tokens(served)
    printed = example("llamaindex_rag.py", served)
    assert "attention-sinks.md" in printed.split("sources:")[1]
    assert [line for line in printed.splitlines() if line.strip()][-1]
    told = [int(tokens) for tokens in re.findall(r"tokens of documents: (\d+)", printed)]
    assert len(told) == 2  # at once, and streamed
    assert reused_tokens(served) - before >= LEAST_REUSED * sum(told)


def test_curl(served: Served) -> None:
    collections, found, *events = run(["sh", str(CLIENTS / "curl.sh")], served).strip().splitlines()
    assert json.loads(collections)["data"][0]["name"] == "docs"
    assert json.loads(found)["data"][0]["source"] == "attention-sinks.md"
    said = [json.loads(line[6:]) for line in events if line.startswith("data: {")]
    assert said[-1]["blend"]["reused_tokens"] > 0
    assert events[-1] == "data: [DONE]"


def test_what_open_webui_is_told_to_send_is_answered_from_the_collection(served: Served) -> None:
    text = (CLIENTS / "open_webui.md").read_text()
    [rag] = re.findall(r"```json\n(.*?)```", text, flags=re.S)
    [blend] = re.findall(r"such as\s+`(\{.*?\})`", text)
    answer = served.client.chat.completions.create(
        model=served.model,
        messages=[{"role": "user", "content": "What is an attention sink?"}],
        max_tokens=8,
        extra_body={"rag": json.loads(rag), "blend": json.loads(blend)},
    )
    assert answer.blend["reused_tokens"] > 0  # type: ignore[attr-defined]
    assert answer.blend["ratio"] == json.loads(blend)["recompute_ratio"]  # type: ignore[attr-defined]


def test_every_series_that_the_dashboard_and_the_alerts_ask_for_is_exposed(served: Served) -> None:
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    families = list(text_string_to_metric_families(httpx.get(f"{served.url}/metrics").text))
    exposed = {family.name + end for family in families for end in endings.get(family.type, ())}
    assert metrics() - exposed == set()
    given_by_prometheus = {"job", "instance"}
    told = {name for family in families for sample in family.samples for name in sample.labels}
    # Some series have no sample until something goes wrong; their labels are in docs/metrics.md.
    assert labels() - told - given_by_prometheus <= {"tier", "direction", "process", "reason"}
