// The collection's chunks, to be searched and ticked.

import { opening } from "./context.js";
import { byId, h, show } from "./dom.js";
import { count, counted } from "./figures.js";
import { chunkPage, search } from "./server.js";

const PATIENCE_MS = 250; // after the last key, before it is searched
const MAX_HITS = 30;

export class Listing {
  /**
   * @param {import("./context.js").Context} context what is ticked.
   * @param {(error: Error) => void} onError
   */
  constructor(context, onError) {
    this._context = context;
    this._onError = onError;
    this._chunks = [];
    this._hits = null;
    this._hasMore = false;
    byId("search").addEventListener("input", () => this._typed());
    byId("more").addEventListener("click", () => this.more().catch(onError));
  }

  /** Show another collection from its beginning. */
  async open(collection) {
    this.collection = collection;
    this._chunks = [];
    this._hits = null;
    byId("search").value = "";
    await this.more();
  }

  /** One page more. */
  async more() {
    const page = await chunkPage(this.collection.name, this._chunks.at(-1)?.id);
    this._chunks.push(...page.data);
    this._hasMore = page.has_more;
    this.draw();
  }

  /** Chunks of these ids, in their order, as far as the collection's first `maxPages` pages have them. */
  async find(ids, maxPages = 20) {
    for (let pages = 1; pages < maxPages && this._hasMore && !ids.every((id) => this._chunk(id)); pages++) {
      await this.more();
    }
    return ids.map((id) => this._chunk(id)).filter((chunk) => chunk !== undefined);
  }

  /** Documents of the chunks that were listed so far. */
  get sources() {
    return new Set(this._chunks.map((chunk) => chunk.source));
  }

  get firstTwo() {
    return this._chunks.slice(0, 2).map((chunk) => chunk.id);
  }

  draw() {
    const shown = this._hits ?? this._chunks;
    byId("listing-size").textContent = this._hits
      ? `${counted(shown.length, "hit")}`
      : `${counted(this.collection.chunks, "chunk")}, ${counted(this.collection.documents, "document")}`;
    show(byId("more"), this._hits === null && this._hasMore);
    byId("listing").replaceChildren(...shown.map((chunk, place) => this._item(chunk, shown[place - 1])));
  }

  _chunk(id) {
    return this._chunks.find((chunk) => chunk.id === id);
  }

  _item(chunk, previous) {
    const tick = h("input", {
      type: "checkbox",
      checked: this._context.has(chunk.id),
      on: { change: () => (tick.checked ? this._context.add(chunk) : this._context.remove(chunk.id)) },
    });
    const isNew = chunk.source !== previous?.source;
    return h(
      "li",
      { data: { id: chunk.id }, className: isNew ? "first" : "" },
      isNew ? h("span", { className: "source" }, chunk.source) : null,
      h(
        "label",
        { title: chunk.text },
        tick,
        h("span", { className: "what" }, opening(chunk.text)),
        h("span", { className: "figure" }, count(chunk.tokens)),
      ),
    );
  }

  _typed() {
    clearTimeout(this._timer);
    this._timer = setTimeout(() => this._search().catch(this._onError), PATIENCE_MS);
  }

  async _search() {
    const query = byId("search").value.trim();
    this._asked?.abort();
    if (!query) {
      this._hits = null;
      this.draw();
      return;
    }
    this._asked = new AbortController();
    try {
      this._hits = await search(this.collection.name, { query, top_k: MAX_HITS }, this._asked.signal);
      this.draw();
    } catch (error) {
      if (error.name !== "AbortError") throw error; // something else has been typed meanwhile
    }
  }
}
