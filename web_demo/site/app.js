/** The page: its parts put together around one loop that plays one world. */

import { Drawing } from './drawing.js';
import { chooseDevice } from './engine/device.js';
import { Engine } from './engine/engine.js';
import { copyLink, saveFilm, saveLog } from './keeping.js';
import { Meeting } from './meeting.js';
import { costOf, depotOf, fetchWorld, same, WORLD } from './opening.js';
import { at, button, canvas, click, curtain, dialog, fail, say, sayTrouble, write } from './page.js';
import { Replay } from './replay.js';
import { mountBindings } from './ui/bindings.js';
import { distinct, palette } from './ui/colours.js';
import { find, make, megabytes, still } from './ui/dom.js';
import { Hands, Keys } from './ui/hands.js';
import { Loop } from './ui/loop.js';
import { Meters } from './ui/meters.js';
import { mountOffline } from './ui/offline.js';
import { Pad } from './ui/pad.js';
import { fitPicture, readPicture, toPng } from './ui/picture.js';
import { Run, RunError } from './ui/run.js';
import { mountGlow, Picture, Screen } from './ui/screen.js';
import { mountSources, takePicture } from './ui/sources.js';
import { mountTheme } from './ui/theme.js';
import { videoKind } from './ui/video.js';
import { isolationWords } from './ui/words.js';

/** @typedef {import('./engine/types.js').WorldFile} WorldFile */
/** @typedef {import('./engine/types.js').Loaded} Loaded */
/** @typedef {import('./engine/types.js').Progress} Progress */
/** @typedef {import('./ui/run.js').Recipe} Recipe */
/** @typedef {import('./ui/run.js').Origin} Origin */

