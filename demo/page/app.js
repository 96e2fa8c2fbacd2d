// The page: what is chosen on the left and said in the middle is asked twice, and compared on the right.

import { bodies, stream } from "./answer.js";
import { drawChart } from "./chart.js";
import { Context } from "./context.js";
import { drawDifference } from "./difference.js";
import { byId, h, show } from "./dom.js";
import { compared, counted, duration } from "./figures.js";
import { Form } from "./form.js";
import { Listing } from "./listing.js";
import { Pane } from "./pane.js";
import { parting } from "./parting.js";
import { AskError, askJson, search, useKey } from "./server.js";
import { load, loadTimes, save, saveTimes } from "./settings.js";
import { TokenView } from "./tokens.js";

const RETRY_MS = 5000; // while the engine starts

const settings = load();
const panes = { full: new Pane(byId("full")), blended: new Pane(byId("blended")) };
const view = new TokenView();
const context = new Context(() => chosen());
const listing = new Listing(context, (error) => complain(error));
let [config, model, collections, controls] = [null, null, [], null];
let [times, running] = [loadTimes(), null];

start();

async function start() {
  say("Connecting…");
  complain(null);
  try {
    const [said, models, listed] = await Promise.all(
      ["demo/config.json", "v1/models", "v1/collections"].map((path) => askJson(path)),
    );
    [config, model, collections] = [said, models.data[0], listed.data];
    show(byId("key-form"), false);
    await open();
    await preheat();
  } catch (error) {
    say(error.status === 401 ? "Locked" : "Not ready");
    complain(error);
    if (error.isPassing) setTimeout(start, RETRY_MS);
  }
}

/** Show the collection that was last looked at, with what had been chosen of it. */
async function open() {
  if (!collections.length) {
    throw new AskError("This server has no collection: start it with --collection NAME.", 404);
  }
  const collection = collections.find((one) => one.name === settings.collection) ?? collections[0];
  const wanted = collection.name === settings.collection ? settings.chosen : [];
  settings.collection = collection.name;
  context.maxTokens = model.max_model_len ?? null;
  const size = counted(collection.tokens, "token");
  byId("about").textContent = `${model.id} · ${collection.name} · ${size} precomputed`;
  byId("collection").replaceChildren(
    ...collections.map(({ name }) => h("option", { value: name, selected: name === collection.name }, name)),
  );
  show(byId("collection-label"), collections.length > 1);
  controls ??= new Form(settings, config, () => save(settings));
  await listing.open(collection);
  context.set(await listing.find(wanted));
  // They are questions to documents that come with kvblend; other collections have none.
  controls.offer(config.presets.filter(({ source }) => listing.sources.has(source)));
  drawChart(times);
}

/** The first request of each way pays for what is paid once; so it is made before anybody waits for it. */
async function preheat() {
  if (!listing.firstTwo.length) throw new AskError("The collection is empty: add documents to it.");
  say("Preheating the engine…");
  const warm = { ...settings, question: "Ready?", maxTokens: 1, temperature: 0, cold: true };
  const begin = performance.now();
  const { full, blended } = bodies(warm, model.id, listing.firstTwo);
  for (const body of [blended, full]) await stream(body, () => {}, undefined);
  say(`Ready · preheated in ${duration(performance.now() - begin)}`);
  byId("send").disabled = false;
}

function chosen() {
  settings.chosen = context.ids;
  save(settings);
  listing?.collection && listing.draw();
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!running && !byId("send").disabled) both();
});
byId("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("ask").requestSubmit();
});
byId("stop").addEventListener("click", () => running?.abort());
byId("find").addEventListener("click", () => find().catch(complain));
byId("collection").addEventListener("change", (event) => {
  Object.assign(settings, { collection: event.target.value, chosen: [] });
  open().catch(complain);
});
byId("forget").addEventListener("click", () => {
  saveTimes((times = []));
  drawChart(times);
});
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value);
  byId("key").value = "";
  start();
});
new ResizeObserver(() => drawChart(times)).observe(byId("chart"));

/** Chunks for the question take the place of those that were chosen; the best one stands next to it. */
async function find() {
  const question = settings.question.trim();
  if (!question) {
    byId("question").reportValidity();
    return;
  }
  complain(null);
  const asked = { query: question, top_k: settings.topK, order: "best_last" };
  context.set(await search(settings.collection, asked));
}

async function both() {
  running = new AbortController();
  const { signal } = running;
  busy(true);
  complain(null);
  byId("verdict").textContent = byId("parting").textContent = "";
  show(byId("difference"), false);
  view.draw(null);
  try {
    if (!context.ids.length) await find();
    const body = bodies(settings, model.id, context.ids);
    const answers = await inOrder(body, signal);
    if (answers.full && answers.blended) compare(answers.full, answers.blended);
    if (answers.blended) view.draw(answers.blended.blend);
  } catch (error) {
    complain(error);
  } finally {
    running = null;
    busy(false);
  }
}

/** Both requests, in turn or together; what fails is said in its pane, and is not in the result. */
async function inOrder(body, signal) {
  if (settings.sending === "together") {
    const answers = ["full", "blended"].map((name) => one(name, body[name], signal));
    const [full, blended] = await Promise.all(answers);
    return { full, blended };
  }
  panes.blended.clear("Waits for its turn.");
  const full = await one("full", body.full, signal);
  return { full, blended: await one("blended", body.blended, signal) };
}

async function one(name, body, signal) {
  const pane = panes[name];
  pane.begin();
  try {
    const answer = await stream(body, (text) => pane.write(text), signal);
    pane.end(answer);
    pane.scale(answer.ttftMs);
    return answer;
  } catch (error) {
    pane.fail(error.name === "AbortError" ? "Stopped." : error.message);
    if (error.status === 401) complain(error);
    return null;
  }
}

function compare(full, blended) {
  const longest = Math.max(full.ttftMs, blended.ttftMs);
  for (const pane of Object.values(panes)) pane.scale(longest);
  const { fallback } = blended.blend;
  const [before, after] = [duration(full.ttftMs), duration(blended.ttftMs)];
  byId("verdict").textContent = fallback
    ? `kvblend prefilled this prompt too: ${fallback}.`
    : `kvblend’s first token came ${compared(full.ttftMs, blended.ttftMs)}: ${after} against ${before}.`;
  byId("parting").textContent = parting(full.tokens, blended.tokens);
  drawDifference(full.text, blended.text);
  times = [...times, { full: full.ttftMs, blended: blended.ttftMs }];
  saveTimes(times);
  drawChart(times);
}

function busy(isBusy) {
  byId("send").disabled = isBusy;
  show(byId("stop"), isBusy);
}

function say(words) {
  byId("status").textContent = words;
}

/** Say what went wrong, or with null that nothing is wrong any more. */
function complain(error) {
  byId("trouble").textContent = error?.message ?? "";
  const wantsKey = error?.status === 401;
  show(byId("trouble"), Boolean(error) && !wantsKey);
  if (wantsKey) {
    show(byId("key-form"), true);
    byId("key").focus();
  }
}
