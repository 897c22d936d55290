/** Pausing and resuming the answering node, for a reader whom the daemon knows as its user. */

import { ApiError, tell } from "./api.js";
import { byId, setText } from "./element.js";

/** @typedef {import("./swarm.js").Swarm} Swarm */

/** @param {Swarm} swarm */
export function startPause(swarm) {
  const button = /** @type {HTMLButtonElement} */ (byId("pause"));
  const result = byId("pause-result");
  const paused = () => swarm.run?.phase === "paused";
  swarm.onChange(["run"], () => {
    // Only such a reader is shown the command to join.
    button.hidden = !swarm.run || swarm.run.join_command === null || swarm.run.finished;
    setText(button, paused() ? "Resume this node" : "Pause this node");
  });
  button.addEventListener("click", async () => {
    button.disabled = true;
    setText(result, await told(paused() ? "resume" : "pause"));
    button.disabled = false;
  });
}

/** @param {"pause" | "resume"} what */
async function told(what) {
  try {
    await tell(what);
    return "";
  } catch (error) {
    if (error instanceof ApiError) {
      return error.message;
    }
    throw error;
  }
}
