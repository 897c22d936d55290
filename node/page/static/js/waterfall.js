/** The newest rounds, one row each: where the time went and who was waited for. */

import { byId, el, replace, setProperty } from "./element.js";
import { count, duration } from "./words.js";

/** @typedef {import("./swarm.js").Swarm} Swarm */
/** @typedef {import("./answers.js").Round} Round */

const SHOWN = 10;
const MAX_MARKS = 24;
/** More announcements than this are drawn thinner. */
/** @type {Record<string, string>} what a phase of the round is spent on */
const KINDS = {
  training: "compute",
  encoding: "compute",
  collecting: "announce",
  fetching: "fetch",
  applying: "apply",
};
/** @type {[string, string][]} */
const LEGEND = [
  ["compute", "compute"],
  ["announce", "announce and collect"],
  ["fetch", "fetch"],
  ["apply", "apply"],
  ["other", "other"],
];

/**
 * @param {Swarm} swarm
 * @param {(round: number) => void} open shows a round
 */
export function startWaterfall(swarm, open) {
  paintLegend();
  swarm.onChange(["rounds", "peers"], () => paint(swarm, open));
}

/**
 * @param {Swarm} swarm
 * @param {(round: number) => void} open
 */
function paint(swarm, open) {
  const rounds = swarm.roundList
    .filter((round) => round.spans.length > 0)
    .slice(-SHOWN)
    .reverse();
  byId("waterfall-empty").hidden = rounds.length > 0;
  const longest = Math.max(...rounds.map(lengthOf), 0.001);
  const head = el(
    "tr",
    {},
    el("th", { scope: "col", class: "col-round" }, "Round"),
    el("th", { scope: "col" }, `0 to ${duration(longest)}`),
    el("th", { scope: "col", class: "col-time number" }, "Took"),
    el("th", { scope: "col", class: "col-waited" }, "Waited for"),
  );
  const caption = el(
    "caption",
    { class: "spoken" },
    "Newest rounds first: compute, announce, fetch, apply, and who was waited for",
  );
  const focused = focusedRound();
  replace(
    byId("waterfall-table"),
    caption,
    el("thead", {}, head),
    el("tbody", {}, ...rounds.map((round) => row(round, longest, swarm, open))),
  );
  buttonOf(focused)?.focus();
  byId("waterfall-table").hidden = rounds.length === 0;
}

/**
 * @param {Round} round
 * @param {number} longest seconds
 * @param {Swarm} swarm
 * @param {(round: number) => void} open
 */
function row(round, longest, swarm, open) {
  const number = round.round;
  const button = el(
    "button",
    {
      type: "button",
      class: "plain",
      "data-round": number,
      "aria-label": `Round ${number} in detail`,
    },
    count(number),
  );
  button.addEventListener("click", () => open(number));
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, button),
    el("td", {}, lane(round, longest, swarm), el("span", { class: "spoken" }, spanWords(round))),
    el(
      "td",
      { class: "number" },
      round.duration_s === null ? "running" : duration(round.duration_s),
    ),
    el("td", { class: "waited" }, waitedWords(round, swarm)),
  );
}

/**
 * @param {Round} round
 * @param {number} longest
 * @param {Swarm} swarm
 */
function lane(round, longest, swarm) {
  const bars = round.spans.map((span) => {
    const bar = el("span", {
      class: `bar ${KINDS[span.name] ?? "other"}`,
      title: `${span.name} ${duration(span.duration_s)}`,
    });
    setProperty(bar, "--from", ((100 * span.start_s) / longest).toFixed(3));
    setProperty(bar, "--share", ((100 * span.duration_s) / longest).toFixed(3));
    return bar;
  });
  const marks = round.contributions
    .filter((part) => part.announced_s !== null && part.announced_s <= longest)
    .map((part) => {
      const title = `${swarm.nameOf(part.peer)} announced after ${duration(part.announced_s)}${part.late ? ", late" : ""}`;
      const mark = el("span", { class: `mark-at${part.late ? " late" : ""}`, title });
      setProperty(mark, "--from", ((100 * (part.announced_s ?? 0)) / longest).toFixed(3));
      return mark;
    });
  const crowded = marks.length > MAX_MARKS ? " crowded" : "";
  return el("span", { class: `lane${crowded}`, "aria-hidden": "true" }, ...bars, ...marks);
}

/**
 * Return how long the answering peer was at it.
 * @param {Round} round
 */
function lengthOf(round) {
  const ends = round.spans.map((span) => span.start_s + span.duration_s);
  return Math.max(round.duration_s ?? 0, ...ends);
}

/** @param {Round} round */
export function spanWords(round) {
  /** @type {Map<string, number>} */
  const sums = new Map();
  for (const span of round.spans) {
    sums.set(span.name, (sums.get(span.name) ?? 0) + span.duration_s);
  }
  return [...sums].map(([name, seconds]) => `${name} ${duration(seconds)}`).join(", ");
}

/**
 * @param {Round} round
 * @param {Swarm} swarm
 */
function waitedWords(round, swarm) {
  const [longest] = round.waited;
  const late = round.contributions.filter((part) => part.late);
  const parts = [];
  if (longest) {
    parts.push(`${swarm.nameOf(longest.peer)} ${duration(longest.duration_s)}`);
  }
  if (late.length) {
    const names = late.slice(0, 2).map((part) => swarm.nameOf(part.peer));
    parts.push(
      `without ${names.join(", ")}${late.length > 2 ? ` and ${count(late.length - 2)} more` : ""}`,
    );
  }
  return parts.join("; ") || "nobody";
}

/** The round whose button has the focus, which painting must not take away. */
function focusedRound() {
  const focused = document.activeElement;
  return focused instanceof HTMLElement && focused.closest("#waterfall-table")
    ? focused.dataset.round
    : undefined;
}

/** @param {string | undefined} round */
function buttonOf(round) {
  const buttons = byId("waterfall-table").querySelectorAll("button");
  return [...buttons].find((button) => button.dataset.round === round);
}

function paintLegend() {
  const items = LEGEND.map(([kind, words]) => {
    const swatch = el("span", { class: "swatch box", "aria-hidden": "true" });
    setProperty(swatch, "--swatch", `var(--${kind})`);
    return el("li", {}, swatch, words);
  });
  replace(byId("waterfall-legend"), ...items, el("li", {}, "| an announcement came in"));
}
