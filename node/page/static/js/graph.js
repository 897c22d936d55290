/** The swarm as a drawing: peers, links and rates as the answering peer sees them. */

import { byId, el, replace, setProperty, setText, svg } from "./element.js";
import { layoutOf } from "./layout.js";
import { plural, size } from "./words.js";

/** @typedef {import("./swarm.js").Swarm} Swarm */
/** @typedef {import("./answers.js").Peer} Peer */
/** @typedef {import("./layout.js").Place} Place */
/** @typedef {import("./layout.js").Layout} Layout */

const MAX_DRAWN = 36;
/** More peers than this are cells of a grid instead. */
const MAX_LABELLED = 12;
const HEIGHT = 296;
/** @type {Record<string, string>} */
const GLYPHS = { alive: "", suspect: "?", dead: "×", left: "–", joining: "+", removed: "/" };
const STATES = ["alive", "suspect", "dead", "left", "joining", "removed"];

export class SwarmGraph {
  /**
   * @param {Swarm} swarm
   * @param {(peer: string) => void} open shows a peer
   */
  constructor(swarm, open) {
    this.swarm = swarm;
    this.open = open;
    this.box = byId("graph-drawing");
    new ResizeObserver(() => this.paint()).observe(this.box);
    swarm.onChange(["peers", "plan", "selection"], () => this.paint());
    paintLegend();
  }

  paint() {
    const peers = this.swarm.peers;
    setText(byId("graph-words"), wordsOf(peers));
    if (peers.length > MAX_DRAWN) {
      replace(this.box, el("div", { class: "cells" }, ...peers.map((peer) => this.cell(peer))));
    } else {
      replace(this.box, this.drawing(peers));
    }
  }

  /** @param {Peer[]} peers */
  drawing(peers) {
    const width = Math.max(240, this.box.clientWidth);
    const layout = layoutOf(peers, this.swarm.plan?.replicas ?? [], width, HEIGHT);
    const self = peers.find((peer) => peer.self);
    const from = self && layout.places.get(self.peer);
    const wires = from
      ? peers.filter((peer) => !peer.self).map((peer) => wire(peer, from, layout))
      : [];
    return svg(
      "svg",
      { viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" },
      ...layout.rings.map(ringOf),
      ...wires,
      ...peers.map((peer) => this.spot(peer, layout)),
    );
  }

  /**
   * @param {Peer} peer
   * @param {Layout} layout
   */
  spot(peer, layout) {
    const { x, y } = layout.places.get(peer.peer) ?? { x: 0, y: 0 };
    const r = layout.radius;
    const chosen = this.swarm.selected === peer.peer;
    const inRing = layout.ringed.has(peer.peer);
    const crowded = layout.places.size > MAX_LABELLED;
    const group = svg(
      "g",
      { class: `spot ${peer.state}${peer.self ? " self" : ""}`, transform: `translate(${x} ${y})` },
      svg("title", {}, titleOf(peer)),
      chosen && svg("circle", { class: "chosen", r: r + 5 }),
      peer.leader && svg("circle", { class: "crown", r: r + 3 }),
      svg("circle", { class: `body${peer.phase === "training" ? " trains" : ""}`, r }),
      svg("text", { class: "glyph", y: 4 }, peer.self ? "●" : GLYPHS[peer.state]),
      svg("text", { y: r + 13 }, peer.name),
      !crowded && !inRing && svg("text", { class: "under", y: r + 25 }, underOf(peer)),
    );
    group.addEventListener("click", () => this.open(peer.peer));
    return group;
  }

  /** @param {Peer} peer */
  cell(peer) {
    const chosen = this.swarm.selected === peer.peer ? " chosen" : "";
    const kind = `${peer.state} ${peer.link}${peer.self ? " self" : ""}${chosen}`;
    const cell = el(
      "span",
      { class: `cell ${kind}`, title: titleOf(peer) },
      peer.self ? "●" : GLYPHS[peer.state],
    );
    cell.addEventListener("click", () => this.open(peer.peer));
    return cell;
  }
}

/**
 * The more bytes a link carries, the wider it is.
 * @param {Peer} peer
 * @param {Place} from
 * @param {Layout} layout
 */
function wire(peer, from, layout) {
  const to = layout.places.get(peer.peer) ?? from;
  const down = ["dead", "left", "removed"].includes(peer.state);
  const traffic = (peer.up_bytes_per_s ?? 0) + (peer.down_bytes_per_s ?? 0);
  return svg("path", {
    class: `wire ${down ? "down" : peer.link}`,
    d: `M${from.x} ${from.y}L${to.x} ${to.y}`,
    "stroke-width": (1.25 + Math.min(3, Math.log10(1 + traffic / 1000))).toFixed(2),
  });
}

/** @param {Place[]} corners */
function ringOf(corners) {
  const d = corners.map(({ x, y }, number) => `${number ? "L" : "M"}${x} ${y}`).join("");
  return svg("path", { class: "wire hop", d: `${d}Z` });
}

/** @param {Peer} peer */
function underOf(peer) {
  if (peer.self) {
    return "this peer";
  }
  if (peer.state !== "alive") {
    return peer.state;
  }
  const [up, down] = [peer.up_bytes_per_s, peer.down_bytes_per_s];
  return up === null && down === null ? (peer.phase ?? "") : `↑${size(up)} ↓${size(down)}`;
}

/** @param {Peer} peer */
function titleOf(peer) {
  const link = peer.self ? "this peer" : `${peer.link} link`;
  return [peer.name, peer.state, link, peer.phase].filter(Boolean).join(", ");
}

/** @param {Peer[]} peers */
function wordsOf(peers) {
  const counted = STATES.map((state) => [
    peers.filter((peer) => peer.state === state).length,
    state,
  ]).filter(([number]) => number);
  const relayed = peers.filter((peer) => peer.link === "relayed").length;
  const states = counted.map(([number, state]) => `${number} ${state}`).join(", ");
  return `${plural(peers.length, "peer")}: ${states}${relayed ? `; ${relayed} over a relay` : ""}.`;
}

function paintLegend() {
  /** @type {[string, string][]} */
  const links = [
    ["--compute", "direct"],
    ["--announce", "relayed"],
    ["--other", "not known"],
    ["--bad", "dead"],
    ["--apply", "ring"],
  ];
  const items = links.map(([name, words]) => {
    const swatch = el("span", { class: "swatch", "aria-hidden": "true" });
    setProperty(swatch, "--swatch", `var(${name})`);
    return el("li", {}, swatch, words);
  });
  replace(
    byId("graph-legend"),
    ...items,
    el("li", {}, "? suspect"),
    el("li", {}, "× dead"),
    el("li", {}, "+ joining"),
    el("li", {}, "/ removed"),
    el("li", {}, "↑ ↓ per second, to and from it"),
  );
}
