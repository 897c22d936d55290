/**
 * Numbers, times and names as people read them; the same forms as the command line's
 * (node/cli/wording.py). A dash stands for what is not known.
 */

export const NOTHING = "–";

/** @type {[number, string][]} */
const SIZES = [
  [1e12, "TB"],
  [1e9, "GB"],
  [1e6, "MB"],
  [1e3, "kB"],
];
/** @type {[number, string][]} */
const COUNTS = [
  [1e12, "T"],
  [1e9, "B"],
  [1e6, "M"],
];
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const MOMENT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** @typedef {number | null | undefined} Maybe */

/**
 * @param {Maybe} value
 * @returns {value is null | undefined}
 */
function unknown(value) {
  return value === null || value === undefined || !Number.isFinite(value);
}

/**
 * Return a whole number with thousands apart.
 * @param {Maybe} value
 */
export function count(value) {
  return unknown(value) ? NOTHING : WHOLE.format(value);
}

/**
 * Return a count of at most six digits, such as "812,345" or "1.24 B".
 * @param {Maybe} value
 */
export function shortCount(value) {
  return unknown(value) || value < 1e6 ? count(value) : scaled(value, COUNTS, 2);
}

/**
 * Return a number of bytes such as "1.5 MB".
 * @param {Maybe} value
 */
export function size(value) {
  if (unknown(value)) {
    return NOTHING;
  }
  return value < 1e3 ? `${WHOLE.format(value)} B` : scaled(value, SIZES, 1);
}

/**
 * Return a rate such as "1.5 MB/s".
 * @param {Maybe} value
 */
export function rate(value) {
  return unknown(value) ? NOTHING : `${size(value)}/s`;
}

/**
 * @param {number} value
 * @param {[number, string][]} units
 * @param {number} digits
 */
function scaled(value, units, digits) {
  const [factor, unit] = units.find(([least]) => value >= least) ?? units[units.length - 1];
  return `${(value / factor).toFixed(digits)} ${unit}`;
}

/**
 * Return a loss in nats per text token.
 * @param {Maybe} value
 */
export function loss(value) {
  return unknown(value) ? NOTHING : value.toFixed(3);
}

/**
 * Return a length of time: "0.42 s", "42 s", "3 min 05 s", "2 h 07 min", "3 d 04 h".
 * @param {Maybe} seconds
 */
export function duration(seconds) {
  if (unknown(seconds)) {
    return NOTHING;
  }
  if (seconds < 10) {
    return `${seconds.toFixed(seconds < 1 ? 2 : 1)} s`;
  }
  const whole = Math.floor(seconds);
  if (whole < 60) {
    return `${whole} s`;
  }
  if (whole < 3600) {
    return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  }
  if (whole < 86400) {
    return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  }
  return `${Math.floor(whole / 86400)} d ${two(Math.floor((whole % 86400) / 3600))} h`;
}

/**
 * Return how long ago something was, in whole seconds, so that it does not flicker.
 * @param {Maybe} seconds
 */
export function ago(seconds) {
  if (unknown(seconds)) {
    return NOTHING;
  }
  if (seconds < 1) {
    return "now";
  }
  return `${seconds < 10 ? `${Math.floor(seconds)} s` : duration(seconds)} ago`;
}

/**
 * Return the time of day of unix seconds.
 * @param {number} unix
 */
export function clock(unix) {
  return CLOCK.format(unix * 1000);
}

/**
 * Return date and time of unix seconds.
 * @param {number} unix
 */
export function moment(unix) {
  return MOMENT.format(unix * 1000);
}

/**
 * Return a ratio as "92 %".
 * @param {Maybe} value
 */
export function percent(value) {
  return unknown(value) ? NOTHING : `${Math.round(100 * value)} %`;
}

/**
 * Return a number with its noun: "1 peer", "3 peers".
 * @param {number} number
 * @param {string} noun
 */
export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/**
 * Return the few characters by which people tell ids apart; a phrase stays as it is.
 * @param {string} id
 */
export function shortName(id) {
  return id.startsWith("12D3") ? id.slice(-6) : id;
}

/**
 * Return the host part of the first multiaddr that has one.
 * @param {string[]} addresses
 */
export function hostOf(addresses) {
  for (const address of addresses) {
    const [, kind, host] = address.split("/");
    if (["ip4", "ip6", "dns", "dns4", "dns6", "dnsaddr"].includes(kind) && host) {
      return host;
    }
  }
  return NOTHING;
}

/**
 * Return shards in short: "all blocks, embed, head" or "blocks 3–7".
 * @param {string[]} shards
 * @param {number} numBlocks of the model; 0 if not known
 */
export function shardWords(shards, numBlocks) {
  const blocks = shards
    .filter((shard) => shard.startsWith("block."))
    .map((shard) => Number(shard.slice("block.".length)))
    .sort((a, b) => a - b);
  const ends = shards.filter((shard) => !shard.startsWith("block."));
  if (blocks.length === numBlocks && numBlocks > 0 && ends.length > 1) {
    return "all";
  }
  const ranges = blockRanges(blocks);
  return [...ranges, ...ends].join(", ") || NOTHING;
}

/** @param {number[]} blocks sorted */
function blockRanges(blocks) {
  /** @type {[number, number][]} */
  const ranges = [];
  for (const block of blocks) {
    const last = ranges[ranges.length - 1];
    if (last && last[1] === block - 1) {
      last[1] = block;
    } else {
      ranges.push([block, block]);
    }
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`));
}

/** @param {number} value */
function two(value) {
  return String(value).padStart(2, "0");
}
