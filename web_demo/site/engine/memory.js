/**
 * The streaming memory (runtimes/ring.py): the last frames' entries, where the runtime computes, and how old each
 * is.
 */

/** @typedef {typeof import('onnxruntime-common')} Ort */
/** @typedef {import('onnxruntime-common').Tensor} Tensor */
/** @typedef {import('./types.js').MemorySpec} MemorySpec */
/** @typedef {{tensor: Tensor, write: (slot: number, entry: Tensor) => void, free: () => void}} Slots */

/** @param {number[]} shape */
const count = (shape) => shape.reduce((product, side) => product * side, 1);

/**
 * Slots in the worker's own memory.
 * @param {Ort} ort
 * @param {MemorySpec} spec
 * @returns {Slots}
 */
export function hostSlots(ort, spec) {
  const size = count(spec.entry);
  const Half = /** @type {typeof Uint16Array} */ (/** @type {any} */ (globalThis).Float16Array ?? Uint16Array);
  const data = spec.dtype === 'float16' ? new Half(spec.slots * size) : new Float32Array(spec.slots * size);
  return {
    tensor: new ort.Tensor(spec.dtype, /** @type {any} */ (data), [spec.slots, ...spec.entry]),
    write: (slot, entry) => data.set(/** @type {any} */ (entry.data), slot * size),
    free: () => {},
  };
}

/**
 * Slots in one buffer of the graphics card: an entry is copied there from where the graph left it.
 * @param {Ort} ort
 * @param {GPUDevice} device
 * @param {MemorySpec} spec
 * @returns {Slots}
 */
export function deviceSlots(ort, device, spec) {
  const bytes = count(spec.entry) * (spec.dtype === 'float16' ? 2 : 4);
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const buffer = device.createBuffer({ size: Math.ceil((spec.slots * bytes) / 16) * 16, usage });
  return {
    tensor: ort.Tensor.fromGpuBuffer(buffer, { dataType: spec.dtype, dims: [spec.slots, ...spec.entry] }),
    write: (slot, entry) => {
      const commands = device.createCommandEncoder();
      commands.copyBufferToBuffer(/** @type {GPUBuffer} */ (entry.gpuBuffer), 0, buffer, slot * bytes, bytes);
      device.queue.submit([commands.finish()]);
    },
    free: () => buffer.destroy(),
  };
}

/** `memory`, `ages` int32 [W] and `filled` int32 [1], written in place for life. */
export class Ring {
  /**
   * @param {Ort} ort
   * @param {MemorySpec} spec
   * @param {Slots} slots
   */
  constructor(ort, spec, slots) {
    this.spec = spec;
    this.slots = slots;
    this.ages = new Int32Array(spec.slots);
    this.filled = new Int32Array(1);
    this.entryName = `${spec.prefix}entry`;
    /** The ring as a graph's inputs, by name. @type {Record<string, Tensor>} */
    this.inputs = {
      [`${spec.prefix}memory`]: slots.tensor,
      [`${spec.prefix}ages`]: new ort.Tensor('int32', this.ages, [spec.slots]),
      [`${spec.prefix}filled`]: new ort.Tensor('int32', this.filled, [1]),
    };
    this.reset();
  }

  get full() {
    return this.filled[0] === this.spec.slots;
  }

  /** Forget everything. Slot 0 is written first, so it will be the oldest. */
  reset() {
    this.filled[0] = 0;
    this.ages.forEach((_, slot) => (this.ages[slot] = this.spec.slots - slot));
  }

  /** Write the new frame's entry over the oldest one. @param {Tensor} entry */
  push(entry) {
    const oldest = this.ages.indexOf(Math.max(...this.ages));
    this.slots.write(oldest, entry);
    this.ages.forEach((age, slot) => (this.ages[slot] = age + 1));
    this.ages[oldest] = 1;
    this.filled[0] = Math.min(this.filled[0] + 1, this.spec.slots);
  }
}

/**
 * What an absolute window shows before the next frame: at most W past items, oldest first.
 * @template Item
 */
export class Window {
  /** @param {number} slots W @param {number} keeps how many stay when it moves */
  constructor(slots, keeps) {
    this.slots = slots;
    this.keeps = keeps;
    /** @type {Item[]} */
    this.past = [];
  }

  /** Make room for one more frame -> whether the window had to move for it. */
  move() {
    const moves = this.past.length > this.slots;
    if (moves) this.past = this.past.slice(-this.keeps);
    return moves;
  }

  /** Take the next frame -> whether the window had to move for it. @param {Item} item */
  add(item) {
    const moved = this.move();
    this.past.push(item);
    return moved;
  }
}
