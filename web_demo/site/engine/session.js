/**
 * A session plays one world, as runtimes/session.py does in Python: the graphs of the world contract and the
 * rings that they read.
 */

import { EngineError } from './errors.js';
import { Graphs } from './graphs.js';
import { Ring, Window, deviceSlots, hostSlots } from './memory.js';

/** @typedef {import('./memory.js').Ort} Ort */
/** @typedef {import('./graphs.js').Tensors} Tensors */
/** @typedef {import('./types.js').Device} Device */
/** @typedef {import('./types.js').GraphName} GraphName */
/** @typedef {import('./types.js').MemoryName} MemoryName */
/** @typedef {import('./types.js').WorldFile} WorldFile */
/** @typedef {Uint8Array | Uint8ClampedArray} Picture */

/**
 * In an absolute window no slot is ever written over. The frame that finds the ring full is the window's last: it
 * leaves no entry; before the next frame the ring is emptied and the frames that stay are observed again, the
 * oldest as one that no action led to. What nobody asks for is not observed.
 */
export class Session {
  /** Whether the rings that play reads hold an older window than `#frames`. */
  #stale = false;

  /**
   * @param {Ort} ort
   * @param {Device} device
   * @param {WorldFile} world
   * @param {(path: string) => Promise<Uint8Array>} read bytes of a file of the world
   */
  constructor(ort, device, world, read) {
    this.ort = ort;
    this.spec = world.spec;
    this.graphs = new Graphs(ort, device, world, read);
    /** @type {Map<MemoryName, Ring>} */
    this.rings = new Map();
    const { height, width, grid, steps, window, memories } = this.spec;
    const slots = memories.dynamics?.slots ?? 0;
    this.absolute = window === 'absolute';
    this.keeps = this.spec.keeps || slots;
    /**
     * Tokens of the past frames and the action that led to each, in an absolute window.
     * @type {Window<[Int32Array, number]>}
     */
    this.frames = new Window(slots, this.keeps);
    /**
     * Pictures that were encoded, where the encoder has an absolute window.
     * @type {Window<Uint8Array>}
     */
    this.pictures = new Window(slots, this.keeps);
    this.frameSize = height * width * 3;
    this.tokens = grid[0] * grid[1];
    this.noiseSize = steps * this.tokens;
    /** Milliseconds of the last `play`: its graph, observing again, copies. */
    this.stages = { step: 0, observe: 0, copy: 0 };
  }

  /**
   * Open what playing needs, and lay out the memory.
   * @param {GraphName[]} names
   * @param {(graph: GraphName) => void} report called before each
   */
  async prepare(names, report) {
    for (const name of names) {
      report(name);
      await this.graphs.prepare(name);
    }
    // The device that memory is made on is there once a graph is open.
    const gpu = this.graphs.device === 'webgpu' ? /** @type {GPUDevice} */ (await this.ort.env.webgpu.device) : null;
    for (const [name, spec] of Object.entries(this.spec.memories)) {
      const slots = gpu ? deviceSlots(this.ort, gpu, spec) : hostSlots(this.ort, spec);
      this.rings.set(/** @type {MemoryName} */ (name), new Ring(this.ort, spec, slots));
    }
  }

