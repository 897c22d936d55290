/** The columns of the peers' table: what each shows and by what it is sorted. Pure. */

import { NOTHING, ago, count, hostOf, loss, rate, shardWords } from "./words.js";

/** @typedef {import("./answers.js").Peer} Peer */

/**
 * @typedef {object} Column
 * @property {string} key
 * @property {string} words
 * @property {boolean} number right-aligned, and the largest first at the first click
 * @property {(peer: Peer, numBlocks: number) => string} text
 * @property {(peer: Peer) => string | number | null} order null goes last
 */

const STATE_ORDER = ["dead", "suspect", "joining", "alive", "removed", "left"];

/** @type {Column[]} */
export const COLUMNS = [
  column(
    "name",
    "Peer",
    (peer) => peer.name,
    (peer) => `${peer.self ? 0 : 1}${peer.name}`,
  ),
  column(
    "state",
    "State",
    (peer) => peer.state,
    (peer) => STATE_ORDER.indexOf(peer.state),
  ),
  column("role", "Role", (peer) => peer.role),
  column(
    "shards",
    "Blocks",
    (peer, numBlocks) => shardWords(peer.shards, numBlocks),
    (peer) => peer.shards.length,
  ),
  column("phase", "Phase", phaseWords, (peer) => peer.phase),
  number("round", "Round", roundWords, (peer) => peer.head_round),
  number(
    "rate",
    "Text tokens/s",
    (peer) => count(peer.text_tokens_per_s),
    (peer) => peer.text_tokens_per_s,
  ),
  number(
    "loss",
    "Loss",
    (peer) => loss(peer.loss),
    (peer) => peer.loss,
  ),
  number(
    "up",
    "Up",
    (peer) => rate(peer.up_bytes_per_s),
    (peer) => peer.up_bytes_per_s,
  ),
  number(
    "down",
    "Down",
    (peer) => rate(peer.down_bytes_per_s),
    (peer) => peer.down_bytes_per_s,
  ),
  number("trip", "Round trip", tripWords, (peer) => peer.round_trip_ms),
  column(
    "link",
    "Link",
    (peer) => (peer.self ? NOTHING : peer.link),
    (peer) => peer.link,
  ),
  column("host", "Host", (peer) => hostOf(peer.addresses)),
  column("version", "Version", (peer) => peer.version ?? NOTHING),
  number(
    "reputation",
    "Reputation",
    (peer) => peer.reputation?.toFixed(2) ?? NOTHING,
    (peer) => peer.reputation,
  ),
  number(
    "seen",
    "Last seen",
    (peer) => (peer.self ? NOTHING : ago(peer.last_seen_s)),
    (peer) => peer.last_seen_s,
  ),
];

/**
 * Return the peers in the order of a column.
 * @param {Peer[]} peers
 * @param {Column} by
 * @param {boolean} descending
 */
export function sorted(peers, by, descending) {
  const sign = descending ? -1 : 1;
  return [...peers].sort((a, b) => {
    const [left, right] = [by.order(a), by.order(b)];
    if (left === null || right === null) {
      return Number(left === null) - Number(right === null);
    }
    return sign * (left < right ? -1 : left > right ? 1 : 0) || (a.peer < b.peer ? -1 : 1);
  });
}

/**
 * Whether every word of the question is found in what the table says of a peer.
 * @param {Peer} peer
 * @param {string} question
 */
export function matches(peer, question) {
  const tags = [
    peer.leader && "leader",
    peer.owner && "owner",
    peer.standby && "standby",
    peer.self && "this peer",
  ];
  const text = [peer.peer, peer.agent, ...tags, ...COLUMNS.map((one) => one.text(peer, 0))]
    .join(" ")
    .toLowerCase();
  return question
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}

/**
 * @param {string} key
 * @param {string} words
 * @param {Column["text"]} text
 * @param {Column["order"]} [order]
 * @returns {Column}
 */
function column(key, words, text, order = (peer) => text(peer, 0)) {
  return { key, words, number: false, text, order };
}

/**
 * @param {string} key
 * @param {string} words
 * @param {Column["text"]} text
 * @param {Column["order"]} order
 * @returns {Column}
 */
function number(key, words, text, order) {
  return { key, words, number: true, text, order };
}

/** @param {Peer} peer */
function phaseWords(peer) {
  if (peer.phase === null) {
    return NOTHING;
  }
  return peer.phase === "training" && peer.steps
    ? `training ${peer.step ?? 0}/${peer.steps}`
    : peer.phase;
}

/** @param {Peer} peer */
function roundWords(peer) {
  const behind = peer.behind !== null && peer.behind > 0 ? ` (−${count(peer.behind)})` : "";
  return `${count(peer.head_round)}${behind}`;
}

/** @param {Peer} peer */
function tripWords(peer) {
  const trip = peer.round_trip_ms;
  return trip === null ? NOTHING : `${trip < 10 ? trip.toFixed(1) : count(trip)} ms`;
}
