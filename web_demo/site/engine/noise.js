/**
 * Sampling noise, number for number as genie/noise.py draws it: numpy's
 * Generator(PCG64([seed, frame])).integers(low, high, dtype=int32).
 *
 * Sources: numpy/random/bit_generator.pyx (SeedSequence), src/pcg64 (PCG XSL RR 128/64, pcg-random.org) and
 * src/distributions (Lemire's bounded integers, arXiv 1805.10941).
 */

const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;
const POOL = 4;
const TWO_32 = 2 ** 32;

/**
 * The words of SeedSequence(numbers).generate_state(count).
 * @param {number[]} numbers non-negative integers up to 2^53 - 1
 * @param {number} count
 * @returns {number[]} uint32
 */
function seedWords(numbers, count) {
  const entropy = numbers.flatMap((number) =>
    number < TWO_32 ? [number] : [number % TWO_32, Math.floor(number / TWO_32)],
  );
  let constant = 0x43b0d7e5;
  /** @param {number} value */
  const hash = (value) => {
    value ^= constant;
    constant = Math.imul(constant, 0x931e8875);
    value = Math.imul(value, constant);
    return value ^ (value >>> 16);
  };
  /** @param {number} x @param {number} y */
  const mix = (x, y) => {
    const mixed = Math.imul(0xca01f9dd, x) - Math.imul(0x4973f715, y);
    return mixed ^ (mixed >>> 16);
  };
  const pool = Array.from({ length: POOL }, (_, place) => hash(entropy[place] ?? 0));
  for (let source = 0; source < POOL; source++) {
    for (let place = 0; place < POOL; place++) {
      if (place !== source) pool[place] = mix(pool[place], hash(pool[source]));
    }
  }
  for (const word of entropy.slice(POOL)) {
    for (let place = 0; place < POOL; place++) pool[place] = mix(pool[place], hash(word));
  }
  let second = 0x8b51f9dd;
  return Array.from({ length: count }, (_, place) => {
    let value = pool[place % POOL] ^ second;
    second = Math.imul(second, 0x58f38ded);
    value = Math.imul(value, second);
    return (value ^ (value >>> 16)) >>> 0;
  });
}

/** numpy's PCG64, as its 32-bit halves come: the lower half of each 64 bits first. */
class Pcg64 {
  /** @param {number[]} numbers what SeedSequence takes */
  constructor(numbers) {
    const words = seedWords(numbers, 8).map(BigInt);
    /** @param {number} place */
    const long = (place) => (words[place + 1] << 32n) | words[place];
    /** @param {number} place */
    const wide = (place) => (long(place) << 64n) | long(place + 2);
    this.increment = BigInt.asUintN(128, (wide(4) << 1n) | 1n);
    this.state = this.increment + wide(0);
    this.#step();
    /** @type {number | null} */
    this.upper = null;
  }

  #step() {
    this.state = BigInt.asUintN(128, this.state * MULTIPLIER + this.increment);
  }

  /** @returns {number} uint32 */
  next32() {
    if (this.upper !== null) {
      const kept = this.upper;
      this.upper = null;
      return kept;
    }
    this.#step();
    const folded = BigInt.asUintN(64, (this.state >> 64n) ^ this.state);
    const turn = this.state >> 122n;
    const word = BigInt.asUintN(64, (folded >> turn) | (folded << (64n - turn)));
    this.upper = Number(word >> 32n);
    return Number(word & 0xffffffffn);
  }

  /**
   * An integer in [0, bound), every one as likely.
   * @param {number} bound 2 .. 2^21, so that products are exact in a double
   */
  below(bound) {
    let product = this.next32() * bound;
    const unfair = TWO_32 % bound;
    while (product % TWO_32 < unfair) product = this.next32() * bound;
    return Math.floor(product / TWO_32);
  }
}

/**
 * Row numbers int32 for one frame: a pure function of seed and frame number.
 * @param {{first: number, table_offsets: number}} rows of the Gumbel table
 * @param {number} count N * S
 * @param {number} seed
 * @param {number} frame
 * @returns {Int32Array} [count]
 */
export function drawNoise(rows, count, seed, frame) {
  const random = new Pcg64([seed, frame]);
  const noise = new Int32Array(count);
  for (let place = 0; place < count; place++) noise[place] = rows.first + random.below(rows.table_offsets);
  return noise;
}
