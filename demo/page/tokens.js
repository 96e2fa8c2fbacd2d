// The context, token by token: where each one's KV came from, what it scored, and whose it is.

import { byId, h, show } from "./dom.js";
import { count, percent } from "./figures.js";

const MAX_DRAWN = 12000; // more would make the page slow, and nobody reads so many
const STATES = {
  exact: "equals a full prefill’s",
  reused: "approximates a full prefill’s",
  recomputed: "computed again",
  cold: "of no known chunk, computed",
  found: "in vLLM’s pages, from an earlier request",
};
const HINT = "Point at a token, or use the arrow keys: up and down go from one recomputed token to the next.";

export class TokenView {
  constructor() {
    this._place = byId("tokens");
    this._current = null;
    this._pointer = "";
    this._place.addEventListener("pointerover", (event) => this._point(event));
    this._place.addEventListener("click", (event) => this._go(event.target.closest(".t"), false));
    this._place.addEventListener("keydown", (event) => this._key(event));
    byId("shade").addEventListener("change", () => this._shade());
  }

  /** Show the context of a blend, or nothing where it says nothing of tokens. */
  draw(blend) {
    show(byId("view"), Boolean(blend?.tokens));
    if (!blend?.tokens) return;
    const { texts, runs, scores, measure } = blend.tokens;
    this._chunks = blend.chunks;
    this._measure = measure;
    this._scores = scores;
    this._runs = runs;
    this._marks = runs.flatMap((run) => Array.from({ length: run.tokens }, () => run));
    const drawn = Math.min(texts.length, MAX_DRAWN);
    this._spans = texts.slice(0, drawn).map((text, index) =>
      h("span", { className: `t ${this._marks[index].state}`, data: { index: String(index) } }, text),
    );
    this._current = null;
    this._place.replaceChildren(...this._blocks());
    if (drawn < texts.length) {
      this._place.append(h("p", { className: "hint" }, `The first ${count(drawn)} tokens are shown.`));
    }
    byId("token").textContent = HINT;
    this._drawStrip(texts.length);
    this._drawLegend(texts.length);
    this._shade();
  }

  _blocks() {
    const blocks = [];
    let last;
    this._spans.forEach((span, index) => {
      const { chunk } = this._marks[index];
      if (chunk !== last || !blocks.length) {
        const title = chunk === null ? null : h("span", { className: "owner" }, this._nameOf(chunk));
        blocks.push(h("div", { className: chunk === null ? "block gap" : "block" }, title));
      }
      last = chunk;
      blocks.at(-1).append(span);
    });
    return blocks;
  }

  _nameOf(chunk) {
    const { source } = this._chunks[chunk];
    const named = this._chunks.filter((one, index) => one.source && index <= chunk).length;
    return source ? `${named} · ${source}` : "prefix";
  }

  _drawStrip(length) {
    byId("strip").replaceChildren(
      ...this._runs.map((run) => {
        const part = h("i", { className: run.state });
        part.style.width = `${(100 * run.tokens) / length}%`;
        return part;
      }),
    );
  }

  _drawLegend(length) {
    const entries = Object.entries(STATES).map(([state, meaning]) => {
      const runs = this._runs.filter((run) => run.state === state);
      const tokens = runs.reduce((sum, run) => sum + run.tokens, 0);
      if (!tokens) return null;
      const figure = h("b", { className: "figure" }, `${count(tokens)} · ${percent(tokens / length)}`);
      return h("li", {}, h("i", { className: `t ${state}` }, state), figure, h("span", {}, meaning));
    });
    byId("legend").replaceChildren(...entries.filter((entry) => entry !== null));
  }

  _shade() {
    const isShaded = byId("shade").checked;
    this._place.classList.toggle("shaded", isShaded);
    if (!isShaded || !this._spans) return;
    const finite = this._scores.filter((score) => score !== null);
    const order = Float64Array.from(finite).sort();
    this._spans.forEach((span, index) => {
      const score = this._scores[index];
      const heat = score === null ? 0 : (rank(order, score) / order.length) ** 3;
      span.style.setProperty("--heat", String(heat));
    });
  }

  _key(event) {
    const at = this._current ? Number(this._current.dataset.index) : -1;
    const last = this._spans.length - 1;
    const to = {
      ArrowRight: Math.min(at + 1, last),
      ArrowLeft: Math.max(at - 1, 0),
      ArrowDown: this._recomputed(at, 1),
      ArrowUp: this._recomputed(at, -1),
      Home: 0,
      End: last,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this._go(this._spans[to], true);
  }

  /** The next recomputed token in a direction that does not touch the one at hand; else where it is. */
  _recomputed(at, step) {
    for (let index = at + step; index >= 0 && index < this._spans.length; index += step) {
      const isNext = index !== at + step || this._marks[at]?.state !== "recomputed";
      if (isNext && this._marks[index].state === "recomputed") return index;
    }
    return Math.max(at, 0);
  }

  /** A token was pointed at; not where the text has moved below a pointer that rests. */
  _point(event) {
    const place = `${event.clientX} ${event.clientY}`;
    if (place === this._pointer) return;
    this._pointer = place;
    this._go(event.target.closest(".t"), false);
  }

  _go(span, scrolls) {
    if (!span || span === this._current) return;
    this._current?.classList.remove("current");
    this._current = span;
    span.classList.add("current");
    if (scrolls) span.scrollIntoView({ block: "nearest" });
    const index = Number(span.dataset.index);
    const { state, chunk } = this._marks[index];
    const score = this._scores[index];
    byId("token").textContent = [
      `token ${count(index)} ${JSON.stringify(span.textContent)}`,
      state,
      chunk === null ? "between chunks" : `chunk ${this._nameOf(chunk)}`,
      score === null ? "not scored" : `${this._measure}: ${score}`,
    ].join("  ·  ");
  }
}

/** How many of ascending numbers are at most this one. */
function rank(order, number) {
  let [low, high] = [0, order.length];
  while (low < high) {
    const half = (low + high) >> 1;
    if (order[half] <= number) low = half + 1;
    else high = half;
  }
  return low;
}
