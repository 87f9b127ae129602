/**
 * A session plays one world on ONNX Runtime Web, as runtimes/session.py does in Python: the graphs of the world
 * contract, and the rings that they read.
 */

import { EngineError, asEngineError } from './errors.js';
import { graphsFor } from './loading.js';
import { Ring, deviceSlots, hostSlots } from './memory.js';

/** @typedef {import('./memory.js').Ort} Ort */
/** @typedef {import('onnxruntime-common').Tensor} Tensor */
/** @typedef {import('onnxruntime-common').InferenceSession} OrtSession */
/** @typedef {Record<string, Tensor>} Tensors */
/** @typedef {import('./types.js').Device} Device */
/** @typedef {import('./types.js').GraphName} GraphName */
/** @typedef {import('./types.js').MemoryName} MemoryName */
/** @typedef {import('./types.js').WorldFile} WorldFile */
/** @typedef {{step: number, observe: number, copy: number}} Stages milliseconds */

/** Graphs of a world, each opened at its first use. */
class Graphs {
  /**
   * @param {Ort} ort
   * @param {Device} device
   * @param {WorldFile} world
   * @param {(path: string) => Promise<Uint8Array>} read
   */
  constructor(ort, device, world, read) {
    this.ort = ort;
    this.device = device;
    this.entries = graphsFor(world, device);
    this.options = world.session_options;
    this.read = read;
    /** @type {Map<GraphName, OrtSession>} */
    this.open = new Map();
  }

  /** @param {GraphName} name */
  entry(name) {
    const entry = this.entries[name];
    if (!entry) throw new EngineError('no-graph', `this world has no graph ${name}; export it again with it`);
    return entry;
  }

  /**
   * @param {GraphName} name
   * @returns {Promise<OrtSession>}
   */
  async prepare(name) {
    const ready = this.open.get(name);
    if (ready) return ready;
    const { file, data, outputs } = this.entry(name);
    const [model, ...weights] = await Promise.all([file, ...data].map((path) => this.read(path)));
    const folder = file.slice(0, file.lastIndexOf('/') + 1); // a graph names its weights from its own folder
    const entries = outputs.filter((output) => output.name.endsWith('entry')).map((output) => output.name);
    try {
      const session = await this.ort.InferenceSession.create(model, {
        executionProviders: [this.device],
        externalData: data.map((path, i) => ({ path: path.slice(folder.length), data: weights[i] })),
        logSeverityLevel: 3,
        ...(this.device === 'webgpu' && entries.length
          ? { preferredOutputLocation: Object.fromEntries(entries.map((output) => [output, 'gpu-buffer'])) }
          : {}),
        ...(this.options ? { extra: this.options } : {}),
      });
      this.open.set(name, session);
      return session;
    } catch (error) {
      throw asEngineError(error, `preparing the graph ${name}`);
    }
  }

  /**
   * @param {GraphName} name
   * @param {Tensors} inputs
   * @returns {Promise<Tensors>} the caller disposes of them
   */
  async run(name, inputs) {
    const session = await this.prepare(name);
    try {
      return /** @type {Tensors} */ (await session.run(inputs));
    } catch (error) {
      throw asEngineError(error, `the graph ${name}`);
    }
  }
}

