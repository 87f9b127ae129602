/** The page's own elements, by their ids in index.html, and how it speaks. */

import { find, make } from './ui/dom.js';
import { wordsFor } from './ui/words.js';

const SAID_MS = 6000;

export const at = (/** @type {string} */ name) => find(document, `#${name}`, HTMLElement);
export const button = (/** @type {string} */ name) => find(document, `#${name}`, HTMLButtonElement);
export const canvas = (/** @type {string} */ name) => find(document, `#${name}`, HTMLCanvasElement);
export const dialog = (/** @type {string} */ name) => find(document, `#${name}`, HTMLDialogElement);
export const write = (/** @type {string} */ name, /** @type {string} */ text) => {
  if (at(name).textContent !== text) at(name).textContent = text;
};
export const click = (/** @type {string} */ name, /** @type {() => unknown} */ work) => button(name).addEventListener('click', work);

let silence = 0;
/** Tell the user, and a screen reader, once. @param {string} words */
export function say(words) {
  clearTimeout(silence);
  at('say').replaceChildren(make('span', {}, words));
  silence = setTimeout(() => at('say').replaceChildren(), SAID_MS);
}

/** What a picture or a run lacks is told; anything else is a fault. @param {unknown} error */
export function sayTrouble(error) {
  say(error instanceof Error ? error.message : String(error));
}

/** @param {'invite' | 'loading' | 'trouble' | null} which null: the world itself */
export function curtain(which) {
  at('curtain').classList.toggle('open', which === null);
  for (const name of ['invite', 'loading', 'trouble']) at(name).hidden = name !== which;
}

/** @param {unknown} error @param {() => void} retry */
export function fail(error, retry) {
  const { title, text, retry: again, wasm } = wordsFor(error);
  write('trouble-title', title);
  write('trouble-text', text);
  button('retry').hidden = !again;
  button('use-wasm').hidden = !wasm;
  button('retry').onclick = retry;
  curtain('trouble');
}
