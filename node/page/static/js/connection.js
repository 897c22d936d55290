/**
 * Keeps the swarm's picture up to date: loads what there is, then follows the event stream. When
 * the daemon goes silent it says so and tries again, ever less often, until it answers.
 */

import { ApiError, ask, openEvents } from "./api.js";
import { MAX_ROUNDS } from "./swarm.js";

/** @typedef {import("./swarm.js").Swarm} Swarm */

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 15000;
const QUIET_MS = 4000;
/** After so long without an event the daemon is asked: nothing may have changed, or it is gone. */
const PLAN_EVERY_MS = 5000;
const PAGE = 500;
/** @type {import("./answers.js").Problem} */
const BROKEN = {
  status: 0,
  title: "The event stream broke off",
  detail: "The daemon answers, but nothing new comes in.",
};

export class Connection {
  /** @param {Swarm} swarm */
  constructor(swarm) {
    this.swarm = swarm;
    /** @type {EventSource | null} */
    this.events = null;
    this.attempt = 0;
    this.loaded = false;
    this.planned = 0;
    this.roster = "";
    /** @type {number | undefined} */
    this.timer = undefined;
    /** @type {number | undefined} */
    this.watchdog = undefined;
  }

  /**
   * Follow, then load what was before: in this order nothing falls between the two.
   */
  open() {
    this.close();
    this.loaded = false;
    const events = openEvents(this.swarm.lastLogId);
    this.events = events;
    events.addEventListener("open", () => this.begin(events));
    events.addEventListener("error", () => {
      if (this.events === events) {
        this.check();
      }
    });
    this.on("run", (answer) => this.tookRun(answer));
    this.on("peers", (answer) => this.tookPeers(answer));
    this.on("round", (round) => this.swarm.takeRounds([round]));
    this.on("timeline", (entry) => this.swarm.takeTimeline([entry]));
    this.on("log", (line) => this.swarm.takeLog([line]));
    this.on("gap", () => this.tookGap());
    this.watch();
  }

  /** Try at once, for whoever cannot wait. */
  retryNow() {
    this.attempt = 0;
    this.open();
  }

  close() {
    window.clearTimeout(this.timer);
    window.clearTimeout(this.watchdog);
    this.events?.close();
    this.events = null;
  }

  /**
   * Load what was before the stream, unless another stream has taken its place meanwhile.
   * @param {EventSource} events
   */
  async begin(events) {
    try {
      await this.load();
    } catch (error) {
      if (this.events === events) {
        this.failed(error);
      }
      return;
    }
    if (this.events === events) {
      this.loaded = true;
      this.alive();
    }
  }

  async load() {
    const swarm = this.swarm;
    swarm.takeRun(await ask("run"));
    const [peers, rounds, timeline, log] = await Promise.all([
      ask("peers"),
      ask(`rounds?limit=${PAGE}`),
      ask("timeline?limit=500"),
      ask("log?limit=200"),
    ]);
    swarm.takePeers(peers);
    swarm.takeRounds(rounds.rounds);
    swarm.takeTimeline(timeline.entries);
    swarm.takeLog(log.lines);
    await this.loadPlan();
    await this.loadOlder(rounds);
  }

  /**
   * Load older rounds, so that a curve begins where the run began.
   * @param {import("./answers.js").RoundsAnswer} newest
   */
  async loadOlder(newest) {
    let page = newest;
    for (let got = page.rounds.length; page.more && page.rounds.length && got < MAX_ROUNDS;) {
      page = await ask(`rounds?limit=${PAGE}&before=${page.rounds[0].round}`);
      got += page.rounds.length;
      this.swarm.takeRounds(page.rounds);
    }
  }

  async loadPlan() {
    this.planned = performance.now();
    this.roster = rosterOf(this.swarm);
    this.swarm.takePlan(await ask("plan"));
  }

  /**
   * @param {string} name
   * @param {(data: any) => void} take
   */
  on(name, take) {
    const events = this.events;
    events?.addEventListener(name, (event) => {
      take(JSON.parse(event.data));
      if (this.events === events) {
        this.alive();
      }
    });
  }

  /** @param {import("./answers.js").RunAnswer} answer */
  tookRun(answer) {
    if (this.swarm.takeRun(answer)) {
      this.open();
    }
  }

  /** Lines that were missed are no longer kept: what is there is read anew. */
  tookGap() {
    this.swarm.forgetLog();
    this.open();
  }

  /** @param {import("./answers.js").PeersAnswer} answer */
  tookPeers(answer) {
    this.swarm.takePeers(answer);
    const due = performance.now() - this.planned > PLAN_EVERY_MS;
    if (due && rosterOf(this.swarm) !== this.roster) {
      this.loadPlan().catch((error) => this.failed(error));
    }
  }

  /** Something came in: the picture is fresh, once it is whole. */
  alive() {
    this.watch();
    if (!this.loaded) {
      return;
    }
    this.attempt = 0;
    this.swarm.takeLink({ state: "live", fresh: Date.now() / 1000, retryAt: null, problem: null });
  }

  watch() {
    window.clearTimeout(this.watchdog);
    this.watchdog = window.setTimeout(() => this.check(), QUIET_MS);
  }

  /** The stream is silent or broken: ask, and start again if it is broken. */
  async check() {
    window.clearTimeout(this.watchdog);
    const events = this.events;
    try {
      const answer = await ask("run", QUIET_MS);
      if (this.events !== events) {
        return;
      }
      if (events?.readyState !== EventSource.OPEN) {
        throw new ApiError(BROKEN);
      }
      this.tookRun(answer);
      this.alive();
    } catch (error) {
      if (this.events === events) {
        this.failed(error);
      }
    }
  }

  /** @param {unknown} error */
  failed(error) {
    this.close();
    if (!(error instanceof ApiError)) {
      throw error;
    }
    const pause = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.attempt);
    this.attempt += 1;
    const jittered = pause * (0.8 + 0.4 * Math.random());
    this.timer = window.setTimeout(() => this.open(), jittered);
    if (error.problem === BROKEN && this.attempt === 1) {
      return; // a stream also ends when the daemon enters a run: no reason to alarm anyone
    }
    this.swarm.takeLink({
      state: "stale",
      retryAt: (Date.now() + jittered) / 1000,
      problem: error.problem,
    });
  }
}

/** @param {Swarm} swarm */
function rosterOf(swarm) {
  return swarm.peers.map((peer) => `${peer.peer}${peer.in_roster}${peer.shards.length}`).join();
}
