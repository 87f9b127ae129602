/** The page: its parts put together around one loop that plays one world. */

import { chooseDevice } from './engine/device.js';
import { Engine } from './engine/engine.js';
import { mountBindings } from './ui/bindings.js';
import { palette } from './ui/colours.js';
import { download, find, make, megabytes, still } from './ui/dom.js';
import { encodeGif } from './ui/gif.js';
import { Hands, Keys } from './ui/hands.js';
import { Loop } from './ui/loop.js';
import { Meters } from './ui/meters.js';
import { mountOffline } from './ui/offline.js';
import { Pad } from './ui/pad.js';
import { fitPicture, readPicture, toPng } from './ui/picture.js';
import { fromFragment, fromLog, Run, RunError, toFragment, toLog } from './ui/run.js';
import { mountGlow, Picture, Screen } from './ui/screen.js';
import { Sketch } from './ui/sketch.js';
import { mountSources, takePicture } from './ui/sources.js';
import { mountTheme } from './ui/theme.js';
import { apart, rivals, Tally } from './ui/versus.js';
import { encodeVideo, videoEnding, videoKind } from './ui/video.js';
import { isolationWords, wordsFor } from './ui/words.js';

/** @typedef {import('./engine/types.js').WorldFile} WorldFile */
/** @typedef {import('./engine/types.js').Loaded} Loaded */
/** @typedef {import('./engine/types.js').Progress} Progress */
/** @typedef {import('./ui/run.js').Recipe} Recipe */
/** @typedef {import('./ui/run.js').Origin} Origin */

const WORLD = 'world/world.json';
const SCHEMA = 1;
const PLAYING = /** @type {const} */ (['play', 'encode', 'observe', 'decode']);
const SWATCHES = 10;
const FILM_SIDE = 320; // pixels of a GIF or a video, about
const SAID_MS = 6000;

const at = (/** @type {string} */ name) => find(document, `#${name}`, HTMLElement);
const button = (/** @type {string} */ name) => find(document, `#${name}`, HTMLButtonElement);
const canvas = (/** @type {string} */ name) => find(document, `#${name}`, HTMLCanvasElement);
const dialog = (/** @type {string} */ name) => find(document, `#${name}`, HTMLDialogElement);
const write = (/** @type {string} */ name, /** @type {string} */ text) => {
  if (at(name).textContent !== text) at(name).textContent = text;
};
const click = (/** @type {string} */ name, /** @type {() => unknown} */ work) => button(name).addEventListener('click', work);

let silence = 0;
/** Tell the user, and a screen reader, once. @param {string} words */
function say(words) {
  clearTimeout(silence);
  at('say').textContent = words;
  silence = setTimeout(() => (at('say').textContent = ''), SAID_MS);
}

/** What a picture or a run lacks is told; anything else is a fault. @param {unknown} error */
function sayTrouble(error) {
  say(error instanceof Error ? error.message : String(error));
}

/** @param {'invite' | 'loading' | 'trouble' | null} which null: the world itself */
function curtain(which) {
  at('curtain').classList.toggle('open', which === null);
  for (const name of ['invite', 'loading', 'trouble']) at(name).hidden = name !== which;
}

/** @param {unknown} error @param {() => void} retry */
function fail(error, retry) {
  const { title, text, retry: again, wasm } = wordsFor(error);
  write('trouble-title', title);
  write('trouble-text', text);
  button('retry').hidden = !again;
  button('use-wasm').hidden = !wasm;
  button('retry').onclick = retry;
  curtain('trouble');
}

/** @returns {Promise<WorldFile>} */
async function fetchWorld() {
  const answer = await fetch(WORLD).catch(() => null);
  if (!answer) throw { code: 'network', message: 'the server does not answer; look at the connection and try again' };
  if (!answer.ok) throw { code: 'missing-file', message: `${WORLD} is not on the server (${answer.status}); copy the whole folder of the site, or export it again` };
  /** @type {WorldFile | null} */
  const world = await answer.json().catch(() => null);
  if (world?.schema_version !== SCHEMA) {
    const words = world ? `${WORLD} has schema ${world.schema_version}` : `${WORLD} cannot be read`;
    throw { code: 'schema', message: `${words}, this page reads schema ${SCHEMA}; export the world again with the page's own version` };
  }
  return world;
}

