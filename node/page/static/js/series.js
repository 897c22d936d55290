/** The rounds as columns of numbers for the loss chart. Pure: no document, no clock. */

/** @typedef {import("./answers.js").Round} Round */
/** @typedef {import("./answers.js").Contribution} Contribution */
/** @typedef {"rounds" | "time"} Axis */

/**
 * @typedef {object} Losses
 * @property {number[]} x round numbers, or unix seconds at which the round's update was applied
 * @property {number[]} rounds round number of each column
 * @property {Map<string, (number | null)[]>} training losses of each peer
 * @property {(number | null)[]} mean weighted by text tokens
 * @property {(number | null)[]} lowest
 * @property {(number | null)[]} highest
 * @property {(number | null)[]} validation
 */

/**
 * Return the losses of the rounds that have a place on the axis.
 * @param {Round[]} rounds oldest first
 * @param {Axis} axis
 * @returns {Losses}
 */
export function lossesOf(rounds, axis) {
  const shown = rounds.filter((round) => hasLoss(round) && placeOf(round, axis) !== null);
  const peers = new Set(
    shown.flatMap((round) => round.contributions.filter(isTrained).map((part) => part.peer)),
  );
  /** @type {Map<string, (number | null)[]>} */
  const training = new Map([...peers].sort().map((peer) => [peer, []]));
  for (const round of shown) {
    const byPeer = new Map(round.contributions.map((part) => [part.peer, part.loss]));
    for (const [peer, values] of training) {
      values.push(byPeer.get(peer) ?? null);
    }
  }
  const losses = shown.map((round) =>
    round.contributions.filter(isTrained).map((part) => part.loss ?? 0),
  );
  return {
    x: shown.map((round) => placeOf(round, axis) ?? 0),
    rounds: shown.map((round) => round.round),
    training,
    mean: shown.map((round) => round.loss),
    lowest: losses.map((values) => (values.length ? Math.min(...values) : null)),
    highest: losses.map((values) => (values.length ? Math.max(...values) : null)),
    validation: shown.map((round) => round.val_loss),
  };
}

/**
 * Return the newest value that is known.
 * @param {(number | null)[]} values
 */
export function newest(values) {
  return values.findLast((value) => value !== null) ?? null;
}

/** @param {Round} round */
function hasLoss(round) {
  return round.loss !== null || round.val_loss !== null || round.contributions.some(isTrained);
}

/** @param {Contribution} part */
function isTrained(part) {
  return part.loss !== null;
}

/**
 * @param {Round} round
 * @param {Axis} axis
 * @returns {number | null}
 */
function placeOf(round, axis) {
  if (axis === "rounds") {
    return round.round;
  }
  return round.started_at === null ? null : round.started_at + (round.duration_s ?? 0);
}
