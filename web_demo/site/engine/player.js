/** The play loop (runtimes/player.py): a picture, then one frame per action, the noise drawn from a seed. */

import { EngineError } from './errors.js';
import { drawNoise } from './noise.js';

/** @typedef {import('./session.js').Session} Session */
/** @typedef {import('./types.js').Played} Played */

export class Player {
  /**
   * @param {Session} session
   * @param {{first: number, table_offsets: number}} rows of the Gumbel table
   */
  constructor(session, rows) {
    this.session = session;
    this.rows = rows;
    this.seed = 0;
    this.temperatureZero = false;
    this.started = false;
    /** Frames drawn since `start`. */
    this.played = 0;
  }

  /** @param {number} seed */
  setSeed(seed) {
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new EngineError('argument', `the seed ${seed} is no whole number from 0 to ${Number.MAX_SAFE_INTEGER}`);
    }
    this.seed = seed;
  }

  reset() {
    this.session.reset();
    this.started = false;
    this.played = 0;
  }

  /**
   * @param {Uint8Array | Uint8ClampedArray} picture
   * @returns {Promise<{tokens: Int32Array, frame: Uint8Array}>}
   */
  async start(picture) {
    this.reset();
    const tokens = await this.session.encode(picture);
    const frame = await this.session.decode(tokens); // before it is history
    await this.session.observe(tokens, this.session.spec.actions);
    this.started = true;
    return { tokens, frame };
  }

  /** @returns {Int32Array} */
  #draw() {
    if (!this.started) throw new EngineError('not-started', 'nothing to play from; start at a picture first');
    const { noiseSize, spec } = this.session;
    if (this.temperatureZero || spec.temperature === 0) return new Int32Array(noiseSize);
    return drawNoise(this.rows, noiseSize, this.seed, this.played);
  }

  /**
   * @param {number} action
   * @param {Int32Array} [noise]
   * @returns {Promise<Played>}
   */
  async play(action, noise) {
    const began = performance.now();
    noise ??= this.#draw();
    const drawn = performance.now();
    const { tokens, frame } = await this.session.play(action, noise);
    this.played += 1;
    const { step, observe, copy } = this.session.stages;
    const ms = { noise: drawn - began, step, copy, total: performance.now() - began };
    return { tokens, frame, ms: observe ? { ...ms, observe } : ms };
  }

  /**
   * Milliseconds of `frames` frames, or of as many as begin within `seconds`, after `warmUp` that do not count.
   * @param {number} frames
   * @param {number} seconds
   * @param {number} warmUp
   */
  async turn(frames, seconds, warmUp) {
    await this.#time(warmUp, seconds);
    return Float64Array.from(await this.#time(frames, seconds));
  }

  /** @param {number} frames @param {number} seconds */
  async #time(frames, seconds) {
    const timed = [];
    for (let sum = 0; timed.length < frames && sum < seconds * 1000; sum += timed.at(-1) ?? 0) {
      timed.push((await this.play(timed.length % this.session.spec.actions)).ms.total);
    }
    return timed;
  }
}
