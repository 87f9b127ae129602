// @ts-check
// What is held: keys, the pad's buttons (mouse, touch, pen) and a gamepad. The latest one pressed counts.

const ARROWS = /** @type {const} */ (['left', 'right', 'up', 'down']);
const MARKS = { left: '←', right: '→', up: '↑', down: '↓' };

/**
 * Key -> action, as the terminal player has it: digits; the world's arrows, else its first actions.
 * @param {number} actions @param {Partial<Record<'left'|'right'|'up'|'down', number>>} arrows
 */
export function keyMap(actions, arrows) {
  /** @type {Map<string, number>} */
  const keys = new Map();
  for (let action = 0; action < Math.min(actions, 9); action++) keys.set(String(action + 1), action);
  const known = Object.keys(arrows).length
    ? Object.entries(arrows)
    : ARROWS.slice(0, actions).map((name, action) => /** @type {[string, number]} */ ([name, action]));
  for (const [name, action] of known) keys.set(`Arrow${name[0].toUpperCase()}${name.slice(1)}`, action);
  return keys;
}

export class Hands {
  /**
   * @param {HTMLElement} pad where the buttons go
   * @param {number} actions
   * @param {Partial<Record<'left'|'right'|'up'|'down', number>>} arrows
   * @param {(action: number | null) => void} onChange
   */
  constructor(pad, actions, arrows, onChange) {
    this.keys = keyMap(actions, arrows);
    this.onChange = onChange;
    /** What is held, the latest last. @type {Map<string, number>} */
    this.held = new Map();
    /** @type {number | null} */
    this.action = null;
    this.pad = pad;
    const named = new Map([...this.keys].filter(([key]) => key.startsWith('Arrow'))
      .map(([key, action]) => [action, MARKS[/** @type {'left'} */ (key.slice(5).toLowerCase())]]));
    pad.innerHTML = Array.from({ length: actions }, (_, action) =>
      `<button type="button" data-action="${action}" aria-label="action ${action + 1}"><b>${action + 1}</b>${
        named.has(action) ? `<span>${named.get(action)}</span>` : ''}</button>`).join('');
    this.abort = new AbortController();
    const { signal } = this.abort;
    addEventListener('keydown', (event) => this.key(event, true), { signal });
    addEventListener('keyup', (event) => this.key(event, false), { signal });
    addEventListener('blur', () => this.drop(), { signal });
    for (const button of pad.querySelectorAll('button')) {
      const action = Number(button.dataset.action);
      button.addEventListener('pointerdown', (event) => {
        button.setPointerCapture(event.pointerId);
        this.put(`pointer ${event.pointerId}`, action);
        event.preventDefault();
      }, { signal });
      for (const kind of ['pointerup', 'pointercancel', 'lostpointercapture']) {
        button.addEventListener(kind, (event) =>
          this.put(`pointer ${/** @type {PointerEvent} */ (event).pointerId}`, null), { signal });
      }
    }
    this.polling = setInterval(() => this.gamepad(), 16);
  }

  /** @param {KeyboardEvent} event @param {boolean} down */
  key(event, down) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = /** @type {Element | null} */ (event.composedPath()[0]);
    if (target?.closest?.('input, textarea, select, [contenteditable=true], [role=combobox], [role=radio], [role=slider]')) return;
    const action = this.keys.get(event.key);
    if (action === undefined) return;
    event.preventDefault();
    if (!event.repeat) this.put(`key ${event.key}`, down ? action : null);
  }

  gamepad() {
    let action = null;
    for (const pad of navigator.getGamepads?.() ?? []) {
      if (!pad) continue;
      const [x, y] = [pad.axes[0] ?? 0, pad.axes[1] ?? 0];
      const way = pad.buttons[14]?.pressed || x < -0.5 ? 'Left' : pad.buttons[15]?.pressed || x > 0.5 ? 'Right'
        : pad.buttons[12]?.pressed || y < -0.5 ? 'Up' : pad.buttons[13]?.pressed || y > 0.5 ? 'Down' : '';
      action = this.keys.get(`Arrow${way}`) ?? null;
      const button = pad.buttons.slice(0, 8).findIndex((one) => one.pressed);
      if (button >= 0) action = this.keys.get(String(button + 1)) ?? action;
    }
    if ((this.held.get('gamepad') ?? null) !== action) this.put('gamepad', action);
  }

  /** @param {string} source @param {number | null} action null: let go */
  put(source, action) {
    this.held.delete(source);
    if (action !== null) this.held.set(source, action);
    const latest = [...this.held.values()].at(-1) ?? null;
    if (latest === this.action) return;
    this.action = latest;
    this.onChange(latest);
  }

  /** Let everything go: the window lost the keyboard. */
  drop() {
    this.held.clear();
    this.put('', null);
  }

  /** Light the button of an action. @param {number | null} action */
  light(action) {
    for (const button of this.pad.querySelectorAll('button')) {
      button.classList.toggle('lit', Number(button.dataset.action) === action);
    }
  }

  close() {
    clearInterval(this.polling);
    this.abort.abort();
  }
}
