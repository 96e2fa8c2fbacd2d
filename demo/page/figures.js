// Numbers as people read them.

const whole = new Intl.NumberFormat("en");

/** 1812 -> "1,812" */
export const count = (number) => whole.format(number);

/** 4, "chunk" -> "4 chunks" */
export const counted = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** Milliseconds -> "840 ms", "1.84 s" */
export function duration(ms) {
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  return ms < 999.5 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 99950 ? 2 : 0)} s`;
}

/** 0.153 -> "15 %" */
export const percent = (share) => `${Math.round(share * 100)} %`;

/** How many times sooner, or later, the second came than the first. */
export function compared(full, blended) {
  const sooner = full >= blended;
  const times = sooner ? full / blended : blended / full;
  if (times < 1.05) return "at the same time";
  return `${times.toFixed(times < 10 ? 2 : 1)} times ${sooner ? "sooner" : "later"}`;
}
