// The chunks that stand in the prompt, in their order.

import { byId, h, show } from "./dom.js";
import { count, counted } from "./figures.js";
import { makeOrdered } from "./order.js";

const GRIP = "⠿";

export class Context {
  /** @param {(chunks: object[]) => void} onChange after each change. */
  constructor(onChange) {
    this.chunks = [];
    this.maxTokens = null;
    this._onChange = onChange;
    this._list = byId("chosen");
    makeOrdered(this._list, (id, place) => this.move(id, place), (id) => this.remove(id));
    this._draw();
  }

  get ids() {
    return this.chunks.map((chunk) => chunk.id);
  }

  has(id) {
    return this.chunks.some((chunk) => chunk.id === id);
  }

  /** Other chunks in the place of all. */
  set(chunks) {
    this.chunks = chunks;
    this._draw();
    this._onChange(chunks);
  }

  add(chunk) {
    if (!this.has(chunk.id)) this.set([...this.chunks, chunk]);
  }

  remove(id) {
    const place = this.ids.indexOf(id);
    const held = this._list.contains(document.activeElement);
    this.set(this.chunks.filter((chunk) => chunk.id !== id));
    if (held) this._focus(Math.min(place, this.chunks.length - 1));
  }

  move(id, place) {
    const chunk = this.chunks.find((one) => one.id === id);
    const others = this.chunks.filter((one) => one.id !== id);
    this.set([...others.slice(0, place), chunk, ...others.slice(place)]);
    this._focus(place);
    byId("moved").textContent = `${chunk.title}: now ${place + 1} of ${this.chunks.length}`;
  }

  _focus(place) {
    this._list.children[place]?.querySelector(".handle").focus();
  }

  _draw() {
    const tokens = this.chunks.reduce((sum, chunk) => sum + chunk.tokens, 0);
    const isTooLong = this.maxTokens !== null && tokens > this.maxTokens;
    byId("context-size").textContent = this.chunks.length
      ? `${counted(this.chunks.length, "chunk")} · ${counted(tokens, "token")}`
      : "";
    const hint = byId("context-hint");
    hint.classList.toggle("warn", isTooLong);
    hint.textContent = isTooLong
      ? `More than the ${count(this.maxTokens)} tokens that the server takes: take some out.`
      : "Nothing is chosen: tick chunks below, or they are found for the question when you ask.";
    show(hint, isTooLong || !this.chunks.length);
    this._list.replaceChildren(...this.chunks.map((chunk, place) => this._item(chunk, place)));
  }

  _item(chunk, place) {
    const name = `${chunk.title}, ${place + 1} of ${this.chunks.length}`;
    const title = "drag, or use the arrow keys, to move it";
    const aria = { label: `${name}: ${title}` };
    return h(
      "li",
      { data: { id: chunk.id }, title: chunk.text },
      h("button", { type: "button", className: "handle", title, aria }, GRIP),
      h("span", { className: "what" }, h("b", {}, opening(chunk.text)), h("span", {}, chunk.source)),
      h("span", { className: "figure" }, count(chunk.tokens)),
      h(
        "button",
        {
          type: "button",
          className: "remove",
          aria: { label: `Take ${name} out of the prompt` },
          on: { click: () => this.remove(chunk.id) },
        },
        "×",
      ),
    );
  }
}

/** The first words of a chunk, on one line. */
export function opening(text) {
  return text.slice(0, 160).replace(/[\s#*>=-]+/g, " ").trim();
}
