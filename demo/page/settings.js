// What a reload keeps: the settings and the chosen chunks' ids, and for this tab the session's times.

const KEY = "kvblend.settings";
const TIMES = "kvblend.times";
const MAX_TIMES = 60;

/** What somebody gets who has set nothing; `ratio` and the like come from the server where it says. */
export const DEFAULTS = {
  collection: "",
  chosen: [],
  question: "",
  topK: 4,
  ratioMode: "set",
  ratio: 0.15,
  selector: "",
  temperature: 0,
  maxTokens: 96,
  sending: "turn",
  cold: true,
  shade: false,
};

/** The settings as they were left; what is of another type than the default's is forgotten. */
export function load() {
  const kept = read(localStorage, KEY) ?? {};
  const kind = (value) => (Array.isArray(value) ? "array" : typeof value);
  const usable = Object.entries(kept).filter(([name, value]) => kind(value) === kind(DEFAULTS[name]));
  return { ...structuredClone(DEFAULTS), ...Object.fromEntries(usable) };
}

/** Keep them. */
export function save(settings) {
  write(localStorage, KEY, settings);
}

/** Times to first token of this tab: `{full, blended}` each, in milliseconds, the oldest first. */
export function loadTimes() {
  const times = read(sessionStorage, TIMES);
  return Array.isArray(times) ? times.filter((one) => one?.full > 0 && one?.blended > 0) : [];
}

/** Keep the last ones. */
export function saveTimes(times) {
  write(sessionStorage, TIMES, times.slice(-MAX_TIMES));
}

function read(storage, key) {
  try {
    return JSON.parse(storage.getItem(key));
  } catch {
    return null; // somebody else's, or storage is switched off: as if nothing had been kept
  }
}

function write(storage, key, value) {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch {
    // Full or switched off: the page works, and forgets.
  }
}
