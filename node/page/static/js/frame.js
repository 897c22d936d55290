/** What surrounds the panels: title, notice, the state of the link, and which blank is shown. */

import { byId, setAttribute, setText } from "./element.js";
import { clock, loss, shortName } from "./words.js";

/** @typedef {import("./swarm.js").Swarm} Swarm */

const OLD_S = 10;

/**
 * @param {Swarm} swarm
 * @param {() => void} retry
 */
export function startFrame(swarm, retry) {
  byId("retry").addEventListener("click", retry);
  swarm.onChange(["run", "link"], () => paint(swarm));
  window.setInterval(() => paintNotice(swarm), 1000);
}

/** @param {Swarm} swarm */
function paint(swarm) {
  const { answer, run } = swarm;
  setAttribute(document.body, "data-link", swarm.link.state);
  setAttribute(
    document.body,
    "data-state",
    answer === null ? "connecting" : run ? "run" : "no-run",
  );
  byId("connecting").hidden = answer !== null;
  byId("no-run").hidden = answer === null || run !== null;
  byId("panels").hidden = run === null;
  setText(byId("run-name"), run ? run.name : "skerry");
  setText(byId("run-id"), run ? `run ${run.run_id.slice(0, 8)}` : "");
  document.title = titleOf(swarm);
  paintServed(swarm);
  paintNotice(swarm);
}

/** @param {Swarm} swarm */
function titleOf(swarm) {
  const run = swarm.run;
  if (!run) {
    return "skerry";
  }
  const stale = swarm.link.state === "stale" ? "(stale) " : "";
  const value = run.val_loss ?? run.loss;
  return `${stale}round ${run.round}${value === null ? "" : ` · ${loss(value)}`} · ${run.name} · skerry`;
}

/** @param {Swarm} swarm */
function paintServed(swarm) {
  const { answer, run } = swarm;
  if (!answer) {
    return;
  }
  const node = answer.node;
  const seen = `Seen from peer ${node.name} (skerry ${node.version}), as of ${clock(answer.as_of)}`;
  setText(byId("served"), seen);
  setText(byId("no-run-node"), `${seen}.`);
  const digest = run?.state_digest;
  setText(
    byId("digest"),
    digest ? `State after round ${run.digest_round}: ${digest.slice(0, 16)}…` : "",
  );
  setText(byId("graph-from"), `as ${shortName(answer.served_from)} sees it`);
  setText(byId("waterfall-from"), `as ${shortName(answer.served_from)} spent them`);
}

/** @param {Swarm} swarm */
function paintNotice(swarm) {
  const { state, fresh, problem, retryAt } = swarm.link;
  const now = Date.now() / 1000;
  const old = state === "live" && fresh !== null && now - fresh > OLD_S;
  setText(byId("link-words"), linkWords(state, fresh, old));
  const notice = byId("notice");
  notice.hidden = state !== "stale";
  if (state === "stale" && problem) {
    setText(
      byId("notice-title"),
      fresh === null ? `${problem.title}.` : `Stale since ${clock(fresh)}.`,
    );
    const cause = fresh === null ? problem.detail : `${problem.title}. ${problem.detail}`;
    const again =
      retryAt !== null && retryAt > now ? "It is tried again by itself." : "Trying again…";
    setText(byId("notice-text"), `${cause} ${again}`);
  }
}

/**
 * @param {string} state
 * @param {number | null} fresh
 * @param {boolean} old
 */
function linkWords(state, fresh, old) {
  if (state === "connecting" || fresh === null) {
    return state === "stale" ? "No answer" : "Connecting";
  }
  return state === "stale" || old ? `Stale since ${clock(fresh)}` : "Live";
}
