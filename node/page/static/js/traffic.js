/** Bytes by kind, beside what a dense exchange of the same rounds would have cost. */

import { byId, el, replace, setProperty, setText } from "./element.js";
import { count, size } from "./words.js";

/** @typedef {import("./swarm.js").Swarm} Swarm */
/** @typedef {import("./answers.js").Bytes} Bytes */

/** @type {Record<string, string>} */
const KINDS = {
  payload: "pseudo-gradients",
  state: "parameters",
  control: "messages",
  shadow: "stage copies",
  ring: "activations and gradients",
};
const ALWAYS = ["payload", "state", "control"];

/** @param {Swarm} swarm */
export function startTraffic(swarm) {
  swarm.onChange(["run"], () => {
    const run = swarm.run;
    if (run) {
      paint(run.bytes);
      const refused = Object.entries(run.refused).map(
        ([reason, number]) => `${reason} ${count(number)}`,
      );
      setText(byId("traffic-refused"), refused.length ? `Refused: ${refused.join(", ")}` : "");
    }
  });
}

/** @param {Bytes} bytes */
function paint(bytes) {
  const kinds = [
    ...new Set([...ALWAYS, ...Object.keys(bytes.sent), ...Object.keys(bytes.received)]),
  ];
  const most = Math.max(
    bytes.dense,
    ...Object.values(bytes.sent),
    ...Object.values(bytes.received),
    1,
  );
  const known = bytes.ratio !== null;
  setText(byId("traffic-ratio"), known ? `${count(bytes.ratio)}×` : "–");
  setText(byId("traffic-words"), known ? "less than a dense exchange" : "nothing sent yet");
  const heads = ["Kind", "Sent", "Received"].map((name, n) =>
    el("th", { scope: "col", class: n ? "number" : null }, name),
  );
  const rows = kinds.flatMap((kind) =>
    row(KINDS[kind] ?? kind, kind, bytes.sent[kind] ?? 0, bytes.received[kind] ?? 0, most),
  );
  replace(
    byId("traffic-table"),
    el("caption", { class: "spoken" }, "Bytes that this peer exchanged since its daemon started"),
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        ...heads,
        el("th", { scope: "col" }, el("span", { class: "spoken" }, "Sent, drawn to scale")),
      ),
    ),
    el("tbody", {}, ...rows, row("dense instead", "dense", bytes.dense, null, most)),
  );
}

/**
 * @param {string} words
 * @param {string} kind
 * @param {number} sent
 * @param {number | null} received
 * @param {number} most
 */
function row(words, kind, sent, received, most) {
  const gauge = el("span", { class: `gauge ${kind}`, "aria-hidden": "true" });
  setProperty(gauge, "--share", ((100 * sent) / most).toFixed(3));
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, words),
    el("td", { class: "number" }, size(sent)),
    el("td", { class: "number" }, size(received)),
    el("td", { class: "bar-cell" }, gauge),
  );
}
