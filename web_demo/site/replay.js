/** A run played again, from a link or a log; and whether it came out as the log says. */

import { say } from './page.js';
import { readPicture } from './ui/picture.js';
import { fromFragment, fromLog, RunError } from './ui/run.js';

/** @typedef {import('./ui/run.js').Recipe} Recipe */
/** @typedef {{recipe: Recipe, frame: Uint8Array, tokens: number[][] | null}} Wanted tokens: what a log expects */

export class Replay {
  /** @param {import('./engine/types.js').WorldFile} world @param {() => Uint8Array[]} gallery */
  constructor(world, gallery) {
    this.world = world;
    this.gallery = gallery;
    /** @type {number[]} */
    this.actions = [];
    /** @type {number[][] | null} */
    this.tokens = null;
  }

  /** What the next start goes on with. @param {number[]} [actions] @param {number[][] | null} [tokens] */
  set(actions = [], tokens = null) {
    this.actions = actions;
    this.tokens = tokens;
  }

  /** The actions, once. */
  take() {
    const { actions } = this;
    this.actions = [];
    return actions;
  }

  /** What the page's address asks for; null where it asks for nothing. @returns {Promise<Wanted | null>} */
  async link() {
    const recipe = fromFragment(location.hash, this.world);
    return recipe && { recipe, frame: await this.#picture(recipe), tokens: null };
  }

  /** @param {string} text @returns {Promise<Wanted>} */
  async log(text) {
    const { recipe, tokens } = fromLog(text, this.world);
    return { recipe, frame: await this.#picture(recipe), tokens };
  }

  /** @param {Recipe} recipe */
  async #picture({ origin }) {
    if ('gallery' in origin) return this.gallery()[this.world.gallery.indexOf(origin.gallery)];
    const answer = await fetch(`data:image/png;base64,${origin.png}`).catch(() => null);
    if (!answer) throw new RunError('The start picture of this run is damaged.');
    return readPicture(await answer.blob(), this.world.spec);
  }

  /** After a frame: has a log been replayed to its end, and does it agree? @param {import('./ui/run.js').Run} run @param {import('./ui/loop.js').Loop} loop */
  judge(run, loop) {
    const { tokens: expected } = this;
    if (!expected || loop.replaying) return;
    this.tokens = null;
    if (!loop.queue.length) return; // the user has taken over
    const { tokens } = run;
    const wrong = expected.findIndex((row, t) => row.some((token, place) => token !== tokens[t]?.[place]));
    say(wrong < 0 ? `The log is replayed token for token: ${expected.length} of ${expected.length} frames equal` : `The log differs from frame ${wrong} on; it was played on another device or precision`);
  }
}
