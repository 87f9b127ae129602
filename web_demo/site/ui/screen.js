/** A picture of the world in whole, unsmoothed pixels, as large as its element allows. */

import { context, make } from './dom.js';

/** @typedef {{width: number, height: number}} Size */

/** RGB as the canvas takes it. @param {Uint8Array} frame RGB [H*W*3] @param {Uint8ClampedArray} rgba [H*W*4] */
export function toRgba(frame, rgba) {
  for (let from = 0, to = 0; from < frame.length; from += 3, to += 4) {
    rgba[to] = frame[from];
    rgba[to + 1] = frame[from + 1];
    rgba[to + 2] = frame[from + 2];
    rgba[to + 3] = 255;
  }
}

/** A frame as a canvas of its own size. */
export class Picture {
  /** @param {HTMLCanvasElement} canvas @param {Size} size */
  constructor(canvas, { width, height }) {
    Object.assign(canvas, { width, height });
    this.canvas = canvas;
    this.pen = context(canvas);
    this.image = this.pen.createImageData(width, height);
  }

  /** @param {Uint8Array} frame RGB [H*W*3] */
  draw(frame) {
    toRgba(frame, this.image.data);
    this.pen.putImageData(this.image, 0, 0);
  }
}

export class Screen {
  /**
   * @param {HTMLElement} element has a size of its own; the picture lies in its middle
   * @param {Size & {grid: [number, number]}} spec
   * @param {string} label for screen readers
   */
  constructor(element, spec, label) {
    this.element = element;
    this.spec = spec;
    this.canvas = make('canvas', { role: 'img', 'aria-label': label });
    this.overlay = make('canvas', { class: 'marks', 'aria-hidden': true });
    this.box = make('div', { class: 'picture' }, this.canvas, this.overlay);
    element.replaceChildren(this.box);
    this.picture = new Picture(this.canvas, spec);
    [this.overlay.height, this.overlay.width] = spec.grid;
    this.marks = context(this.overlay);
    this.observer = new ResizeObserver(() => this.#fit());
    this.observer.observe(element);
    this.#fit();
  }

  /** Whole device pixels per pixel of the world. */
  #fit() {
    const { clientWidth, clientHeight } = this.element;
    const dots = devicePixelRatio || 1;
    const most = Math.min((clientWidth * dots) / this.spec.width, (clientHeight * dots) / this.spec.height);
    const scale = (most >= 1 ? Math.floor(most) : most) / dots;
    this.box.style.width = `${this.spec.width * scale}px`;
    this.box.style.height = `${this.spec.height * scale}px`;
  }

  /** @param {Uint8Array} frame RGB [H*W*3] */
  draw(frame) {
    this.picture.draw(frame);
  }

  /** Mark tokens, by their place in the grid. @param {Iterable<number>} places */
  mark(places) {
    const columns = this.spec.grid[1];
    this.marks.clearRect(0, 0, this.overlay.width, this.overlay.height);
    this.marks.fillStyle = 'rgb(255 0 96 / 55%)';
    for (const place of places) this.marks.fillRect(place % columns, Math.floor(place / columns), 1, 1);
  }

  close() {
    this.observer.disconnect();
    this.element.replaceChildren();
  }
}

/**
 * Light around the screen, in the picture's own colours: the picture in 8 x 8 dots, drawn large and smooth.
 * @param {HTMLCanvasElement} canvas
 * @param {HTMLCanvasElement} picture
 * @returns {() => void} clean-up
 */
export function mountGlow(canvas, picture) {
  canvas.width = canvas.height = 8;
  const pen = context(canvas);
  const draw = () => {
    if (!document.hidden) pen.drawImage(picture, 0, 0, 8, 8);
  };
  draw();
  const timer = setInterval(draw, 250);
  return () => clearInterval(timer);
}
