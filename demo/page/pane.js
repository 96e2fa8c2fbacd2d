// One of the two answers: its text as it comes, its figures, and where the time to its first token went.

import { h, show } from "./dom.js";
import { count, duration } from "./figures.js";

// In the order of time. The last one is what the client's clock saw beyond the server's own account.
const STAGES = ["match", "load", "realign", "select", "recompute", "write"];
const KINDS = ["exact", "reused", "recomputed", "cold"];

export class Pane {
  /** @param {HTMLElement} element with a heading. */
  constructor(element) {
    this._element = element;
    this._figures = h("dl", { className: "figures" });
    this._bar = h("div", { className: "bar", aria: { hidden: "true" } });
    this._stages = h("ul", { className: "stages" });
    this._counts = h("dl", { className: "counts" });
    this._note = h("p", { className: "hint note" });
    this._error = h("p", { className: "trouble" });
    this._error.setAttribute("role", "alert");
    this._text = h("p", { className: "answer", aria: { live: "polite", busy: "false" } });
    const parts = [this._figures, this._bar, this._stages, this._counts, this._note, this._error, this._text];
    element.append(...parts);
    this.clear("Ask something.");
  }

  /** Nothing yet, and why. */
  clear(why) {
    for (const part of [this._bar, this._stages, this._counts]) part.replaceChildren();
    this._element.dataset.state = "empty";
    this._draw(null, null);
    this._text.replaceChildren(h("span", { className: "hint" }, why));
    this._note.textContent = "";
    show(this._error, false);
  }

  /** A request is on its way. */
  begin() {
    this.clear("…");
    this._element.dataset.state = "waiting";
    this._text.setAttribute("aria-busy", "true");
    this._begun = false;
  }

  /** A piece of the answer has come. */
  write(text) {
    if (!this._begun) this._text.replaceChildren();
    this._begun = true;
    this._element.dataset.state = "writing";
    this._text.append(text);
  }

  /** The answer has ended. */
  end(answer) {
    this._element.dataset.state = "done";
    this._text.setAttribute("aria-busy", "false");
    if (!answer.text) this._text.replaceChildren(h("span", { className: "hint" }, "The answer is empty."));
    this._draw(answer.ttftMs, answer.tokensPerSecond);
    this._drawStages(answer);
    this._drawCounts(answer);
    this._note.textContent = noteOf(answer);
  }

  /** It went wrong, or was stopped. */
  fail(message) {
    this._element.dataset.state = "failed";
    this._text.setAttribute("aria-busy", "false");
    if (!this._begun) this._text.replaceChildren();
    this._error.textContent = message;
    show(this._error, true);
  }

  /** Draw the bar to a scale that both panes share. */
  scale(maxMs) {
    for (const part of this._bar.children) {
      part.style.width = `${(100 * Number(part.dataset.ms)) / maxMs}%`;
    }
  }

  _draw(ttftMs, tokensPerSecond) {
    const entries = [
      ["first token", ttftMs === null ? "–" : duration(ttftMs)],
      ["tokens/s", tokensPerSecond === null ? "–" : tokensPerSecond.toFixed(1)],
    ];
    this._figures.replaceChildren(...entries.map(pair));
  }

  _drawStages({ blend, ttftMs }) {
    const told = blend.fallback ? [] : STAGES.map((name) => [name, blend[`${name}_ms`] ?? 0]);
    const known = told.reduce((sum, [, ms]) => sum + ms, 0);
    const rest = [blend.fallback ? "prefill" : "suffix", Math.max(0, ttftMs - known)];
    const stages = [...told.filter(([, ms]) => ms >= 0.05), rest];
    this._bar.replaceChildren(
      ...stages.map(([name, ms]) => h("i", { className: `stage ${name}`, data: { ms: String(ms) } })),
    );
    this._stages.replaceChildren(
      ...stages.map(([name, ms]) =>
        h("li", {}, h("i", { className: `stage ${name}` }), `${name} `, figure(duration(ms))),
      ),
    );
  }

  _drawCounts({ blend, usage }) {
    const prompt = usage.prompt_tokens ?? 0;
    const kinds = blend.fallback
      ? [["prefilled", prompt - foundTokens({ blend, usage })]]
      : KINDS.map((kind) => [kind, blend[`${kind}_tokens`]]);
    const entries = [["prompt", prompt], ...kinds];
    this._counts.replaceChildren(...entries.map(([name, tokens]) => pair([name, count(tokens)])));
  }
}

function figure(value) {
  return h("b", { className: "figure" }, value);
}

function pair([name, value]) {
  return h("div", { data: { name } }, h("dt", {}, name), h("dd", { className: "figure" }, value));
}

/** Prompt tokens that an earlier request had left in vLLM's pages. */
export function foundTokens({ blend, usage }) {
  if (blend.fallback) return usage.prompt_tokens_details?.cached_tokens ?? 0;
  const runs = blend.tokens?.runs ?? [];
  return runs.filter((run) => run.state === "found").reduce((sum, run) => sum + run.tokens, 0);
}

function noteOf(answer) {
  const found = foundTokens(answer);
  const said = [`${found ? `${count(found)} tokens` : "Nothing"} lay in vLLM’s prefix cache.`];
  const { fallback, residual } = answer.blend;
  const isOff = fallback?.startsWith("blending was switched off");
  if (fallback && !isOff) said.unshift(`Not blended: ${fallback}.`);
  if (residual !== null && residual !== undefined && !fallback) {
    said.push(`${(100 * residual).toFixed(1)} % of the question’s attention is on approximate rows.`);
  }
  return said.join(" ");
}
