/** Brings a world's files: checked to the byte, counted as they come, kept for the next visit. */

import { EngineError } from './errors.js';
import { sha256 } from './sha256.js';

/** @typedef {import('./types.js').WorldFile} WorldFile */
/** @typedef {import('./types.js').Files} Files */
/** @typedef {import('./types.js').GraphName} GraphName */
/** @typedef {{loaded: number, cached: number, file: string}} Came */

const SCHEMA = 1;
const CACHE = 'pocketgenie-world';

/**
 * Graphs that playing needs; the others are fetched when they are asked for.
 * @param {WorldFile['spec']} spec
 * @returns {GraphName[]}
 */
export function playing(spec) {
  return ['play', 'encode', 'observe', 'decode', ...(spec.prefill ? /** @type {const} */ (['prefill']) : [])];
}

/**
 * A world's graphs on one device.
 * @param {WorldFile} world
 * @param {import('./types.js').Device} device
 */
export function graphsFor(world, device) {
  return { ...world.graphs, ...(device === 'webgpu' ? world.webgpu : {}) };
}

/**
 * What playing fetches: the graphs' files, and ONNX Runtime's own binary.
 * @param {WorldFile} world
 * @param {import('./types.js').Device} device
 */
export function needs(world, device) {
  const graphs = graphsFor(world, device);
  const paths = playing(world.spec).flatMap((name) => (graphs[name] ? [graphs[name].file, ...graphs[name].data] : []));
  const runtime = world.runtime?.[device] ?? {};
  return { paths: [...new Set(paths)], runtime, binaries: Object.keys(runtime).filter((name) => name.endsWith('.wasm')) };
}

/** Where ONNX Runtime Web's files for a device lie. @param {import('./types.js').Device} device */
export const vendorOf = (device) => new URL(`../vendor/ort/${device}/`, import.meta.url).href;

/** Storage that outlives the visit; null where the page may not keep anything. */
async function openCache() {
  return globalThis.caches ? caches.open(CACHE).catch(() => null) : null;
}

/**
 * @param {string} url of world.json
 * @returns {Promise<WorldFile>}
 */
export async function loadWorld(url) {
  const cache = await openCache();
  let response;
  try {
    response = await request(url, 'world.json', 'no-cache');
    await cache?.put(url, response.clone()).catch(() => {});
  } catch (error) {
    response = error instanceof EngineError && error.code === 'network' ? await cache?.match(url).catch(() => undefined) : undefined;
    if (!response) throw error;
  }
  const text = await response.text();
  let world;
  try {
    world = JSON.parse(text);
  } catch {
    throw new EngineError('schema', 'world.json is not JSON; export the world again and copy the whole folder');
  }
  checkWorld(world);
  return world;
}

/**
 * @param {any} world what world.json holds
 * @returns {asserts world is WorldFile}
 */
export function checkWorld(world) {
  if (world?.schema_version !== SCHEMA) {
    const found = JSON.stringify(world?.schema_version) ?? 'none';
    const words = `world.json has schema ${found}, this page reads schema ${SCHEMA}`;
    throw new EngineError('schema', `${words}; export the world again and copy the whole folder, page and world`);
  }
  const told = ['spec', 'graphs', 'files', 'noise'];
  const lacking = told.filter((field) => typeof world[field] !== 'object' || !world[field]);
  if (!lacking.length) {
    const { dynamics } = world.spec.memories ?? {};
    if (!dynamics) lacking.push('spec.memories.dynamics');
    for (const graph of playing(world.spec)) {
      const entry = world.graphs[graph];
      if (!entry) lacking.push(`graphs.${graph}`);
      else for (const file of [entry.file, ...(entry.data ?? [])]) if (!world.files[file]) lacking.push(`files.${file}`);
    }
  }
  if (lacking.length) {
    const words = `world.json does not say ${lacking[0]}`;
    throw new EngineError('schema', `${words}; export the world again and copy the whole folder`);
  }
}

/**
 * A response that is there.
 * @param {string} url
 * @param {string} name for people
 * @param {RequestCache} cache
 * @returns {Promise<Response>}
 */
