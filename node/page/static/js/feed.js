/** The daemon's event log as it grows; newest first, can be held still and searched. */

import { byId, el, replace, setAttribute } from "./element.js";
import { clock } from "./words.js";

/** @typedef {import("./swarm.js").Swarm} Swarm */
/** @typedef {import("./answers.js").LogEntry} LogEntry */

const SHOWN = 200;

/** @param {Swarm} swarm */
export function startFeed(swarm) {
  const pause = byId("feed-pause");
  const search = /** @type {HTMLInputElement} */ (byId("feed-search"));
  let paused = false;
  const repaint = () => paint(swarm, search.value.trim().toLowerCase());
  pause.addEventListener("click", () => {
    paused = !paused;
    setAttribute(pause, "aria-pressed", String(paused));
    repaint();
  });
  search.addEventListener("input", repaint);
  swarm.onChange(["log"], () => {
    if (!paused) {
      repaint();
    }
  });
}

/**
 * @param {Swarm} swarm
 * @param {string} question
 */
function paint(swarm, question) {
  const lines = [...swarm.log.values()].sort((a, b) => b.id - a.id);
  const found = lines.filter((line) =>
    `${line.event} ${line.text}`.toLowerCase().includes(question),
  );
  const shown = found.slice(0, SHOWN);
  const none = el(
    "li",
    {},
    el("span", { class: "soft" }, question ? "No event has these words." : "No event yet."),
  );
  replace(byId("feed-list"), ...(shown.length ? shown.map(item) : [none]));
}

/** @param {LogEntry} line */
function item(line) {
  return el(
    "li",
    {},
    el("time", { datetime: new Date(line.time * 1000).toISOString() }, clock(line.time)),
    el("span", { class: "event" }, line.event),
    el("span", { class: "text" }, line.text),
  );
}
