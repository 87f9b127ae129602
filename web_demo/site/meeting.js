/** Another runtime plays along, beside the first: what the page shows of both. */

import { Engine } from './engine/engine.js';
import { same, WORLD } from './opening.js';
import { at, button, say, write } from './page.js';
import { find, make } from './ui/dom.js';
import { Screen } from './ui/screen.js';
import { apart, rivals, Tally } from './ui/versus.js';
import { wordsFor } from './ui/words.js';

/** @typedef {import('./engine/types.js').Loaded} Loaded */
/** @typedef {import('./engine/types.js').Start} Start */
/** @typedef {import('./engine/types.js').Played} Played */

export class Meeting {
  /** @param {import('./engine/types.js').WorldSpec} spec */
  constructor(spec) {
    this.spec = spec;
    this.tally = new Tally(at('verdict'));
    /** @type {Screen | null} */
    this.screen = null;
  }

  /** @param {Loaded} own */
  offer(own) {
    at('rival').replaceChildren(...rivals(own).map(({ words }, place) => make('option', { value: place }, words)));
  }

  /**
   * Load the runtime that was chosen.
   * @param {Loaded} own
   * @returns {Promise<Engine | null>} null: it did not load, and the page says why
   */
  async load(own) {
    const chosen = rivals(own)[Number(find(document, '#rival', HTMLSelectElement).value)];
    const engine = new Engine();
    button('versus').disabled = true;
    write('verdict', `Loading ${chosen.words}…`);
    try {
      const { deviceName, world } = await engine.load({ world: WORLD, device: chosen.device, threads: chosen.threads });
      same(own.world, world);
      this.#open(own.deviceName, deviceName);
      return engine;
    } catch (error) {
      engine.close();
      write('verdict', wordsFor(error).text);
      return null;
    } finally {
      button('versus').disabled = false;
    }
  }

  /** @param {string} own @param {string} other */
  #open(own, other) {
    at('second').hidden = false;
    find(document, '.screens', HTMLElement).classList.add('two');
    this.screen = new Screen(at('other'), this.spec, `The same world on ${other}`);
    write('screen-name', own);
    write('other-name', other);
    button('versus').setAttribute('aria-pressed', 'true');
    say(`${other} plays along`);
  }

  /** @param {Start} start @param {Start | null} other */
  start(start, other) {
    this.tally.clear();
    if (!other) return;
    this.screen?.draw(other.frame);
    this.screen?.mark(apart(start.tokens, other.tokens));
  }

  /** @param {Played} played @param {Played | null} other */
  frame(played, other) {
    if (!other || !this.screen) return;
    const places = apart(played.tokens, other.tokens);
    this.screen.draw(other.frame);
    this.screen.mark(places);
    this.tally.add(played, other, places);
  }

  close() {
    this.screen?.close();
    this.screen = null;
    at('second').hidden = true;
    find(document, '.screens', HTMLElement).classList.remove('two');
    button('versus').setAttribute('aria-pressed', 'false');
    this.tally.clear();
  }
}
