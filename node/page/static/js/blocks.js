/** Which peers host which blocks: a row per replica, a column per shard, and how many hold each. */

import { byId, el, replace, setText } from "./element.js";
import { count, plural, shortCount } from "./words.js";

/** @typedef {import("./swarm.js").Swarm} Swarm */
/** @typedef {import("./answers.js").PlanAnswer} PlanAnswer */
/** @typedef {import("./answers.js").ReplicaPlan} ReplicaPlan */

const MAX_ROWS = 8;
/** More full replicas than this share one row. */
const MAX_HEADS = 24;

/** @param {Swarm} swarm */
export function startBlocks(swarm) {
  swarm.onChange(["plan", "peers"], () => paint(swarm));
}

/** @param {Swarm} swarm */
function paint(swarm) {
  const plan = swarm.plan;
  const table = byId("blocks-table");
  if (!plan || plan.replicas.length === 0) {
    replace(table);
    delete table.dataset.key;
    setText(byId("blocks-words"), "Nobody hosts a block before the run begins.");
    return;
  }
  const alive = new Set(
    swarm.peers
      .filter((peer) => peer.state === "alive" || peer.state === "suspect")
      .map((peer) => peer.peer),
  );
  const key = JSON.stringify([plan.shards, plan.replicas, [...alive], swarm.peers.length]);
  if (table.dataset.key === key) {
    return;
  }
  table.dataset.key = key;
  const whole = plan.replicas.filter((replica) => replica.stages.length === 1);
  const rings = plan.replicas.filter((replica) => replica.stages.length > 1);
  const total = plan.shards.reduce((sum, shard) => sum + shard.params, 0);
  const words = `${plural(whole.length, "full replica")}, ${plural(rings.length, "ring")}; ${shortCount(total)} parameters in ${plural(plan.shards.length, "shard")}`;
  setText(byId("blocks-words"), words);
  const rows = rings.map((ring) => ringRow(ring, plan, swarm, alive));
  const full =
    whole.length > MAX_ROWS
      ? [sharedRow(whole, plan, alive)]
      : whole.map((one) => fullRow(one, plan, swarm, alive));
  const caption = el(
    "caption",
    { class: "spoken" },
    "Shards by replica, and how many living peers host each",
  );
  replace(table, caption, head(plan), el("tbody", {}, hostsRow(plan, alive), ...rows, ...full));
}

/** @param {PlanAnswer} plan */
function head(plan) {
  const every = Math.ceil(plan.shards.length / MAX_HEADS);
  const heads = plan.shards.map((shard, number) => {
    const name = shard.shard.replace("block.", "");
    const hidden = shard.shard.startsWith("block.") && number % every !== 0;
    const title = `${shard.shard}: ${shortCount(shard.params)} parameters`;
    return el("th", { scope: "col", title }, hidden ? el("span", { class: "spoken" }, name) : name);
  });
  return el(
    "thead",
    {},
    el("tr", {}, el("th", { scope: "col", class: "row-name" }, "Replica"), ...heads),
  );
}

/**
 * @param {PlanAnswer} plan
 * @param {Set<string>} alive
 */
function hostsRow(plan, alive) {
  const cells = plan.shards.map((shard) => {
    const hosts = shard.hosts.filter((host) => alive.has(host)).length;
    const look = hosts === 0 ? "none" : hosts === 1 ? "few" : "hosts";
    return el(
      "td",
      { class: look, title: `${shard.shard}: ${plural(hosts, "living host")}` },
      count(hosts),
    );
  });
  return el("tr", {}, el("th", { scope: "row", class: "row-name" }, "living hosts"), ...cells);
}

/**
 * @param {ReplicaPlan} replica
 * @param {PlanAnswer} plan
 * @param {Swarm} swarm
 * @param {Set<string>} alive
 */
function ringRow(replica, plan, swarm, alive) {
  /** @type {HTMLElement[]} */
  const cells = [];
  let column = 0;
  while (column < plan.shards.length) {
    const stage = replica.stages.find((one) => one.shards.includes(plan.shards[column].shard));
    let span = 1;
    while (
      column + span < plan.shards.length &&
      sameStage(replica, stage, plan.shards[column + span].shard)
    ) {
      span += 1;
    }
    cells.push(
      stage
        ? hosted(swarm.nameOf(stage.peer), span, alive.has(stage.peer))
        : el("td", { colspan: span }),
    );
    column += span;
  }
  return row(replica.name, ...cells);
}

/**
 * A peer that holds the whole model.
 * @param {ReplicaPlan} replica
 * @param {PlanAnswer} plan
 * @param {Swarm} swarm
 * @param {Set<string>} alive
 */
function fullRow(replica, plan, swarm, alive) {
  const peer = replica.stages[0].peer;
  return row(swarm.nameOf(peer), hosted("full replica", plan.shards.length, alive.has(peer)));
}

/**
 * @param {string} name
 * @param {...HTMLElement} cells
 */
function row(name, ...cells) {
  return el("tr", {}, el("th", { scope: "row", class: "row-name" }, name), ...cells);
}

/**
 * @param {ReplicaPlan} replica
 * @param {import("./answers.js").StagePlan | undefined} stage
 * @param {string} shard
 */
function sameStage(replica, stage, shard) {
  return replica.stages.find((one) => one.shards.includes(shard)) === stage;
}

/**
 * @param {string} words
 * @param {number} span columns
 * @param {boolean} up
 */
function hosted(words, span, up) {
  const text = el("span", {}, up ? words : `${words} (down)`);
  return el("td", { class: up ? "hosted" : "hosted down", colspan: span }, text);
}

/**
 * @param {ReplicaPlan[]} replicas
 * @param {PlanAnswer} plan
 * @param {Set<string>} alive
 */
function sharedRow(replicas, plan, alive) {
  const up = replicas.filter((replica) => alive.has(replica.stages[0].peer)).length;
  const words = `${count(up)} of ${plural(replicas.length, "peer")} up`;
  return row("full replicas", hosted(words, plan.shards.length, up > 0));
}
