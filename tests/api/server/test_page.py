"""The page in a real browser, against a real server: asked, compared, reordered, refused, reloaded."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route, expect

from tests.support.browser import chromium
from tests.support.server_process import Served

pytestmark = [pytest.mark.engine, pytest.mark.slow]

QUESTION = "How many bytes of KV cache does one token take?"
ANSWER_MS = 120_000
ANSWER_TOKENS = "24"
KINDS = ("exact", "reused", "recomputed", "cold")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def tab(browser: Browser, served: Served) -> Iterator[BrowserContext]:
    """A browser that has never seen the page."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, base_url=served.url)
    yield context
    context.close()


@pytest.fixture
def page(tab: BrowserContext) -> Iterator[Page]:
    """The page, ready to be asked. Nothing may go wrong in it that it does not say."""
    faults: list[str] = []
    page = tab.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Security" in message.text else None)
    page.goto("/demo")
    expect(page.locator("#status")).to_contain_text("Ready", timeout=ANSWER_MS)
    yield page
    assert not faults


def chosen(page: Page) -> list[str]:
    items = page.locator("#chosen > li")
    return [items.nth(i).get_attribute("data-id") or "" for i in range(items.count())]


def tick(page: Page, places: list[int]) -> None:
    for place in places:
        page.locator("#listing input").nth(place).check()


def ask(page: Page, question: str = QUESTION) -> list[dict[str, Any]]:
    """Ask, wait for both answers, and return the bodies of the two requests."""
    sent: list[dict[str, Any]] = []

    def note(request: Request) -> None:
        if request.url.endswith("/v1/chat/completions"):
            sent.append(json.loads(request.post_data or ""))

    page.on("request", note)
    page.locator("#max-tokens").fill(ANSWER_TOKENS)
    page.locator("#question").fill(question)
    page.locator("#question").press("Control+Enter")
    for name in ("full", "blended"):
        expect(page.locator(f"#{name}")).to_have_attribute(
            "data-state", re.compile("done|failed"), timeout=ANSWER_MS
        )
    expect(page.locator("#send")).to_be_enabled()
    page.remove_listener("request", note)
    return sent


def figure(page: Page, pane: str, name: str) -> int:
    text = page.locator(f"#{pane} .counts [data-name={name}] dd").inner_text()
    return int(text.replace(",", ""))


def test_two_answers_to_one_question_with_two_times(page):
    tick(page, [1, 2, 4, 5])
    full, blended = ask(page)
    assert full["rag"] == blended["rag"] and full["messages"] == blended["messages"]
    assert full["rag"]["chunk_ids"] == chosen(page)
    assert full["cache_salt"] != blended["cache_salt"]
    for pane in ("full", "blended"):
        assert page.locator(f"#{pane} .answer").inner_text().strip()
        assert re.search(r"\d (ms|s)$", page.locator(f"#{pane} .figures dd").first.inner_text())
        expect(page.locator(f"#{pane} .note")).to_contain_text("Nothing lay in vLLM")
    assert figure(page, "full", "prompt") == figure(page, "blended", "prompt")
    assert figure(page, "full", "prefilled") == figure(page, "full", "prompt")
    assert figure(page, "blended", "reused") > figure(page, "blended", "recomputed") > 0
    expect(page.locator("#verdict")).to_contain_text("first token came")
    expect(page.locator("#blended .stages")).to_contain_text("recompute")
    expect(page.locator("#difference")).to_be_visible()
    expect(page.locator("#parting")).to_have_text(
        re.compile(r"They part at token \d+: .* nats (likelier|less likely)\.|among its 5|Token for token")
    )
    assert page.locator("#chart circle").count() == 2


TOKEN = "const token = (text, logprob, ...top_logprobs) => ({ token: text, logprob, top_logprobs });"
FULL_PREFILL = "(full prefill); full prefill"
LINES = {
    "[token('a', -1), token(' block', -0.5, token(' page', -0.53))], [token('a', -1), token(' page', 0)]": (
        f'They part at token 2: " page" (kvblend) or " block" {FULL_PREFILL} finds its own choice 0.03 nats '
        "likelier."
    ),
    "[token('x', -2, token('y', -1))], [token('y', -1)]": (
        f'They part at token 1: "y" (kvblend) or "x" {FULL_PREFILL} finds its own choice 1.00 nats less '
        "likely."
    ),
    "[token('x', -2)], [token('z', -1)]": (
        f'They part at token 1: "z" (kvblend) or "x" {FULL_PREFILL} does not count the other among its 5 '
        "likeliest tokens."
    ),
    "[token('x', -2), token('y', -2)], [token('x', -1)]": "Token for token the same, as far as both go.",
    "[], []": "",
}


def test_the_line_under_the_answers_says_how_near_the_tie_was(page):
    for answers, line in LINES.items():
        call = f"const m = await import('/demo/parting.js'); return m.parting({answers});"
        assert page.evaluate(f"async () => {{ {TOKEN} {call} }}") == line


