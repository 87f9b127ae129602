/** The page: its parts put together around one loop that plays one world. */

import { mountAbout } from './about.js';
import { Drawing } from './drawing.js';
import { chooseDevice } from './engine/device.js';
import { Keeping } from './keeping.js';
import { Meeting } from './meeting.js';
import { bring, costOf, fetchWorld } from './opening.js';
import { at, button, canvas, click, curtain, dialog, fail, say, write } from './page.js';
import { Starts } from './starts.js';
import { mountBindings } from './ui/bindings.js';
import { find, megabytes, still } from './ui/dom.js';
import { Hands, Keys } from './ui/hands.js';
import { Loop } from './ui/loop.js';
import { Meters } from './ui/meters.js';
import { mountOffline } from './ui/offline.js';
import { Pad } from './ui/pad.js';
import { Run, RunError } from './ui/run.js';
import { mountGlow, Picture, Screen } from './ui/screen.js';
import { mountTheme } from './ui/theme.js';
import { isolationWords } from './ui/words.js';

/** @typedef {import('./engine/types.js').WorldFile} WorldFile */
/** @typedef {import('./engine/types.js').Loaded} Loaded */
/** @typedef {import('./engine/types.js').Start} Start */
/** @typedef {import('./engine/types.js').Played} Played */

class App {
  /** @param {WorldFile} world */
  constructor(world) {
    this.world = world;
    this.spec = world.spec;
    this.run = new Run(this.spec);
    this.screen = new Screen(at('screen'), this.spec, `The world ${this.spec.name}`);
    this.keys = new Keys(this.spec.name, this.spec);
    this.pad = new Pad(at('pad'), this.spec, this.keys);
    this.meters = new Meters(at('speed'), this.spec.fps);
    this.view = new Picture(canvas('view'), this.spec);
    this.meeting = new Meeting(this.spec);
    /** @type {Loop | null} */
    this.loop = null;
    /** @type {Loaded | null} */
    this.loaded = null;
    /** Of the service worker. @type {Promise<void>} */
    this.ready = Promise.resolve();
    /** @type {'auto' | 'wasm'} */
    this.device = 'auto';
    this.starts = new Starts(world, ({ frame }, how) => this.#onChoice(frame, how));
    this.keeping = new Keeping(world, this.run, () => this.#recipe(), () => this.loaded?.deviceName ?? '');
    this.hands = new Hands(at('pad'), this.keys, (action) => this.loop?.hold(action), (key) => this.#command(key));
    this.drawing = new Drawing(this.spec, {
      engine: () => this.loop?.engine ?? null,
      shown: () => (this.loop ? this.run.frames.at(-1) : this.starts.now?.frame),
      onOpen: () => this.hands.drop(),
      onUse: (frame) => void this.starts.useOwn(frame),
    });
    mountBindings(dialog('keys'), this.keys, () => this.pad.name());
    mountAbout(world);
    this.#wire();
  }

  /** Show the gallery and the invitation. */
  async open() {
    const { gallery } = this.starts;
    const [choice] = await Promise.all([chooseDevice('auto', 0, this.spec), gallery.read()]);
    this.drawing.begin(gallery.swatches);
    mountGlow(canvas('glow'), this.screen.canvas);
    const { own, runtime, kept } = await costOf(this.world, choice.device);
    write('size', kept ? 'Kept on this device: starts without the network' : `${megabytes(own + runtime)} to load, once`);
    write('reason', kept ? choice.deviceName : `${megabytes(own)} of world, ${megabytes(runtime)} of player; then it also works offline. ${choice.deviceName}.`);
    await this.starts.open();
    curtain('invite');
  }

  /** A run is to begin at a picture. @param {Uint8Array} frame @param {{replays: boolean, chosen: boolean}} how */
  #onChoice(frame, { replays, chosen }) {
    this.pad.clear(frame);
    if (this.loop) {
      this.#begin();
      if (chosen && matchMedia('(max-width: 60rem)').matches) at('stage').scrollIntoView({ behavior: still() ? 'auto' : 'smooth' });
      return;
    }
    this.screen.draw(frame);
    find(button('play'), 'span', HTMLElement).textContent = replays ? 'Watch the run' : 'Play';
    button('play').disabled = false;
  }

  /** Load the world, then play. */
  async load() {
    const came = await bring(this.world, this.device, this.ready, () => void this.load());
    if (!came) return;
    const { deviceName, why, device } = (this.loaded = came.loaded);
    write('device', deviceName);
    write('why', [`${why[0].toUpperCase()}${why.slice(1)}.`, device === 'wasm' ? isolationWords() : ''].filter(Boolean).join(' '));
    this.meeting.offer(this.loaded);
    this.#play(came.engine);
    curtain(null);
    at('stage').focus({ preventScroll: true });
  }

  /** @param {import('./engine/engine.js').Engine} engine */
  #play(engine) {
    const loop = new Loop(engine, this.spec, {
      onStart: (start, other) => this.#onStart(start, other),
      onFrame: (action, played, other) => this.#onFrame(action, played, other),
      onState: () => this.#onState(),
      onPreview: (action, frames) => this.pad.show(action, frames),
      onError: (error) => {
        this.#stop();
        fail(error, () => void this.load());
      },
    });
    this.loop = loop;
    for (const name of ['pause', 'step', 'restart', 'auto', 'unlimited', 'versus']) button(name).disabled = false;
    this.keeping.enable();
    this.#begin();
    say(loop.queue.length ? 'Replaying the run' : 'Ready. Press an action.');
  }

  #begin() {
    const { loop, starts } = this;
    if (!loop || !starts.now) return;
    loop.seed = Math.min(Math.max(0, Math.trunc(find(document, '#seed', HTMLInputElement).valueAsNumber || 0)), Number.MAX_SAFE_INTEGER);
    loop.zero = find(document, '#zero', HTMLInputElement).checked;
    loop.begin(starts.now.frame, starts.replay.take());
  }

