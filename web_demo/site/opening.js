/** A world before it plays: what it is, what it costs to load, and the loading itself. */

import { Engine } from './engine/engine.js';
import { Depot, loadWorld, needs, vendorOf } from './engine/loading.js';
import { button, curtain, fail, say, write } from './page.js';
import { find, megabytes } from './ui/dom.js';

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
 * Load a world and its player, and show how far that is.
 * @param {WorldFile} world as the page shows it
 * @param {'auto' | 'wasm'} device
 * @param {Promise<void>} ready what is waited for first
 * @param {() => void} again what "Try again" does
 * @returns {Promise<{engine: Engine, loaded: import('./engine/types.js').Loaded} | null>} null: the user has cancelled,
 *   or it did not load, and the page says why
 */
export async function bring(world, device, ready, again) {
  const cancelling = new AbortController();
  button('cancel').onclick = () => cancelling.abort();
  curtain('loading');
  button('cancel').focus();
  const engine = new Engine();
  try {
    await ready;
    const loaded = await engine.load({ world: WORLD, device, onProgress: showProgress, signal: cancelling.signal });
    same(world, loaded.world);
    return { engine, loaded };
  } catch (error) {
    engine.close();
    const { code } = /** @type {{code?: string}} */ (error);
    if (code === 'cancelled') {
      curtain('invite');
      button('play').focus();
      say('Cancelled. What has been loaded is kept.');
    } else fail(error, code === 'changed' ? () => location.reload() : again);
    return null;
  }
}

/** @param {import('./engine/types.js').Progress} progress */
function showProgress({ stage, loaded, total, cached, graph }) {
  const words = { files: cached && cached === loaded ? 'Opening what is kept here' : 'Loading the world', runtime: 'Starting the player', graphs: `Preparing to ${graph?.replace('_', ' ') ?? 'play'}`, ready: 'Ready' };
  const share = total ? Math.floor((100 * loaded) / total) : 0;
  write('doing', words[stage]);
  find(document, '#progress', HTMLProgressElement).value = share;
  write('percent', `${share} %`);
  write('bytes', total ? `${megabytes(loaded)} of ${megabytes(total)}` : '');
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
