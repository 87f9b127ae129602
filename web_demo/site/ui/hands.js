/**
 * What the user holds down: keys, buttons of the pad (mouse, touch, pen) and a gamepad. The latest one counts.
 * Keys that a user has chosen are kept in this browser.
 */

/** @typedef {'left' | 'right' | 'up' | 'down'} Arrow */
/** @typedef {{actions: number, arrows: Partial<Record<Arrow, number>>}} Controls */

/** @type {Arrow[]} */
const ARROWS = ['left', 'right', 'up', 'down'];

/** Keys of the first 30 actions; letters that are no command, here or in the terminal. */
const DIGITS_AND_LETTERS = '1234567890bcdefhijklmnoptvwxyz';

/** Keys with another task: what a key does, for the list of keys. @type {Record<string, string>} */
export const COMMANDS = {
  ' ': 'pause',
  '.': 'one step',
  a: 'play on by itself',
  u: 'no speed limit',
  r: 'start again',
  g: 'next picture',
  s: 'save a GIF',
};

/** A key as people write it. @param {string} key */
export function keyName(key) {
  /** @type {Record<string, string>} */
  const signs = { ArrowLeft: '←', ArrowRight: '→', ArrowUp: '↑', ArrowDown: '↓', ' ': 'space' };
  return signs[key] ?? (key.length === 1 ? key.toUpperCase() : key);
}

/**
 * Key -> action before the user changes anything (runtimes/terminal.py): digits and letters; arrows as the world
 * names them, else the first actions.
 * @param {Controls} controls
 * @returns {Map<string, number>}
 */
export function defaultKeys({ actions, arrows }) {
  const keys = new Map([...DIGITS_AND_LETTERS].slice(0, actions).map((key, action) => [key, action]));
  const named = ARROWS.filter((arrow) => arrows[arrow] !== undefined);
  (named.length ? named : ARROWS.slice(0, actions)).forEach((arrow, place) => {
    keys.set(`Arrow${arrow[0].toUpperCase()}${arrow.slice(1)}`, arrows[arrow] ?? place);
  });
  return keys;
}

/** The user's keys, or the default ones; kept under `name`. */
export class Keys {
  /** @param {string} name @param {Controls} controls */
  constructor(name, controls) {
    this.place = `pocketgenie.keys.${name}.${controls.actions}`;
    this.controls = controls;
    this.map = this.#read() ?? defaultKeys(controls);
  }

  /** @returns {Map<string, number> | null} null for what is not there or makes no sense */
  #read() {
    try {
      const kept = JSON.parse(localStorage.getItem(this.place) ?? 'null');
      const fits = (/** @type {unknown} */ action) =>
        Number.isInteger(action) && Number(action) >= 0 && Number(action) < this.controls.actions;
      return Array.isArray(kept) && kept.every(([key, action]) => typeof key === 'string' && fits(action)) ? new Map(kept) : null;
    } catch {
      return null;
    }
  }

  #keep() {
    try {
      localStorage.setItem(this.place, JSON.stringify([...this.map]));
    } catch {
      // Without storage the keys last as long as the page.
    }
  }

  /** Keys of an action. @param {number} action */
  of(action) {
    return [...this.map].filter(([, of]) => of === action).map(([key]) => key);
  }

  /** What stands against a key, or null. @param {string} key */
  refuse(key) {
    if (key in COMMANDS) return `${keyName(key)} is for "${COMMANDS[key]}"; press another key`;
    if (['Tab', 'Escape', 'Enter', 'Shift', 'Control', 'Alt', 'Meta'].includes(key)) return `${key} is the browser's; press another key`;
    return null;
  }

  /** @param {string} key @param {number} action */
  set(key, action) {
    this.map.set(key, action);
    this.#keep();
  }

  /** @param {string} key */
  drop(key) {
    this.map.delete(key);
    this.#keep();
  }

  reset() {
    this.map = defaultKeys(this.controls);
    this.#keep();
  }
}

/** Whether keys typed here are for writing or choosing, not for playing. @param {EventTarget | null} target */
function takesKeys(target) {
  return target instanceof Element && target.closest('input, select, textarea, dialog, [data-keys]') !== null;
}

/** The key itself: what it writes changes while Shift is pressed. @param {KeyboardEvent} event */
const held = ({ code, key }) => `key ${code || key.toLowerCase()}`;

