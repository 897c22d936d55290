/** The run in one look: tiles, the phase and whom it waits for, the command to join. */

import { byId, setAttribute, setText } from "./element.js";
import { count, duration, loss, percent, plural, shortCount } from "./words.js";

/** @typedef {import("./swarm.js").Swarm} Swarm */
/** @typedef {import("./answers.js").RunHeader} RunHeader */

const SPEAK_EVERY_MS = 8000;
const COPIED_MS = 2000;
const LONG_S = 5;
/** A wait is a part of every round; one of so long deserves a look. */
/** @type {Record<string, string>} */
const PHASES = {
  starting: "The compute process is starting",
  loading: "Taking in the committed state",
  waiting: "The run has not begun",
  observing: "In step; the next commit takes this peer in",
  training: "Inner steps",
  encoding: "Encoding the pseudo-gradient",
  collecting: "Announced; collecting contributions and the commit",
  idle: "Nothing trained in this round; waiting for its commit",
  fetching: "Fetching payloads",
  applying: "Applying the outer update",
  paused: "Paused by its user: trains nothing, but follows and serves",
  done: "All rounds are trained",
  removed: "Kept out of the run by its owner",
};

/** @param {Swarm} swarm */
export function startOverview(swarm) {
  let spokenAt = -Infinity;
  let spoken = "";
  swarm.onChange(["run", "peers"], () => {
    const run = swarm.run;
    if (!run) {
      return;
    }
    paintTiles(run);
    paintPhase(run, swarm);
    paintJoin(run);
    const words = `Round ${run.round}: ${run.phase}${waitingWords(run, swarm)}`;
    // A small run changes phase several times a second: read out only where it comes to rest.
    if (words !== spoken && performance.now() - spokenAt > SPEAK_EVERY_MS) {
      spokenAt = performance.now();
      spoken = words;
      setText(byId("spoken"), words);
    }
  });
  startCopy();
}

/** @param {RunHeader} run */
function paintTiles(run) {
  paintRound(run);
  paintGoodput(run);
  setText(byId("tile-tokens"), shortCount(run.text_tokens));
  setText(byId("tile-tokens-sub"), `committed · ${shortCount(run.params)} parameters`);
  setText(byId("tile-loss"), loss(run.loss));
  setText(byId("tile-loss-sub"), "this peer, newest inner step");
  setText(byId("tile-val-loss"), loss(run.val_loss));
  setText(byId("tile-val-loss-sub"), validationWords(run));
  const eta = run.finished ? "done" : duration(run.eta_s);
  setText(byId("tile-eta"), eta);
  setText(byId("tile-eta-sub"), etaWords(run));
}

/** @param {RunHeader} run */
function paintRound(run) {
  const whole = run.rounds > 0;
  setText(
    byId("tile-round"),
    whole ? `${count(run.round)} of ${count(run.rounds)}` : count(run.round),
  );
  const steps = run.steps > 0 ? `step ${count(run.step)} of ${count(run.steps)}` : "";
  const view = run.view > 0 ? `${plural(run.view, "leader")} passed over` : "";
  setText(
    byId("tile-round-sub"),
    [run.finished ? "finished" : steps, view].filter(Boolean).join(" · "),
  );
  const within = run.steps > 0 ? Math.min(1, run.step / run.steps) : 0;
  const done = run.finished ? run.rounds : Math.max(0, run.round - 1 + within);
  bar("tile-round-bar", whole ? done / run.rounds : within);
}

/** @param {RunHeader} run */
function paintGoodput(run) {
  const goodput = run.goodput;
  setText(byId("tile-goodput"), goodput ? `${count(goodput.text_tokens_per_s)}/s` : "–");
  const share =
    goodput && goodput.ratio !== null
      ? `${percent(goodput.ratio)} of the undisturbed ${count(goodput.undisturbed_per_s)}/s`
      : "text tokens per second";
  setText(byId("tile-goodput-sub"), share);
  bar("tile-goodput-bar", Math.min(1, goodput?.ratio ?? 0));
}

/** @param {RunHeader} run */
function validationWords(run) {
  if (run.val_loss === null) {
    return "not measured yet";
  }
  const start = run.val_loss_start === null ? "" : ` · ${loss(run.val_loss_start)} at the start`;
  return `after round ${count(run.val_loss_round)}${start}`;
}

/** @param {RunHeader} run */
function etaWords(run) {
  if (run.finished) {
    return "all rounds are trained";
  }
  return run.rounds > 0 ? "by the pace of the newest rounds" : "runs until it is stopped";
}

/**
 * @param {RunHeader} run
 * @param {Swarm} swarm
 */
function paintPhase(run, swarm) {
  const chip = byId("phase");
  setText(chip, run.phase);
  const waits = run.waiting_for.length > 0 && run.phase_s >= LONG_S;
  setAttribute(chip, "class", `chip ${run.finished ? "good" : waits ? "warn" : "busy"}`);
  const words = (PHASES[run.phase] ?? "") + waitingWords(run, swarm);
  setText(byId("phase-words"), `${words} · for ${duration(run.phase_s)}${leaderWords(run, swarm)}`);
  const warning = byId("warning");
  setText(warning, run.warning ?? "");
  warning.hidden = !run.warning;
}

/**
 * @param {RunHeader} run
 * @param {Swarm} swarm
 */
function waitingWords(run, swarm) {
  if (run.waiting_for.length === 0) {
    return "";
  }
  const named = run.waiting_for.slice(0, 3).map((name) => swarm.nameOf(name));
  const rest = run.waiting_for.length - named.length;
  return `, waiting for ${named.join(", ")}${rest > 0 ? ` and ${count(rest)} more` : ""}`;
}

/**
 * @param {RunHeader} run
 * @param {Swarm} swarm
 */
function leaderWords(run, swarm) {
  return run.leader && !run.finished ? ` · led by ${swarm.nameOf(run.leader)}` : "";
}

/** @param {RunHeader} run */
function paintJoin(run) {
  byId("join").hidden = run.join_command === null;
  setText(byId("join-command"), run.join_command ?? "");
}

function startCopy() {
  const button = byId("join-copy");
  button.addEventListener("click", async () => {
    const code = byId("join-command");
    try {
      await navigator.clipboard.writeText(code.textContent ?? "");
      setText(button, "Copied");
    } catch {
      window.getSelection()?.selectAllChildren(code); // not allowed: ready for Ctrl+C
      setText(button, "Selected");
    }
    window.setTimeout(() => setText(button, "Copy"), COPIED_MS);
  });
}

/**
 * @param {string} id
 * @param {number} share
 */
function bar(id, share) {
  const progress = /** @type {HTMLProgressElement} */ (byId(id));
  progress.value = Number.isFinite(share) ? share : 0;
}
