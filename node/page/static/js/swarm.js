/** What this page knows of the run: the one place that holds state. Panels read it and paint. */

/** @typedef {import("./answers.js").RunAnswer} RunAnswer */
/** @typedef {import("./answers.js").PeersAnswer} PeersAnswer */
/** @typedef {import("./answers.js").Peer} Peer */
/** @typedef {import("./answers.js").Round} Round */
/** @typedef {import("./answers.js").TimelineEntry} TimelineEntry */
/** @typedef {import("./answers.js").LogEntry} LogEntry */
/** @typedef {import("./answers.js").PlanAnswer} PlanAnswer */
/** @typedef {import("./answers.js").Problem} Problem */

/** @typedef {"run" | "peers" | "rounds" | "timeline" | "log" | "plan" | "link" | "selection" | "theme"} Topic */

/**
 * How the page stands with the daemon.
 * @typedef {object} DaemonLink
 * @property {"connecting" | "live" | "stale"} state
 * @property {number | null} fresh when something last came in, unix seconds of this browser
 * @property {number | null} retryAt when it is tried again, unix seconds of this browser
 * @property {Problem | null} problem
 */

export const MAX_ROUNDS = 2000;
const MAX_LOG = 1000;
const MAX_TIMELINE = 500;

export class Swarm {
  constructor() {
    /** @type {RunAnswer | null} */
    this.answer = null;
    /** @type {Peer[]} the answering peer first */
    this.peers = [];
    /** @type {Map<number, Round>} */
    this.rounds = new Map();
    /** @type {Map<number, TimelineEntry>} */
    this.timeline = new Map();
    /** @type {Map<number, LogEntry>} */
    this.log = new Map();
    /** @type {PlanAnswer | null} */
    this.plan = null;
    /** @type {DaemonLink} */
    this.link = { state: "connecting", fresh: null, retryAt: null, problem: null };
    /** @type {string | null} id of the peer that the charts bring out */
    this.selected = null;
    this.changes = new EventTarget();
  }

  /** The run's header, or null while there is none. */
  get run() {
    return this.answer?.run ?? null;
  }

  /** Rounds, oldest first. */
  get roundList() {
    return [...this.rounds.values()].sort((a, b) => a.round - b.round);
  }

  /** Id of the newest log line, or null. */
  get lastLogId() {
    return this.log.size ? Math.max(...this.log.keys()) : null;
  }

  /**
   * Return what to call a peer; a phrase stays as it is.
   * @param {string} id
   */
  nameOf(id) {
    const known = this.peers.find((peer) => peer.peer === id);
    if (known) {
      return known.self ? `${known.name} (this peer)` : known.name;
    }
    return id.startsWith("12D3") ? id.slice(-6) : id;
  }

  /**
   * @param {RunAnswer} answer
   * @returns {boolean} whether it is of another run or another daemon than what was known
   */
  takeRun(answer) {
    const before = this.answer;
    const other =
      before !== null &&
      (before.served_from !== answer.served_from || before.run?.run_id !== answer.run?.run_id);
    if (other) {
      this.forget();
    }
    this.answer = answer;
    this.tell("run");
    return other;
  }

  /** @param {PeersAnswer} answer */
  takePeers(answer) {
    this.peers = answer.peers;
    this.tell("peers");
  }

  /** @param {Round[]} rounds */
  takeRounds(rounds) {
    for (const round of rounds) {
      this.rounds.set(round.round, round);
    }
    dropLowest(this.rounds, MAX_ROUNDS);
    this.tell("rounds");
  }

  /** @param {TimelineEntry[]} entries */
  takeTimeline(entries) {
    for (const entry of entries) {
      this.timeline.set(entry.id, entry);
    }
    dropLowest(this.timeline, MAX_TIMELINE);
    this.tell("timeline");
  }

  /** @param {LogEntry[]} lines */
  takeLog(lines) {
    for (const line of lines) {
      this.log.set(line.id, line);
    }
    dropLowest(this.log, MAX_LOG);
    this.tell("log");
  }

  /** @param {PlanAnswer | null} plan */
  takePlan(plan) {
    this.plan = plan;
    this.tell("plan");
  }

  /** @param {Partial<DaemonLink>} change */
  takeLink(change) {
    this.link = { ...this.link, ...change };
    this.tell("link");
  }

  /** @param {string | null} peer */
  select(peer) {
    this.selected = peer;
    this.tell("selection");
  }

  /** Drop the lines of the log. */
  forgetLog() {
    this.log.clear();
    this.tell("log");
  }

  /** Drop what belongs to one run. */
  forget() {
    this.peers = [];
    this.rounds.clear();
    this.timeline.clear();
    this.log.clear();
    this.plan = null;
    this.selected = null;
    for (const topic of /** @type {Topic[]} */ (["peers", "rounds", "timeline", "log", "plan"])) {
      this.tell(topic);
    }
  }

  /** @param {Topic} topic */
  tell(topic) {
    this.changes.dispatchEvent(new Event(topic));
  }

  /**
   * Paint now, and once before the next frame whenever one of the topics changes.
   * @param {Topic[]} topics
   * @param {() => void} paint
   */
  onChange(topics, paint) {
    let waiting = false;
    const later = () => {
      if (!waiting) {
        waiting = true;
        requestAnimationFrame(() => {
          waiting = false;
          paint();
        });
      }
    };
    for (const topic of topics) {
      this.changes.addEventListener(topic, later);
    }
    paint();
  }
}

/**
 * @param {Map<number, unknown>} map
 * @param {number} limit
 */
function dropLowest(map, limit) {
  if (map.size > limit) {
    const keys = [...map.keys()].sort((a, b) => a - b);
    for (const key of keys.slice(0, map.size - limit)) {
      map.delete(key);
    }
  }
}
