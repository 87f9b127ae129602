/**
 * The play loop: the only place that plays the engine. The world waits for an action; holding one plays on. In
 * idle time after a start it tries every action, for the pictures on the buttons.
 */

/** @typedef {import('../engine/types.js').EngineApi} Engine */
/** @typedef {import('../engine/types.js').Start} Start */
/** @typedef {import('../engine/types.js').Played} Played */

/**
 * @typedef {object} Watcher
 * @property {(start: Start, other: Start | null) => void} onStart
 * @property {(action: number, played: Played, other: Played | null) => void} onFrame
 * @property {() => void} onState something that people see has changed
 * @property {(action: number, frames: Uint8Array[]) => void} onPreview
 * @property {(error: unknown) => void} onError the loop has ended
 */

const PREVIEW_FRAMES = 7;

export class Loop {
  /** @param {Engine} engine @param {{fps: number, actions: number}} spec @param {Watcher} watcher */
  constructor(engine, spec, watcher) {
    this.engine = engine;
    this.spec = spec;
    this.watcher = watcher;
    /** Plays along, on the same actions and noise. @type {Engine | null} */
    this.other = null;
    /** @type {Uint8Array | null} */
    this.picture = null;
    this.seed = 0;
    this.zero = false;
    this.played = 0;
    this.paused = this.auto = this.unlimited = false;
    /** @type {number | null} */
    this.last = null;
    /** Actions that are replayed. @type {number[]} */
    this.queue = [];
    this.replayed = 0;
    /** @type {number | null} */
    this.held = null;
    /** @type {number | null} */
    this.tapped = null;
    this.single = this.restart = this.parting = this.closed = false;
    /** Whether a preview has left the engine somewhere else than at the start. */
    this.astray = false;
    /** Actions whose preview is still to come. @type {number[]} */
    this.unseen = [];
    this.wake = () => {};
    this.ended = this.#run();
  }

  get replaying() {
    return this.replayed < this.queue.length;
  }

  /** What is happening, in words. */
  get state() {
    if (this.replaying) return this.paused ? `replay paused at ${this.replayed} of ${this.queue.length}` : `replaying ${this.replayed} of ${this.queue.length}`;
    if (this.paused) return 'paused';
    if (this.held !== null || (this.auto && this.last !== null)) return 'playing';
    return 'waits for an action';
  }

  /** Begin at a picture, and replay actions from there. @param {Uint8Array} picture @param {number[]} [actions] */
  begin(picture, actions = []) {
    this.picture = picture;
    this.queue = actions;
    this.again(true);
  }

  /** Back to the start. @param {boolean} [replay] */
  again(replay = false) {
    if (!replay) this.queue = [];
    this.replayed = 0;
    this.restart = true;
    this.paused = false;
    this.changed();
  }

  /** @param {number | null} action what is held now */
  hold(action) {
    this.held = action;
    if (action !== null) {
      this.tapped = action;
      this.queue = [];
      this.replayed = 0;
    }
    this.changed();
  }

  step() {
    this.single = true;
    this.changed();
  }

  /** @param {'paused' | 'auto' | 'unlimited'} name */
  toggle(name) {
    this[name] = !this[name];
    this.changed();
  }

  /** The other engine plays along no more. */
  part() {
    this.parting = true;
    this.wake();
  }

  changed() {
    this.wake();
    this.watcher.onState();
  }

  /** @returns {number | null} the action to play now */
  #due() {
    if (this.paused && !this.single) return null;
    if (this.replaying) return this.queue[this.replayed];
    const pressed = this.held ?? this.tapped;
    if (pressed !== null) return pressed;
    return this.single ? (this.last ?? 0) : this.auto ? this.last : null;
  }

  async #run() {
    try {
      while (!this.closed) {
        if (this.parting) this.#part();
        const action = this.restart || !this.picture ? null : this.#due();
        if (this.restart && this.picture) await this.#begin(this.picture);
        else if (action !== null) await this.#step(action);
        else if (this.unseen.length && !this.paused && !this.other) await this.#preview(this.unseen[0]);
        else await new Promise((resolve) => (this.wake = () => resolve(undefined)));
      }
    } catch (error) {
      if (!this.closed) this.watcher.onError(error);
    }
  }

  /** @param {Uint8Array} picture */
  async #begin(picture) {
    this.restart = this.single = this.astray = false;
    this.tapped = this.last = null;
    for (const engine of this.#engines()) {
      await engine.seed(this.seed);
      await engine.temperatureZero(this.zero);
    }
    const [start, other = null] = await Promise.all(this.#engines().map((engine) => engine.start(picture)));
    this.played = this.replayed = 0;
    this.watcher.onStart(start, other);
    this.unseen = this.replaying ? [] : Array.from({ length: this.spec.actions }, (_, action) => action);
    this.watcher.onState();
  }

  /** Between two frames, so that no call is under way. */
  #part() {
    this.parting = false;
    this.other?.close();
    this.other = null;
  }

  #engines() {
    return this.other ? [this.engine, this.other] : [this.engine];
  }

  /** @param {number} action */
  async #step(action) {
    const began = performance.now();
    this.unseen = [];
    if (this.replaying) this.replayed += 1;
    this.tapped = null;
    this.single = false;
    this.last = action;
    if (this.astray && this.picture) await this.engine.start(this.picture);
    this.astray = false;
    const [played, other = null] = await Promise.all(this.#engines().map((engine) => engine.play(action)));
    if (this.closed) return;
    this.played += 1;
    this.watcher.onFrame(action, played, other);
    if (!this.unlimited) {
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, began + 1000 / this.spec.fps - performance.now())));
    }
  }

  /** Try an action from the start, until something else is to be done. @param {number} action */
  async #preview(action) {
    this.astray = true;
    const { picture } = this;
    if (!picture) return;
    const frames = [(await this.engine.start(picture)).frame];
    while (frames.length < PREVIEW_FRAMES) {
      if (this.closed || this.restart || this.paused || this.#due() !== null) return;
      frames.push((await this.engine.play(action)).frame);
    }
    this.unseen.shift();
    this.watcher.onPreview(action, frames);
  }

  /** End; the engine may be used by others when this resolves. */
  async close() {
    this.closed = true;
    this.wake();
    await this.ended;
  }
}
