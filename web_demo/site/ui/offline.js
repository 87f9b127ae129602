/** The service worker: it keeps the page for a visit without a network, and isolates it, so that threads are allowed. */

const RELOADED = 'pocketgenie.reloaded';
const PATIENCE = 4000; // ms

/**
 * Resolves once the page is looked after, or cannot be. Where isolation is still lacking, the page is loaded a
 * second time, once, as long as `idle` says that nothing is lost by it.
 * @param {() => boolean} idle
 * @returns {Promise<void>}
 */
export async function mountOffline(idle) {
  const { serviceWorker } = navigator;
  if (!serviceWorker) return;
  try {
    const registration = await serviceWorker.register('sw.js');
    await Promise.race([controlled(serviceWorker), new Promise((resolve) => setTimeout(resolve, PATIENCE))]);
    if (!serviceWorker.controller && registration.active) return;
    if (!crossOriginIsolated && idle() && !sessionStorage.getItem(RELOADED)) {
      sessionStorage.setItem(RELOADED, '1');
      location.reload();
      return;
    }
    // What was loaded before the service worker was there is asked for again, so that it is kept.
    const own = performance.getEntriesByType('resource').map(({ name }) => name);
    const asked = [location.href.split('#')[0], ...own].filter((name) => name.startsWith(location.origin) && !name.includes('sha256='));
    await Promise.all(asked.map((name) => fetch(name).catch(() => {})));
  } catch {
    // Private windows and plain http have none; the page plays without.
  }
}

/** @param {ServiceWorkerContainer} container */
async function controlled(container) {
  if (container.controller) return;
  await new Promise((resolve) => container.addEventListener('controllerchange', resolve, { once: true }));
}
