/** A run kept: as a link, a log, a GIF or a video. */

import { button, say } from './page.js';
import { download, megabytes } from './ui/dom.js';
import { encodeGif } from './ui/gif.js';
import { toFragment, toLog } from './ui/run.js';
import { encodeVideo, videoEnding, videoKind } from './ui/video.js';

/** @typedef {import('./ui/run.js').Recipe} Recipe */

const SIDE = 320; // pixels of a film, about

/** The link goes into the clipboard and the address bar. @param {Recipe} recipe */
export async function copyLink(recipe) {
  const link = new URL(toFragment(recipe), location.href.split('#')[0]).href;
  history.replaceState(null, '', link);
  try {
    await navigator.clipboard.writeText(link);
    say(`Link copied: it replays these ${recipe.actions.length} frames`);
  } catch {
    say('The link is in the address bar: copy it from there');
  }
}

/** @param {Recipe} recipe @param {number[][]} tokens @param {{name: string, precision: string, device: string}} facts */
export function saveLog(recipe, tokens, facts) {
  const name = `${facts.name}-${recipe.actions.length}-frames.json`;
  download(new Blob([toLog(recipe, tokens, facts)], { type: 'application/json' }), name);
  say('Action log saved');
}

/**
 * A video where the browser records one, else a GIF.
 * @param {'gif' | 'video'} what its button shows how far it is
 * @param {Uint8Array[]} frames
 * @param {{name: string, width: number, height: number, fps: number}} spec
 */
export async function saveFilm(what, frames, spec) {
  const kind = what === 'video' ? videoKind() : null;
  const face = [...button(what).childNodes];
  const scale = Math.max(2, 2 * Math.floor(SIDE / Math.max(spec.width, spec.height) / 2)); // even, as films must be
  const progress = (/** @type {number} */ share) => button(what).replaceChildren(`${Math.floor(share * 100)} %`);
  try {
    const film = kind ? await encodeVideo(frames, spec, scale, kind, progress) : await encodeGif(frames, spec, scale, progress);
    download(film, `${spec.name}-${frames.length - 1}-frames.${kind ? videoEnding(kind) : 'gif'}`);
    say(`Saved: ${frames.length} frames, ${megabytes(film.size)}`);
  } finally {
    button(what).replaceChildren(...face);
  }
}
