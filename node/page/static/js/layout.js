/** Where the peers stand in the drawing of the swarm. Pure: numbers in, numbers out. */

/** @typedef {import("./answers.js").Peer} Peer */
/** @typedef {import("./answers.js").ReplicaPlan} ReplicaPlan */

/** @typedef {{x: number, y: number}} Place */

/**
 * @typedef {object} Layout
 * @property {Map<string, Place>} places by peer id
 * @property {Place[][]} rings corners of each ring, in the order of its stages
 * @property {Set<string>} ringed peers that stand in a ring
 * @property {number} radius of a peer's circle
 */

const MARGIN_X = 62;
const MARGIN_TOP = 34;
const MARGIN_BOTTOM = 48;
const CROWDED = 12;
const VERY_CROWDED = 24;

/**
 * Place the answering peer in the middle and the other replicas round it; the peers of a ring stand
 * together.
 * @param {Peer[]} peers
 * @param {ReplicaPlan[]} replicas
 * @param {number} width pixels
 * @param {number} height pixels
 * @returns {Layout}
 */
export function layoutOf(peers, replicas, width, height) {
  const groups = groupsOf(peers, replicas);
  const inner = groups.findIndex((group) => group.some((peer) => peer.self));
  const [middle] = inner < 0 ? [[]] : groups.splice(inner, 1);
  const centre = { x: width / 2, y: (height + MARGIN_TOP - MARGIN_BOTTOM) / 2 };
  const reach = {
    x: Math.max(40, centre.x - MARGIN_X),
    y: Math.max(40, (height - MARGIN_TOP - MARGIN_BOTTOM) / 2),
  };
  const radius = peers.length > VERY_CROWDED ? 8 : peers.length > CROWDED ? 10 : 13;
  /** @type {Layout} */
  const layout = { places: new Map(), rings: [], ringed: new Set(), radius };
  standTogether(layout, middle, centre);
  const room = groups.reduce((sum, group) => sum + widthOf(group), 0);
  let taken = 0;
  groups.forEach((group, number) => {
    const angle = -Math.PI / 2 + (2 * Math.PI * (taken + widthOf(group) / 2)) / room;
    taken += widthOf(group);
    const share = shareOf(group, number, groups.length);
    standTogether(layout, group, {
      x: centre.x + Math.cos(angle) * reach.x * share,
      y: centre.y + Math.sin(angle) * reach.y * share,
    });
  });
  return layout;
}

/**
 * @param {Layout} layout
 * @param {Peer[]} group
 * @param {Place} at
 */
function standTogether(layout, group, at) {
  if (group.length < 2) {
    group.forEach((peer) => layout.places.set(peer.peer, at));
    return;
  }
  const reach = layout.radius * (1.5 + group.length * 0.6);
  const corners = group.map((peer, number) => {
    const angle = -Math.PI / 2 + (2 * Math.PI * number) / group.length;
    const place = { x: at.x + Math.cos(angle) * reach, y: at.y + Math.sin(angle) * reach };
    layout.places.set(peer.peer, place);
    layout.ringed.add(peer.peer);
    return place;
  });
  layout.rings.push(corners);
}

/**
 * Return how much room a group takes on the circle.
 * @param {Peer[]} group
 */
function widthOf(group) {
  return group.length < 2 ? 1 : 1 + group.length * 0.35;
}

/**
 * Return how far out a group stands: a ring needs room around it, and where single peers would
 * touch, every other one stands a little further in.
 * @param {Peer[]} group
 * @param {number} number
 * @param {number} numGroups
 */
function shareOf(group, number, numGroups) {
  if (group.length > 1) {
    return 0.78;
  }
  return numGroups > CROWDED && number % 2 ? 0.7 : 1;
}

/**
 * Return the peers of each ring, and every other peer by itself.
 * @param {Peer[]} peers
 * @param {ReplicaPlan[]} replicas
 * @returns {Peer[][]}
 */
function groupsOf(peers, replicas) {
  const byId = new Map(peers.map((peer) => [peer.peer, peer]));
  const groups = [];
  for (const replica of replicas.filter((one) => one.stages.length > 1)) {
    const ring = [];
    for (const stage of replica.stages) {
      const peer = byId.get(stage.peer);
      if (peer) {
        ring.push(peer);
        byId.delete(stage.peer);
      }
    }
    groups.push(ring);
  }
  return [...groups, ...[...byId.values()].map((peer) => [peer])].filter(
    (group) => group.length > 0,
  );
}
