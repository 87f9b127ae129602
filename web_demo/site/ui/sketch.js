/** A drawing board of the world's own pixels and colours. */

import { css } from './colours.js';
import { context, make } from './dom.js';
import { Picture } from './screen.js';

/** @typedef {import('./colours.js').Colour} Colour */

const BRUSHES = [1, 2, 4, 8, 16]; // pixels at a frame of 64
const UNDOS = 50;

export class Sketch {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{swatches: HTMLElement, brushes: HTMLElement}} places for the choices
   * @param {{width: number, height: number}} spec
   * @param {(frame: Uint8Array) => void} onChange
   */
  constructor(canvas, { swatches, brushes }, spec, onChange) {
    this.spec = spec;
    this.canvas = canvas;
    this.onChange = onChange;
    this.picture = new Picture(canvas, spec);
    this.frame = new Uint8Array(spec.width * spec.height * 3);
    /** @type {Uint8Array[]} */
    this.before = [];
    this.swatches = swatches;
    /** @type {Colour[]} */
    this.colours = [[0, 0, 0]];
    this.colour = 0;
    this.fill = false;
    this.size = 0;
    this.cursor = { x: Math.floor(spec.width / 2), y: Math.floor(spec.height / 2) };
    /** @type {{x: number, y: number} | null} */
    this.last = null;
    this.closing = new AbortController();
    this.#brushes(brushes);
    this.#listen();
  }

  /** @param {HTMLElement} element */
  #brushes(element) {
    const scale = Math.max(this.spec.width, this.spec.height) / 64;
    const sizes = [...new Set(BRUSHES.map((brush) => Math.max(1, Math.round(brush * scale))))];
    const buttons = sizes.map((size) => make('button', { type: 'button', 'aria-label': `Brush of ${size} pixels` }, `${size} px`));
    const fill = make('button', { type: 'button' }, 'Fill');
    const choose = (/** @type {number} */ chosen) => {
      this.fill = chosen === sizes.length;
      this.size = sizes[chosen] ?? this.size;
      [...buttons, fill].forEach((button, place) => button.setAttribute('aria-pressed', String(place === chosen)));
    };
    [...buttons, fill].forEach((button, place) => button.addEventListener('click', () => choose(place)));
    element.replaceChildren(...buttons, fill);
    choose(Math.min(2, sizes.length - 1));
  }

  #listen() {
    const options = { signal: this.closing.signal };
    const { canvas } = this;
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#save();
      const at = this.#place(event);
      if (this.fill) this.#flood(at);
      else this.#line((this.last = at), at);
      this.#show();
    }, options);
    canvas.addEventListener('pointermove', (event) => {
      if (!this.last || this.fill) return;
      for (const part of event.getCoalescedEvents?.() ?? [event]) {
        const at = this.#place(part);
        this.#line(this.last, at);
        this.last = at;
      }
      this.#show();
    }, options);
    for (const kind of /** @type {const} */ (['pointerup', 'pointercancel'])) {
      canvas.addEventListener(kind, () => {
        this.last = null;
        this.#show();
      }, options);
    }
    canvas.addEventListener('keydown', (event) => this.#key(event), options);
    for (const kind of /** @type {const} */ (['focus', 'blur'])) canvas.addEventListener(kind, () => this.#show(), options);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const way = ways[/** @type {keyof typeof ways} */ (event.key)];
    if (way) {
      const pace = event.shiftKey ? 8 : 1;
      const within = (/** @type {number} */ value, /** @type {number} */ most) => Math.min(Math.max(value, 0), most - 1);
      this.cursor = { x: within(this.cursor.x + way[0] * pace, this.spec.width), y: within(this.cursor.y + way[1] * pace, this.spec.height) };
      this.#show();
    } else if (event.key === ' ') {
      this.#save();
      if (this.fill) this.#flood(this.cursor);
      else this.#line(this.cursor, this.cursor);
      this.#show();
    } else if (event.key.toLowerCase() === 'z') this.undo();
    else return;
    event.preventDefault();
  }

  /** @param {PointerEvent} event */
  #place({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect();
    const x = Math.floor(((clientX - box.left) / box.width) * this.spec.width);
    const y = Math.floor(((clientY - box.top) / box.height) * this.spec.height);
    return (this.cursor = { x, y });
  }

  #save() {
    this.before.push(this.frame.slice());
    if (this.before.length > UNDOS) this.before.shift();
  }

  /** @param {number} x @param {number} y */
  #dot(x, y) {
    if (x >= 0 && y >= 0 && x < this.spec.width && y < this.spec.height) {
      this.frame.set(this.colours[this.colour], (y * this.spec.width + x) * 3);
    }
  }

  /** A stroke of the round brush. @param {{x: number, y: number}} from @param {{x: number, y: number}} to */
  #line(from, to) {
    const steps = Math.max(Math.abs(to.x - from.x), Math.abs(to.y - from.y), 1);
    const reach = this.size / 2;
    const shift = (this.size - 1) / 2;
    for (let step = 0; step <= steps; step++) {
      const x = Math.round(from.x + ((to.x - from.x) * step) / steps - shift);
      const y = Math.round(from.y + ((to.y - from.y) * step) / steps - shift);
      for (let dy = 0; dy < this.size; dy++) {
        for (let dx = 0; dx < this.size; dx++) {
          if (this.size < 4 || Math.hypot(dx - shift, dy - shift) <= reach) this.#dot(x + dx, y + dy);
        }
      }
    }
  }

  /** Fill the area of one colour. @param {{x: number, y: number}} at */
  #flood({ x, y }) {
    const { width, height } = this.spec;
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    const colour = (/** @type {number} */ place) => (this.frame[place * 3] << 16) | (this.frame[place * 3 + 1] << 8) | this.frame[place * 3 + 2];
    const old = colour(y * width + x);
    const [red, green, blue] = this.colours[this.colour];
    if (old === ((red << 16) | (green << 8) | blue)) return;
    const open = [y * width + x];
    for (let place = open.pop(); place !== undefined; place = open.pop()) {
      if (colour(place) !== old) continue;
      this.frame.set([red, green, blue], place * 3);
      if (place % width > 0) open.push(place - 1);
      if (place % width < width - 1) open.push(place + 1);
      if (place >= width) open.push(place - width);
      if (place < width * (height - 1)) open.push(place + width);
    }
  }

  #show() {
    this.picture.draw(this.frame);
    if (document.activeElement === this.canvas && this.canvas.matches(':focus-visible')) {
      const pen = context(this.canvas);
      pen.strokeStyle = '#ff3d81';
      pen.lineWidth = 1;
      const side = this.size + 2;
      const left = Math.round(this.cursor.x - (this.size - 1) / 2) - 1;
      const top = Math.round(this.cursor.y - (this.size - 1) / 2) - 1;
      pen.strokeRect(left + 0.5, top + 0.5, side - 1, side - 1);
    }
    const { x, y } = this.cursor;
    this.canvas.setAttribute('aria-label', `Drawing board, column ${x + 1} of ${this.spec.width}, row ${y + 1} of ${this.spec.height}`);
    this.onChange(this.frame);
  }

  /** The colours to draw with, the ground first. @param {Colour[]} colours */
  offer(colours) {
    this.colours = colours;
    const buttons = colours.map((colour, place) => {
      const button = make('button', { type: 'button', 'aria-label': `Colour ${place + 1}: red ${colour[0]}, green ${colour[1]}, blue ${colour[2]}` });
      button.style.background = css(colour);
      button.addEventListener('click', () => choose(place));
      return button;
    });
    const choose = (/** @type {number} */ chosen) => {
      this.colour = chosen;
      buttons.forEach((button, place) => button.setAttribute('aria-pressed', String(place === chosen)));
    };
    this.swatches.replaceChildren(...buttons);
    choose(Math.min(1, colours.length - 1));
  }

  /** Begin again: at the ground's colour, or over a picture. @param {Uint8Array} [frame] */
  begin(frame) {
    this.#save();
    if (frame) this.frame.set(frame);
    else for (let at = 0; at < this.frame.length; at += 3) this.frame.set(this.colours[0], at);
    this.#show();
  }

  undo() {
    const frame = this.before.pop();
    if (!frame) return;
    this.frame.set(frame);
    this.#show();
  }

  close() {
    this.closing.abort();
  }
}
