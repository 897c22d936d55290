/** Failures and recoveries: a strip over the time of the run, and the same in words. */

import { byId, el, replace, setProperty, setText } from "./element.js";
import { clock, count, duration, moment, plural } from "./words.js";

/** @typedef {import("./swarm.js").Swarm} Swarm */
/** @typedef {import("./answers.js").TimelineEntry} TimelineEntry */

const SHOWN = 100;
/** @type {Record<string, [string, string]>} glyph and class of a severity */
const LOOKS = {
  info: ["·", "soft"],
  warning: ["!", "warn"],
  error: ["×", "bad"],
  recovered: ["✓", "good"],
};

/** @param {Swarm} swarm */
export function startTimeline(swarm) {
  const all = /** @type {HTMLInputElement} */ (byId("timeline-all"));
  const repaint = () => paint(swarm, all.checked);
  all.addEventListener("change", repaint);
  swarm.onChange(["timeline", "run"], repaint);
}

/**
 * @param {Swarm} swarm
 * @param {boolean} all
 */
function paint(swarm, all) {
  const entries = [...swarm.timeline.values()].sort((a, b) => a.id - b.id);
  const shown = all ? entries : entries.filter((entry) => entry.severity !== "info");
  setText(byId("timeline-words"), wordsOf(entries));
  paintStrip(swarm, shown);
  const newest = shown.slice(-SHOWN).reverse();
  const list = newest.map((entry) => item(entry, swarm));
  const none = el("li", {}, el("span"), el("span", { class: "soft" }, "Nothing has failed."));
  const key = newest
    .map((entry) => `${entry.id}${entry.text}${entry.recovery_s}${entry.severity}`)
    .join();
  const target = byId("timeline-list");
  if (target.dataset.key !== key || !target.childElementCount) {
    target.dataset.key = key;
    replace(target, ...(list.length ? list : [none]));
  }
}

/** @param {TimelineEntry[]} entries */
function wordsOf(entries) {
  const recovered = entries.filter((entry) => entry.severity === "recovered").length;
  const open = entries.filter((entry) => entry.severity === "error").length;
  if (entries.length === 0) {
    return "Nothing has happened yet.";
  }
  const since = `since ${moment(entries[0].time)}`;
  return `${plural(recovered, "failure")} recovered, ${count(open)} open, ${since}.`;
}

/**
 * @param {Swarm} swarm
 * @param {TimelineEntry[]} entries
 */
function paintStrip(swarm, entries) {
  const end = swarm.answer?.as_of ?? 0;
  const begin = Math.min(swarm.run?.started_at ?? end, ...entries.map((entry) => entry.time));
  const length = Math.max(1, end - begin);
  const marks = entries.map((entry) => {
    const title = `${clock(entry.time)} ${entry.text}`;
    const mark = el("span", { class: `moment ${entry.severity}`, title });
    setProperty(mark, "--from", Math.min(99.5, (100 * (entry.time - begin)) / length).toFixed(3));
    setProperty(mark, "--share", ((100 * (entry.recovery_s ?? 0)) / length).toFixed(3));
    return mark;
  });
  replace(byId("timeline-strip"), ...marks);
}

/**
 * @param {TimelineEntry} entry
 * @param {Swarm} swarm
 */
function item(entry, swarm) {
  const [glyph, look] = LOOKS[entry.severity] ?? LOOKS.info;
  const aside = [
    entry.peer === null ? null : swarm.nameOf(entry.peer),
    entry.round === null ? null : `round ${count(entry.round)}`,
    entry.recovery_s === null ? null : `over after ${duration(entry.recovery_s)}`,
  ];
  return el(
    "li",
    {},
    el("span", { class: `glyph ${look}`, "aria-hidden": "true" }, glyph),
    el(
      "span",
      { class: "what" },
      el("span", { class: "spoken" }, `${entry.severity}: `),
      entry.text,
    ),
    el("time", { datetime: new Date(entry.time * 1000).toISOString() }, clock(entry.time)),
    el("span", { class: "aside" }, aside.filter(Boolean).join(" · ")),
  );
}
