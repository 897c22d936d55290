/** Asking the daemon that served this page; nothing is ever asked of anyone else. */

/** @typedef {import("./answers.js").Problem} Problem */

const BASE = "api/v1/";
const PATIENCE_MS = 8000;

/** An answer that is not the one hoped for; status 0 if there was none at all. */
export class ApiError extends Error {
  /** @param {Problem} problem */
  constructor(problem) {
    super(`${problem.title}: ${problem.detail}`);
    this.problem = problem;
  }
}

/**
 * Return the answer of a path below /api/v1.
 * @param {string} path
 * @param {number} [patienceMs]
 * @param {"GET" | "POST"} [method]
 * @param {object} [body] sent as JSON
 * @returns {Promise<any>} as described in answers.js
 * @throws {ApiError}
 */
export async function ask(path, patienceMs = PATIENCE_MS, method = "GET", body = undefined) {
  let response;
  try {
    response = await fetch(BASE + path, {
      method,
      headers: {
        Accept: "application/json",
        ...(body && { "Content-Type": "application/json" }),
      },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(patienceMs),
      cache: "no-store",
    });
  } catch {
    throw new ApiError(silent());
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok || answer === null) {
    throw new ApiError(answer?.title ? answer : unreadable(response.status));
  }
  return answer;
}

/**
 * Tell the daemon to do something; it must know the reader as its user.
 * @param {string} path
 * @param {object} [body] how
 * @returns {Promise<any>}
 * @throws {ApiError}
 */
export function tell(path, body = undefined) {
  return ask(path, PATIENCE_MS, "POST", body);
}

/**
 * Open the event stream, from behind the log line ``after`` on.
 * @param {number | null} after
 */
export function openEvents(after) {
  return new EventSource(`${BASE}events${after === null ? "" : `?after=${after}`}`);
}

/** @returns {Problem} */
function silent() {
  const detail = "It has stopped, or its machine cannot be reached.";
  return { status: 0, title: "The daemon does not answer", detail };
}

/**
 * @param {number} status
 * @returns {Problem}
 */
function unreadable(status) {
  const detail = `HTTP status ${status} without a description. Look at the daemon's log.`;
  return { status, title: "The daemon's answer cannot be read", detail };
}