def test_the_context_shows_every_token_and_tells_its_score_and_chunk(page):
    tick(page, [0, 3, 6])
    ask(page)
    for kind in KINDS:
        assert page.locator(f"#tokens .t.{kind}").count() == figure(page, "blended", kind)
    sources = [page.locator("#listing li").nth(i).locator(".source") for i in (0,)]
    word = page.locator("#tokens .t.recomputed").filter(has_text=re.compile(r"\w")).first
    word.hover()
    told = page.locator("#token")
    expect(told).to_contain_text("recomputed")
    expect(told).to_contain_text(re.compile(r"attention in the upper layers: \d"))
    expect(told).to_contain_text(sources[0].inner_text())
    page.locator("#tokens").focus()
    before = told.inner_text()
    page.keyboard.press("ArrowDown")
    assert told.inner_text() != before and "recomputed" in told.inner_text()
    page.keyboard.press("End")
    expect(page.locator("#tokens .t").last).to_have_class(re.compile("current"))
    page.locator("#shade").check()
    heat = "element => Number(element.style.getPropertyValue('--heat'))"
    assert word.evaluate(heat) > 0.3


def test_chunks_are_put_into_another_order_with_mouse_and_keys(page):
    tick(page, [0, 1, 2])
    first, second, third = chosen(page)
    handles = page.locator("#chosen .handle")
    handles.nth(2).focus()
    page.keyboard.press("ArrowUp")
    assert chosen(page) == [first, third, second]
    expect(handles.nth(1)).to_be_focused()
    expect(page.locator("#moved")).to_contain_text("now 2 of 3")
    box, target = handles.nth(0).bounding_box(), page.locator("#chosen > li").nth(2).bounding_box()
    assert box and target
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + 5, target["y"] + target["height"] + 2, steps=6)
    page.mouse.up()
    assert chosen(page) == [third, second, first]
    _, blended = ask(page)
    assert blended["rag"]["chunk_ids"] == [third, second, first]
    page.keyboard.press("Tab")
    handles.nth(0).focus()
    page.keyboard.press("Delete")
    assert chosen(page) == [second, first]


def test_without_a_choice_chunks_are_found_for_the_question(page):
    page.locator("#top-k").fill("2")
    page.locator("input[value=together]").check(force=True)
    full, _ = ask(page)
    assert full["rag"]["chunk_ids"] == chosen(page) and len(chosen(page)) == 2
    expect(page.locator("#verdict")).to_contain_text("first token came")


def test_the_listing_is_searched(page):
    everything = page.locator("#listing li").count()
    page.locator("#search").fill("attention sink")
    expect(page.locator("#listing-size")).to_contain_text("hit")
    assert "sink" in page.locator("#listing li").first.inner_text().lower()
    page.locator("#search").fill("")
    expect(page.locator("#listing-size")).to_contain_text("document")
    assert page.locator("#listing li").count() == everything


def test_what_the_server_refuses_is_said_in_words(page):
    tick(page, list(range(page.locator("#listing input").count())))
    expect(page.locator("#context-hint")).to_contain_text("More than the 3,072 tokens")
    ask(page)
    for pane in ("full", "blended"):
        said = page.locator(f"#{pane} .trouble")
        expect(said).to_contain_text("The server refused")
        expect(said).to_contain_text("3072")


def test_a_server_that_is_gone_is_said_in_words_and_the_page_goes_on(page):
    tick(page, [0])
    page.context.set_offline(True)
    ask(page)
    expect(page.locator("#full .trouble")).to_contain_text("The server cannot be reached")
    page.context.set_offline(False)
    ask(page)
    expect(page.locator("#full .trouble")).to_be_hidden()
    expect(page.locator("#blended")).to_have_attribute("data-state", "done")


HOLD_ANSWERS = """() => {
  const fetched = window.fetch;
  window.fetch = async (path, init) => {
    const response = await fetched(path, init);
    if (!String(path).endsWith("/v1/chat/completions")) return response;
    const reader = response.body.getReader();
    let held = false;
    const body = new ReadableStream({
      async pull(into) {
        if (held) return new Promise((_, fail) => init.signal.addEventListener("abort", () => {
          into.error(init.signal.reason);
          fail(init.signal.reason);
        }));
        const { value, done } = await reader.read();
        if (done) return;
        into.enqueue(value);
        held = new TextDecoder().decode(value).includes('"content"');
      },
    });
    return new Response(body, { status: response.status, headers: response.headers });
  };
}"""
"""Of an answer no more than its first words come: it is not over before somebody stops it."""


def test_an_answer_is_stopped(page):
    page.evaluate(HOLD_ANSWERS)
    tick(page, [0, 1])
    page.locator("#max-tokens").fill("1024")
    page.locator("#question").fill("Tell everything.")
    page.locator("#send").click()
    expect(page.locator("#full .answer")).not_to_have_text("…", timeout=ANSWER_MS)
    page.locator("#stop").click()
    expect(page.locator("#full .trouble")).to_have_text("Stopped.")
    expect(page.locator("#send")).to_be_enabled()


