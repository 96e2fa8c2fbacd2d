// One request, streamed, and what the clock on this side of the wire said.

import { LIKELIEST } from "./parting.js";
import { ask, events } from "./server.js";

/**
 * What a request came to.
 * @typedef {object} Answer
 * @property {string} text
 * @property {number} ttftMs from sending it to the first token.
 * @property {number|null} tokensPerSecond after the first one; null where there were fewer than two.
 * @property {object[]} tokens of the text, with log-probabilities, as OpenAI's API has them.
 * @property {object} usage
 * @property {object} blend the server's own account, see docs/http-api.md.
 */

/**
 * Ask, and hand over text as it comes.
 * @param {object} body of the chat request.
 * @param {(text: string) => void} onText
 * @param {AbortSignal} signal
 * @returns {Promise<Answer>}
 */
export async function stream(body, onText, signal) {
  const begin = performance.now();
  const answer = { text: "", ttftMs: null, tokensPerSecond: null, tokens: [], usage: {}, blend: {} };
  let last = begin;
  for await (const event of events(await ask("v1/chat/completions", { body, signal }))) {
    const choice = event.choices?.[0];
    const text = choice?.delta?.content ?? "";
    if (text || choice?.finish_reason) {
      last = performance.now();
      answer.ttftMs ??= last - begin;
    }
    if (text) {
      answer.text += text;
      onText(text);
    }
    answer.tokens.push(...(choice?.logprobs?.content ?? []));
    if (event.blend) answer.blend = event.blend;
    if (event.usage) answer.usage = event.usage;
  }
  const more = (answer.usage.completion_tokens ?? 0) - 1;
  if (more > 0) answer.tokensPerSecond = (more * 1000) / (last - begin - answer.ttftMs);
  return answer;
}

/**
 * The two requests of one question: the same prompt tokens, blended and prefilled.
 * @param {object} settings see `settings.js`.
 * @param {string[]} chunkIds in the order in which they stand in the prompt.
 */
export function bodies(settings, model, chunkIds) {
  const rag = { collection: settings.collection, chunk_ids: chunkIds };
  const ratio = { set: settings.ratio, auto: "auto" }[settings.ratioMode];
  const common = {
    model,
    messages: [{ role: "user", content: settings.question }],
    max_tokens: settings.maxTokens,
    temperature: settings.temperature,
    seed: 1,
    logprobs: true,
    top_logprobs: LIKELIEST,
    stream: true,
    stream_options: { include_usage: true },
  };
  // A salt of its own keeps a request from finding what an earlier one left in vLLM's pages.
  const salt = () => (settings.cold ? { cache_salt: salted() } : {});
  const blend = { detail: true, ...(settings.selector && { selector: settings.selector }) };
  if (ratio !== undefined) blend.recompute_ratio = ratio;
  return {
    full: { ...common, ...salt(), rag, blend: { enabled: false } },
    blended: { ...common, ...salt(), rag, blend },
  };
}

function salted() {
  const numbers = crypto.getRandomValues(new Uint32Array(4));
  return Array.from(numbers, (number) => number.toString(16).padStart(8, "0")).join("");
}
