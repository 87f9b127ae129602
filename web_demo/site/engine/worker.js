/**
 * The worker that owns ONNX Runtime Web. It answers one call after the other; one world is loaded in its life
 * (a cancelled or failed loading ends with it).
 *
 * Messages in: {id, call, args}. Out: {id, result}, {id, error: {code, message, device}}, {id, progress}.
 */

import { chooseDevice } from './device.js';
import { EngineError, asEngineError } from './errors.js';
import { Depot, loadWorld, needs, playing, vendorOf } from './loading.js';
import { Player } from './player.js';
import { Session } from './session.js';

/** @typedef {import('./types.js').Device} Device */
/** @typedef {import('./types.js').Progress} Progress */
/** @typedef {import('./types.js').Loaded} Loaded */
/** @typedef {{world: string, device: Device | 'auto', threads: number, instead?: string}} Wish */

const GLUE = { wasm: 'ort-wasm-simd-threaded', webgpu: 'ort-wasm-simd-threaded.asyncify' };
const REPORT_EVERY = 40; // ms

/** @type {Player | null} */
let loaded = null;
/** @type {Device | null} */
let chosen = null;

function player() {
  if (!loaded) throw new EngineError('not-loaded', 'no world is loaded; load one first');
  return loaded;
}

/**
 * @param {Wish} wish
 * @param {(progress: Progress) => void} report
 * @returns {Promise<Loaded>}
 */
async function load(wish, report) {
  const world = await loadWorld(wish.world);
  const choice = await chooseDevice(wish.device, wish.threads, world.spec, wish.instead);
  const { device } = choice;
  chosen = device;
  const base = new URL('.', wish.world).href;
  const vendor = vendorOf(device);

  /** @type {Progress} */
  let progress = { stage: 'files', loaded: 0, total: 0, cached: 0 };
  let reported = 0;
  /** @param {Partial<Progress>} news @param {boolean} [now] */
  const tell = (news, now) => {
    progress = { ...progress, ...news };
    if (!now && performance.now() - reported < REPORT_EVERY) return;
    reported = performance.now();
    report(progress);
  };
  /** @param {import('./loading.js').Came} came */
  const count = (came) =>
    tell({ loaded: progress.loaded + came.loaded, cached: progress.cached + came.cached, file: came.file });

  const depot = new Depot(base, world.files, count);
  const { paths, runtime, binaries } = needs(world, device);
  const engines = new Depot(vendor, runtime, count);
  tell({ total: depot.size(paths) + engines.size(binaries) }, true);

  const [[binary = null], ...contents] = await Promise.all([
    Promise.all(binaries.map((name) => engines.read(name))),
    ...paths.map(async (path) => /** @type {const} */ ([path, await depot.read(path)])),
  ]);
  await Promise.all([depot.prune(), binary && engines.prune()]);

  tell({ stage: 'runtime', file: undefined }, true);
  const ort = await openRuntime(vendor, device, choice.threads, binary);
  const files = new Map(contents);
  const session = new Session(ort, device, world, async (path) => files.get(path) ?? depot.read(path));
  await session.prepare(playing(world.spec), (graph) => tell({ stage: 'graphs', graph }, true));
  files.clear(); // ONNX Runtime has its own copy
  ort.env.wasm.wasmBinary = undefined;
  loaded = new Player(session, world.noise);
  const { total, cached } = progress;
  tell({ stage: 'ready', graph: undefined }, true);
  return { spec: world.spec, world, base, ...choice, bytes: { total, cached } };
}

/**
 * ONNX Runtime Web, from the site's own files.
 * @param {string} vendor
 * @param {Device} device
 * @param {number} threads
 * @param {Uint8Array<ArrayBuffer> | null} binary its .wasm, where it has been fetched
 * @returns {Promise<import('./memory.js').Ort>}
 */
async function openRuntime(vendor, device, threads, binary) {
  const [ort] = await Promise.all([`ort.${device}.min`, GLUE[device]].map(async (name) => {
    try {
      return /** @type {import('./memory.js').Ort} */ (await import(`${vendor}${name}.mjs`));
    } catch {
      const words = `vendor/ort/${device}/${name}.mjs is missing on the server or cannot be read`;
      throw new EngineError('missing-file', `${words}; copy the whole folder of the site, or export it again`);
    }
  }));
  ort.env.logLevel = 'error';
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.proxy = false; // this is the worker
  ort.env.wasm.wasmPaths = { mjs: `${vendor}${GLUE[device]}.mjs`, wasm: `${vendor}${GLUE[device]}.wasm` };
  if (binary) ort.env.wasm.wasmBinary = binary;
  return ort;
}

/** @type {Record<string, (...args: any[]) => unknown>} */
const CALLS = {
  start: (picture) => player().start(picture),
  play: (action, noise) => player().play(action, noise),
  seed: (seed) => player().setSeed(seed),
  temperatureZero: (on) => void (player().temperatureZero = on),
  reset: () => player().reset(),
  encode: (picture) => player().session.encode(picture),
  observe: (tokens, action) => player().session.observe(tokens, action),
  decode: (tokens) => player().session.decode(tokens),
  logits: (tokens, action) => player().session.logits(tokens, action),
  inferAction: (frames) => player().session.inferAction(frames),
  turn: (frames, seconds, warmUp) => player().turn(frames, seconds, warmUp),
};

/** Buffers that the page takes over, in place of a copy. @param {unknown} result @returns {Transferable[]} */
function owned(result) {
  const values = ArrayBuffer.isView(result) ? [result] : result && typeof result === 'object' ? Object.values(result) : [];
  return values.flatMap((value) => (ArrayBuffer.isView(value) && value.buffer instanceof ArrayBuffer ? [value.buffer] : []));
}

/** @param {{id: number, call: string, args: any[]}} message */
async function answer({ id, call, args }) {
  try {
    const result =
      call === 'load' ? await load(args[0], (progress) => postMessage({ id, progress })) : await CALLS[call](...args);
    postMessage({ id, result }, { transfer: owned(result) });
  } catch (thrown) {
    const { code, message } = asEngineError(thrown, call === 'load' ? 'loading the world' : call);
    postMessage({ id, error: { code, message, device: chosen } });
  }
}

let last = Promise.resolve();
addEventListener('message', ({ data }) => {
  last = last.then(() => answer(data));
});