export class Hands {
  /**
   * @param {HTMLElement} pad its buttons have `data-action`
   * @param {Keys} keys
   * @param {(action: number | null) => void} onHold the latest of what is held; null: nothing
   * @param {(key: string) => void} onCommand a key of COMMANDS
   */
  constructor(pad, keys, onHold, onCommand) {
    this.pad = pad;
    this.keys = keys;
    this.onHold = onHold;
    /** What is held, the latest last. @type {Map<string, number>} */
    this.held = new Map();
    /** @type {number | null} */
    this.action = null;
    this.buttons = '';
    this.onCommand = onCommand;
    this.closing = new AbortController();
    const options = { signal: this.closing.signal };
    window.addEventListener('keydown', (event) => this.#down(event), options);
    window.addEventListener('keyup', (event) => this.#put(held(event), null), options);
    window.addEventListener('blur', () => this.drop(), options);
    document.addEventListener('visibilitychange', () => this.drop(), options);
    pad.addEventListener('pointerdown', (event) => this.#touch(event), options);
    for (const kind of /** @type {const} */ (['pointerup', 'pointercancel', 'lostpointercapture'])) {
      pad.addEventListener(kind, ({ pointerId }) => this.#put(`pointer ${pointerId}`, null), options);
    }
    pad.addEventListener('contextmenu', (event) => event.preventDefault(), options);
    this.polling = setInterval(() => this.#poll(), 16);
  }

  /** @param {KeyboardEvent} event */
  #down(event) {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || takesKeys(target)) return;
    const button = target instanceof HTMLElement ? target.closest('button') : null;
    if (button && (key === 'Enter' || key === ' ')) {
      // Held down on a button of the pad, a key plays it as a finger does; other buttons click by themselves.
      if (button.dataset.action === undefined || !this.pad.contains(button)) return;
      event.preventDefault();
      return this.#put(held(event), Number(button.dataset.action));
    }
    const action = this.keys.map.get(key) ?? this.keys.map.get(key.toLowerCase());
    const command = key.length === 1 ? key.toLowerCase() : key;
    if (action === undefined && !(command in COMMANDS)) return;
    event.preventDefault();
    if (event.repeat) return;
    if (action === undefined) this.onCommand(command);
    else this.#put(held(event), action);
  }

  /** @param {PointerEvent} event */
  #touch(event) {
    const button = event.target instanceof Element ? event.target.closest('button') : null;
    if (!button || button.dataset.action === undefined || event.button !== 0) return;
    button.setPointerCapture(event.pointerId);
    this.#put(`pointer ${event.pointerId}`, Number(button.dataset.action));
  }

  /** A gamepad tells nothing by itself: it is asked. Buttons 1-8 are actions, its cross the arrows. */
  #poll() {
    const pads = navigator.getGamepads?.().filter((one) => one !== null) ?? [];
    if (!pads.length && !this.buttons) return;
    const pressed = new Set(pads.flatMap((one) => one.buttons.flatMap((button, place) => (button.pressed ? [place] : []))));
    const [x, y] = [0, 1].map((axis) => pads.map((one) => one.axes[axis] ?? 0).find((value) => Math.abs(value) > 0.5) ?? 0);
    const arrow = pressed.has(14) || x < 0 ? 'ArrowLeft' : pressed.has(15) || x > 0 ? 'ArrowRight'
      : pressed.has(12) || y < 0 ? 'ArrowUp' : pressed.has(13) || y > 0 ? 'ArrowDown' : '';
    const number = [0, 1, 2, 3, 4, 5, 6, 7].find((place) => pressed.has(place));
    const action = number === undefined ? this.keys.map.get(arrow) : number < this.keys.controls.actions ? number : null;
    const before = this.buttons;
    this.buttons = [...pressed].join(' ') + arrow;
    if (this.buttons === before) return;
    const had = new Set(before.split(' '));
    if (pressed.has(9) && !had.has('9')) this.onCommand(' ');
    if (pressed.has(8) && !had.has('8')) this.onCommand('r');
    this.#put('gamepad', action ?? null);
  }

  /** @param {string} source @param {number | null} action null: let go */
  #put(source, action) {
    this.held.delete(source);
    if (action !== null) this.held.set(source, action);
    const latest = [...this.held.values()].at(-1) ?? null;
    if (latest === this.action) return;
    this.action = latest;
    this.onHold(latest);
  }

  /** Let everything go. */
  drop() {
    this.held.clear();
    this.#put('', null);
  }

  close() {
    clearInterval(this.polling);
    this.closing.abort();
  }
}
