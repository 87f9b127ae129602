/** The drawing board's dialog: a picture of the user's own, and how the world sees it as it grows. */

import { at, canvas, click, dialog, write } from './page.js';
import { Picture } from './ui/screen.js';
import { Sketch } from './ui/sketch.js';

/**
 * @typedef {object} Easel
 * @property {() => import('./engine/types.js').EngineApi | null} engine null until the world is loaded
 * @property {() => Uint8Array | undefined} shown the frame to draw over
 * @property {() => void} onOpen
 * @property {(frame: Uint8Array) => void} onUse
 */

export class Drawing {
  /** @param {import('./engine/types.js').WorldSpec} spec @param {Easel} easel */
  constructor(spec, easel) {
    this.easel = easel;
    this.remembers = Boolean(spec.memories.encoder || spec.memories.decoder); // looking would disturb the run
    this.imagined = new Picture(canvas('imagined'), spec);
    this.looking = this.changed = false;
    this.sketch = new Sketch(canvas('board'), { swatches: at('swatches'), brushes: at('brushes') }, spec, () => void this.#look());
    click('draw', () => {
      easel.onOpen();
      dialog('sketch').showModal();
      void this.#look();
    });
    click('undo', () => this.sketch.undo());
    click('wipe', () => this.sketch.begin());
    click('over', () => this.sketch.begin(easel.shown()));
    click('use', () => {
      dialog('sketch').close();
      easel.onUse(this.sketch.frame.slice());
    });
  }

  /** An empty board. @param {import('./ui/colours.js').Colour[]} colours */
  begin(colours) {
    this.sketch.offer(colours);
    this.sketch.begin();
  }

  /** Show the drawing as the world sees it; what changes meanwhile is looked at next. */
  async #look() {
    this.changed = true;
    if (!dialog('sketch').open || this.looking) return;
    const engine = this.easel.engine();
    write('imagined-name', !engine ? 'how the world sees it: once it is loaded' : this.remembers ? 'how the world sees it: once you play' : 'how the world sees it');
    if (!engine || this.remembers) return this.imagined.draw(this.sketch.frame);
    this.looking = true;
    try {
      while (this.changed) {
        this.changed = false;
        this.imagined.draw(await engine.decode(await engine.encode(this.sketch.frame.slice())));
      }
    } catch {
      // The loop meets the same fault, and tells it.
    }
    this.looking = false;
  }
}
