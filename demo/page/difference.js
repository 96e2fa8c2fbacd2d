// The two answers in one text: what only one of them says is marked.

import { byId, h, show } from "./dom.js";
import { percent } from "./figures.js";

/** Draw it. */
export function drawDifference(full, blended) {
  const parts = difference(words(full), words(blended));
  const same = parts.filter((part) => part.kind === "both").reduce((sum, part) => sum + part.words.length, 0);
  const all = parts.reduce((sum, part) => sum + part.words.length, 0);
  const isSame = same === all;
  byId("difference-share").textContent = all ? `${percent(same / all)} in common` : "";
  byId("difference-text").replaceChildren(
    ...(isSame ? [h("span", { className: "hint" }, "Word for word the same.")] : parts.map(marked)),
  );
  show(byId("difference"), true);
}

function marked({ kind, words: said }) {
  const text = said.join("");
  if (kind === "both") return document.createTextNode(text);
  const isFull = kind === "full";
  return h(isFull ? "del" : "ins", { title: isFull ? "full prefill only" : "kvblend only" }, text);
}

/** Words with the blanks behind them. */
const words = (text) => text.trim().match(/\S+\s*/g) ?? [];

/**
 * The longest common run of words, and what stands between.
 * @param {string[]} one
 * @param {string[]} other
 * @returns {{kind: "both"|"full"|"blended", words: string[]}[]}
 */
export function difference(one, other) {
  const key = (word) => word.trim();
  // common[i][j]: how many words one[i..] and other[j..] have in common, in order.
  const common = Array.from({ length: one.length + 1 }, () => new Uint16Array(other.length + 1));
  for (let i = one.length - 1; i >= 0; i--) {
    for (let j = other.length - 1; j >= 0; j--) {
      const match = key(one[i]) === key(other[j]);
      common[i][j] = match ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
    }
  }
  const parts = [];
  const put = (kind, word) => {
    if (parts.at(-1)?.kind === kind) parts.at(-1).words.push(word);
    else parts.push({ kind, words: [word] });
  };
  let [i, j] = [0, 0];
  while (i < one.length || j < other.length) {
    if (i < one.length && j < other.length && key(one[i]) === key(other[j])) {
      put("both", one[i++]);
      j++;
    } else if (j === other.length || (i < one.length && common[i + 1][j] >= common[i][j + 1])) {
      put("full", one[i++]);
    } else {
      put("blended", other[j++]);
    }
  }
  return parts;
}
