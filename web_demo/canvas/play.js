// @ts-check
// The player on the page: canvas, pad, charts, downloads. Keys, pad, touch and gamepad are the browser player's.

import { Gauges } from './gauges.js';
import { Hands, Keys } from '../site/ui/hands.js';
import { Pad } from '../site/ui/pad.js';
import { Picture } from '../site/ui/screen.js';
import { Link } from './link.js';

/**
 * @typedef {object} Data
 * @property {string} name of the world: its keys are kept under it
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
    root.className = 'pg-play';
    root.dataset.ticket = data.ticket;
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
    root.querySelector('.stage')?.setAttribute('tabindex', '0');
    this.root = root;
    this.data = data;
    const find = (/** @type {string} */ what) => /** @type {HTMLElement} */ (root.querySelector(what));
    this.picture = new Picture(/** @type {HTMLCanvasElement} */ (find('.stage canvas')), data);
    this.gauges = new Gauges(find('.gauges'));
    const keys = new Keys(data.name, data);
    this.pad = new Pad(find('.pad'), data, keys);
    this.hands = new Hands(find('.pad'), keys, (action) => {
      this.link.send({ type: 'hold', action });
      this.pad.light(action);
    }, (key) => this.command(key));
    find('.again').onclick = () => this.link.send({ type: 'restart' });
    for (const name of ['.on', '.free']) {
      find(name).onchange = () => this.pace();
      // A box that was clicked would keep the keys to itself; who uses the keyboard alone stays on it.
      find(name).onclick = ({ detail }) => detail && find('.stage').focus({ preventScroll: true });
    }
    for (const link of root.querySelectorAll('a')) {
      const form = String(link.dataset.form);
      link.href = `/pocketgenie/recording/${form}?ticket=${encodeURIComponent(data.ticket)}`;
      link.setAttribute('download', `pocketgenie.${form}`);
      link.hidden = form === 'mp4' && !data.mp4;
    }
    this.link = this.connect();
    find('.stage').focus({ preventScroll: true });
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

  /** A key with a task of its own. @param {string} key */
  command(key) {
    const press = { ' ': '.on', a: '.on', u: '.free', r: '.again', s: '[data-form=gif]' }[key];
    if (press) /** @type {HTMLElement} */ (this.root.querySelector(press)).click();
  }

  /** @param {import('./link.js').Frame} frame */
  draw(frame) {
    this.picture.draw(frame.pixels);
    this.gauges.add(frame);
    this.root.dataset.frame = String(frame.number);
    this.veil(null);
    if (this.hands.action === null) this.pad.light(frame.action < 0 ? null : frame.action);
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
    this.pad.close();
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
