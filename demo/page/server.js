// All that the page asks of the server. What goes wrong is an `AskError` whose message can be shown.

const BASE = new URL("../", document.baseURI);
const UNREACHABLE = 0;
const KEY = "kvblend.key";

export class AskError extends Error {
  /** @param {number|null} status null: there was no answer, or nothing was asked. */
  constructor(message, status = null) {
    super(message);
    this.status = status;
  }

  /** Whether it may be otherwise in a few seconds. */
  get isPassing() {
    return this.status === 503 || this.status === UNREACHABLE;
  }
}

/** Keep a key for this tab. */
export function useKey(key) {
  sessionStorage.setItem(KEY, key.trim());
}

/**
 * Ask for something.
 * @param {string} path below the server's root.
 * @param {{body?: object, signal?: AbortSignal}} options with a body it is a POST.
 * @returns {Promise<Response>} of a good status.
 */
export async function ask(path, { body, signal } = {}) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  const init = { headers, signal, method: body ? "POST" : "GET", body: body && JSON.stringify(body) };
  let response;
  try {
    response = await fetch(new URL(path, BASE), init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const words = "The server cannot be reached. See whether it still runs, then try again.";
    throw new AskError(words, UNREACHABLE);
  }
  if (!response.ok) throw await failure(response);
  return response;
}

/** The same, read as JSON. */
export const askJson = async (path, options) => (await ask(path, options)).json();

/** A page of a collection's chunks. */
export function chunkPage(collection, after) {
  const query = new URLSearchParams({ limit: 100, ...(after && { after }) });
  return askJson(`v1/collections/${encodeURIComponent(collection)}/chunks?${query}`);
}

/** Chunks that suit a query, in the shape of listed ones. */
export async function search(collection, body, signal) {
  const path = `v1/collections/${encodeURIComponent(collection)}/search`;
  const { data } = await askJson(path, { body, signal });
  return data.map((hit) => ({ ...hit, id: hit.chunk_id }));
}

async function failure(response) {
  const said = await response.json().catch(() => null);
  const message = said?.error?.message ?? said?.error ?? `It answered ${response.status}.`;
  if (response.status === 401) return new AskError("The server wants an API key, or refused this one.", 401);
  if (response.status === 503) return new AskError(`The server is not ready: ${message}`, 503);
  return new AskError(`The server refused: ${message}`, response.status);
}

/**
 * The data of a stream of server-sent events, as JSON, to its end.
 * @param {Response} response
 */
export async function* events(response) {
  let rest = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await lost(reader.read());
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const data = JSON.parse(line.slice("data: ".length));
      if (data.error) throw new AskError(`The server gave up: ${data.error.message ?? data.error}`, 500);
      yield data;
    }
  }
}

async function lost(read) {
  try {
    return await read;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new AskError("The connection broke off in the middle of the answer.");
  }
}
