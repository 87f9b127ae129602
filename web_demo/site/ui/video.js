/** Frames as a film, by the browser's own recorder: MP4 where it can, else WebM. It records in real time. */

import { make } from './dom.js';
import { Picture } from './screen.js';

const KINDS = ['video/mp4;codecs=avc1.42E01E', 'video/mp4', 'video/webm;codecs=vp9', 'video/webm'];

/** What this browser records: its MIME type, or null. */
export function videoKind() {
  if (typeof MediaRecorder === 'undefined' || !('captureStream' in HTMLCanvasElement.prototype)) return null;
  return KINDS.find((kind) => MediaRecorder.isTypeSupported(kind)) ?? null;
}

/** @param {string} kind */
export const videoEnding = (kind) => (kind.startsWith('video/mp4') ? 'mp4' : 'webm');

/**
 * @param {Uint8Array[]} frames RGB [H*W*3]
 * @param {{width: number, height: number, fps: number}} spec
 * @param {number} scale
 * @param {string} kind of `videoKind`
 * @param {(share: number) => void} onProgress 0 .. 1
 * @returns {Promise<Blob>}
 */
export async function encodeVideo(frames, spec, scale, kind, onProgress) {
  const small = new Picture(make('canvas'), spec);
  const canvas = make('canvas', { width: spec.width * scale, height: spec.height * scale });
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  pen.imageSmoothingEnabled = false;
  const show = (/** @type {Uint8Array} */ frame) => {
    small.draw(frame);
    pen.drawImage(small.canvas, 0, 0, canvas.width, canvas.height);
  };
  show(frames[0]);
  const stream = canvas.captureStream(spec.fps);
  const recorder = new MediaRecorder(stream, { mimeType: kind, videoBitsPerSecond: 4_000_000 });
  /** @type {Blob[]} */
  const parts = [];
  recorder.addEventListener('dataavailable', ({ data }) => parts.push(data));
  const stopped = new Promise((resolve, reject) => {
    recorder.addEventListener('stop', resolve);
    recorder.addEventListener('error', () => reject(new Error('This browser could not record the film. Save a GIF instead.')));
  });
  recorder.start();
  const began = performance.now();
  for (const [t, frame] of frames.entries()) {
    show(frame);
    onProgress(t / frames.length);
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, began + ((t + 1) * 1000) / spec.fps - performance.now())));
  }
  recorder.stop();
  await stopped;
  for (const track of stream.getTracks()) track.stop();
  return new Blob(parts, { type: kind.split(';')[0] });
}
