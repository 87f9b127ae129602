/** What is known of a world before it is loaded; the engine reads it, and judges it, the same way. */

import { Depot, loadWorld, needs, vendorOf } from './engine/loading.js';

/** @typedef {import('./engine/types.js').WorldFile} WorldFile */

export const WORLD = 'world/world.json';
const ADDRESS = new URL(WORLD, document.baseURI).href;

/** Rejects with an EngineError. @returns {Promise<WorldFile>} */
export const fetchWorld = () => loadWorld(ADDRESS);

/** Files of the world, checked and kept. @param {WorldFile} world */
export const depotOf = (world) => new Depot(ADDRESS, world.files);

/**
 * Bytes that a first visit fetches to play on a device, and whether this is none.
 * @param {WorldFile} world
 * @param {'wasm' | 'webgpu'} device
 */
export async function costOf(world, device) {
  const { paths, runtime, binaries } = needs(world, device);
  const [own, engine] = [depotOf(world), new Depot(vendorOf(device), runtime)];
  const kept = (await Promise.all([own.keeps(paths), engine.keeps(binaries)])).every(Boolean);
  return { own: own.size(paths), runtime: engine.size(binaries), kept };
}

/**
 * The world may have been exported anew since the page was opened: its pictures and links are another's then.
 * @param {WorldFile} shown
 * @param {WorldFile} loaded
 */
export function same(shown, loaded) {
  if (JSON.stringify(shown) === JSON.stringify(loaded)) return;
  throw { code: 'changed', message: 'it was exported again after this page was opened; reload the page' };
}
