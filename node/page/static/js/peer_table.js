/** One row per peer; sortable, searchable, and rewritten only where something changed. */

import { byId, el, replace, setAttribute, setText } from "./element.js";
import { COLUMNS, matches, sorted } from "./peer_columns.js";
import { count } from "./words.js";

/** @typedef {import("./swarm.js").Swarm} Swarm */
/** @typedef {import("./answers.js").Peer} Peer */

/** @type {Record<string, string>} */
const LOOKS = { alive: "good", suspect: "warn", dead: "bad", left: "", joining: "busy", removed: "" };

/**
 * A peer's row and the elements in it that change.
 * @typedef {object} Row
 * @property {HTMLTableRowElement} row
 * @property {HTMLElement} tags
 * @property {Map<string, HTMLElement>} texts by column
 */

export class PeerTable {
  /**
   * @param {Swarm} swarm
   * @param {(peer: string) => void} open shows a peer
   */
  constructor(swarm, open) {
    this.swarm = swarm;
    this.open = open;
    this.by = COLUMNS[0];
    this.descending = false;
    /** @type {Map<string, Row>} */
    this.rows = new Map();
    this.body = el("tbody");
    this.search = /** @type {HTMLInputElement} */ (byId("peers-search"));
    this.search.addEventListener("input", () => this.paint());
    this.heads = COLUMNS.map((column) => this.head(column));
    const caption = el(
      "caption",
      { class: "spoken" },
      "Peers of the run; the column heads sort the table",
    );
    replace(byId("peers-table"), caption, el("thead", {}, el("tr", {}, ...this.heads)), this.body);
    swarm.onChange(["peers", "plan", "selection"], () => this.paint());
  }

  /** @param {import("./peer_columns.js").Column} column */
  head(column) {
    const arrow = el("span", { class: "arrow", "aria-hidden": "true" });
    const button = el("button", { type: "button" }, column.words, arrow);
    button.addEventListener("click", () => {
      this.descending = this.by === column ? !this.descending : column.number;
      this.by = column;
      this.paint();
    });
    return el("th", { scope: "col", class: column.number ? "number" : null }, button);
  }

  paint() {
    const question = this.search.value.trim();
    const found = this.swarm.peers.filter((peer) => matches(peer, question));
    const all = this.swarm.peers.length;
    setText(
      byId("peers-words"),
      found.length === all ? count(all) : `${count(found.length)} of ${count(all)}`,
    );
    this.paintHeads();
    const wanted = sorted(found, this.by, this.descending);
    const kept = new Set(wanted.map((peer) => peer.peer));
    for (const [peer, { row }] of this.rows) {
      if (!kept.has(peer)) {
        row.remove();
        this.rows.delete(peer);
      }
    }
    this.place(wanted.map((peer) => this.rowOf(peer)));
  }

  paintHeads() {
    COLUMNS.forEach((column, number) => {
      const here = column === this.by;
      setAttribute(
        this.heads[number],
        "aria-sort",
        here ? (this.descending ? "descending" : "ascending") : null,
      );
      const arrow = this.heads[number].querySelector(".arrow");
      if (arrow) {
        setText(arrow, here ? (this.descending ? "▼" : "▲") : "");
      }
    });
  }

  /**
   * Put the rows in order, moving only those that stand elsewhere and never the focused one's focus.
   * @param {HTMLTableRowElement[]} rows
   */
  place(rows) {
    const focused = document.activeElement;
    let next = this.body.firstElementChild;
    for (const row of rows) {
      if (row === next) {
        next = next.nextElementSibling;
      } else {
        this.body.insertBefore(row, next);
      }
    }
    if (
      focused instanceof HTMLElement &&
      focused !== document.activeElement &&
      this.body.contains(focused)
    ) {
      focused.focus({ preventScroll: true });
    }
  }

  /** @param {Peer} peer */
  rowOf(peer) {
    const known = this.rows.get(peer.peer) ?? this.newRow(peer);
    setAttribute(known.row, "class", this.swarm.selected === peer.peer ? "chosen" : null);
    const numBlocks = this.swarm.plan?.num_blocks ?? 0;
    for (const column of COLUMNS) {
      const element = known.texts.get(column.key);
      if (element) {
        setText(element, column.text(peer, numBlocks));
      }
    }
    const state = known.texts.get("state");
    if (state) {
      setAttribute(state, "class", `chip ${LOOKS[peer.state]}`);
      setAttribute(state, "title", peer.evidence.at(-1) ?? null);
    }
    paintTags(known.tags, peer);
    return known.row;
  }

  /**
   * @param {Peer} peer
   * @returns {Row}
   */
  newRow(peer) {
    /** @type {Map<string, HTMLElement>} */
    const texts = new Map();
    const button = el("button", { type: "button", class: "plain" });
    button.addEventListener("click", () => this.open(peer.peer));
    const tags = el("span");
    texts.set("name", button);
    const cells = COLUMNS.slice(1).map((column) => {
      const text = el("span");
      texts.set(column.key, text);
      return el("td", { class: column.number ? "number" : null }, text);
    });
    const row = el(
      "tr",
      { "data-peer": peer.peer },
      el("th", { scope: "row" }, button, tags),
      ...cells,
    );
    const known = { row, tags, texts };
    this.rows.set(peer.peer, known);
    return known;
  }
}

/**
 * @param {HTMLElement} element
 * @param {Peer} peer
 */
function paintTags(element, peer) {
  const tags = [
    peer.self && "this peer",
    peer.leader && "leader",
    peer.owner && "owner",
    peer.standby && "standby",
  ].filter(Boolean);
  if (element.dataset.tags !== tags.join()) {
    element.dataset.tags = tags.join();
    replace(element, ...tags.map((tag) => el("span", { class: "tag" }, tag)));
  }
}
