/** Training loss of each replica and validation loss, over rounds or over wall time. */

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { byId, el, replace, setAttribute, setProperty, setText } from "./element.js";
import { NUM_COLOURS, Palette } from "./palette.js";
import { lossesOf, newest } from "./series.js";
import { colour } from "./theme.js";
import { clock, count, loss, plural } from "./words.js";

/** @typedef {import("./swarm.js").Swarm} Swarm */
/** @typedef {import("./series.js").Losses} Losses */
/** @typedef {import("./series.js").Axis} Axis */

/**
 * A line of the chart.
 * @typedef {object} Line
 * @property {string} key peer id, or what else it shows
 * @property {string} words
 * @property {string} colour name in style.css
 * @property {number} width
 * @property {number[]} [dash]
 * @property {boolean} [points]
 * @property {string | null} peer whom a click on its legend brings out
 * @property {(number | null)[]} values
 */

const HEIGHT = 296;
const FONT = "11px system-ui, sans-serif";
const TABLE_ROUNDS = 30;
const FAINT = 0.3;

export class LossChart {
  /** @param {Swarm} swarm */
  constructor(swarm) {
    this.swarm = swarm;
    this.palette = new Palette();
    /** @type {Axis} */
    this.axis = "rounds";
    /** @type {uPlot | null} */
    this.plot = null;
    this.shape = "";
    this.box = byId("loss-chart");
    /** @type {Line[]} */
    this.lines = [];
    /** @type {HTMLElement[]} */
    this.readouts = [];
    this.losses = lossesOf([], this.axis);
    this.table = /** @type {HTMLTableElement} */ (byId("loss-table"));
    this.table.closest("details")?.addEventListener("toggle", () => this.paintTable());
    new ResizeObserver(() => this.resize()).observe(this.box);
    for (const button of byId("loss-axis").querySelectorAll("button")) {
      button.addEventListener("click", () => this.show(/** @type {Axis} */ (button.dataset.axis)));
    }
    swarm.onChange(["rounds", "selection", "theme"], () => this.paint());
  }

  /** @param {Axis} axis */
  show(axis) {
    this.axis = axis;
    for (const button of byId("loss-axis").querySelectorAll("button")) {
      setAttribute(button, "aria-pressed", String(button.dataset.axis === axis));
    }
    this.paint();
  }

  paint() {
    const losses = lossesOf(this.swarm.roundList, this.axis);
    setText(byId("loss-words"), this.words(losses));
    this.losses = losses;
    this.paintTable();
    if (losses.x.length === 0) {
      this.plot?.destroy();
      this.plot = null;
      this.shape = "";
      replace(this.box, el("p", { class: "empty" }, "No round is finished yet."));
      replace(byId("loss-legend"));
      return;
    }
    this.lines = this.linesOf(losses);
    this.draw(losses);
  }

  /**
   * @param {Losses} losses
   * @returns {Line[]}
   */
  linesOf(losses) {
    const lines =
      losses.training.size > NUM_COLOURS ? this.bandLines(losses) : this.peerLines(losses);
    lines.push({
      key: "validation",
      words: "validation",
      colour: "--ink",
      width: 2.25,
      points: true,
      peer: null,
      values: losses.validation,
    });
    const entropy = this.swarm.run?.unigram_entropy ?? null;
    if (entropy !== null) {
      lines.push({
        key: "unigram",
        words: "unigram entropy",
        colour: "--soft",
        width: 1,
        dash: [4, 4],
        peer: null,
        values: losses.x.map(() => entropy),
      });
    }
    return lines;
  }

  /** @param {Losses} losses */
  peerLines(losses) {
    return [...losses.training].map(([peer, values]) => this.peerLine(peer, values, 1.5));
  }

