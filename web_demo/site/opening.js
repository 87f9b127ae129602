/** What is known of a world before it is loaded. */

/** @typedef {import('./engine/types.js').WorldFile} WorldFile */

export const WORLD = 'world/world.json';
const SCHEMA = 1;
const PLAYING = /** @type {const} */ (['play', 'encode', 'observe', 'decode']);

/** @returns {Promise<WorldFile>} */
export async function fetchWorld() {
  const answer = await fetch(WORLD).catch(() => null);
  if (!answer) throw { code: 'network', message: 'the server does not answer; look at the connection and try again' };
  if (!answer.ok) throw { code: 'missing-file', message: `${WORLD} is not on the server (${answer.status}); copy the whole folder of the site, or export it again` };
  /** @type {WorldFile | null} */
  const world = await answer.json().catch(() => null);
  if (world?.schema_version !== SCHEMA) {
    const words = world ? `${WORLD} has schema ${world.schema_version}` : `${WORLD} cannot be read`;
    throw { code: 'schema', message: `${words}, this page reads schema ${SCHEMA}; export the world again with the page's own version` };
  }
  return world;
}

/** Bytes that a first visit fetches to play on a device. @param {WorldFile} world @param {'wasm' | 'webgpu'} device */
export function bytesFor(world, device) {
  const graphs = { ...world.graphs, ...(device === 'webgpu' ? world.webgpu : {}) };
  const names = new Set(PLAYING.flatMap((name) => (graphs[name] ? [graphs[name].file, ...graphs[name].data] : [])));
  const own = [...names].reduce((sum, name) => sum + (world.files[name]?.size ?? 0), 0);
  const runtime = Object.entries(world.runtime?.[device] ?? {}).reduce((sum, [name, { size }]) => sum + (name.endsWith('.wasm') ? size : 0), 0);
  return { own, runtime };
}
