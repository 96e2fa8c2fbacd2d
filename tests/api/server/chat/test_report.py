"""Statistics put into answers: which events carry them, and what they say."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from api.server.chat.report import Reporter
from blend.report.detail import TokenState, context_detail
from blend.report.stats import BlendStats, ChunkUse, TokenCounts

STATS = BlendStats(
    counts=TokenCounts(exact_tokens=4, reused_tokens=12, recomputed_tokens=3, cold_tokens=1),
    chunks=(ChunkUse("c1", 4, 10), ChunkUse("c2", 15, 5)),
    context_tokens=20,
    ratio=0.15,
    selector="deviation",
)


@dataclass
class Part:
    index: int
    finish_reason: str | None


@dataclass
class Output:
    outputs: list[Part]
    kv_transfer_params: dict[str, Any] | None = None
    num_cached_tokens: int | None = None
    prompt_token_ids: tuple[int, ...] = tuple(range(30))


def unread(token_ids: Sequence[int]) -> list[str]:
    """What tokens read as, of requests that do not ask."""
    raise AssertionError("nobody asked")


@dataclass
class Stream:
    """A source of engine outputs that knows whether it was closed."""

    items: list[Any]
    closed: list[bool] = field(default_factory=list)

    async def outputs(self):
        try:
            for item in self.items:
                await asyncio.sleep(0)
                yield item
        finally:
            self.closed.append(True)


def finished(stats: BlendStats | None = STATS, index: int = 0) -> Output:
    return Output([Part(index, "stop")], None if stats is None else {"kvblend": stats.to_json()})


def running() -> Output:
    return Output([Part(0, None)])


def event(**fields: Any) -> str:
    return f"data: {json.dumps(fields)}\n\n"


def choice(text: str, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"index": index, "delta": {"content": text}, "finish_reason": finish}


async def vllm_stream(outputs):
    """What vLLM's stream generator does, in small: an event per output, the usage, the end."""
    async for item in outputs:
        output = item[1] if isinstance(item, tuple) else item
        for part in output.outputs:
            yield event(choices=[choice("é\n", part.finish_reason, part.index)])
    yield event(choices=[], usage={"prompt_tokens": 30, "prompt_tokens_details": {"cached_tokens": 29}})
    yield "data: [DONE]\n\n"


def run(reporter: Reporter, watched) -> list[Any]:
    async def collect():
        return [item async for item in reporter.annotate(vllm_stream(watched))]

    events = asyncio.run(collect())
    assert all(item.endswith("\n\n") for item in events)
    assert events[-1] == "data: [DONE]\n\n"
    return [json.loads(item.removeprefix("data: ")) for item in events[:-1]]


def test_the_last_choice_and_the_usage_carry_the_blend_and_nothing_else_does():
    reporter = Reporter(1, {"c1": "a.md"}.get, unread)
    events = run(reporter, reporter.watch(Stream([running(), running(), finished()]).outputs()))
    assert ["blend" in item for item in events] == [False, False, True, True]
    blend = events[-1]["blend"]
    assert blend["chunks"] == [
        {"id": "c1", "source": "a.md", "start": 4, "tokens": 10},
        {"id": "c2", "source": None, "start": 15, "tokens": 5},
    ]
    kinds = ("exact_tokens", "reused_tokens", "recomputed_tokens", "cold_tokens")
    assert sum(blend[kind] for kind in kinds) == blend["context_tokens"] == 20
    assert blend["fallback"] is None
    assert events[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 16
    assert events[-2]["choices"][0]["delta"]["content"] == "é\n"


def test_without_a_blend_vllms_own_count_stands():
    reporter = Reporter(1, {}.get, unread)
    plain = BlendStats(fallback="no known chunk in the prompt")
    events = run(reporter, reporter.watch(Stream([finished(plain)]).outputs()))
    assert events[-1]["blend"]["fallback"] == "no known chunk in the prompt"
    assert events[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 29


def test_of_several_prompts_the_plain_ones_keep_the_engines_count():
    reporter = Reporter(1, {}.get, unread)
    reporter.take(0, finished())
    plain = finished(BlendStats(fallback="no known chunk in the prompt"))
    plain.num_cached_tokens = 5
    reporter.take(1, plain)
    usage: dict[str, Any] = {"prompt_tokens_details": {"cached_tokens": 29}}
    reporter.amend_usage(usage)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 16 + 5


def test_an_engine_that_reports_nothing_gives_a_reason_and_not_a_missing_object():
    reporter = Reporter(1, {}.get, unread)
    events = run(reporter, reporter.watch(Stream([finished(None)]).outputs()))
    assert events[-1]["blend"]["fallback"]


def test_several_prompts_carry_their_own_blends():
    reporter = Reporter(2, {}.get, unread)  # two choices each
    plain = BlendStats(fallback="no known chunk in the prompt")
    outputs = [(1, finished(plain, index=2)), (0, finished(STATS, index=0))]
    events = run(reporter, reporter.watch_many(Stream(outputs).outputs()))
    assert [item["blend"]["fallback"] for item in events[:2]] == ["no known chunk in the prompt", None]
    assert [blend["reused_tokens"] for blend in events[2]["blend"]] == [12, 0]


def test_an_error_in_the_stream_passes_unchanged():
    reporter = Reporter(1, {}.get, unread)
    reporter.take(0, finished())
    broken = 'data: {"error": {"message": "x", "code": 500}}\n\n'

    async def events():
        yield broken

    async def collect():
        return [item async for item in reporter.annotate(events())]

    assert asyncio.run(collect()) == [broken]


def test_a_client_that_leaves_closes_the_engines_outputs():
    stream = Stream([running()] * 100)

    async def leave():
        reporter = Reporter(1, {}.get, unread)
        events = reporter.annotate(vllm_stream(reporter.watch(stream.outputs())))
        await anext(events)
        assert not stream.closed
        await events.aclose()
        await asyncio.sleep(0)

    asyncio.run(leave())
    assert stream.closed == [True]


def test_who_asks_is_told_what_each_context_token_reads_as_and_became():
    states = [TokenState.EXACT] * 4 + [TokenState.REUSED] * 10 + [TokenState.COLD] + [TokenState.REUSED] * 5
    detail = context_detail([(4, 10), (15, 5)], states, [0.5] * 20, "chance")
    reporter = Reporter(1, {}.get, lambda ids: [f"<{token}>" for token in ids])
    events = run(reporter, reporter.watch(Stream([finished(replace(STATS, tokens=detail))]).outputs()))
    tokens = events[-1]["blend"]["tokens"]
    assert tokens["texts"] == [f"<{token}>" for token in range(20)]
    assert tokens["runs"][1] == {"start": 4, "tokens": 10, "state": "reused", "chunk": 0}
    assert sum(run["tokens"] for run in tokens["runs"]) == len(tokens["scores"]) == 20
    assert tokens["measure"] == "chance"
