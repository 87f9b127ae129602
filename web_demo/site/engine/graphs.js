/** A world's graphs on ONNX Runtime Web, each opened at its first use. */

import { EngineError, asEngineError } from './errors.js';
import { graphsFor } from './loading.js';

/** @typedef {import('./memory.js').Ort} Ort */
/** @typedef {import('onnxruntime-common').Tensor} Tensor */
/** @typedef {import('onnxruntime-common').InferenceSession} OrtSession */
/** @typedef {Record<string, Tensor>} Tensors */
/** @typedef {import('./types.js').Device} Device */
/** @typedef {import('./types.js').GraphName} GraphName */
/** @typedef {import('./types.js').WorldFile} WorldFile */

export class Graphs {
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
    if (!entry) {
      const lack = name === 'infer_action' ? 'no action model: it names no action of a video' : `no graph ${name}`;
      throw new EngineError('no-graph', `this world has ${lack}`);
    }
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
