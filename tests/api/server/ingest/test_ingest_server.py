"""Documents in while a real server answers: uploads beside a stream, deletions, documents of requests."""

import json
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from tests.support.processes import wait_for
from tests.support.server_process import ROOT, Served

pytestmark = [pytest.mark.engine, pytest.mark.slow]

PAGES = sorted((ROOT / "demo" / "docs").glob("*.md"))
SLOGAN = "The blue heron of Lake Varna weighs exactly 417 grams, says the Varna bird observatory's yearbook."


class Server:
    """A running server that manages its collections."""

    def __init__(self, url: str, client: openai.OpenAI) -> None:
        self.http = httpx.Client(base_url=f"{url}/v1", timeout=120)
        self.client = client
        self.model = client.models.list().data[0].id

    def chat(self, question: str, body: dict[str, Any], **options: Any) -> Any:
        settings: dict[str, Any] = {"max_tokens": 16, "temperature": 0.0, **options}
        messages = [{"role": "user", "content": question}]
        return self.client.chat.completions.create(
            model=self.model, messages=messages, extra_body=body, **settings
        )

    def send(self, method: str, path: str, **options: Any) -> Any:
        answer = self.http.request(method, f"/collections{path}", **options)
        assert answer.status_code in (200, 201, 202), answer.text
        return answer.json()

    def finished(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job when it has ended, as its event stream tells it."""
        url = f"/collections/{job['collection']}/jobs/{job['id']}"
        with self.http.stream("GET", url, headers={"Accept": "text/event-stream"}) as events:
            lines = [line for line in events.iter_lines() if line.startswith("data:")]
        last: dict[str, Any] = json.loads(lines[-1].removeprefix("data:"))
        assert last["status"] == "completed", last
        return last


class Stream(threading.Thread):
    """Another client, whose long answer is written meanwhile; notes when each token came."""

    def __init__(self, server: Server, max_tokens: int) -> None:
        super().__init__()
        self._server = server
        self._max_tokens = max_tokens
        self.times_s: list[float] = []
        self.finish: str | None = None

    def run(self) -> None:
        options = {"ignore_eos": True}
        stream = self._server.chat("Tell a long story.", options, max_tokens=self._max_tokens, stream=True)
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                self.times_s.append(time.perf_counter())
            if chunk.choices and chunk.choices[0].finish_reason:
                self.finish = chunk.choices[0].finish_reason

    def p99_ms(self, begin_s: float = 0.0, end_s: float = float("inf")) -> float:
        gaps = [b - a for a, b in pairwise(self.times_s[8:]) if b > begin_s and a < end_s]
        return float(np.percentile(gaps, 99)) * 1e3


@pytest.fixture(scope="module")
def server(served: Served) -> Iterator[Server]:
    server = Server(served.url, served.client)
    with server.http:
        yield server
        for one in server.http.get("/collections").json()["data"]:
            if one["name"] != "docs":
                server.send("DELETE", f"/{one['name']}")


@pytest.fixture(scope="module")
def docs(server: Server) -> str:
    """A collection of one page."""
    server.send("POST", "", json={"name": "page"})
    server.finished(server.send("PUT", "/page/documents/page.md", content=PAGES[0].read_bytes()))
    return "page"


def test_uploads_leave_the_stream_of_another_client_its_pace(server, docs):
    server.send("POST", "", json={"name": "many"})
    alone = Stream(server, 60)
    alone.start()
    alone.join()
    beside = Stream(server, 260)
    beside.start()
    wait_for(lambda: len(beside.times_s) > 10)
    begin_s = time.perf_counter()
    paragraphs = [p for page in PAGES for p in page.read_text().split("\n\n") if len(p) > 200][:2]
    jobs = [
        server.send("PUT", f"/many/documents/{number}.md", content=text.encode())
        for number, text in enumerate(paragraphs)
    ]
    for job in jobs:
        server.finished(job)
    end_s = time.perf_counter()
    beside.join()
    undisturbed, disturbed = alone.p99_ms(), beside.p99_ms(begin_s, end_s)
    print(f"\np99 between tokens: {undisturbed:.0f} ms alone, {disturbed:.0f} ms beside {len(jobs)} uploads")
    assert beside.finish == "length" and len(beside.times_s) > 200
    assert beside.times_s[0] < begin_s < end_s
    # One run on a machine that others use as well: the figure itself is the benchmark's.
    assert disturbed < 5 * undisturbed


def test_what_was_uploaded_is_blended_at_once_and_what_was_deleted_is_in_no_answer(server, docs):
    path = "birds/heron.md"
    asked = {"rag": {"collection": docs, "top_k": 3, "recompute_ratio": 0.3}}

    def change(method: str, **options: Any) -> None:
        job = server.finished(server.send(method, f"/{docs}/documents/{path}", **options))
        assert job["documents"] == {path: "completed"}

    def ids_in_answer() -> set[str]:
        answer = server.chat("How much does the blue heron of Lake Varna weigh?", asked)
        assert answer.blend["fallback"] is None, answer.blend
        return {chunk["id"] for chunk in answer.blend["chunks"] if chunk["source"] == path}

    change("PUT", content=SLOGAN.encode())
    (first,) = ids_in_answer()
    pasted = server.chat(f"Read this:\n\n{SLOGAN}\n\nHow much does it weigh?", {})
    assert first in {chunk["id"] for chunk in pasted.blend["chunks"]}
    change("PUT", content=SLOGAN.replace("417", "902").encode())
    (second,) = ids_in_answer()
    assert second != first
    pasted = server.chat(f"Read this text:\n\n{SLOGAN}\n\nHow much does it weigh?", {})
    assert pasted.blend["chunks"] == []
    change("DELETE")
    assert ids_in_answer() == set()


def test_documents_of_a_request_are_answered_cold_and_blended_when_they_come_again(server):
    page = PAGES[3].read_text()
    documents = [
        SLOGAN,
        {"title": "A page", "text": page[:1500]},
        {"id": "doc-1", "data": {"text": page[1500:3000]}},
    ]
    body = {"documents": documents, "blend": {"recompute_ratio": 0.3}}
    first = server.chat("What does the first page say?", body)
    assert first.usage.prompt_tokens > 500 and first.choices[0].message.content
    deadline_s = time.monotonic() + 240
    while True:
        again = server.chat(f"What is on the page, at {time.monotonic()}?", body)
        known = sum(chunk["tokens"] for chunk in again.blend["chunks"])
        sources = {chunk["source"] for chunk in again.blend["chunks"]} - {None}  # the prefix is of none
        if sources == {"documents.0", "A page", "doc-1"} and known > 0.8 * (again.usage.prompt_tokens - 60):
            break
        assert time.monotonic() < deadline_s, again.blend
        time.sleep(5)  # an idle server learns fastest
    assert again.blend["fallback"] is None
    assert len(first.blend["chunks"]) < len(again.blend["chunks"])


def test_documents_beside_rag_and_what_is_no_document_are_refused(server, docs):
    for body, param in (
        ({"documents": ["x"], "rag": {"collection": docs}}, "documents"),
        ({"documents": [{"title": "no text"}]}, "documents.0"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            server.chat("Why?", body)
        assert caught.value.param == param


def test_a_collection_that_is_removed_is_unknown_at_once(server):
    server.send("POST", "", json={"name": "gone"})
    server.finished(server.send("PUT", "/gone/documents/a.md", content=b"A fact that is short."))
    assert server.chat("Which fact?", {"rag": {"collection": "gone"}}).choices
    server.send("DELETE", "/gone")
    with pytest.raises(openai.NotFoundError):
        server.chat("Which fact?", {"rag": {"collection": "gone"}})
