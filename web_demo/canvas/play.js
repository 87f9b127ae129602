// @ts-check
// The player on the page: canvas, pad, charts, downloads. Mounted by the Streamlit component of page_canvas.py.

import { Gauges } from './gauges.js';
import { Hands } from './hands.js';
import { Link } from './link.js';

/**
 * @typedef {object} Data
 * @property {string} ticket
 * @property {number} revision another one: begin again at the ticket's start picture
 * @property {number} width
 * @property {number} height
 * @property {number} actions
 * @property {Record<string, number>} arrows
 * @property {number} fps of the world
 * @property {boolean} mp4
 */

const VEIL = {
  loading: 'opening the world',
  lost: 'connection lost',
  closed: 'closed',
  error: 'cannot play',
};

export class Play {
  /** @param {ParentNode & Node} parent @param {Data} data */
  constructor(parent, data) {
    const root = document.createElement('div');
    root.className = 'play';
    root.innerHTML = `
      <div class="left">
        <div class="stage"><canvas width="${data.width}" height="${data.height}"></canvas>
          <div class="veil" role="status"><b>opening the world</b><span></span></div>
          <div class="note" role="status"></div></div>
        <div class="pad" aria-label="actions"></div>
        <div class="bar">
          <button type="button" class="again" title="begin again at the start picture">Start again</button>
          <label><input type="checkbox" class="on"> play on</label>
          <label><input type="checkbox" class="free"> no speed limit</label>
          <span class="save">Save
            <a data-form="gif">GIF</a><a data-form="mp4">MP4</a><a data-form="zip" title="with action log and start picture">with log</a></span>
        </div>
      </div>
      <aside class="gauges"></aside>`;
    parent.appendChild(root);
    this.root = root;
    this.data = data;
    const find = (/** @type {string} */ what) => /** @type {HTMLElement} */ (root.querySelector(what));
    this.canvas = /** @type {HTMLCanvasElement} */ (find('canvas'));
    this.pen = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext('2d'));
    this.image = this.pen.createImageData(data.width, data.height);
    this.image.data.fill(255);
    this.gauges = new Gauges(find('.gauges'));
    this.hands = new Hands(find('.pad'), data.actions, data.arrows, (action) => {
      this.link.send({ type: 'hold', action });
      this.hands.light(action);
    });
    find('.again').onclick = () => this.link.send({ type: 'restart' });
    for (const name of ['.on', '.free']) find(name).onchange = () => this.pace();
    for (const link of root.querySelectorAll('a')) {
      const form = String(link.dataset.form);
      link.href = `/pocketgenie/recording/${form}?ticket=${encodeURIComponent(data.ticket)}`;
      link.setAttribute('download', `pocketgenie.${form}`);
      link.hidden = form === 'mp4' && !data.mp4;
    }
    this.link = this.connect();
  }

  connect() {
    const link = new Link(this.data.ticket, (frame) => this.draw(frame), (said) => this.hear(said));
    this.link = link;
    this.pace();
    return link;
  }

  pace() {
    const on = /** @type {HTMLInputElement} */ (this.root.querySelector('.on')).checked;
    const free = /** @type {HTMLInputElement} */ (this.root.querySelector('.free')).checked;
    this.link.send({ type: 'pace', fps: free ? null : this.data.fps, on });
  }

  /** @param {import('./link.js').Frame} frame */
  draw(frame) {
    const { data } = this.image;
    const { pixels } = frame;
    for (let from = 0, to = 0; from < pixels.length; from += 3, to += 4) {
      data[to] = pixels[from];
      data[to + 1] = pixels[from + 1];
      data[to + 2] = pixels[from + 2];
    }
    this.pen.putImageData(this.image, 0, 0);
    this.gauges.add(frame);
    this.root.dataset.frame = String(frame.number);
    this.veil(null);
    if (this.hands.action === null) this.hands.light(frame.action < 0 ? null : frame.action);
  }

  /** @param {any} said */
  hear(said) {
    if (said.type === 'place' && said.ahead > 0) {
      this.veil('busy', said.ahead === 1 ? 'you are next' : `${said.ahead} are before you`);
    } else if (said.type === 'loading') {
      this.veil(VEIL.loading, `${said.bundle} in ${said.runtime}`);
    } else if (said.type === 'restarted' || said.type === 'idle') {
      this.note(said.why);
    } else if (said.type in VEIL) {
      this.veil(VEIL[/** @type {keyof typeof VEIL} */ (said.type)], said.why);
    }
  }

  /** Over the picture, until the next frame. @param {string | null} what @param {string} [why] */
  veil(what, why = '') {
    const veil = /** @type {HTMLElement} */ (this.root.querySelector('.veil'));
    veil.hidden = what === null;
    if (what === null) return;
    /** @type {HTMLElement} */ (veil.querySelector('b')).textContent = what;
    /** @type {HTMLElement} */ (veil.querySelector('span')).textContent = why;
  }

  /** Below the picture, for some seconds. @param {string} words */
  note(words) {
    const note = /** @type {HTMLElement} */ (this.root.querySelector('.note'));
    note.textContent = words;
    clearTimeout(this.noted);
    this.noted = setTimeout(() => { note.textContent = ''; }, 8000);
  }

  /** @param {Data} data the page's script ran again */
  update(data) {
    if (data.revision !== this.data.revision) this.link.send({ type: 'restart' });
    this.data = data;
  }

  close() {
    this.link.close();
    this.hands.close();
    this.gauges.close();
    this.root.remove();
  }
}

/**
 * Once per element: Streamlit runs a component again whenever its data changes.
 * @param {any} parent @param {Data} data
 */
export function mount(parent, data) {
  clearTimeout(parent.pocketgenieEnd);
  /** @type {Play | undefined} */
  const now = parent.pocketgenie;
  if (now && now.data.ticket === data.ticket) now.update(data);
  else {
    now?.close();
    parent.pocketgenie = new Play(parent, data);
  }
  return () => {
    // The clean-up also runs before the next run on the same element: only a page that is gone ends the play.
    parent.pocketgenieEnd = setTimeout(() => {
      parent.pocketgenie?.close();
      parent.pocketgenie = undefined;
    }, 400);
  };
}