  /**
   * Many replicas as a band from the lowest to the highest loss, with their mean; and the chosen one.
   * @param {Losses} losses
   */
  bandLines(losses) {
    const edge = { colour: "--compute", width: 0.75, peer: null };
    /** @type {Line[]} */
    const lines = [
      { ...edge, key: "highest", words: "highest", values: losses.highest },
      { ...edge, key: "lowest", words: "lowest", values: losses.lowest },
      {
        key: "mean",
        words: `mean of ${count(losses.training.size)} replicas`,
        colour: "--accent",
        width: 2,
        peer: null,
        values: losses.mean,
      },
    ];
    const chosen = this.swarm.selected && losses.training.get(this.swarm.selected);
    if (this.swarm.selected && chosen) {
      lines.push(this.peerLine(this.swarm.selected, chosen, 1.75, "--series-1"));
    }
    return lines;
  }

  /**
   * @param {string} peer
   * @param {(number | null)[]} values
   * @param {number} width
   * @param {string} [name] of its colour
   * @returns {Line}
   */
  peerLine(peer, values, width, name = this.palette.nameOf(peer)) {
    return { key: peer, words: this.swarm.nameOf(peer), colour: name, width, peer, values };
  }

  /** @param {Losses} losses */
  draw(losses) {
    const shape = [
      this.axis,
      colour("--ink"),
      this.swarm.selected,
      ...this.lines.map((line) => line.key),
    ].join();
    /** @type {uPlot.AlignedData} */
    const data = [losses.x, ...this.lines.map((line) => line.values)];
    if (this.plot && this.shape === shape) {
      this.plot.setData(data);
      this.readOut(null);
      return;
    }
    this.shape = shape;
    this.plot?.destroy();
    this.paintLegend();
    replace(this.box);
    this.plot = new uPlot(this.options(), data, this.box);
    this.readOut(null);
  }

  /** @returns {uPlot.Options} */
  options() {
    const many = this.lines[0]?.key === "highest";
    return {
      width: Math.max(200, this.box.clientWidth),
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: { x: { time: false }, y: { range: rangeOf } },
      axes: [
        axisOf((values) => this.ticks(values), 32),
        axisOf((values) => values.map((value) => value.toFixed(2)), 46),
      ],
      bands: many ? [{ series: [1, 2], fill: transparent(colour("--compute"), 0.16) }] : [],
      series: [{}, ...this.lines.map((line) => this.seriesOf(line))],
      hooks: { setCursor: [(plot) => this.readOut(plot.cursor.idx ?? null)] },
    };
  }

  /**
   * @param {Line} line
   * @returns {uPlot.Series}
   */
  seriesOf(line) {
    const chosen = this.swarm.selected;
    const faint = chosen !== null && line.peer !== null && line.peer !== chosen;
    const stroke = colour(line.colour);
    return {
      label: line.words,
      stroke: faint ? transparent(stroke, FAINT) : stroke,
      width: line.peer !== null && line.peer === chosen ? line.width + 1 : line.width,
      dash: line.dash,
      spanGaps: line.key === "validation",
      points: line.points ? { size: 5, fill: stroke, show: true } : { show: false },
    };
  }

  /** @param {number[]} values */
  ticks(values) {
    if (this.axis === "time") {
      return values.map((value) => clock(value));
    }
    return values.map((value) => (Number.isInteger(value) ? count(value) : ""));
  }

  paintLegend() {
    this.readouts = [];
    const items = this.lines.map((line) => {
      const swatch = el("span", { class: "swatch", "aria-hidden": "true" });
      setProperty(swatch, "--swatch", `var(${line.colour})`);
      const value = el("b");
      this.readouts.push(value);
      return el(
        "li",
        {},
        line.peer === null ? swatch : this.legendButton(line, swatch),
        line.peer === null && line.words,
        value,
      );
    });
    replace(byId("loss-legend"), ...items);
  }

  /**
   * @param {Line} line
   * @param {HTMLElement} swatch
   */
  legendButton(line, swatch) {
    const chosen = this.swarm.selected === line.peer;
    const button = el(
      "button",
      { type: "button", "aria-pressed": String(chosen) },
      swatch,
      line.words,
    );
    button.addEventListener("click", () => this.swarm.select(chosen ? null : line.peer));
    return button;
  }

