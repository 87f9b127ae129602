/**
 * Any picture as a frame of the world: upright, opaque, cropped around its centre, scaled without aliasing; the
 * same arithmetic as runtimes/pictures.py (Pillow's resampling in 22-bit fixed point), so that a picture gives
 * the same tokens here and there.
 */

import { context, make } from './dom.js';

/** @typedef {{width: number, height: number}} Size */
/** @typedef {{reach: number, weigh: (x: number) => number}} Filter */

const MOST_MEGAPIXELS = 64;
const BITS = 22;

/** What a user's picture cannot be, in words. */
export class PictureError extends Error {}

/** @param {number} x */
const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));
/** @type {Filter} */
const LANCZOS = { reach: 3, weigh: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) };
/** @type {Filter} */
const BOX = { reach: 0.5, weigh: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };

/** To the nearest, halves to even, as Python rounds. @param {number} x */
function round(x) {
  const floor = Math.floor(x);
  return x - floor !== 0.5 ? Math.round(x) : floor + (floor % 2);
}

/**
 * For each place of the result: the first place of the source that counts, and the weights from there on.
 * @param {number} from
 * @param {number} to
 * @param {Filter} filter
 */
function weights(from, to, { reach, weigh }) {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const support = reach * stretch;
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(from, Math.trunc(centre + support + 0.5));
    const row = Array.from({ length: end - first }, (_, x) => weigh((x + first - centre + 0.5) / stretch));
    const sum = row.reduce((total, weight) => total + weight, 0);
    const fixed = row.map((weight) => Math.trunc((weight / sum) * 2 ** BITS + (weight / sum < 0 ? -0.5 : 0.5)));
    return { first, fixed };
  });
}

/**
 * One direction of a resize: `lines` lines of `from` pixels, `along` apart within a line, `across` between them.
 * @param {Uint8Array | Uint8ClampedArray} source RGB
 * @param {number} lines
 * @param {number} from
 * @param {number} to
 * @param {Filter} filter
 * @param {boolean} rows whether a line is a row
 */
function resample(source, lines, from, to, filter, rows) {
  const result = new Uint8ClampedArray(lines * to * 3);
  weights(from, to, filter).forEach(({ first, fixed }, place) => {
    for (let line = 0; line < lines; line++) {
      const start = rows ? (line * from + first) * 3 : (first * lines + line) * 3;
      const step = rows ? 3 : lines * 3;
      const into = rows ? (line * to + place) * 3 : (place * lines + line) * 3;
      for (let colour = 0; colour < 3; colour++) {
        let sum = 2 ** (BITS - 1);
        for (let x = 0, at = start + colour; x < fixed.length; x++, at += step) sum += source[at] * fixed[x];
        result[into + colour] = Math.floor(sum / 2 ** BITS); // clamped to 0 .. 255 by its type
      }
    }
  });
  return result;
}

/** The part of a picture that is kept. @param {Size} picture @param {Size} frame */
function crop({ width: w, height: h }, { width, height }) {
  const scale = Math.min(w / width, h / height);
  const size = { width: Math.min(w, Math.max(1, round(width * scale))), height: Math.min(h, Math.max(1, round(height * scale))) };
  return { ...size, left: Math.floor((w - size.width) / 2), top: Math.floor((h - size.height) / 2) };
}

/** RGBA on black, as RGB. @param {Uint8ClampedArray} rgba */
function opaque(rgba) {
  const rgb = new Uint8ClampedArray((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    const alpha = rgba[from + 3];
    for (let colour = 0; colour < 3; colour++) {
      const sum = rgba[from + colour] * alpha * 128 + 0x4000;
      rgb[to++] = alpha === 255 ? rgba[from + colour] : ((sum >> 8) + sum) >> 15;
    }
  }
  return rgb;
}

/**
 * A picture in pixels as a frame.
 * @param {CanvasImageSource} source
 * @param {Size} size of the source
 * @param {Size} spec
 * @returns {Uint8Array} RGB [H*W*3]
 */
export function fitPicture(source, size, spec) {
  const part = crop(size, spec);
  const pen = context(make('canvas', { width: part.width, height: part.height }));
  pen.drawImage(source, part.left, part.top, part.width, part.height, 0, 0, part.width, part.height);
  const pixels = opaque(pen.getImageData(0, 0, part.width, part.height).data);
  // An enlarged frame (a screenshot of this player) comes back exact: the mean of whole blocks.
  const filter = part.width % spec.width === 0 && part.height % spec.height === 0 ? BOX : LANCZOS;
  const narrow = part.width === spec.width ? pixels : resample(pixels, part.height, part.width, spec.width, filter, true);
  const fitted = part.height === spec.height ? narrow : resample(narrow, spec.width, part.height, spec.height, filter, false);
  return new Uint8Array(fitted);
}

/**
 * A file as a frame. Rejects with a PictureError.
 * @param {Blob} file
 * @param {Size} spec
 * @returns {Promise<Uint8Array>} RGB [H*W*3]
 */
export async function readPicture(file, spec) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: 'none', imageOrientation: 'from-image' }).catch(() => {
    throw new PictureError('That is no picture this browser can read. Use PNG, JPEG, WebP, GIF or AVIF.');
  });
  try {
    if (bitmap.width * bitmap.height > MOST_MEGAPIXELS * 1e6) {
      throw new PictureError(`That picture is too large (${bitmap.width} x ${bitmap.height}; at most ${MOST_MEGAPIXELS} megapixels). Scale it down.`);
    }
    return fitPicture(bitmap, bitmap, spec);
  } finally {
    bitmap.close();
  }
}

/** A frame as a PNG. @param {Uint8Array} frame RGB @param {Size} spec @returns {Promise<Blob>} */
export async function toPng(frame, { width, height }) {
  const canvas = make('canvas', { width, height });
  const pen = context(canvas);
  const image = pen.createImageData(width, height);
  for (let at = 0; at < width * height; at++) image.data.set([frame[at * 3], frame[at * 3 + 1], frame[at * 3 + 2], 255], at * 4);
  pen.putImageData(image, 0, 0);
  return new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new PictureError('The picture cannot be saved here.')))));
}
