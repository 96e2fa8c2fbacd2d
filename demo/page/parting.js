// Where the two answers part, and how near the tie was under full prefill.

export const LIKELIEST = 5; // alternatives that are asked for at each token

/**
 * One sentence on the first token that differs; "" where a token's log-probabilities are missing.
 * @typedef {{token: string, logprob: number, top_logprobs: {token: string, logprob: number}[]}} Token
 * @param {Token[]} full
 * @param {Token[]} blended
 */
export function parting(full, blended) {
  const length = Math.min(full.length, blended.length);
  let place = 0;
  while (place < length && full[place].token === blended[place].token) place++;
  if (place === length) return length ? "Token for token the same, as far as both go." : "";
  const [own, other] = [full[place], blended[place].token];
  const found = own.top_logprobs?.find(({ token }) => token === other);
  const quoted = `${JSON.stringify(other)} (kvblend) or ${JSON.stringify(own.token)} (full prefill)`;
  return `They part at token ${place + 1}: ${quoted}; full prefill ${weighed(own.logprob, found?.logprob)}.`;
}

function weighed(own, other) {
  if (other === undefined) return `does not count the other among its ${LIKELIEST} likeliest tokens`;
  const nats = Math.abs(own - other).toFixed(2);
  return `finds its own choice ${nats} nats ${own >= other ? "likelier" : "less likely"}`;
}