  /**
   * Show the losses of a column in the legend; the newest ones without a column.
   * @param {number | null} column
   */
  readOut(column) {
    this.lines.forEach((line, number) => {
      const value = column === null ? newest(line.values) : line.values[column];
      setText(this.readouts[number], loss(value));
    });
  }

  /** @param {Losses} losses */
  words(losses) {
    if (losses.x.length === 0) {
      return "";
    }
    const first = losses.rounds[0];
    const last = losses.rounds[losses.rounds.length - 1];
    const start = losses.mean.find((value) => value !== null);
    const parts = [
      `Rounds ${count(first)} to ${count(last)}, ${plural(losses.training.size, "replica")}`,
      `mean training loss ${loss(start)} → ${loss(newest(losses.mean))}`,
    ];
    const validated = losses.validation.filter((value) => value !== null);
    if (validated.length) {
      parts.push(`validation ${loss(validated[0])} → ${loss(newest(losses.validation))}`);
    }
    const hidden = this.axis === "time" ? this.swarm.rounds.size - losses.x.length : 0;
    if (hidden > 0) {
      parts.push(`${plural(hidden, "round")} without a time left out`);
    }
    return `${parts.join("; ")}. Nats per text token.`;
  }

  /** The same numbers to read; only while somebody has opened them. */
  paintTable() {
    if (this.table.closest("details")?.open) {
      fillTable(this.table, this.losses, this.swarm);
    }
  }

  resize() {
    if (this.plot && this.box.clientWidth > 0 && this.plot.width !== this.box.clientWidth) {
      this.plot.setSize({ width: this.box.clientWidth, height: HEIGHT });
    }
  }
}

/**
 * Leave a little room, so that the curve does not touch the frame.
 * @param {uPlot} _plot
 * @param {number | null} low
 * @param {number | null} high
 * @returns {[number, number]}
 */
function rangeOf(_plot, low, high) {
  if (low === null || high === null) {
    return [0, 1];
  }
  const room = Math.max(0.02, (high - low) * 0.08);
  return [low - room, high + room];
}

/**
 * @param {(values: number[]) => string[]} words
 * @param {number} size pixels across the axis
 * @returns {uPlot.Axis}
 */
function axisOf(words, size) {
  return {
    stroke: colour("--soft"),
    font: FONT,
    size,
    grid: { stroke: colour("--grid"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1, size: 4 },
    values: (_plot, values) => words(values),
  };
}

/**
 * @param {string} rgb such as "rgb(1, 2, 3)"
 * @param {number} alpha
 */
function transparent(rgb, alpha) {
  return rgb.replace("rgb(", "rgba(").replace(")", `, ${alpha})`);
}

/**
 * @param {HTMLTableElement} table
 * @param {Losses} losses
 * @param {Swarm} swarm
 */
function fillTable(table, losses, swarm) {
  const peers = [...losses.training.keys()].slice(0, NUM_COLOURS);
  const heads = ["Round", ...peers.map((peer) => swarm.nameOf(peer)), "Mean", "Validation"];
  const first = Math.max(0, losses.x.length - TABLE_ROUNDS);
  const rows = losses.rounds.slice(first).map((round, offset) => {
    const column = first + offset;
    const values = [
      ...peers.map((peer) => losses.training.get(peer)?.[column]),
      losses.mean[column],
      losses.validation[column],
    ];
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, count(round)),
      ...values.map((value) => el("td", { class: "number" }, loss(value))),
    );
  });
  replace(
    table,
    el("caption", {}, `Newest ${count(rows.length)} rounds, newest first; nats per text token`),
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        ...heads.map((head, n) => el("th", { scope: "col", class: n ? "number" : null }, head)),
      ),
    ),
    el("tbody", {}, ...rows.reverse()),
  );
}
