/** The service worker: it keeps the page for a visit without a network, and isolates it, so that threads are allowed. */

const RELOADED = `pocketgenie.reloaded ${location.pathname}`; // other worlds may have the same origin
const PATIENCE = 4000; // ms

/**
 * Resolves once the page is looked after, or cannot be, or that takes too long. Where isolation is still lacking,
 * the page is loaded a second time, once, as long as `idle` says that nothing is lost by it.
 * @param {() => boolean} idle
 * @param {Promise<void>} opened the page has asked for all that it shows
 * @param {() => void} onKept from now on the page opens without a network
 * @returns {Promise<void>}
 */
export async function mountOffline(idle, opened, onKept) {
  const { serviceWorker } = navigator;
  if (!serviceWorker) return;
  try {
    await serviceWorker.register('sw.js');
    const kept = keep(serviceWorker, idle, opened).then(onKept);
    await Promise.race([kept, new Promise((resolve) => setTimeout(resolve, PATIENCE))]);
  } catch {
    // Private windows and plain http have none; the page plays without.
  }
}

/** @param {ServiceWorkerContainer} container @param {() => boolean} idle @param {Promise<void>} opened */
async function keep(container, idle, opened) {
  if (!container.controller) await new Promise((resolve) => container.addEventListener('controllerchange', resolve, { once: true }));
  if (!crossOriginIsolated && idle() && !sessionStorage.getItem(RELOADED)) {
    sessionStorage.setItem(RELOADED, '1');
    location.reload();
    await new Promise(() => {}); // this page ends here
  }
  await opened;
  // What was loaded before the service worker was there is asked for again, so that it is kept.
  const own = performance.getEntriesByType('resource').map(({ name }) => name);
  const asked = [location.href.split('#')[0], ...own].filter((name) => name.startsWith(location.origin) && !name.includes('sha256='));
  await Promise.all(asked.map((name) => fetch(name).catch(() => {})));
}
