/** The pictures that come with a world: to start from, and for the colours to draw with. */

import { depotOf } from './opening.js';
import { at } from './page.js';
import { distinct, palette } from './ui/colours.js';
import { find, make } from './ui/dom.js';
import { readPicture } from './ui/picture.js';

/** @typedef {import('./ui/run.js').Origin} Origin */

const SWATCHES = 10;
const PLAIN = new Uint8Array([0, 0, 0, 255, 255, 255, 220, 60, 60, 60, 160, 80, 70, 110, 220, 240, 200, 60]);

export class Gallery {
  /** @param {import('./engine/types.js').WorldFile} world @param {(place: number) => void} onPick */
  constructor(world, onPick) {
    this.world = world;
    /** As the world takes them; empty until they are read. @type {Uint8Array[]} */
    this.frames = [];
    const { width, height } = world.spec;
    this.thumbs = world.gallery.map((path, place) => {
      const name = path.split('/').at(-1)?.replace(/\.png$/, '') ?? path;
      const thumb = make('button', { type: 'button', 'aria-pressed': false, 'aria-label': `Start at picture ${name}`, disabled: true },
        make('img', { alt: '', width, height, decoding: 'async' }));
      thumb.addEventListener('click', () => onPick(place));
      return thumb;
    });
    at('gallery').replaceChildren(...this.thumbs);
  }

  /** Rejects with an EngineError. */
  async read() {
    const depot = depotOf(this.world);
    this.frames = await Promise.all(this.world.gallery.map(async (path, place) => {
      const picture = new Blob([await depot.read(path)], { type: 'image/png' });
      find(this.thumbs[place], 'img', HTMLImageElement).src = URL.createObjectURL(picture);
      return readPicture(picture, this.world.spec);
    }));
    for (const thumb of this.thumbs) thumb.disabled = false;
  }

  /** The number of a picture; -1 where the origin is another. @param {Origin} [origin] */
  place(origin) {
    return origin && 'gallery' in origin ? this.world.gallery.indexOf(origin.gallery) : -1;
  }

  /** Show which picture was chosen. @param {Origin} origin */
  mark(origin) {
    const chosen = this.place(origin);
    this.thumbs.forEach((thumb, place) => thumb.setAttribute('aria-pressed', String(place === chosen)));
  }

  /** The colours of all pictures that are told apart most easily. */
  get swatches() {
    if (!this.frames.length) return palette(PLAIN, SWATCHES);
    const joined = new Uint8Array(this.frames.length * this.frames[0].length);
    this.frames.forEach((frame, place) => joined.set(frame, place * frame.length));
    return distinct(palette(joined, 6 * SWATCHES), SWATCHES);
  }
}
