/**
 * Optional, for static hosts. Two things that a page cannot do alone: it is isolated (COOP and COEP), so that
 * WebAssembly may use threads where the server does not send these headers; and it opens without a network on
 * the second visit. The page registers it: `navigator.serviceWorker.register('sw.js')`, and is isolated from its
 * next load on. World files are checked and kept by the engine itself (they are asked for with ?sha256=).
 */

const sw = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));
const CACHE = 'pocketgenie-page';
const ISOLATED = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Resource-Policy': 'same-origin',
};

sw.addEventListener('install', () => sw.skipWaiting());
sw.addEventListener('activate', (event) => event.waitUntil(sw.clients.claim()));

sw.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== 'GET' || url.origin !== sw.location.origin || url.searchParams.has('sha256')) return;
  event.respondWith(answer(request));
});

/**
 * The server's answer, or the last one where it does not answer.
 * @param {Request} request
 * @returns {Promise<Response>}
 */
async function answer(request) {
  const cache = await caches.open(CACHE).catch(() => null); // a disk that is full or broken: then nothing is kept
  const address = request.url.split(/[?#]/)[0]; // a link that replays a run is the same page
  try {
    // Asked for anew, or a host's own caching would mix the files of two exports.
    const response = isolated(await fetch(request, { cache: 'no-cache' }));
    if (response.ok) await cache?.put(address, response.clone()).catch(() => {});
    return response;
  } catch (error) {
    const kept = await cache?.match(address);
    if (!kept) throw error;
    return kept;
  }
}

/** @param {Response} response */
function isolated(response) {
  if (response.status === 0) return response; // a redirect, which the browser follows
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(ISOLATED)) headers.set(name, value);
  const empty = [101, 204, 205, 304].includes(response.status);
  return new Response(empty ? null : response.body, { status: response.status, statusText: response.statusText, headers });
}