async function request(url, name, cache) {
  let response;
  try {
    response = await fetch(url, { cache, credentials: 'same-origin' });
  } catch {
    const words = `${name} did not come: the server does not answer`;
    throw new EngineError('network', `${words}; look at the connection and load again`);
  }
  if (response.ok) return response;
  if (response.status === 404 || response.status === 410) {
    const words = `${name} is missing on the server (${response.status})`;
    throw new EngineError('missing-file', `${words}; copy the whole folder of the site, or export it again`);
  }
  throw new EngineError('network', `${name} did not come: the server answers ${response.status}; load again later`);
}

/** The files of one folder. */
export class Depot {
  /**
   * @param {string} base address of the folder, with its last slash
   * @param {Files} files
   * @param {(came: Came) => void} [report] called whenever bytes came in
   */
  constructor(base, files, report = () => {}) {
    this.base = base;
    this.files = files;
    this.report = report;
    this.cache = openCache();
  }

  /** Sum of sizes. @param {Iterable<string>} paths */
  size(paths) {
    return [...paths].reduce((sum, path) => sum + this.#entry(path).size, 0);
  }

  /** @param {string} path */
  #entry(path) {
    const entry = this.files[path];
    if (!entry) throw new EngineError('schema', `world.json names ${path} without its hash; export the world again`);
    return entry;
  }

  /**
   * A new version of a file has a new address, so that no cache on the way can hand out the old one.
   * @param {string} path
   */
  #address(path) {
    return `${new URL(path, this.base)}?sha256=${this.#entry(path).sha256}`;
  }

  /**
   * A file's bytes, as world.json says they must be.
   * @param {string} path
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  async read(path) {
    const address = this.#address(path);
    const cache = await this.cache;
    const kept = await cache?.match(address).then((found) => found?.arrayBuffer()).catch(() => null); // a broken cache is none
    if (kept) {
      const bytes = new Uint8Array(kept);
      if (await this.#sound(path, bytes)) {
        this.report({ loaded: bytes.length, cached: bytes.length, file: path });
        return bytes;
      }
      await cache?.delete(address).catch(() => {});
    }
    const bytes = await this.#fetch(path, await request(address, path, 'no-store'));
    if (!(await this.#sound(path, bytes))) throw altered(path);
    await cache?.put(address, new Response(bytes)).catch(() => {}); // a full disk is no reason not to play
    return bytes;
  }

  /**
   * @param {string} path
   * @param {Uint8Array<ArrayBuffer>} bytes
   */
  async #sound(path, bytes) {
    const { size, sha256: wanted } = this.#entry(path);
    return bytes.length === size && (await sha256(bytes)) === wanted;
  }

  /**
   * @param {string} path
   * @param {Response} response
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  async #fetch(path, response) {
    const bytes = new Uint8Array(this.#entry(path).size);
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
    let filled = 0;
    for (;;) {
      const { done, value } = await reader.read().catch(() => {
        const words = `${path} broke off after ${filled} bytes`;
        throw new EngineError('network', `${words}; look at the connection and load again`);
      });
      if (done) break;
      if (filled + value.length > bytes.length) throw altered(path);
      bytes.set(value, filled);
      filled += value.length;
      this.report({ loaded: value.length, cached: 0, file: path });
    }
    return bytes.subarray(0, filled);
  }

  /** Whether the cache holds all of these. @param {Iterable<string>} paths */
  async keeps(paths) {
    const cache = await this.cache;
    const found = await Promise.all([...paths].map((path) => cache?.match(this.#address(path)).catch(() => null)));
    return found.every(Boolean);
  }

  /** Let go of what the cache holds of this folder's earlier versions. */
  async prune() {
    const cache = await this.cache;
    if (!cache) return;
    const kept = new Set(Object.keys(this.files).map((path) => this.#address(path)));
    for (const { url } of await cache.keys().catch(() => [])) {
      if (url.startsWith(this.base) && url.includes('?sha256=') && !kept.has(url)) await cache.delete(url).catch(() => {});
    }
  }
}

/** @param {string} path */
function altered(path) {
  const words = `${path} is not what was exported: its bytes differ from world.json`;
  return new EngineError('altered-file', `${words}; load again, and if that does not help copy the site's folder anew`);
}
