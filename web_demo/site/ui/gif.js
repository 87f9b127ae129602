/** An endless GIF of frames: 256 colours for all of them, whole-pixel enlargement (GIF89a, with its LZW). */

import { nearest, palette } from './colours.js';

const SAMPLED = 32; // frames that the palette is made from

/** Bytes that grow. */
class Bytes {
  data = new Uint8Array(1 << 16);
  length = 0;

  /** @param {...number} bytes */
  put(...bytes) {
    if (this.length + bytes.length > this.data.length) {
      const larger = new Uint8Array(this.data.length * 2);
      larger.set(this.data);
      this.data = larger;
    }
    for (const byte of bytes) this.data[this.length++] = byte;
  }

  /** @param {string} text */
  text(text) {
    this.put(...[...text].map((letter) => letter.charCodeAt(0)));
  }

  /** 16 bits, the low byte first. @param {...number} values */
  words(...values) {
    for (const value of values) this.put(value & 255, value >> 8);
  }
}

/** Colour numbers as LZW codes of growing width, in blocks of 255 bytes. @param {Bytes} out @param {Uint8Array} pixels */
function compress(out, pixels) {
  const clear = 256;
  /** @type {Map<number, number>} (code so far, next pixel) -> code */
  let codes = new Map();
  let [width, next, bits, filled] = [9, clear + 2, 0, 0];
  /** @type {number[]} */
  let block = [];
  const flush = () => {
    if (block.length) out.put(block.length, ...block);
    block = [];
  };
  const write = (/** @type {number} */ code) => {
    bits |= code << filled;
    for (filled += width; filled >= 8; filled -= 8, bits >>>= 8) {
      block.push(bits & 255);
      if (block.length === 255) flush();
    }
  };
  out.put(8);
  write(clear);
  let code = pixels[0];
  for (let at = 1; at < pixels.length; at++) {
    const key = (code << 8) | pixels[at];
    const longer = codes.get(key);
    if (longer !== undefined) {
      code = longer;
      continue;
    }
    write(code);
    code = pixels[at];
    if (next === 4096) {
      write(clear);
      codes = new Map();
      [width, next] = [9, clear + 2];
    } else {
      if (next === 1 << width) width += 1;
      codes.set(key, next++);
    }
  }
  write(code);
  write(clear + 1);
  if (filled) block.push(bits & 255);
  flush();
  out.put(0);
}

/**
 * @param {Uint8Array[]} frames RGB [H*W*3]
 * @param {{width: number, height: number, fps: number}} spec
 * @param {number} scale
 * @param {(share: number) => void} onProgress 0 .. 1
 * @returns {Promise<Blob>}
 */
export async function encodeGif(frames, { width, height, fps }, scale, onProgress) {
  const step = Math.max(1, Math.floor(frames.length / SAMPLED));
  const sample = frames.filter((_, place) => place % step === 0);
  const joined = new Uint8Array(sample.length * width * height * 3);
  sample.forEach((frame, place) => joined.set(frame, place * frame.length));
  const colours = palette(joined, 256);
  const look = nearest(colours);

  const out = new Bytes();
  out.text('GIF89a');
  out.words(width * scale, height * scale);
  out.put(0xf7, 0, 0, ...Array.from({ length: 256 }, (_, place) => colours[place] ?? [0, 0, 0]).flat());
  out.put(0x21, 0xff, 11);
  out.text('NETSCAPE2.0');
  out.put(3, 1, 0, 0, 0); // again and again
  const pixels = new Uint8Array(width * height * scale * scale);
  for (const [t, frame] of frames.entries()) {
    // Hundredths of a second, rounded so that the errors do not add up.
    const delay = Math.max(2, Math.round((100 / fps) * (t + 1)) - Math.round((100 / fps) * t));
    out.put(0x21, 0xf9, 4, 0, delay & 255, delay >> 8, 0, 0, 0x2c, 0, 0, 0, 0);
    out.words(width * scale, height * scale);
    out.put(0);
    for (let y = 0; y < height; y++) {
      const row = y * scale * width * scale;
      for (let x = 0; x < width; x++) {
        const from = (y * width + x) * 3;
        pixels.fill(look(frame[from], frame[from + 1], frame[from + 2]), row + x * scale, row + (x + 1) * scale);
      }
      for (let copy = 1; copy < scale; copy++) pixels.copyWithin(row + copy * width * scale, row, row + width * scale);
    }
    compress(out, pixels);
    if (t % 8 === 0) {
      onProgress(t / frames.length);
      await new Promise((resolve) => setTimeout(resolve));
    }
  }
  out.put(0x3b);
  return new Blob([out.data.slice(0, out.length)], { type: 'image/gif' });
}
