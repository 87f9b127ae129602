/** What a person reads when something is wrong: a title, and what can be done about it. */

/** @typedef {{title: string, text: string, retry: boolean, wasm: boolean}} Words wasm: offer to play without WebGPU */

/** @type {Record<string, {title: string, retry?: boolean, wasm?: boolean}>} */
const KNOWN = {
  'missing-file': { title: 'A file of this world is missing', retry: true },
  'altered-file': { title: 'A file of this world is not what it should be', retry: true },
  network: { title: 'The network does not answer', retry: true },
  schema: { title: 'This world was made for another version of the player' },
  changed: { title: 'This world is not the one you see', retry: true },
  'no-webgpu': { title: 'No WebGPU here', wasm: true },
  memory: { title: 'Not enough memory', retry: true, wasm: true },
  crashed: { title: 'The player stopped', retry: true },
  runtime: { title: 'The player stumbled', retry: true, wasm: true },
};

/** A file's name at the beginning keeps its letters. @param {string} text */
function sentence(text) {
  const named = /^\S+\.\w/.test(text);
  return `${named ? text : `${text.charAt(0).toUpperCase()}${text.slice(1)}`}${/[.!?]$/.test(text) ? '' : '.'}`;
}

/**
 * @param {unknown} error an EngineError, or anything
 * @returns {Words}
 */
export function wordsFor(error) {
  const { code = '', message = String(error) } = /** @type {{code?: string, message?: string}} */ (error ?? {});
  const { title = 'Something went wrong', retry = !(code in KNOWN), wasm = false } = KNOWN[code] ?? {};
  return { title, text: sentence(message), retry, wasm };
}

/** What would allow more threads than one; empty where nothing would. */
export function isolationWords() {
  if (crossOriginIsolated || navigator.hardwareConcurrency < 2) return '';
  return 'serviceWorker' in navigator && isSecureContext
    ? 'Reload the page: from its second visit on it may use more.'
    : 'Over https, or from a server that sends these headers, it may use more.';
}