  /** The same start, by other chance. */
  #again() {
    if (this.starts.now) this.pad.clear(this.starts.now.frame);
    this.#begin();
  }

  /** Let go of the engines; the page stays. */
  #stop() {
    const { loop } = this;
    if (!loop) return;
    loop.closed = true;
    loop.engine.close();
    loop.other?.close();
    this.#part();
    this.loop = null;
  }

  /** @param {Start} start @param {Start | null} other */
  #onStart(start, other) {
    const { tokens, frame } = start;
    this.run.begin(tokens, frame);
    this.meters.clear();
    this.meeting.start(start, other);
    this.screen.draw(frame);
    this.view.draw(frame);
    write('tokens', `${tokens.length} tokens of ${this.spec.codebook} words.`);
  }

  /** @param {number} action @param {Played} played @param {Played | null} other */
  #onFrame(action, played, other) {
    const began = performance.now();
    this.screen.draw(played.frame);
    this.run.add(action, played.tokens, played.frame);
    this.meeting.frame(played, other);
    const draw = performance.now() - began;
    this.meters.add({ ...played.ms, draw, total: played.ms.total + draw });
    this.#onState();
    if (this.loop) this.starts.replay.judge(this.run, this.loop);
  }

  #onState() {
    const { loop } = this;
    if (!loop) return;
    write('state', loop.state);
    write('frame', `frame ${loop.played}`);
    for (const [name, on] of /** @type {const} */ ([['pause', loop.paused], ['auto', loop.auto], ['unlimited', loop.unlimited]])) {
      if (button(name).getAttribute('aria-pressed') !== String(on)) button(name).setAttribute('aria-pressed', String(on));
    }
    this.pad.light(loop.state === 'waits for an action' || loop.paused ? loop.held : (loop.held ?? loop.last));
  }

  /** @param {string} key of ui/hands.js's COMMANDS */
  #command(key) {
    const { loop } = this;
    if (!loop) return;
    if (key === ' ') {
      loop.toggle('paused');
      say(loop.paused ? 'Paused' : 'Goes on');
    } else if (key === '.') loop.step();
    else if (key === 'a') loop.toggle('auto');
    else if (key === 'u') loop.toggle('unlimited');
    else if (key === 'r') loop.again();
    else if (key === 's') void this.keeping.film('gif');
    else if (key === 'g') this.starts.next();
  }

  #wire() {
    click('play', () => void this.load());
    click('use-wasm', () => {
      this.device = 'wasm';
      void this.load();
    });
    for (const [name, key] of Object.entries({ pause: ' ', step: '.', restart: 'r', auto: 'a', unlimited: 'u' })) click(name, () => this.#command(key));
    for (const name of /** @type {const} */ (['keys', 'about'])) click(`open-${name}`, () => dialog(name).showModal());
    for (const close of document.querySelectorAll('[data-close]')) close.addEventListener('click', () => close.closest('dialog')?.close());
    click('versus', () => void (this.loop?.other ? this.#part() : this.#meet()));
    click('dice', () => {
      find(document, '#seed', HTMLInputElement).value = String(crypto.getRandomValues(new Uint16Array(1))[0]);
      this.#again();
    });
    for (const name of ['seed', 'zero']) at(name).addEventListener('change', () => this.#again());
  }

  /** @returns {import('./ui/run.js').Recipe} */
  #recipe() {
    if (!this.starts.now || !this.loop) throw new RunError('Play something first.');
    const { seed, zero } = this.loop;
    return { world: this.world.world, origin: this.starts.now.origin, seed, zero, actions: this.run.actions };
  }

  /** Another runtime joins: the run so far is replayed on both. */
  async #meet() {
    if (!this.loop || !this.loaded) return;
    const engine = await this.meeting.load(this.loaded);
    if (!engine) return;
    if (!this.loop) {
      this.meeting.close();
      return engine.close();
    }
    this.loop.other = engine;
    this.starts.replay.set(this.run.actions);
    this.#begin();
  }

  #part() {
    this.loop?.part();
    this.meeting.close();
  }
}

async function open() {
  mountTheme(button('theme'));
  /** @type {App | null} */
  let app = null;
  let opened = () => {};
  const idle = () => !app?.loaded && Boolean(at('loading').hidden);
  const kept = () => (document.documentElement.dataset.offline = 'ready');
  const ready = mountOffline(idle, new Promise((resolve) => (opened = resolve)), kept);
  try {
    app = new App(await fetchWorld());
    app.ready = ready;
    await app.open();
  } catch (error) {
    fail(error, () => location.reload());
  }
  opened();
}

void open();
