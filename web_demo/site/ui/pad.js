/** The buttons of the actions: each shows what the world makes of it. */

import { make, still } from './dom.js';
import { keyName } from './hands.js';
import { Picture } from './screen.js';

const LOOP_MS = 130;
const HOLD = 4; // how many turns the last picture stays

export class Pad {
  /**
   * @param {HTMLElement} element
   * @param {{actions: number, width: number, height: number}} spec
   * @param {import('./hands.js').Keys} keys
   */
  constructor(element, spec, keys) {
    this.element = element;
    this.keys = keys;
    this.buttons = Array.from({ length: spec.actions }, (_, action) => {
      const canvas = make('canvas', { 'aria-hidden': true });
      const button = make('button', { type: 'button', 'data-action': action }, canvas, make('span', { class: 'caps' }));
      return { button, picture: new Picture(canvas, spec) };
    });
    element.replaceChildren(...this.buttons.map(({ button }) => button));
    /** What the world makes of each action, in pictures. @type {Uint8Array[][]} */
    this.clips = this.buttons.map(() => []);
    this.turn = 0;
    this.timer = setInterval(() => this.#next(), LOOP_MS);
    this.name();
  }

  /** Write the keys on the buttons, after they were changed. */
  name() {
    this.buttons.forEach(({ button }, action) => {
      const keys = this.keys.of(action).map(keyName);
      const shown = keys.slice(0, 3).map((key) => make('kbd', {}, key));
      button.lastElementChild?.replaceChildren(...(shown.length ? shown : [make('b', {}, String(action + 1))]));
      button.setAttribute('aria-label', `Action ${action + 1}${keys.length ? `, key ${keys.join(' or ')}` : ''}. Hold to repeat.`);
    });
  }

  /** @param {number} action @param {Uint8Array[]} frames none: forget it */
  show(action, frames) {
    this.clips[action] = frames;
    this.buttons[action].button.classList.toggle('known', frames.length > 0);
    this.#draw(action);
  }

  /** Forget what each action does; until that is known again, hint at the start. @param {Uint8Array} start */
  clear(start) {
    this.buttons.forEach(({ button, picture }, action) => {
      this.show(action, []);
      picture.draw(start);
      button.classList.add('hint');
    });
  }

  /** Light the button of the action that is played. @param {number | null} action */
  light(action) {
    this.buttons.forEach(({ button }, place) => button.classList.toggle('lit', place === action));
  }

  #next() {
    if (still() || document.hidden) return;
    this.turn += 1;
    this.clips.forEach((_, action) => this.#draw(action));
  }

  /** @param {number} action */
  #draw(action) {
    const clip = this.clips[action];
    if (!clip.length) return;
    const last = clip.length - 1;
    this.buttons[action].picture.draw(clip[still() ? last : Math.min(this.turn % (clip.length + HOLD), last)]);
  }

  close() {
    clearInterval(this.timer);
    this.element.replaceChildren();
  }
}