def test_a_reload_keeps_what_was_chosen(page):
    tick(page, [4, 1])
    page.locator("#question").fill(QUESTION)
    page.locator("#ratio").fill("0.4")
    page.locator("#selector").select_option("first")
    kept = chosen(page)
    page.reload()
    expect(page.locator("#status")).to_contain_text("Ready", timeout=ANSWER_MS)
    assert chosen(page) == kept
    expect(page.locator("#question")).to_have_value(QUESTION)
    expect(page.locator("#ratio-value")).to_have_text("40 %")
    expect(page.locator("#selector")).to_have_value("first")
    _, blended = ask(page)
    assert (blended["blend"]["recompute_ratio"], blended["blend"]["selector"]) == (0.4, "first")


def test_a_key_is_asked_for_where_the_server_wants_one(tab):
    def guarded(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer sesame":
            route.continue_()
        else:
            body = {"error": {"message": "no key", "type": "Unauthorized", "param": None, "code": 401}}
            route.fulfill(status=401, json=body)

    page = tab.new_page()
    page.route("**/v1/**", guarded)
    page.goto("/demo/")
    expect(page.locator("#key")).to_be_focused()
    page.locator("#key").fill("sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("Ready", timeout=ANSWER_MS)
    expect(page.locator("#key-form")).to_be_hidden()
    assert page.evaluate("localStorage.length <= 1 && !JSON.stringify(localStorage).includes('sesame')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_at_phone_width_nothing_lies_beside_the_screen(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    tick(page, [0, 2])
    ask(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    is_dark = sum(map(int, re.findall(r"\d+", ground)[:3])) < 3 * 128
    assert is_dark == (scheme == "dark")


def chat(served: Served, stream: bool, **blend: Any) -> Any:
    ids = [served.collection.chunks[i].chunk_id for i in (5, 2, 3)]
    extra = {"rag": {"collection": "docs", "chunk_ids": ids}, "blend": blend}
    messages: Any = [{"role": "user", "content": QUESTION}]
    answer = served.client.chat.completions.create(
        model=served.model, messages=messages, max_tokens=2, temperature=0.0, stream=stream, extra_body=extra
    )
    return list(answer)[-1] if stream else answer


@pytest.mark.parametrize("stream", [False, True])
def test_detail_agrees_with_the_counts_and_names_each_token(served, stream):
    blend = chat(served, stream, detail=True, recompute_ratio=0.2 + 0.01 * stream).blend
    told = blend["tokens"]
    assert [run["start"] for run in told["runs"]] == [
        sum(run["tokens"] for run in told["runs"][:i]) for i in range(len(told["runs"]))
    ]
    for kind in KINDS:
        of_kind = (run["tokens"] for run in told["runs"] if run["state"] == kind)
        assert sum(of_kind) == blend[f"{kind}_tokens"]
    assert len(told["texts"]) == len(told["scores"]) == blend["context_tokens"]
    text = "".join(told["texts"])
    for i in (5, 2, 3):
        assert served.collection.chunks[i].text in text
    assert text.startswith("<|im_start|>")
    # Rows of the prefix and of the first chunk behind it are good as they are, whatever is seen there.
    named = [(run["state"], run["chunk"]) for run in told["runs"] for _ in range(run["tokens"])]
    scores = list(zip(named, told["scores"], strict=True))
    least = min(score for (state, _), score in scores if state == "recomputed")
    assert all(score <= least for (state, chunk), score in scores if state == "reused" and chunk > 1)
    assert {state for state, chunk in named if chunk == 1} == {"reused"}


def test_who_does_not_ask_is_told_no_detail(served):
    assert "tokens" not in chat(served, False, recompute_ratio=0.3).blend
    assert "tokens" not in chat(served, False, enabled=False, detail=True).blend


def test_what_lay_in_the_pages_is_told_as_found(served):
    chat(served, False, recompute_ratio=0.35)
    again = chat(served, False, recompute_ratio=0.35, detail=True).blend
    found = sum(run["tokens"] for run in again["tokens"]["runs"] if run["state"] == "found")
    assert found == again["reused_tokens"] > 0


def test_a_collection_is_read_and_searched_over_http(served):
    (docs,) = httpx.get(f"{served.url}/v1/collections").json()["data"]
    assert docs["chunks"] == len(served.collection.chunks)
    body = {"query": "What is an attention sink?", "top_k": 3}
    hits = httpx.post(f"{served.url}/v1/collections/docs/search", json=body, timeout=60).json()["data"]
    assert len(hits) == 3 and "sink" in hits[0]["text"]
    refused = httpx.get(f"{served.url}/v1/collections/docs/chunks", params={"limit": 0})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "query.limit"
