/** A world in the browser. All of the work is done in worker.js; this is its face on the page. */

import { EngineError } from './errors.js';

export { EngineError };

/** @typedef {import('./types.js').EngineApi} EngineApi */
/** @typedef {import('./types.js').LoadOptions} LoadOptions */
/** @typedef {import('./types.js').Loaded} Loaded */
/** @typedef {import('./types.js').Progress} Progress */
/** @typedef {import('./types.js').Start} Start */
/** @typedef {import('./types.js').Played} Played */
/** @typedef {import('./types.js').Inferred} Inferred */
/**
 * @typedef {object} Waiting
 * @property {(result: any) => void} resolve
 * @property {(error: EngineError) => void} reject
 * @property {(progress: Progress) => void} [onProgress]
 */

/**
 * Calls are done one after the other, in the order they were made; each rejects with an `EngineError`.
 * types.js tells the sizes and types of everything.
 * @implements {EngineApi}
 */
export class Engine {
  /** @type {Worker | null} */
  #worker = null;
  /** @type {Map<number, Waiting>} */
  #waiting = new Map();
  #calls = 0;

  /**
   * @param {LoadOptions} [options]
   * @returns {Promise<Loaded>}
   */
  async load({ world = 'world/world.json', device = 'auto', threads = 0, onProgress, signal } = {}) {
    const wish = { world: new URL(world, document.baseURI).href, device, threads };
    try {
      return await this.#load(wish, onProgress, signal);
    } catch (error) {
      // Where WebGPU was there but did not work, the world can still be played.
      const { code, message, device: failed } = /** @type {EngineError} */ (error);
      if (device !== 'auto' || failed !== 'webgpu' || !(code === 'runtime' || code === 'memory')) throw error;
      const instead = `WebGPU did not work (${message.split(';')[0]})`;
      return await this.#load({ ...wish, device: 'wasm', instead }, onProgress, signal);
    }
  }

  /**
   * @param {object} wish
   * @param {LoadOptions['onProgress']} onProgress
   * @param {AbortSignal} [signal]
   */
  async #load(wish, onProgress, signal) {
    this.close();
    const cancel = () => this.close();
    if (signal?.aborted) throw cancelled();
    signal?.addEventListener('abort', cancel, { once: true });
    this.#worker = this.#open();
    try {
      return await this.#call('load', [wish], onProgress);
    } catch (error) {
      this.close();
      throw error;
    } finally {
      signal?.removeEventListener('abort', cancel);
    }
  }

  #open() {
    const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'pocketgenie' });
    worker.addEventListener('message', ({ data: { id, result, error, progress } }) => {
      const waiting = this.#waiting.get(id);
      if (progress) return waiting?.onProgress?.(progress);
      this.#waiting.delete(id);
      if (error) waiting?.reject(new EngineError(error.code, error.message, error.device));
      else waiting?.resolve(result);
    });
    worker.addEventListener('error', (event) => {
      event.preventDefault();
      const words = event.message || 'its script did not load';
      this.#end(new EngineError('crashed', `the engine ended unexpectedly (${words}); reload the page`));
    });
    return worker;
  }

  /** @param {EngineError} error */
  #end(error) {
    this.#worker?.terminate();
    this.#worker = null;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  /**
   * @param {string} call
   * @param {unknown[]} args
   * @param {(progress: Progress) => void} [onProgress]
   * @returns {Promise<any>}
   */
  #call(call, args, onProgress) {
    return new Promise((resolve, reject) => {
      if (!this.#worker) return reject(new EngineError('not-loaded', 'no world is loaded; load one first'));
      const id = ++this.#calls;
      this.#waiting.set(id, { resolve, reject, onProgress });
      this.#worker.postMessage({ id, call, args });
    });
  }

  /** @param {Uint8Array | Uint8ClampedArray} picture @returns {Promise<Start>} */
  start(picture) {
    return this.#call('start', [picture]);
  }

  /** @param {number} action @param {Int32Array} [noise] @returns {Promise<Played>} */
  play(action, noise) {
    return this.#call('play', [action, noise]);
  }

  /** @param {number} seed @returns {Promise<void>} */
  seed(seed) {
    return this.#call('seed', [seed]);
  }

  /** @param {boolean} on @returns {Promise<void>} */
  temperatureZero(on) {
    return this.#call('temperatureZero', [on]);
  }

  /** @returns {Promise<void>} */
  reset() {
    return this.#call('reset', []);
  }

  /** @param {Uint8Array | Uint8ClampedArray} picture @returns {Promise<Int32Array>} */
  encode(picture) {
    return this.#call('encode', [picture]);
  }

  /** @param {Int32Array} tokens @param {number} action @returns {Promise<void>} */
  observe(tokens, action) {
    return this.#call('observe', [tokens, action]);
  }

  /** @param {Int32Array} tokens @returns {Promise<Uint8Array>} */
  decode(tokens) {
    return this.#call('decode', [tokens]);
  }

  /** @param {Int32Array} tokens @param {number} action @returns {Promise<Float32Array>} */
  logits(tokens, action) {
    return this.#call('logits', [tokens, action]);
  }

  /** @param {Uint8Array} frames @returns {Promise<Inferred>} */
  inferAction(frames) {
    return this.#call('inferAction', [frames]);
  }

  /** @param {number} frames @param {number} seconds @param {number} warmUp @returns {Promise<Float64Array>} */
  turn(frames, seconds, warmUp) {
    return this.#call('turn', [frames, seconds, warmUp]);
  }

  close() {
    this.#end(cancelled());
  }
}

function cancelled() {
  return new EngineError('cancelled', 'cancelled before it was done; load again to play');
}
