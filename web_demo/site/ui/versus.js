/** Two runtimes on the same actions and noise: what they agree on. */

import { MOST_THREADS } from '../engine/device.js';
import { make } from './dom.js';

/** @typedef {import('../engine/types.js').Played} Played */
/** @typedef {import('../engine/types.js').Loaded} Loaded */

/** Runtimes to choose from. @param {Loaded} own what plays already */
export function rivals(own) {
  const cores = Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1);
  /** @type {{device: 'wasm' | 'webgpu', threads: number, words: string}[]} */
  const all = [{ device: 'wasm', threads: 1, words: 'WebAssembly, 1 thread' }];
  if (crossOriginIsolated) {
    for (let threads = 2; threads <= cores; threads *= 2) all.push({ device: 'wasm', threads, words: `WebAssembly, ${threads} threads` });
  }
  if ('gpu' in navigator) all.push({ device: 'webgpu', threads: 1, words: 'WebGPU' });
  const others = all.filter(({ device, threads }) => device !== own.device || (device === 'wasm' && threads !== own.threads));
  return others.length ? others : all; // the same once more: it must agree with itself
}

/** Places at which tokens differ. @param {Int32Array} a @param {Int32Array} b @returns {number[]} */
export const apart = (a, b) => [...a.keys()].filter((place) => a[place] !== b[place]);

/** PSNR of two frames, in dB. @param {Uint8Array} a @param {Uint8Array} b */
function psnr(a, b) {
  let sum = 0;
  for (let at = 0; at < a.length; at++) sum += (a[at] - b[at]) ** 2;
  return sum ? 10 * Math.log10((255 ** 2 * a.length) / sum) : Infinity;
}

/** The tally of a comparison, in words. */
export class Tally {
  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
    this.frames = this.same = 0;
    /** Frame at which they first differed; -1: nowhere. */
    this.first = -1;
    /** @type {[number, number]} */
    this.time = [0, 0];
  }

  clear() {
    this.frames = this.same = 0;
    this.first = -1;
    this.time = [0, 0];
    this.element.textContent = '';
  }

  /**
   * @param {Played} a
   * @param {Played} b
   * @param {number[]} places that differ
   */
  add(a, b, places) {
    this.frames += 1;
    this.same += places.length ? 0 : 1;
    if (places.length && this.first < 0) this.first = this.frames;
    this.time = [this.time[0] + a.ms.total, this.time[1] + b.ms.total];
    const count = `${a.tokens.length - places.length} of ${a.tokens.length} tokens equal`;
    const now = make('span', places.length ? { class: 'apart' } : {}, count);
    const away = places.length ? `, ${psnr(a.frame, b.frame).toFixed(1)} dB` : '';
    const past = this.first < 0 ? `all ${this.frames} frames equal` : `first difference at frame ${this.first}`;
    const [mine, theirs] = this.time.map((sum) => (sum / this.frames).toFixed(1));
    this.element.replaceChildren(now, `${away} · ${past} · ${mine} ms against ${theirs} ms`);
  }
}