/** Bytes that a first visit fetches to play on a device. @param {WorldFile} world @param {'wasm' | 'webgpu'} device */
function bytesFor(world, device) {
  const graphs = { ...world.graphs, ...(device === 'webgpu' ? world.webgpu : {}) };
  const names = new Set(PLAYING.flatMap((name) => (graphs[name] ? [graphs[name].file, ...graphs[name].data] : [])));
  const own = [...names].reduce((sum, name) => sum + (world.files[name]?.size ?? 0), 0);
  const runtime = Object.entries(world.runtime?.[device] ?? {}).reduce((sum, [name, { size }]) => sum + (name.endsWith('.wasm') ? size : 0), 0);
  return { own, runtime };
}

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
    this.imagined = new Picture(canvas('imagined'), this.spec);
    this.tally = new Tally(at('verdict'));
    /** @type {Uint8Array[]} */
    this.gallery = [];
    /** @type {Loop | null} */
    this.loop = null;
    /** @type {Loaded | null} */
    this.loaded = null;
    /** @type {Screen | null} */
    this.otherScreen = null;
    /** What the run begins with. @type {{frame: Uint8Array, origin: Origin} | null} */
    this.start = null;
    /** A run to replay once the world is loaded. @type {number[]} */
    this.waiting = [];
    /** Tokens that a replayed log expects. @type {number[][] | null} */
    this.expected = null;
    this.saving = false;
    /** Of the service worker. @type {Promise<void>} */
    this.ready = Promise.resolve();
    /** @type {'auto' | 'wasm'} */
    this.device = 'auto';
    this.looking = this.changed = false;
    this.sketch = new Sketch(canvas('board'), { swatches: at('swatches'), brushes: at('brushes') }, this.spec, (frame) => void this.#look(frame));
    this.hands = new Hands(at('pad'), this.keys, (action) => this.loop?.hold(action), (key) => this.#command(key));
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
        make('img', { src: `world/${path}`, alt: '', width: spec.width, height: spec.height, decoding: 'async' }));
      thumb.addEventListener('click', () => this.#pick(place));
      return thumb;
    });
    at('gallery').replaceChildren(...pictures);
    const half = Object.values(spec.memories).some((memory) => memory?.dtype === 'float16');
    const [choice] = await Promise.all([chooseDevice('auto', 0, half), this.#readGallery()]);
    for (const thumb of pictures) thumb.disabled = false;
    this.sketch.offer(this.#swatches());
    this.sketch.begin();
    mountGlow(canvas('glow'), this.screen.canvas);
    const { own, runtime } = bytesFor(world, choice.device);
    const kept = this.#kept();
    write('size', kept ? 'Kept on this device: starts without the network' : `${megabytes(own + runtime)} to load, once`);
    write('reason', kept ? choice.deviceName : `${megabytes(own)} of world, ${megabytes(runtime)} of player; then it also works offline. ${choice.deviceName}.`);
    if (this.gallery.length) this.#pick(0, true);
    await this.#readLink();
    if (this.start) button('play').disabled = false;
    curtain('invite');
  }

  async #readGallery() {
    const read = this.world.gallery.map(async (path) => {
      const answer = await fetch(`world/${path}`).catch(() => null);
      if (!answer?.ok) throw { code: answer ? 'missing-file' : 'network', message: `the picture ${path} is not there; copy the whole folder of the site, or export it again` };
      return readPicture(await answer.blob(), this.spec);
    });
    this.gallery = await Promise.all(read);
  }

  #swatches() {
    if (!this.gallery.length) return palette(new Uint8Array([0, 0, 0, 255, 255, 255, 220, 60, 60, 60, 160, 80, 70, 110, 220, 240, 200, 60]), SWATCHES);
    const joined = new Uint8Array(this.gallery.length * this.gallery[0].length);
    this.gallery.forEach((frame, place) => joined.set(frame, place * frame.length));
    return palette(joined, SWATCHES);
  }

  async #readLink() {
    try {
      const recipe = fromFragment(location.hash, this.world);
      if (!recipe) return;
      await this.#replay(recipe);
      find(button('play'), 'span', HTMLElement).textContent = 'Watch the run';
    } catch (error) {
      sayTrouble(error);
    }
  }

  /** @param {Recipe} recipe */
  async #replay({ origin, seed, zero, actions }) {
    find(document, '#seed', HTMLInputElement).value = String(seed);
    find(document, '#zero', HTMLInputElement).checked = zero;
    if ('gallery' in origin) this.#use(this.gallery[this.world.gallery.indexOf(origin.gallery)], origin, actions);
    else {
      const answer = await fetch(`data:image/png;base64,${origin.png}`).catch(() => null);
      if (!answer) throw new RunError('The start picture of this run is damaged.');
      this.#use(await readPicture(await answer.blob(), this.spec), origin, actions);
    }
  }

  #kept() {
    try {
      return localStorage.getItem(`pocketgenie.kept.${this.world.world}.${this.world.precision}`) !== null;
    } catch {
      return false;
    }
  }

  /** A gallery picture. @param {number} place @param {boolean} [quietly] */
  #pick(place, quietly = false) {
    this.#use(this.gallery[place], { gallery: this.world.gallery[place] });
    if (!quietly) this.#begun();
  }

  /** @param {Uint8Array} frame @param {Origin} origin @param {number[]} [actions] to replay */
  #use(frame, origin, actions = []) {
    this.start = { frame, origin };
    this.expected = null;
    const chosen = 'gallery' in origin ? this.world.gallery.indexOf(origin.gallery) : -1;
    [...at('gallery').children].forEach((thumb, place) => thumb.setAttribute('aria-pressed', String(place === chosen)));
    this.given.draw(frame);
    this.pad.clear(frame);
    this.waiting = actions;
    if (this.loop) this.#begin();
    else {
      this.screen.draw(frame);
      button('play').disabled = false;
      find(button('play'), 'span', HTMLElement).textContent = 'Play';
    }
  }

  /** The keyboard is for playing now. */
  #begun() {
    if (this.loop && matchMedia('(max-width: 60rem)').matches) at('stage').scrollIntoView({ behavior: still() ? 'auto' : 'smooth' });
  }

  /** A file: a picture, or the log of a run. @param {Blob} file @param {string} name */
  async #take(file, name) {
    try {
      if (name.endsWith('.json') || file.type === 'application/json') {
        const { recipe, tokens } = fromLog(await file.text(), this.world);
        await this.#replay(recipe);
        this.expected = tokens;
        say(`Replaying ${recipe.actions.length} frames of ${name}`);
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
      this.loaded = await engine.load({ world: WORLD, device, onProgress: (progress) => this.#progress(progress), signal: cancelling.signal });
    } catch (error) {
      if (/** @type {{code?: string}} */ (error).code === 'cancelled') {
        curtain('invite');
        button('play').focus();
        say('Cancelled. What has been loaded is kept.');
      } else fail(error, () => void this.load());
      return;
    }
    const { deviceName, why, world } = this.loaded;
    try {
      localStorage.setItem(`pocketgenie.kept.${world.world}.${world.precision}`, '1');
    } catch {
      // Then the next visit says the size again.
    }
    write('device', deviceName);
    write('why', [`${why[0].toUpperCase()}${why.slice(1)}.`, this.loaded.device === 'wasm' ? isolationWords() : ''].filter(Boolean).join(' '));
    this.#offerRivals();
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
    say(this.waiting.length ? 'Replaying the run' : 'Ready. Press an action.');
  }

  #begin() {
    const { loop, start } = this;
    if (!loop || !start) return;
    loop.seed = Math.min(Math.max(0, Math.trunc(find(document, '#seed', HTMLInputElement).valueAsNumber || 0)), Number.MAX_SAFE_INTEGER);
    loop.zero = find(document, '#zero', HTMLInputElement).checked;
    loop.begin(start.frame, this.waiting);
    this.waiting = [];
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
    this.#part();
    this.loop = null;
  }

  /** @param {import('./engine/types.js').Start} start @param {import('./engine/types.js').Start | null} other */
  #onStart({ tokens, frame }, other) {
    this.run.begin(tokens, frame);
    this.meters.clear();
    this.tally.clear();
    this.screen.draw(frame);
    this.view.draw(frame);
    write('tokens', `${tokens.length} of ${this.spec.codebook} words`);
    if (other) {
      this.otherScreen?.draw(other.frame);
      this.otherScreen?.mark(apart(tokens, other.tokens));
    }
  }

  /** @param {number} action @param {import('./engine/types.js').Played} played @param {import('./engine/types.js').Played | null} other */
  #onFrame(action, played, other) {
    const began = performance.now();
    this.screen.draw(played.frame);
    this.run.add(action, played.tokens, played.frame);
    if (other) {
      const places = apart(played.tokens, other.tokens);
      this.otherScreen?.draw(other.frame);
      this.otherScreen?.mark(places);
      this.tally.add(played, other, places);
    }
    const draw = performance.now() - began;
    this.meters.add({ ...played.ms, draw, total: played.ms.total + draw });
    this.#onState();
    if (this.expected && this.loop && !this.loop.replaying) this.#judge(this.expected);
  }

  /** A log has been replayed: does it agree? @param {number[][]} expected */
  #judge(expected) {
    this.expected = null;
    const { tokens } = this.run;
    const wrong = expected.findIndex((row, t) => row.some((token, place) => token !== tokens[t]?.[place]));
    say(wrong < 0 ? `The log is replayed token for token: ${expected.length} of ${expected.length} frames equal` : `The log differs from frame ${wrong} on; it was played on another device or precision`);
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
    click('draw', () => {
      this.hands.drop();
      dialog('sketch').showModal();
      void this.#look(this.sketch.frame);
    });
    click('undo', () => this.sketch.undo());
    click('wipe', () => this.sketch.begin());
    click('over', () => this.sketch.begin(this.loop ? this.run.frames.at(-1) : this.start?.frame));
    click('use', () => {
      dialog('sketch').close();
      void this.#useOwn(this.sketch.frame.slice());
    });
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
    for (const name of ['seed', 'zero']) at(name).addEventListener('change', () => {
      this.#again();
    });
    addEventListener('hashchange', async () => {
      await this.#readLink();
    });
  }

  async #shoot() {
    try {
      const frame = await takePicture(dialog('lens'), (video) => fitPicture(video, { width: video.videoWidth, height: video.videoHeight }, this.spec));
      if (frame) await this.#useOwn(frame);
    } catch (error) {
      sayTrouble(error);
    }
  }

  /** How the world sees a drawing, as it grows. @param {Uint8Array} frame */
  async #look(frame) {
    const { loop } = this;
    if (this.looking) this.changed = true;
    if (!dialog('sketch').open || this.looking) return;
    const remembers = this.spec.memories.encoder || this.spec.memories.decoder; // looking would disturb the run
    write('imagined-name', !loop ? 'how the world sees it: once it is loaded' : remembers ? 'how the world sees it: once you play' : 'how the world sees it');
    if (!loop || remembers) return this.imagined.draw(frame);
    this.looking = true;
    try {
      const tokens = await loop.engine.encode(frame.slice());
      this.imagined.draw(await loop.engine.decode(tokens));
    } catch {
      // The loop meets the same fault, and tells it.
    }
    this.looking = false;
    if (this.changed) {
      this.changed = false;
      void this.#look(frame);
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
      const link = new URL(toFragment(this.#recipe()), location.href.split('#')[0]).href;
      history.replaceState(null, '', link);
      try {
        await navigator.clipboard.writeText(link);
        say(`Link copied: it replays these ${this.run.length} frames`);
      } catch {
        say('The link is in the address bar: copy it from there');
      }
    } catch (error) {
      sayTrouble(error);
    }
  }

  #saveLog() {
    const facts = { name: this.spec.name, precision: this.world.precision, device: this.loaded?.deviceName ?? '' };
    download(new Blob([toLog(this.#recipe(), this.run.tokens, facts)], { type: 'application/json' }), this.#file('json'));
    say('Action log saved');
  }

  /** @param {string} ending */
  #file(ending) {
    return `${this.spec.name}-${this.run.length}-frames.${ending}`;
  }

  /** @param {'gif' | 'video'} what */
  async #film(what) {
    const kind = videoKind();
    if (this.saving || !this.loop) return;
    const frames = this.run.frames.map((frame) => frame.slice());
    if (frames.length < 2) return say('Play something first.');
    this.saving = true;
    const own = button(what).innerHTML;
    const scale = Math.max(2, 2 * Math.floor(FILM_SIDE / Math.max(this.spec.width, this.spec.height) / 2));
    const progress = (/** @type {number} */ share) => (button(what).textContent = `${Math.floor(share * 100)} %`);
    try {
      const film = what === 'gif' || !kind ? await encodeGif(frames, this.spec, scale, progress) : await encodeVideo(frames, this.spec, scale, kind, progress);
      download(film, this.#file(what === 'gif' || !kind ? 'gif' : videoEnding(kind)));
      say(`Saved: ${frames.length} frames, ${megabytes(film.size)}`);
    } catch (error) {
      sayTrouble(error);
    }
    button(what).innerHTML = own;
    this.saving = false;
  }

  #offerRivals() {
    if (!this.loaded) return;
    const options = rivals(this.loaded).map(({ words }, place) => make('option', { value: place }, words));
    at('rival').replaceChildren(...options);
  }

  /** Another runtime joins: the run so far is replayed on both. */
  async #meet() {
    if (!this.loop || !this.loaded) return;
    const chosen = rivals(this.loaded)[Number(find(document, '#rival', HTMLSelectElement).value)];
    const engine = new Engine();
    button('versus').disabled = true;
    write('verdict', `Loading ${chosen.words}…`);
    try {
      const joined = await engine.load({ world: WORLD, device: chosen.device, threads: chosen.threads });
      if (!this.loop) return engine.close();
      at('second').hidden = false;
      find(document, '.screens', HTMLElement).classList.add('two');
      this.otherScreen = new Screen(at('other'), this.spec, `The same world on ${joined.deviceName}`);
      write('screen-name', this.loaded.deviceName);
      write('other-name', joined.deviceName);
      this.loop.other = engine;
      this.waiting = this.run.actions;
      this.#begin();
      button('versus').setAttribute('aria-pressed', 'true');
      say(`${joined.deviceName} plays along`);
    } catch (error) {
      engine.close();
      write('verdict', wordsFor(error).text);
    }
    button('versus').disabled = false;
  }

  #part() {
    this.loop?.other?.close();
    if (this.loop) this.loop.other = null;
    this.otherScreen?.close();
    this.otherScreen = null;
    at('second').hidden = true;
    find(document, '.screens', HTMLElement).classList.remove('two');
    button('versus').setAttribute('aria-pressed', 'false');
    this.tally.clear();
    if (this.loop) this.#begin();
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
  const ready = mountOffline(() => !app?.loaded && Boolean(at('loading').hidden));
  try {
    app = new App(await fetchWorld());
    app.ready = ready;
    await app.open();
  } catch (error) {
    fail(error, () => location.reload());
  }
}

void open();
