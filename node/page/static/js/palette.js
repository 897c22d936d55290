/** Colours of replicas: by the order in which they were first seen, so that they never change. */

export const NUM_COLOURS = 8;

export class Palette {
  constructor() {
    /** @type {Map<string, number>} */
    this.places = new Map();
  }

  /**
   * Return the name of a peer's colour in style.css.
   * @param {string} peer
   */
  nameOf(peer) {
    let place = this.places.get(peer);
    if (place === undefined) {
      place = this.places.size;
      this.places.set(peer, place);
    }
    return `--series-${place % NUM_COLOURS}`;
  }
}