  /**
   * @param {GraphName} graph
   * @param {Tensors} inputs
   * @param {MemoryName[]} [reads] rings that the graph reads
   * @param {MemoryName[]} [writes] rings that take this frame in
   * @returns {Promise<Tensors>} entries have been disposed of
   */
  async #run(graph, inputs, reads = [], writes = []) {
    for (const name of reads) Object.assign(inputs, this.rings.get(name)?.inputs);
    const began = performance.now();
    const outputs = await this.graphs.run(graph, inputs);
    const ran = performance.now();
    for (const name of writes) this.#push(name, outputs);
    for (const [name, tensor] of Object.entries(outputs)) if (name.endsWith('entry')) tensor.dispose();
    this.stages.step += ran - began;
    this.stages.copy += performance.now() - ran;
    return outputs;
  }

  /** @param {MemoryName} name @param {Tensors} outputs @param {string} [before] the entry's name */
  #push(name, outputs, before = '') {
    const ring = this.rings.get(name);
    if (ring && !(this.absolute && ring.full)) ring.push(outputs[before + ring.entryName]);
  }

  /** Bring the rings that play reads to the window of the next frame. */
  async #makeRoom() {
    if (!this.absolute || !(this.frames.move() || this.#stale)) return;
    const began = performance.now();
    this.#restart('dynamics', 'decoder');
    if (this.spec.prefill && this.frames.past.length === this.keeps) await this.#prefill();
    else for (const [tokens, action] of this.frames.past) await this.#observe(tokens, action);
    this.#stale = false;
    this.stages = { step: 0, observe: performance.now() - began, copy: 0 };
  }

  /** Observe all frames that stay at once. */
  async #prefill() {
    const { past } = this.frames;
    const outputs = await this.graphs.run('prefill', {
      tokens: this.#int32(past.flatMap(([tokens]) => [...tokens]), [this.keeps, this.tokens]),
      actions: this.#int32(past.map(([, action]) => action), [this.keeps]),
    });
    for (const number of past.keys()) {
      this.#push('dynamics', outputs, `kept_${number}_`);
      this.#push('decoder', outputs, `kept_${number}_`);
    }
    for (const tensor of Object.values(outputs)) tensor.dispose();
  }

  /** @param {MemoryName[]} names */
  #restart(...names) {
    for (const name of names) this.rings.get(name)?.reset();
  }

  /** Forget the history. */
  reset() {
    this.#restart('dynamics', 'encoder', 'decoder');
    this.frames.past = [];
    this.pictures.past = [];
    this.#stale = false;
  }

  /**
   * Tokens of a real frame.
   * @param {Picture} picture RGB or RGBA
   * @returns {Promise<Int32Array>}
   */
  async encode(picture) {
    const frame = this.#rgb(picture);
    if (this.absolute && this.rings.has('encoder') && this.pictures.add(frame)) {
      this.#restart('encoder');
      for (const seen of this.pictures.past.slice(0, -1)) await this.#encode(seen);
    }
    return this.#encode(frame);
  }

  /** @param {Uint8Array} picture @returns {Promise<Int32Array>} */
  async #encode(picture) {
    const frame = new this.ort.Tensor('uint8', picture, [this.spec.height, this.spec.width, 3]);
    const { tokens } = await this.#run('encode', { frame }, ['encoder'], ['encoder']);
    return /** @type {Int32Array} */ (tokens.data);
  }

  /**
   * Take a given frame into the history; `action` led to it (A for the first).
   * @param {Int32Array} tokens
   * @param {number} action
   */
  async observe(tokens, action) {
    this.#checkTokens(tokens, this.spec.codebook - 1);
    this.#checkAction(action, this.spec.actions);
    if (this.absolute && this.frames.add([tokens.slice(), action])) this.#stale = true;
    if (!this.#stale) await this.#observe(tokens, action);
  }

  /** @param {Int32Array} values @param {number} action */
  async #observe(values, action) {
    const ring = this.rings.get('dynamics');
    if (this.absolute && ring?.full) return;
    const first = this.absolute && ring?.filled[0] === 0;
    const tokens = this.#int32(values, [this.tokens]);
    const led = this.#int32([first ? this.spec.actions : action], [1]);
    await this.#run('observe', { tokens, action: led }, ['dynamics'], ['dynamics']);
    if (this.rings.has('decoder')) await this.#run('decode', { tokens }, ['decoder'], ['decoder']);
  }

  /**
   * Draw the next frame and take it into the history. Its time by stage is in `stages` afterwards.
   * @param {number} action
   * @param {Int32Array} noise [N*S]
   * @returns {Promise<{tokens: Int32Array, frame: Uint8Array}>}
   */
  async play(action, noise) {
    this.#checkAction(action, this.spec.actions - 1);
    if (noise.length !== this.noiseSize) {
      throw new EngineError('argument', `noise must be ${this.noiseSize} row numbers, these are ${noise.length}`);
    }
    this.stages = { step: 0, observe: 0, copy: 0 };
    await this.#makeRoom();
    const inputs = { action: this.#int32([action], [1]), noise: this.#int32(noise, [this.spec.steps, this.tokens]) };
    const outputs = await this.#run('play', inputs, ['dynamics', 'decoder'], ['dynamics', 'decoder']);
    const tokens = /** @type {Int32Array} */ (outputs.tokens.data);
    if (this.absolute) this.frames.add([tokens.slice(), action]);
    return { tokens, frame: /** @type {Uint8Array} */ (outputs.frame.data) };
  }

  /**
   * Pixels of tokens, as the frame that follows the history; the history stays as it is.
   * @param {Int32Array} tokens
   * @returns {Promise<Uint8Array>}
   */
  async decode(tokens) {
    this.#checkTokens(tokens, this.spec.codebook - 1);
    await this.#makeRoom();
    const { frame } = await this.#run('decode', { tokens: this.#int32(tokens, [this.tokens]) }, ['decoder']);
    return /** @type {Uint8Array} */ (frame.data);
  }

  /**
   * One refinement pass over the next frame.
   * @param {Int32Array} tokens V where masked
   * @param {number} action
   * @returns {Promise<Float32Array>}
   */
  async logits(tokens, action) {
    this.#checkTokens(tokens, this.spec.codebook);
    this.#checkAction(action, this.spec.actions);
    await this.#makeRoom();
    const inputs = { tokens: this.#int32(tokens, [this.tokens]), action: this.#int32([action], [1]) };
    const { logits } = await this.#run('logits', inputs, ['dynamics']);
    return /** @type {Float32Array} */ (logits.data);
  }

  /**
   * The latent action of the last transition.
   * @param {Uint8Array} clip RGB [action_frames*H*W*3]
   * @returns {Promise<{action: number, distances: Float32Array}>}
   */
  async inferAction(clip) {
    const { action_frames: count, height, width } = this.spec;
    if (clip.length !== count * this.frameSize) {
      const words = `${count} frames of RGB are ${count * this.frameSize} bytes`;
      throw new EngineError('argument', `${words}, these are ${clip.length}`);
    }
    const frames = new this.ort.Tensor('uint8', clip, [count, height, width, 3]);
    const { action, distances } = await this.#run('infer_action', { frames });
    return { action: Number(action.data[0]), distances: /** @type {Float32Array} */ (distances.data) };
  }

  /** @param {Int32Array | number[]} values @param {number[]} shape */
  #int32(values, shape) {
    return new this.ort.Tensor('int32', Int32Array.from(values), shape);
  }

  /** @param {Int32Array} tokens @param {number} most */
  #checkTokens(tokens, most) {
    if (tokens.length !== this.tokens || tokens.some((token) => token < 0 || token > most)) {
      throw new EngineError('argument', `tokens must be ${this.tokens} numbers from 0 to ${most}`);
    }
  }

  /** @param {number} action @param {number} most */
  #checkAction(action, most) {
    if (!Number.isInteger(action) || action < 0 || action > most) {
      const words = `this world's actions are 0 to ${this.spec.actions - 1}`;
      throw new EngineError('argument', `action ${action} is out of range: ${words}`);
    }
  }

  /** @param {Picture} picture @returns {Uint8Array} RGB, of its own */
  #rgb(picture) {
    if (picture.length === this.frameSize) return Uint8Array.from(picture);
    if (picture.length !== (this.frameSize / 3) * 4) {
      const { width, height } = this.spec;
      const words = `a picture must be ${width} x ${height} pixels of RGB or RGBA`;
      throw new EngineError('argument', `${words}, these are ${picture.length} bytes`);
    }
    return Uint8Array.from({ length: this.frameSize }, (_, at) => picture[Math.floor(at / 3) * 4 + (at % 3)]);
  }
}
