"""Statistics put into answers: which events carry them, and what they say."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from api.server.chat.report import Reporter, edited
from api.server.surface.request import EngineCall
from blend.report.detail import TokenState, context_detail
from blend.report.stats import BlendStats, ChunkUse, TokenCounts
from tests.support.engine_outputs import Output, Part

STATS = BlendStats(
    counts=TokenCounts(exact_tokens=4, reused_tokens=12, recomputed_tokens=3, cold_tokens=1),
    chunks=(ChunkUse("c1", 4, 10), ChunkUse("c2", 15, 5)),
    context_tokens=20,
    ratio=0.15,
    selector="deviation",
)


def unread(token_ids: Sequence[int]) -> list[str]:
    """What tokens read as, of requests that do not ask."""
    raise AssertionError("nobody asked")


def finished(stats: BlendStats | None = STATS, index: int = 0) -> Output:
    params = None if stats is None else {"kvblend": stats.to_json()}
    return Output(list(range(30)), [Part(index, [1], "stop")], params)


def running() -> Output:
    return Output(list(range(30)), [Part(0, [1])])


def calls(number: int = 1) -> list[EngineCall]:
    return [EngineCall(0) for _ in range(number)]


def seen(*outputs: Output) -> list[EngineCall]:
    """A call for each of these outputs, which has ended."""
    made = calls(len(outputs))
    for call, output in zip(made, outputs, strict=True):
        call.see(output)
    return made


def event(**fields: Any) -> str:
    return f"data: {json.dumps(fields)}\n\n"


def choice(text: str, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"index": index, "delta": {"content": text}, "finish_reason": finish}


async def vllm_stream(asked: list[EngineCall], outputs: list[tuple[int, Output]]):
    """What the engine and vLLM's stream generator do, in small: an event per output, the usage, the end."""
    for number, output in outputs:
        asked[number].see(output)
        for part in output.outputs:
            yield event(choices=[choice("é\n", part.finish_reason, part.index)])
    yield event(choices=[], usage={"prompt_tokens": 30, "prompt_tokens_details": {"cached_tokens": 29}})
    yield "data: [DONE]\n\n"


def run(
    outputs: list[tuple[int, Output]], num_choices: int = 1, sources=None, texts_of=unread
) -> list[dict[str, Any]]:
    asked = calls(1 + max(number for number, _ in outputs))
    reporter = Reporter(asked, num_choices, (sources or {}).get, texts_of)

    async def collect():
        return [item async for item in edited(vllm_stream(asked, outputs), [reporter])]

    events = asyncio.run(collect())
    assert all(item.endswith("\n\n") for item in events)
    assert events[-1] == "data: [DONE]\n\n"
    return [json.loads(item.removeprefix("data: ")) for item in events[:-1]]


def test_the_last_choice_and_the_usage_carry_the_blend_and_nothing_else_does():
    events = run([(0, running()), (0, running()), (0, finished())], sources={"c1": "a.md"})
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
    events = run([(0, finished(BlendStats(fallback="no known chunk in the prompt")))])
    assert events[-1]["blend"]["fallback"] == "no known chunk in the prompt"
    assert events[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 29


def test_of_several_prompts_the_plain_ones_keep_the_engines_count():
    plain = finished(BlendStats(fallback="no known chunk in the prompt"))
    plain.num_cached_tokens = 5
    reporter = Reporter(seen(finished(), plain), 1, {}.get, unread)
    usage: dict[str, Any] = {"prompt_tokens_details": {"cached_tokens": 29}}
    reporter.amend_usage(usage)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 16 + 5


def test_an_engine_that_reports_nothing_gives_a_reason_and_not_a_missing_object():
    assert run([(0, finished(None))])[-1]["blend"]["fallback"]
    assert Reporter([], 1, {}.get, unread).blend()["fallback"]


def test_several_prompts_carry_their_own_blends():
    plain = BlendStats(fallback="no known chunk in the prompt")
    outputs = [(1, finished(plain, index=2)), (0, finished(STATS, index=0))]
    events = run(outputs, num_choices=2)
    assert [item["blend"]["fallback"] for item in events[:2]] == ["no known chunk in the prompt", None]
    assert [blend["reused_tokens"] for blend in events[2]["blend"]] == [12, 0]


def test_an_error_in_the_stream_passes_unchanged():
    reporter = Reporter(seen(finished()), 1, {}.get, unread)
    broken = 'data: {"error": {"message": "x", "code": 500}}\n\n'

    async def events():
        yield broken

    async def collect():
        return [item async for item in edited(events(), [reporter])]

    assert asyncio.run(collect()) == [broken]


def test_tokens_pass_unparsed_until_an_output_has_finished():
    odd = 'data: {"choices": [], "usage":  null}\n\n'

    async def events():
        yield odd

    async def collect():
        return [item async for item in edited(events(), [Reporter(calls(), 1, {}.get, unread)])]

    assert asyncio.run(collect()) == [odd]


def test_a_client_that_leaves_closes_the_stream():
    closed = []

    async def stream():
        try:
            while True:
                yield event(choices=[choice("x")])
        finally:
            closed.append(True)

    async def leave():
        events = edited(stream(), [Reporter(calls(), 1, {}.get, unread)])
        await anext(events)
        assert not closed
        await events.aclose()

    asyncio.run(leave())
    assert closed == [True]


def test_who_asks_is_told_what_each_context_token_reads_as_and_became():
    states = [TokenState.EXACT] * 4 + [TokenState.REUSED] * 10 + [TokenState.COLD] + [TokenState.REUSED] * 5
    detail = context_detail([(4, 10), (15, 5)], states, [0.5] * 20, "chance")
    outputs = [(0, finished(replace(STATS, tokens=detail)))]
    events = run(outputs, texts_of=lambda ids: [f"<{token}>" for token in ids])
    tokens = events[-1]["blend"]["tokens"]
    assert tokens["texts"] == [f"<{token}>" for token in range(20)]
    assert tokens["runs"][1] == {"start": 4, "tokens": 10, "state": "reused", "chunk": 0}
    assert sum(run["tokens"] for run in tokens["runs"]) == len(tokens["scores"]) == 20
    assert tokens["measure"] == "chance"
