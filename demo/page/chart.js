// Times to first token of the session: a dot for each answer, a line for each way.

import { byId, h, show, svg } from "./dom.js";
import { duration } from "./figures.js";

const HEIGHT = 190;
const EDGE = { top: 14, right: 88, bottom: 26, left: 56 };
const WAYS = [
  ["full", "full prefill"],
  ["blended", "kvblend"],
];

/** @param {{full: number, blended: number}[]} times in milliseconds, the oldest first. */
export function drawChart(times) {
  const place = byId("chart");
  show(byId("session"), times.length > 0);
  if (!times.length) return;
  const width = Math.max(280, place.clientWidth);
  const ticks = ticksTo(Math.max(...times.flatMap((one) => [one.full, one.blended])));
  const top = ticks.at(-1);
  const x = (index) => EDGE.left + ((width - EDGE.left - EDGE.right) * (index + 0.5)) / times.length;
  const y = (ms) => HEIGHT - EDGE.bottom - ((HEIGHT - EDGE.top - EDGE.bottom) * ms) / top;
  const words = { role: "img", "aria-labelledby": "session-title" };
  const picture = svg("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, ...words });
  picture.append(...ticks.map((ms) => grid(ms, width, y)), ...numbers(times.length, x));
  const ends = spread(WAYS.map(([way]) => y(times.at(-1)[way])));
  WAYS.forEach(([way, name], number) => picture.append(line(times, way, name, x, y, ends[number])));
  place.replaceChildren(picture, table(times));
}

function grid(ms, width, y) {
  return svg(
    "g",
    { class: "grid" },
    svg("line", { x1: EDGE.left, x2: width - EDGE.right, y1: y(ms), y2: y(ms) }),
    svg("text", { x: EDGE.left - 8, y: y(ms) + 4, "text-anchor": "end" }, ms ? duration(ms) : "0"),
  );
}

function numbers(length, x) {
  const every = Math.ceil(length / 12);
  const shown = Array.from({ length }, (_, index) => index).filter((index) => index % every === 0);
  return shown.map((index) =>
    svg("text", { class: "number", x: x(index), y: HEIGHT - 8, "text-anchor": "middle" }, String(index + 1)),
  );
}

function line(times, way, name, x, y, end) {
  const points = times.map((one, index) => `${x(index)},${y(one[way])}`).join(" ");
  const dots = times.map((one, index) => {
    const words = `${name}, question ${index + 1}: ${duration(one[way])}`;
    return svg("circle", { cx: x(index), cy: y(one[way]), r: 3.5 }, svg("title", {}, words));
  });
  const label = svg("text", { x: x(times.length - 1) + 10, y: end + 4 }, name);
  return svg("g", { class: `way ${way}` }, svg("polyline", { points }), ...dots, label);
}

/** Labels that would lie on each other are moved apart. */
function spread([one, other]) {
  const lacking = 14 - Math.abs(one - other);
  if (lacking <= 0) return [one, other];
  return one <= other ? [one - lacking / 2, other + lacking / 2] : [one + lacking / 2, other - lacking / 2];
}

/** Round numbers from 0 to at least `most`. */
function ticksTo(most) {
  const rough = most / 4;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((times) => times * unit).find((one) => one >= rough);
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, index) => index * step);
}

/** The same for those who cannot see it. */
function table(times) {
  const rows = times.map((one, index) =>
    h("tr", {}, h("th", {}, String(index + 1)), ...WAYS.map(([way]) => h("td", {}, duration(one[way])))),
  );
  const head = h("tr", {}, ...["question", "full prefill", "kvblend"].map((name) => h("th", {}, name)));
  return h("table", { className: "unseen" }, h("tbody", {}, head, ...rows));
}
