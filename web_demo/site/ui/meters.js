/** How fast it plays: frames a second, p50 and p95, time by stage, the last frames as bars. */

import { context, find, make } from './dom.js';

const KEPT = 240;
const STAGES = /** @type {const} */ (['noise', 'step', 'observe', 'copy', 'draw']);
const EVERY = 250; // ms: text that changes at every frame cannot be read

/** @typedef {Partial<Record<typeof STAGES[number], number>> & {total: number}} Times milliseconds */

export class Meters {
  /** @param {HTMLElement} element as index.html has it @param {number} fps the world's own */
  constructor(element, fps) {
    this.fps = fps;
    /** @type {Times[]} */
    this.times = [];
    /** @type {number[]} */
    this.shown = [];
    this.words = {
      fps: find(element, '[data-fps]', HTMLElement),
      p50: find(element, '[data-p50]', HTMLElement),
      p95: find(element, '[data-p95]', HTMLElement),
    };
    this.stages = new Map(STAGES.map((name) => [name, { bar: make('i', { class: name }), words: make('b', {}, '–') }]));
    find(element, '[data-bar]', HTMLElement).replaceChildren(...[...this.stages.values()].map(({ bar }) => bar));
    find(element, '[data-stages]', HTMLElement).replaceChildren(
      ...[...this.stages].map(([name, { words }]) => make('li', { class: name }, `${name} `, words)),
    );
    this.chart = find(element, 'canvas', HTMLCanvasElement);
    this.fresh = false;
    this.timer = setInterval(() => this.#tell(), EVERY);
  }

  /** A frame was shown. @param {Times} times */
  add(times) {
    this.times.push(times);
    this.shown.push(performance.now());
    if (this.times.length > KEPT) this.times.shift();
    if (this.shown.length > KEPT) this.shown.shift();
    this.fresh = true;
  }

  clear() {
    this.times = [];
    this.fresh = true;
  }

  #tell() {
    const now = performance.now();
    const recent = this.shown.filter((at) => now - at < 1000).length;
    const write = (/** @type {HTMLElement} */ at, /** @type {string} */ text) => {
      if (at.textContent !== text) at.textContent = text;
    };
    write(this.words.fps, String(recent));
    if (!this.fresh) return;
    this.fresh = false;
    const totals = this.times.map(({ total }) => total).sort((a, b) => a - b);
    const at = (/** @type {number} */ share) => (totals.length ? totals[Math.floor(share * (totals.length - 1))].toFixed(1) : '–');
    write(this.words.p50, at(0.5));
    write(this.words.p95, at(0.95));
    const all = this.times.reduce((sum, { total }) => sum + total, 0);
    for (const [name, { bar, words }] of this.stages) {
      const sum = this.times.reduce((so, times) => so + (times[name] ?? 0), 0);
      bar.style.flexGrow = String(all ? sum / all : 0);
      write(words, totals.length ? (sum / totals.length).toFixed(1) : '–');
    }
    this.#draw();
  }

  #draw() {
    const { chart, times } = this;
    const pen = context(chart);
    const style = getComputedStyle(chart);
    const limit = 1000 / this.fps;
    const most = Math.max(limit * 1.25, ...times.map(({ total }) => total));
    pen.clearRect(0, 0, chart.width, chart.height);
    const width = chart.width / KEPT;
    times.forEach(({ total }, place) => {
      pen.fillStyle = style.getPropertyValue(total > limit ? '--slow' : '--accent');
      const height = Math.max(1, (total / most) * chart.height);
      pen.fillRect(chart.width - (times.length - place) * width, chart.height - height, Math.max(1, width - 0.5), height);
    });
    pen.fillStyle = style.getPropertyValue('--quiet');
    pen.fillRect(0, chart.height - (limit / most) * chart.height, chart.width, 1);
  }

  close() {
    clearInterval(this.timer);
  }
}
