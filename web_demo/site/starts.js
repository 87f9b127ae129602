/** Where a run begins: at a picture of the gallery, at one of the user's own, or as a link or a log says. */

import { Gallery } from './gallery.js';
import { at, canvas, click, dialog, say, sayTrouble } from './page.js';
import { Replay } from './replay.js';
import { find } from './ui/dom.js';
import { fitPicture, readPicture, toPng } from './ui/picture.js';
import { Picture } from './ui/screen.js';
import { mountSources, takePicture } from './ui/sources.js';

/** @typedef {import('./ui/run.js').Origin} Origin */
/** @typedef {{frame: Uint8Array, origin: Origin}} Start */

export class Starts {
  /**
   * @param {import('./engine/types.js').WorldFile} world
   * @param {(start: Start, how: {replays: boolean, chosen: boolean}) => void} onStart a run begins here; chosen: the
   *   user has just picked it on the page
   */
  constructor(world, onStart) {
    this.spec = world.spec;
    this.onStart = onStart;
    this.gallery = new Gallery(world, (place) => this.pick(place, true));
    this.replay = new Replay(world, () => this.gallery.frames);
    this.given = new Picture(canvas('given'), world.spec);
    /** @type {Start | null} */
    this.now = null;
    mountSources(document.body, (file, name) => void this.#take(file, name), say);
    find(dialog('lens'), 'video', HTMLVideoElement).style.aspectRatio = `${this.spec.width} / ${this.spec.height}`; // shows what is taken
    click('camera', () => void this.#shoot());
    addEventListener('hashchange', () => void this.#link());
  }

  /** The run that the page's address asks for, else the first picture. */
  async open() {
    if (!(await this.#link()) && this.gallery.frames.length) this.pick(0);
  }

  /** @param {number} place in the gallery @param {boolean} [chosen] */
  pick(place, chosen = false) {
    this.#use({ frame: this.gallery.frames[place], origin: { gallery: this.gallery.world.gallery[place] } }, { chosen });
  }

  /** The gallery's next picture. */
  next() {
    const { length } = this.gallery.frames;
    if (length) this.pick((this.gallery.place(this.now?.origin) + 1) % length, true);
  }

  /** A picture of the user's. @param {Uint8Array} frame */
  async useOwn(frame) {
    const bytes = new Uint8Array(await (await toPng(frame, this.spec)).arrayBuffer());
    const png = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
    this.#use({ frame, origin: { png } }, { chosen: true });
    at('stage').focus({ preventScroll: true });
  }

  /** @param {Start} start @param {{chosen?: boolean, actions?: number[], tokens?: number[][] | null}} [how] what to replay, what to expect of it */
  #use(start, { chosen = false, actions, tokens } = {}) {
    this.now = start;
    this.replay.set(actions, tokens);
    this.gallery.mark(start.origin);
    this.given.draw(start.frame);
    this.onStart(start, { replays: actions !== undefined, chosen });
  }

  /** @returns {Promise<boolean>} whether there is one */
  async #link() {
    try {
      const wanted = await this.replay.link();
      if (wanted) this.#watch(wanted);
      return wanted !== null;
    } catch (error) {
      sayTrouble(error);
      return false;
    }
  }

  /** @param {import('./replay.js').Wanted} wanted */
  #watch({ recipe, frame, tokens }) {
    find(document, '#seed', HTMLInputElement).value = String(recipe.seed);
    find(document, '#zero', HTMLInputElement).checked = recipe.zero;
    this.#use({ frame, origin: recipe.origin }, { actions: recipe.actions, tokens });
  }

  /** A file: a picture, or the log of a run. @param {Blob} file @param {string} name */
  async #take(file, name) {
    try {
      if (name.endsWith('.json') || file.type === 'application/json') {
        const wanted = await this.replay.log(await file.text());
        this.#watch(wanted);
        say(`Replaying ${wanted.recipe.actions.length} frames of ${name}`);
        return;
      }
      await this.useOwn(await readPicture(file, this.spec));
      say(`Starting from ${name}`);
    } catch (error) {
      sayTrouble(error);
    }
  }

  async #shoot() {
    try {
      const frame = await takePicture(dialog('lens'), (video) => fitPicture(video, { width: video.videoWidth, height: video.videoHeight }, this.spec));
      if (frame) await this.useOwn(frame);
    } catch (error) {
      sayTrouble(error);
    }
  }
}
