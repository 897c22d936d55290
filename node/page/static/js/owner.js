/** What an owner of the run may order: who takes part, and alpha; each is asked for twice. */

import { ApiError, tell } from "./api.js";
import { byId, el, setText } from "./element.js";

/** @typedef {import("./swarm.js").Swarm} Swarm */
/** @typedef {import("./answers.js").Peer} Peer */
/** @typedef {import("./answers.js").OrderAnswer} OrderAnswer */

/**
 * A question before an order goes out.
 * @typedef {object} Question
 * @property {string} title
 * @property {string} words what it means
 * @property {string} verb on the button
 * @property {boolean} asksReason
 * @property {(reason: string) => Promise<OrderAnswer>} order
 */

export class Owner {
  /** @param {Swarm} swarm */
  constructor(swarm) {
    this.swarm = swarm;
    this.dialog = /** @type {HTMLDialogElement} */ (byId("confirm"));
    this.reason = /** @type {HTMLInputElement} */ (byId("confirm-reason"));
    this.yes = /** @type {HTMLButtonElement} */ (byId("confirm-yes"));
    /** @type {Question | null} */
    this.question = null;
    byId("confirm-no").addEventListener("click", () => this.dialog.close());
    byId("confirm-form").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.answer();
    });
    this.startAlpha();
  }

  /** Whether this reader's orders are obeyed. */
  get may() {
    return this.swarm.run?.may_order === true && !this.swarm.run.finished;
  }

  /**
   * Return what the peer's page offers; null for whom nobody can remove, and for other readers.
   * @param {Peer} peer
   */
  offer(peer) {
    const removed = peer.state === "removed";
    if (!this.may || peer.self || (peer.owner && !removed)) {
      return null;
    }
    const words = removed ? "Let it in again" : "Remove it from the run";
    const button = el("button", { type: "button", class: removed ? null : "danger" }, words);
    button.addEventListener("click", () => this.ask(removed ? readmission(peer) : removal(peer)));
    return el("p", { class: "dial" }, button);
  }

  /** @param {Question} question */
  ask(question) {
    this.question = question;
    setText(byId("confirm-title"), question.title);
    setText(byId("confirm-words"), question.words);
    setText(byId("confirm-result"), "");
    setText(this.yes, question.verb);
    byId("confirm-why").hidden = !question.asksReason;
    this.reason.value = "";
    this.yes.disabled = false;
    this.dialog.showModal();
  }

  async answer() {
    if (!this.question) {
      return;
    }
    this.yes.disabled = true;
    setText(byId("confirm-result"), "Telling the others…");
    const words = await outcome(this.question.order(this.reason.value.trim()));
    if (words) {
      setText(byId("confirm-result"), words);
      this.yes.disabled = false;
      return;
    }
    this.question = null;
    this.dialog.close();
  }

  startAlpha() {
    const form = /** @type {HTMLFormElement} */ (byId("alpha-form"));
    const value = /** @type {HTMLInputElement} */ (byId("alpha-value"));
    const usual = /** @type {HTMLButtonElement} */ (byId("alpha-usual"));
    this.swarm.onChange(["run"], () => {
      const run = this.swarm.run;
      setText(byId("alpha-words"), run ? alphaWords(run) : "");
      byId("alpha").hidden = !this.may;
      usual.hidden = run?.outer_lr_ordered !== true;
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask(anotherAlpha(value.valueAsNumber));
    });
    usual.addEventListener("click", () => this.ask(anotherAlpha(null)));
  }
}

/**
 * @param {Peer} peer
 * @returns {Question}
 */
function removal(peer) {
  return {
    title: `Remove ${peer.name} from the run?`,
    words:
      "From the next round on it trains nothing, and nobody takes anything of it. What it has " +
      "contributed stays. You can let it in again.",
    verb: "Remove it",
    asksReason: true,
    order: (reason) => tell(`peers/${encodeURIComponent(peer.peer)}/remove`, { reason }),
  };
}

/**
 * @param {Peer} peer
 * @returns {Question}
 */
function readmission(peer) {
  return {
    title: `Let ${peer.name} in again?`,
    words: "It comes back by itself if its daemon runs, and trains from the next round on.",
    verb: "Let it in",
    asksReason: false,
    order: () => tell(`peers/${encodeURIComponent(peer.peer)}/readmit`),
  };
}

/**
 * @param {number | null} value null for that of the run file
 * @returns {Question}
 */
function anotherAlpha(value) {
  return {
    title: "Change the outer learning rate?",
    words:
      value === null
        ? "All peers go back to what the run file says, from the same round on."
        : `All peers use ${value} from the same round on, instead of what the run file says.`,
    verb: "Change it",
    asksReason: false,
    order: () => tell("outer-lr", { value }),
  };
}

/** @param {import("./answers.js").RunHeader} run */
function alphaWords(run) {
  const whose = run.outer_lr_ordered ? "by order of an owner" : "as the run file says";
  const waiting = run.pending_orders
    ? `; ${run.pending_orders} ${run.pending_orders > 1 ? "orders wait" : "order waits"} for a commit`
    : "";
  return `Outer learning rate ${run.outer_lr}, ${whose}${waiting}`;
}

/**
 * Return what went wrong; empty if the order is out.
 * @param {Promise<OrderAnswer>} order
 */
async function outcome(order) {
  try {
    await order;
    return "";
  } catch (error) {
    if (error instanceof ApiError) {
      return error.message;
    }
    throw error;
  }
}
