/** The dialog in which keys are given to actions. */

import { find, make } from './dom.js';
import { COMMANDS, keyName } from './hands.js';

/**
 * @param {HTMLDialogElement} dialog as index.html has it
 * @param {import('./hands.js').Keys} keys
 * @param {() => void} onChange
 * @returns {() => void} clean-up
 */
export function mountBindings(dialog, keys, onChange) {
  const list = find(dialog, '#bindings', HTMLUListElement);
  const words = find(dialog, '#listening', HTMLElement);
  const closing = new AbortController();
  const options = { signal: closing.signal };
  /** @type {number | null} */
  let listening = null;

  const show = () => {
    list.replaceChildren(...Array.from({ length: keys.controls.actions }, (_, action) => {
      const given = keys.of(action).map((key) => {
        const button = make('button', { type: 'button', 'aria-label': `Take ${keyName(key)} away from action ${action + 1}` }, `${keyName(key)} ×`);
        button.addEventListener('click', () => {
          keys.drop(key);
          changed(action);
        });
        return button;
      });
      const add = make('button', { type: 'button', 'data-add': action, 'aria-label': `Add a key to action ${action + 1}` }, '+ key');
      add.addEventListener('click', () => {
        listening = action;
        words.textContent = `Press a key for action ${action + 1}; Escape: leave it.`;
      });
      return make('li', {}, make('span', {}, `Action ${action + 1}`), ...given, add);
    }));
  };
  const changed = (/** @type {number} */ action) => {
    show();
    onChange();
    find(list, `[data-add="${action}"]`, HTMLButtonElement).focus();
  };
  dialog.addEventListener('keydown', (event) => {
    if (listening === null || event.key === 'Tab') return;
    event.preventDefault();
    event.stopPropagation(); // this key is chosen, not played
    const refused = event.key === 'Escape' ? '' : keys.refuse(event.key.length === 1 ? event.key.toLowerCase() : event.key);
    words.textContent = refused ?? '';
    if (refused) return;
    const action = listening;
    listening = null;
    if (event.key !== 'Escape') {
      keys.set(event.key.length === 1 ? event.key.toLowerCase() : event.key, action);
      words.textContent = `${keyName(event.key)} plays action ${action + 1}.`;
      changed(action);
    }
  }, options);
  dialog.addEventListener('close', () => {
    listening = null;
    words.textContent = '';
  }, options);
  find(dialog, '#default-keys', HTMLButtonElement).addEventListener('click', () => {
    keys.reset();
    show();
    onChange();
  }, options);
  const commands = Object.entries(COMMANDS).map(([key, what]) => make('li', {}, make('kbd', {}, keyName(key)), ` ${what}`));
  find(dialog, '#commands', HTMLUListElement).replaceChildren(...commands);
  show();
  return () => closing.abort();
}