export class Session {
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
    const { height, width, grid, codebook, action_frames: clip, steps } = this.spec;
    this.frameSize = height * width * 3;
    this.clipShape = [clip, height, width, 3];
    this.tokens = grid[0] * grid[1];
    this.noiseShape = [steps, this.tokens];
    this.noiseSize = steps * this.tokens;
    this.codebook = codebook;
    /** Frames in the dynamics' memory, oldest first: an absolute window looks at them again. @type {[Int32Array, number][]} */
    this.past = [];
    /** Of the last `play`. @type {Stages} */
    this.stages = { step: 0, observe: 0, copy: 0 };
  }

  /**
   * Open what playing needs.
   * @param {GraphName[]} names
   * @param {(graph: GraphName) => void} report called before each
   */
  async prepare(names, report) {
    for (const name of names) {
      report(name);
      await this.graphs.prepare(name);
    }
    // Only an open graph has the device that memory is made on.
    const gpu = this.graphs.device === 'webgpu' ? /** @type {GPUDevice} */ (await this.ort.env.webgpu.device) : null;
    for (const [name, spec] of Object.entries(this.spec.memories)) {
      const slots = gpu ? deviceSlots(this.ort, gpu, spec) : hostSlots(this.ort, spec);
      this.rings.set(/** @type {MemoryName} */ (name), new Ring(this.ort, spec, slots));
    }
  }

  /**
   * @param {GraphName} graph
   * @param {Tensors} inputs
   * @param {MemoryName[]} reads rings that the graph reads
   * @param {MemoryName[]} writes rings that take this frame in
   * @returns {Promise<Tensors>} what is on the host
   */
  async #run(graph, inputs, reads = [], writes = []) {
    for (const name of reads) Object.assign(inputs, this.rings.get(name)?.inputs);
    const began = performance.now();
    const outputs = await this.graphs.run(graph, inputs);
    const ran = performance.now();
    for (const name of writes) {
      const ring = this.rings.get(name);
      ring?.push(outputs[ring.entryName]);
    }
    for (const [name, tensor] of Object.entries(outputs)) {
      if (name.endsWith('entry')) tensor.dispose();
    }
    this.stages.step += ran - began;
    this.stages.copy += performance.now() - ran;
    return outputs;
  }

  /** @param {Int32Array | number[]} values @param {number[]} shape */
  #int32(values, shape) {
    return new this.ort.Tensor('int32', values instanceof Int32Array ? values : Int32Array.from(values), shape);
  }

  /** @param {Int32Array} tokens @param {number} most */
  #checkTokens(tokens, most) {
    if (tokens.length !== this.tokens || tokens.some((token) => token < 0 || token > most)) {
      throw new EngineError('argument', `tokens must be ${this.tokens} numbers from 0 to ${most}`);
    }
    return this.#int32(tokens, [this.tokens]);
  }

  /** @param {number} action @param {number} most */
  #checkAction(action, most) {
    if (!Number.isInteger(action) || action < 0 || action > most) {
      throw new EngineError('argument', `action ${action} is out of range: this world's actions are 0 to ${this.spec.actions - 1}`);
    }
    return this.#int32([action], [1]);
  }

  /** Forget the history. */
  reset() {
    for (const ring of this.rings.values()) ring.reset();
    this.past = [];
  }

  /**
   * Tokens of a real frame.
   * @param {Uint8Array | Uint8ClampedArray} picture RGB or RGBA
   * @returns {Promise<Int32Array>}
   */
  async encode(picture) {
    const frame = new this.ort.Tensor('uint8', this.#rgb(picture), [this.spec.height, this.spec.width, 3]);
    const { tokens } = await this.#run('encode', { frame }, ['encoder'], ['encoder']);
    return /** @type {Int32Array} */ (tokens.data);
  }

  /** @param {Uint8Array | Uint8ClampedArray} picture */
  #rgb(picture) {
    if (picture.length === this.frameSize) return new Uint8Array(picture.buffer, picture.byteOffset, picture.length);
    if (picture.length !== (this.frameSize / 3) * 4) {
      const { width, height } = this.spec;
      throw new EngineError('argument', `a picture must be ${width} x ${height} pixels of RGB or RGBA, these are ${picture.length} bytes`);
    }
    const rgb = new Uint8Array(this.frameSize);
    for (let from = 0, to = 0; from < picture.length; from += 4) {
      rgb[to++] = picture[from];
      rgb[to++] = picture[from + 1];
      rgb[to++] = picture[from + 2];
    }
    return rgb;
  }

  /**
   * Take a given frame into the history; `action` led to it (A for the first).
   * @param {Int32Array} tokens
   * @param {number} action
   */
  async observe(tokens, action) {
    const inputs = { tokens: this.#checkTokens(tokens, this.codebook - 1), action: this.#checkAction(action, this.spec.actions) };
    await this.#makeRoom();
    await this.#observe(inputs);
    this.#remember(tokens, action);
  }

  /** @param {{tokens: Tensor, action: Tensor}} inputs */
  async #observe({ tokens, action }) {
    await this.#run('observe', { tokens, action }, ['dynamics'], ['dynamics']);
    if (this.rings.has('decoder')) await this.#run('decode', { tokens }, ['decoder'], ['decoder']);
  }

  /** @param {Int32Array} tokens @param {number} action */
  #remember(tokens, action) {
    if (this.spec.window !== 'absolute') return;
    this.past.push([tokens.slice(), action]);
  }

  /**
   * Positions of an absolute window count from its first frame: when it is full, drop the oldest frame and look
   * at the others again from the start.
   */
  async #makeRoom() {
    const dynamics = this.rings.get('dynamics');
    if (this.spec.window !== 'absolute' || !dynamics?.full) return;
    const began = performance.now();
    this.past.shift();
    dynamics.reset();
    for (const [tokens, action] of this.past) {
      const inputs = { tokens: this.#int32(tokens, [this.tokens]), action: this.#int32([action], [1]) };
      await this.#run('observe', inputs, ['dynamics'], ['dynamics']);
    }
    this.stages = { step: 0, observe: performance.now() - began, copy: 0 };
  }

  /**
   * Draw the next frame and take it into the history. Its time by stage is in `stages` afterwards.
   * @param {number} action
   * @param {Int32Array} noise [N*S]
   * @returns {Promise<{tokens: Int32Array, frame: Uint8Array}>}
   */
  async play(action, noise) {
    if (noise.length !== this.noiseSize) {
      throw new EngineError('argument', `noise must be ${this.noiseSize} row numbers, these are ${noise.length}`);
    }
    const inputs = { action: this.#checkAction(action, this.spec.actions - 1), noise: this.#int32(noise, this.noiseShape) };
    this.stages = { step: 0, observe: 0, copy: 0 };
    await this.#makeRoom();
    const outputs = await this.#run('play', inputs, ['dynamics', 'decoder'], ['dynamics', 'decoder']);
    const tokens = /** @type {Int32Array} */ (outputs.tokens.data);
    this.#remember(tokens, action);
    return { tokens, frame: /** @type {Uint8Array} */ (outputs.frame.data) };
  }

  /**
   * Pixels of tokens, as the frame that follows the history; the history stays as it is.
   * @param {Int32Array} tokens
   * @returns {Promise<Uint8Array>}
   */
  async decode(tokens) {
    const { frame } = await this.#run('decode', { tokens: this.#checkTokens(tokens, this.codebook - 1) }, ['decoder']);
    return /** @type {Uint8Array} */ (frame.data);
  }

  /**
   * One refinement pass over the next frame.
   * @param {Int32Array} tokens V where masked
   * @param {number} action
   * @returns {Promise<Float32Array>}
   */
  async logits(tokens, action) {
    const inputs = { tokens: this.#checkTokens(tokens, this.codebook), action: this.#checkAction(action, this.spec.actions) };
    await this.#makeRoom();
    const { logits } = await this.#run('logits', inputs, ['dynamics']);
    return /** @type {Float32Array} */ (logits.data);
  }

  /**
   * The latent action of the last transition.
   * @param {Uint8Array} clip RGB [action_frames*H*W*3]
   * @returns {Promise<{action: number, distances: Float32Array}>}
   */
  async inferAction(clip) {
    const size = this.spec.action_frames * this.frameSize;
    if (clip.length !== size) {
      throw new EngineError('argument', `${this.spec.action_frames} frames of RGB are ${size} bytes, these are ${clip.length}`);
    }
    const { action, distances } = await this.#run('infer_action', { frames: new this.ort.Tensor('uint8', clip, this.clipShape) });
    return { action: Number(action.data[0]), distances: /** @type {Float32Array} */ (distances.data) };
  }
}