const SWATCHES = 10;

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
    this.given = new Picture(canvas('given'), this.spec);
    this.view = new Picture(canvas('view'), this.spec);
    this.meeting = new Meeting(this.spec);
    /** @type {Uint8Array[]} */
    this.gallery = [];
    /** @type {Loop | null} */
    this.loop = null;
    /** @type {Loaded | null} */
    this.loaded = null;
    /** What the run begins with. @type {{frame: Uint8Array, origin: Origin} | null} */
    this.start = null;
    this.replay = new Replay(world, () => this.gallery);
    this.saving = false;
    /** Of the service worker. @type {Promise<void>} */
    this.ready = Promise.resolve();
    /** @type {'auto' | 'wasm'} */
    this.device = 'auto';
    this.hands = new Hands(at('pad'), this.keys, (action) => this.loop?.hold(action), (key) => this.#command(key));
    this.drawing = new Drawing(this.spec, {
      engine: () => this.loop?.engine ?? null,
      shown: () => (this.loop ? this.run.frames.at(-1) : this.start?.frame),
      onOpen: () => this.hands.drop(),
      onUse: (frame) => void this.#useOwn(frame),
    });
    mountBindings(dialog('keys'), this.keys, () => this.pad.name());
    mountSources(document.body, (file, name) => void this.#take(file, name), say);
    this.#wire();
    this.#facts();
  }

  /** Show the gallery and the invitation. */
  async open() {
    const { world, spec } = this;
    document.title = `${spec.name} · pocketgenie`;
    write('world', `${spec.name} · ${spec.width}×${spec.height} at ${spec.fps} fps · ${world.precision}`);
    const pictures = world.gallery.map((path, place) => {
      const name = path.split('/').at(-1)?.replace(/\.png$/, '') ?? path;
      const thumb = make('button', { type: 'button', 'aria-pressed': false, 'aria-label': `Start at picture ${name}`, disabled: true },
        make('img', { alt: '', width: spec.width, height: spec.height, decoding: 'async' }));
      thumb.addEventListener('click', () => this.#pick(place));
      return thumb;
    });
    at('gallery').replaceChildren(...pictures);
    const [choice] = await Promise.all([chooseDevice('auto', 0, spec), this.#readGallery(pictures)]);
    for (const thumb of pictures) thumb.disabled = false;
    this.drawing.begin(this.#swatches());
    mountGlow(canvas('glow'), this.screen.canvas);
    const { own, runtime, kept } = await costOf(world, choice.device);
    write('size', kept ? 'Kept on this device: starts without the network' : `${megabytes(own + runtime)} to load, once`);
    write('reason', kept ? choice.deviceName : `${megabytes(own)} of world, ${megabytes(runtime)} of player; then it also works offline. ${choice.deviceName}.`);
    if (this.gallery.length) this.#pick(0, true);
    await this.#readLink();
    if (this.start) button('play').disabled = false;
    curtain('invite');
  }

  /** @param {HTMLElement[]} thumbs where they are shown */
  async #readGallery(thumbs) {
    const depot = depotOf(this.world);
    const read = this.world.gallery.map(async (path, place) => {
      const picture = new Blob([await depot.read(path)], { type: 'image/png' });
      find(thumbs[place], 'img', HTMLImageElement).src = URL.createObjectURL(picture);
      return readPicture(picture, this.spec);
    });
    this.gallery = await Promise.all(read);
  }

  #swatches() {
    if (!this.gallery.length) return palette(new Uint8Array([0, 0, 0, 255, 255, 255, 220, 60, 60, 60, 160, 80, 70, 110, 220, 240, 200, 60]), SWATCHES);
    const joined = new Uint8Array(this.gallery.length * this.gallery[0].length);
    this.gallery.forEach((frame, place) => joined.set(frame, place * frame.length));
    return distinct(palette(joined, 6 * SWATCHES), SWATCHES);
  }

  async #readLink() {
    try {
      const wanted = await this.replay.link();
      if (!wanted) return;
      this.#watch(wanted);
      find(button('play'), 'span', HTMLElement).textContent = 'Watch the run';
    } catch (error) {
      sayTrouble(error);
    }
  }

  /** @param {import('./replay.js').Wanted} wanted */
  #watch({ recipe, frame, tokens }) {
    find(document, '#seed', HTMLInputElement).value = String(recipe.seed);
    find(document, '#zero', HTMLInputElement).checked = recipe.zero;
    this.#use(frame, recipe.origin, recipe.actions, tokens);
  }

  /** A gallery picture. @param {number} place @param {boolean} [quietly] */
  #pick(place, quietly = false) {
    this.#use(this.gallery[place], { gallery: this.world.gallery[place] });
    if (!quietly) this.#begun();
  }

  /** @param {Uint8Array} frame @param {Origin} origin @param {number[]} [actions] to replay @param {number[][] | null} [tokens] to expect */
  #use(frame, origin, actions, tokens) {
    this.start = { frame, origin };
    this.replay.set(actions, tokens);
    const chosen = 'gallery' in origin ? this.world.gallery.indexOf(origin.gallery) : -1;
    [...at('gallery').children].forEach((thumb, place) => thumb.setAttribute('aria-pressed', String(place === chosen)));
    this.given.draw(frame);
    this.pad.clear(frame);
    if (this.loop) this.#begin();
    else {
      this.screen.draw(frame);
      button('play').disabled = false;
      find(button('play'), 'span', HTMLElement).textContent = 'Play';
    }
  }

  /** Now the world is for playing. */
  #begun() {
    if (this.loop && matchMedia('(max-width: 60rem)').matches) at('stage').scrollIntoView({ behavior: still() ? 'auto' : 'smooth' });
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
      const frame = await readPicture(file, this.spec);
      await this.#useOwn(frame);
      say(`Starting from ${name}`);
    } catch (error) {
      sayTrouble(error);
    }
  }

  /** A picture of the user's. @param {Uint8Array} frame */
  async #useOwn(frame) {
    const bytes = new Uint8Array(await (await toPng(frame, this.spec)).arrayBuffer());
    this.#use(frame, { png: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join('')) });
    this.#begun();
    at('stage').focus({ preventScroll: true });
  }

  /** Load the world, then play. */
  async load() {
    const cancelling = new AbortController();
    button('cancel').onclick = () => cancelling.abort();
    curtain('loading');
    button('cancel').focus();
    const engine = new Engine();
    try {
      await this.ready;
      const { device } = this;
      const loaded = await engine.load({ world: WORLD, device, onProgress: (progress) => this.#progress(progress), signal: cancelling.signal });
      same(this.world, loaded.world);
      this.loaded = loaded;
    } catch (error) {
      engine.close();
      const { code } = /** @type {{code?: string}} */ (error);
      if (code === 'cancelled') {
        curtain('invite');
        button('play').focus();
        say('Cancelled. What has been loaded is kept.');
      } else fail(error, () => (code === 'changed' ? location.reload() : void this.load()));
      return;
    }
    const { deviceName, why } = this.loaded;
    write('device', deviceName);
    write('why', [`${why[0].toUpperCase()}${why.slice(1)}.`, this.loaded.device === 'wasm' ? isolationWords() : ''].filter(Boolean).join(' '));
    this.meeting.offer(this.loaded);
    this.#play(engine);
    curtain(null);
    at('stage').focus({ preventScroll: true });
  }

  /** @param {Progress} progress */
  #progress({ stage, loaded, total, cached, graph }) {
    const words = { files: cached && cached === loaded ? 'Opening what is kept here' : 'Loading the world', runtime: 'Starting the player', graphs: `Preparing to ${graph?.replace('_', ' ') ?? 'play'}`, ready: 'Ready' };
    const share = total ? Math.floor((100 * loaded) / total) : 0;
    write('doing', words[stage]);
    find(document, '#progress', HTMLProgressElement).value = share;
    write('percent', `${share} %`);
    write('bytes', total ? `${megabytes(loaded)} of ${megabytes(total)}` : '');
  }

  /** @param {Engine} engine */
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
    for (const name of ['pause', 'step', 'restart', 'auto', 'unlimited', 'link', 'gif', 'log', 'versus']) button(name).disabled = false;
    button('video').disabled = videoKind() === null;
    if (videoKind() === null) button('video').title = 'This browser records no video; a GIF it can.';
    this.#begin();
    say(this.loop.queue.length ? 'Replaying the run' : 'Ready. Press an action.');
  }

  #begin() {
    const { loop, start } = this;
    if (!loop || !start) return;
    loop.seed = Math.min(Math.max(0, Math.trunc(find(document, '#seed', HTMLInputElement).valueAsNumber || 0)), Number.MAX_SAFE_INTEGER);
    loop.zero = find(document, '#zero', HTMLInputElement).checked;
    loop.begin(start.frame, this.replay.take());
  }

  /** The same start, by other chance. */
  #again() {
    if (this.start) this.pad.clear(this.start.frame);
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

  /** @param {import('./engine/types.js').Start} start @param {import('./engine/types.js').Start | null} other */
  #onStart(start, other) {
    const { tokens, frame } = start;
    this.run.begin(tokens, frame);
    this.meters.clear();
    this.meeting.start(start, other);
    this.screen.draw(frame);
    this.view.draw(frame);
    write('tokens', `${tokens.length} tokens of ${this.spec.codebook} words.`);
  }

  /** @param {number} action @param {import('./engine/types.js').Played} played @param {import('./engine/types.js').Played | null} other */
  #onFrame(action, played, other) {
    const began = performance.now();
    this.screen.draw(played.frame);
    this.run.add(action, played.tokens, played.frame);
    this.meeting.frame(played, other);
    const draw = performance.now() - began;
    this.meters.add({ ...played.ms, draw, total: played.ms.total + draw });
    this.#onState();
    if (this.loop) this.replay.judge(this.run, this.loop);
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
    else if (key === 's') void this.#film('gif');
    else if (key === 'g' && this.gallery.length) {
      const origin = this.start?.origin;
      const place = origin && 'gallery' in origin ? this.world.gallery.indexOf(origin.gallery) : -1;
      this.#pick((place + 1) % this.gallery.length);
    }
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
    click('camera', () => void this.#shoot());
    click('link', () => void this.#copyLink());
    click('gif', () => void this.#film('gif'));
    click('video', () => void this.#film('video'));
    click('log', () => this.#saveLog());
    click('versus', () => void (this.loop?.other ? this.#part() : this.#meet()));
    click('dice', () => {
      find(document, '#seed', HTMLInputElement).value = String(crypto.getRandomValues(new Uint16Array(1))[0]);
      this.#again();
    });
    for (const name of ['seed', 'zero']) at(name).addEventListener('change', () => this.#again());
    addEventListener('hashchange', () => void this.#readLink());
  }

  async #shoot() {
    try {
      const frame = await takePicture(dialog('lens'), (video) => fitPicture(video, { width: video.videoWidth, height: video.videoHeight }, this.spec));
      if (frame) await this.#useOwn(frame);
    } catch (error) {
      sayTrouble(error);
    }
  }

  /** @returns {Recipe} */
  #recipe() {
    if (!this.start || !this.loop) throw new RunError('Play something first.');
    const { seed, zero } = this.loop;
    return { world: this.world.world, origin: this.start.origin, seed, zero, actions: this.run.actions };
  }

  async #copyLink() {
    try {
      await copyLink(this.#recipe());
    } catch (error) {
      sayTrouble(error);
    }
  }

  #saveLog() {
    const facts = { name: this.spec.name, precision: this.world.precision, device: this.loaded?.deviceName ?? '' };
    saveLog(this.#recipe(), this.run.tokens, facts);
  }

  /** @param {'gif' | 'video'} what */
  async #film(what) {
    if (this.saving || !this.loop) return;
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
    this.replay.set(this.run.actions);
    this.#begin();
  }

  #part() {
    this.loop?.part();
    this.meeting.close();
  }

  #facts() {
    const { spec, world } = this;
    const facts = {
      World: spec.name,
      Frames: `${spec.width} × ${spec.height} pixels, ${spec.grid[0] * spec.grid[1]} tokens of ${spec.codebook} words`,
      'A frame takes': `${spec.steps} ${spec.steps === 1 ? 'step' : 'steps'}, looking back ${spec.memories.dynamics?.slots ?? 0} frames`,
      Precision: world.precision,
      Licence: world.licence,
      Checkpoint: world.world.slice(0, 16),
    };
    at('facts').replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [make('dt', {}, name), make('dd', {}, value)]));
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
