/** One peer or one round, closely, in a dialog. */

import { ApiError, ask } from "./api.js";
import { byId, el, replace, setText } from "./element.js";
import { NOTHING, ago, clock, count, duration, loss, rate, shardWords, size } from "./words.js";
import { spanWords } from "./waterfall.js";

/** @typedef {import("./owner.js").Owner} Owner */
/** @typedef {import("./swarm.js").Swarm} Swarm */
/** @typedef {import("./answers.js").Peer} Peer */
/** @typedef {import("./answers.js").Round} Round */
/** @typedef {import("./answers.js").Contribution} Contribution */

const DIAL_MS = 30000;

export class Detail {
  /**
   * @param {Swarm} swarm
   * @param {Owner} owner offers what an owner may order
   */
  constructor(swarm, owner) {
    this.swarm = swarm;
    this.owner = owner;
    this.dialog = /** @type {HTMLDialogElement} */ (byId("detail"));
    byId("detail-close").addEventListener("click", () => this.dialog.close());
  }

  /**
   * Show a peer, and have the charts bring it out.
   * @param {string} id
   */
  showPeer(id) {
    const peer = this.swarm.peers.find((one) => one.peer === id);
    if (!peer) {
      return;
    }
    this.swarm.select(id);
    this.show(
      `Peer ${peer.name}`,
      peerFacts(peer, this.swarm.plan?.num_blocks ?? 0),
      peer.self ? null : dial(peer),
      this.owner.offer(peer),
    );
  }

  /** @param {number} number */
  showRound(number) {
    const round = this.swarm.rounds.get(number);
    if (round) {
      this.show(
        `Round ${count(number)}`,
        roundFacts(round, this.swarm),
        contributionTable(round, this.swarm),
      );
    }
  }

  /**
   * @param {string} title
   * @param {...(HTMLElement | null)} parts
   */
  show(title, ...parts) {
    setText(byId("detail-title"), title);
    replace(byId("detail-body"), ...parts);
    this.dialog.showModal();
  }
}

/**
 * @param {Peer} peer
 * @param {number} numBlocks
 */
function peerFacts(peer, numBlocks) {
  const exchanged = `${size(peer.sent_bytes)} to it, ${size(peer.received_bytes)} from it`;
  const rates = `${rate(peer.up_bytes_per_s)} to it, ${rate(peer.down_bytes_per_s)} from it`;
  return facts([
    ["Peer id", peer.peer],
    ["State", `${peer.state}, ${peer.role}${peer.in_roster ? ", in the roster" : ""}`],
    ...removedFact(peer),
    ...evidenceFact(peer),
    ["Last seen", peer.self ? "this peer" : ago(peer.last_seen_s)],
    ["Software", peer.agent ?? NOTHING],
    ["Blocks", shardWords(peer.shards, numBlocks)],
    ["Phase", peer.phase ?? NOTHING],
    ["Newest round", count(peer.head_round)],
    ["Text tokens/s", count(peer.text_tokens_per_s)],
    ["Loss", loss(peer.loss)],
    ["Link", peer.link],
    ["Rates", rates],
    ["Exchanged", exchanged],
    ["Refused", count(peer.refused)],
    ["Addresses", peer.addresses.join("\n") || NOTHING],
  ]);
}

/**
 * @param {Peer} peer
 * @returns {[string, string][]}
 */
function removedFact(peer) {
  return peer.removed_reason === null
    ? []
    : [["Removed", peer.removed_reason || "no reason given"]];
}

/**
 * @param {Peer} peer
 * @returns {[string, string][]}
 */
function evidenceFact(peer) {
  return peer.evidence.length ? [["Against it", peer.evidence.join("\n")]] : [];
}

/** @param {Peer} peer */
function dial(peer) {
  const button = el("button", { type: "button" }, "Dial it now");
  const result = el("span", { role: "status" });
  button.addEventListener("click", async () => {
    button.disabled = true;
    setText(result, "Dialling…");
    setText(result, await dialled(peer));
    button.disabled = false;
  });
  return el("p", { class: "dial" }, button, result);
}

/** @param {Peer} peer */
async function dialled(peer) {
  try {
    const answer = await ask(`reachable/${encodeURIComponent(peer.peer)}`, DIAL_MS);
    if (answer.reachable) {
      return `Reached in ${count(answer.took_ms)} ms, ${answer.link} link.`;
    }
    return `Not reached: ${[answer.code, answer.detail].filter(Boolean).join(" ")}`;
  } catch (error) {
    if (error instanceof ApiError) {
      return `${error.problem.title}. ${error.problem.detail}`;
    }
    throw error;
  }
}

/**
 * @param {Round} round
 * @param {Swarm} swarm
 */
function roundFacts(round, swarm) {
  const waited = round.waited.map((one) => `${swarm.nameOf(one.peer)} ${duration(one.duration_s)}`);
  const ratio =
    round.payload_bytes && round.dense_bytes
      ? `, ${count(round.dense_bytes / round.payload_bytes)} times less than dense`
      : "";
  return facts([
    ["Began", round.started_at === null ? "before this peer took part" : clock(round.started_at)],
    ["Took", round.duration_s === null ? NOTHING : duration(round.duration_s)],
    [
      "Led by",
      round.leader === null
        ? NOTHING
        : `${swarm.nameOf(round.leader)}${round.view ? `, view ${count(round.view)}` : ""}`,
    ],
    ["Time went to", spanWords(round) || NOTHING],
    ["Waited for", waited.join(", ") || "nobody"],
    ["Text tokens", `${count(round.text_tokens)}, ${count(round.total_text_tokens)} in all`],
    ["Loss", `${loss(round.loss)} training, ${loss(round.val_loss)} validation`],
    ["Payloads", `${size(round.payload_bytes)}${ratio}`],
    ["Commit", round.commit ?? NOTHING],
    ["State after it", round.digest ?? NOTHING],
  ]);
}

/**
 * @param {Round} round
 * @param {Swarm} swarm
 */
function contributionTable(round, swarm) {
  const heads = ["Peer", "Announced", "Checked", "Outcome", "Text tokens", "Loss", "Payload"];
  const rows = round.contributions.map((part) => {
    const cells = [
      duration(part.announced_s),
      duration(part.checked_s),
      outcome(part),
      count(part.text_tokens),
      loss(part.loss),
      size(part.bytes),
    ];
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, swarm.nameOf(part.peer)),
      ...cells.map((text) => el("td", {}, text)),
    );
  });
  const table = el(
    "table",
    {},
    el("caption", {}, "Contributions; times since the round's start"),
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...rows),
  );
  return el(
    "div",
    { class: "scroll", role: "region", tabindex: "0", "aria-label": "Contributions" },
    table,
  );
}

/** @param {Contribution} part */
function outcome(part) {
  if (part.refused !== null) {
    return `refused: ${part.refused}`;
  }
  if (part.included === null) {
    return "open";
  }
  return part.included ? "included" : part.late ? "late" : "left out";
}

/** @param {[string, string][]} pairs */
function facts(pairs) {
  return el(
    "dl",
    { class: "facts" },
    ...pairs.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]),
  );
}
