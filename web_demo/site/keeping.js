/** A run kept: as a link, a log, a GIF or a video. */

import { button, click, say, sayTrouble } from './page.js';
import { download, megabytes } from './ui/dom.js';
import { encodeGif } from './ui/gif.js';
import { toFragment, toLog } from './ui/run.js';
import { encodeVideo, videoEnding, videoKind } from './ui/video.js';

/** @typedef {import('./ui/run.js').Recipe} Recipe */

const SIDE = 320; // pixels of a film, about

export class Keeping {
  /**
   * @param {import('./engine/types.js').WorldFile} world
   * @param {import('./ui/run.js').Run} run
   * @param {() => Recipe} recipe of the run; throws a RunError before there is one
   * @param {() => string} device its name
   */
  constructor({ spec, precision }, run, recipe, device) {
    this.spec = spec;
    this.run = run;
    this.saving = false;
    click('link', () => void copyLink(recipe));
    click('log', () => saveLog(recipe(), run.tokens, { name: spec.name, precision, device: device() }));
    click('gif', () => void this.film('gif'));
    click('video', () => void this.film('video'));
  }

  /** There is something to keep. */
  enable() {
    const records = videoKind() !== null;
    for (const name of ['link', 'gif', 'log']) button(name).disabled = false;
    button('video').disabled = !records;
    if (!records) button('video').title = 'This browser records no video; a GIF it can.';
  }

  /** @param {'gif' | 'video'} what */
  async film(what) {
    if (this.saving) return;
    const frames = this.run.frames.map((frame) => frame.slice());
    if (frames.length < 2) return say('Play something first.');
    this.saving = true;
    try {
      await saveFilm(what, frames, this.spec);
    } catch (error) {
      sayTrouble(error);
    }
    this.saving = false;
  }
}

/** The link goes into the clipboard and the address bar. @param {() => Recipe} recipe */
async function copyLink(recipe) {
  try {
    const asked = recipe();
    const link = new URL(toFragment(asked), location.href.split('#')[0]).href;
    history.replaceState(null, '', link);
    await navigator.clipboard.writeText(link).then(
      () => say(`Link copied: it replays these ${asked.actions.length} frames`),
      () => say('The link is in the address bar: copy it from there'),
    );
  } catch (error) {
    sayTrouble(error);
  }
}

/** @param {Recipe} recipe @param {number[][]} tokens @param {{name: string, precision: string, device: string}} facts */
function saveLog(recipe, tokens, facts) {
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
async function saveFilm(what, frames, spec) {
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
