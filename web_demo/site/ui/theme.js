/** Dark or light: as the system has it, until the user chooses; the choice is kept. */

const PLACE = 'pocketgenie.theme';

/** @param {HTMLButtonElement} button @returns {() => void} clean-up */
export function mountTheme(button) {
  const root = document.documentElement;
  const system = matchMedia('(prefers-color-scheme: light)');
  const closing = new AbortController();
  const chosen = () => {
    try {
      return localStorage.getItem(PLACE);
    } catch {
      return null;
    }
  };
  const apply = (theme = chosen() ?? (system.matches ? 'light' : 'dark')) => {
    root.dataset.theme = theme;
    button.textContent = theme === 'light' ? 'Dark' : 'Light';
    button.setAttribute('aria-label', `Change to ${theme === 'light' ? 'dark' : 'light'} colours`);
    const ground = getComputedStyle(root).getPropertyValue('--ground').trim();
    document.querySelector('meta[name="theme-color"]')?.setAttribute('content', ground);
  };
  system.addEventListener('change', () => apply(), { signal: closing.signal });
  button.addEventListener('click', () => {
    const theme = root.dataset.theme === 'light' ? 'dark' : 'light';
    try {
      localStorage.setItem(PLACE, theme);
    } catch {
      // Without storage it lasts as long as the page.
    }
    apply(theme);
  }, { signal: closing.signal });
  apply();
  return () => closing.abort();
}
