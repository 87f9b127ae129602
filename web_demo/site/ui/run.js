/** A run: where it began, what was done, what came of it; as a link, and as a log that others can check. */

/** @typedef {{gallery: string} | {png: string}} Origin a gallery picture by its path, or any picture in base64 */
/** @typedef {{world: string, origin: Origin, seed: number, zero: boolean, actions: number[]}} Recipe */

export const MOST_ACTIONS = 100_000; // as `pocketgenie play --actions` takes
const MOST_TOKENS = 1 << 20; // kept for the log: at 64 a frame, some 16,000 frames
const MOST_PIXELS = 24 << 20; // bytes of the latest frames that are kept for a film
const MOST_FRAMES = 1000;
const LONGEST_PNG = 24_000; // characters in a link
const HASH = 16; // characters of the world's hash in a link

/** What a link or a log lacks, in words. */
export class RunError extends Error {}

export class Run {
  /** @param {{width: number, height: number, grid: [number, number], codebook: number}} spec */
  constructor({ width, height, grid, codebook }) {
    const size = width * height * 3;
    this.size = size;
    this.kept = Math.max(2, Math.min(MOST_FRAMES, Math.floor(MOST_PIXELS / size)));
    this.pixels = new Uint8Array(this.kept * size);
    this.width = grid[0] * grid[1];
    this.log = codebook > 65536 ? new Uint32Array(MOST_TOKENS) : new Uint16Array(MOST_TOKENS);
    this.done = new Uint16Array(MOST_ACTIONS);
    this.length = 0;
  }

  /** @param {Int32Array} tokens @param {Uint8Array} frame */
  begin(tokens, frame) {
    this.length = 0;
    this.#keep(tokens, frame);
  }

  /** @param {number} action @param {Int32Array} tokens @param {Uint8Array} frame */
  add(action, tokens, frame) {
    if (this.length < MOST_ACTIONS) this.done[this.length] = action;
    this.length += 1;
    this.#keep(tokens, frame);
  }

  /** @param {Int32Array} tokens @param {Uint8Array} frame */
  #keep(tokens, frame) {
    if ((this.length + 1) * this.width <= MOST_TOKENS) this.log.set(tokens, this.length * this.width);
    this.pixels.set(frame, (this.length % this.kept) * this.size);
  }

  get actions() {
    return [...this.done.subarray(0, Math.min(this.length, MOST_ACTIONS))];
  }

  /** The latest frames, oldest first. @returns {Uint8Array[]} */
  get frames() {
    const first = Math.max(0, this.length + 1 - this.kept);
    return Array.from({ length: this.length + 1 - first }, (_, place) => {
      const at = ((first + place) % this.kept) * this.size;
      return this.pixels.subarray(at, at + this.size);
    });
  }

  /** Tokens per frame, the start first. @returns {number[][]} */
  get tokens() {
    const frames = Math.min(this.length + 1, Math.floor(MOST_TOKENS / this.width));
    return Array.from({ length: frames }, (_, t) => [...this.log.subarray(t * this.width, (t + 1) * this.width)]);
  }
}

/** Actions in runs, counted from 1: [4, 4, 4, 0] -> "5x3.1". @param {number[]} actions */
export function packActions(actions) {
  /** @type {[number, number][]} */
  const runs = [];
  for (const action of actions) {
    const last = runs.at(-1);
    if (last && last[0] === action) last[1] += 1;
    else runs.push([action, 1]);
  }
  return runs.map(([action, times]) => (times > 1 ? `${action + 1}x${times}` : `${action + 1}`)).join('.');
}

/** @param {string} text @param {number} actions how many the world has @returns {number[]} */
export function unpackActions(text, actions) {
  /** @type {number[]} */
  const unpacked = [];
  for (const part of text.split('.').filter(Boolean)) {
    const [, action, times = '1'] = /^(\d{1,4})(?:x(\d{1,6}))?$/.exec(part) ?? [];
    if (!action || Number(action) < 1 || Number(action) > actions) throw new RunError('This link is damaged: its actions cannot be read. Copy it again.');
    if (unpacked.length + Number(times) > MOST_ACTIONS) throw new RunError(`This link holds more than ${MOST_ACTIONS} actions.`);
    for (let time = 0; time < Number(times); time++) unpacked.push(Number(action) - 1);
  }
  return unpacked;
}

/**
 * The fragment of a link that replays a run.
 * @param {Recipe} recipe
 */
export function toFragment({ world, origin, seed, zero, actions }) {
  if ('png' in origin && origin.png.length > LONGEST_PNG) {
    throw new RunError('This start picture is too detailed for a link. Save the action log instead.');
  }
  const fields = new URLSearchParams({ w: world.slice(0, HASH), s: String(seed) });
  if ('gallery' in origin) fields.set('p', origin.gallery);
  else fields.set('i', origin.png.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', ''));
  if (zero) fields.set('z', '1');
  fields.set('a', packActions(actions));
  return `#${fields}`;
}

/**
 * What a link asks for; null where it asks for nothing.
 * @param {string} fragment
 * @param {{world: string, spec: {actions: number}, gallery: string[]}} world
 * @returns {Recipe | null}
 */
export function fromFragment(fragment, world) {
  const fields = new URLSearchParams(fragment.slice(1));
  if (!fields.has('w')) return null;
  if (fields.get('w') !== world.world.slice(0, HASH)) {
    throw new RunError('This link was made with another world or another version of this one, so it cannot be replayed here.');
  }
  const seed = Number(fields.get('s') ?? 0);
  if (!Number.isSafeInteger(seed) || seed < 0) throw new RunError('This link is damaged: its seed is no number. Copy it again.');
  const path = fields.get('p');
  const png = fields.get('i')?.replaceAll('-', '+').replaceAll('_', '/');
  if (path !== null && !world.gallery.includes(path)) throw new RunError('This link starts from a picture that is not in this gallery.');
  if (path === null && !png) throw new RunError('This link is damaged: it names no start picture. Copy it again.');
  const origin = path === null ? { png: String(png) } : { gallery: path };
  return { world: world.world, origin, seed, zero: fields.get('z') === '1', actions: unpackActions(fields.get('a') ?? '', world.spec.actions) };
}

/**
 * The log of a run: another runtime that is given its start, seed and actions must draw its tokens.
 * @param {Recipe} recipe
 * @param {number[][]} tokens per frame, the start first
 * @param {{name: string, precision: string, device: string}} facts
 */
export function toLog(recipe, tokens, facts) {
  const { world, origin, seed, zero, actions } = recipe;
  const log = { schema_version: 1, kind: 'pocketgenie-run', world, ...facts, start: origin, seed, temperature_zero: zero, actions, tokens };
  return `${JSON.stringify(log)}\n`;
}

/**
 * A log as it is read: what it asks for, and the tokens to expect.
 * @param {string} text
 * @param {{world: string, spec: {actions: number}, gallery: string[]}} world
 * @returns {{recipe: Recipe, tokens: number[][]}}
 */
export function fromLog(text, world) {
  /** @type {any} */
  let log;
  try {
    log = JSON.parse(text);
  } catch {
    throw new RunError('That file is no action log of this player.');
  }
  if (log?.kind !== 'pocketgenie-run' || log.schema_version !== 1) throw new RunError('That file is no action log of this player.');
  if (log.world !== world.world) throw new RunError('That log was made with another world.');
  const whole = (/** @type {unknown} */ value, /** @type {number} */ below) => Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) < below;
  const fits = Array.isArray(log.actions) && log.actions.length <= MOST_ACTIONS && log.actions.every((/** @type {unknown} */ a) => whole(a, world.spec.actions));
  const { png, gallery } = log.start ?? {};
  const start = typeof png === 'string' || world.gallery.includes(gallery);
  const lists = Array.isArray(log.tokens) && log.tokens.every((/** @type {unknown} */ row) => Array.isArray(row));
  if (!fits || !start || !lists || !whole(log.seed, Infinity)) throw new RunError('That log is damaged.');
  const recipe = { world: log.world, origin: typeof png === 'string' ? { png } : { gallery }, seed: log.seed, zero: log.temperature_zero === true, actions: log.actions };
  return { recipe, tokens: log.tokens };
}
