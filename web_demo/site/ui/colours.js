/** Few colours for many: a palette by median cut. */

/** @typedef {[number, number, number]} Colour */

/**
 * At most `count` colours that stand for the pixels, the most frequent first.
 * @param {Uint8Array} pixels RGB
 * @param {number} count
 * @returns {Colour[]}
 */
export function palette(pixels, count) {
  /** @type {Map<number, number>} colour -> how often */
  const seen = new Map();
  for (let at = 0; at < pixels.length; at += 3) {
    const colour = (pixels[at] << 16) | (pixels[at + 1] << 8) | pixels[at + 2];
    seen.set(colour, (seen.get(colour) ?? 0) + 1);
  }
  const all = [...seen].map(([colour, times]) => ({ rgb: /** @type {Colour} */ ([colour >> 16, (colour >> 8) & 255, colour & 255]), times }));
  const boxes = [measure(all)];
  while (boxes.length < count) {
    const widest = boxes.reduce((best, box) => (box.spread > best.spread ? box : best));
    if (widest.members.length < 2) break;
    boxes.splice(boxes.indexOf(widest), 1, ...halves(widest));
  }
  return boxes.sort((a, b) => b.times - a.times).map(({ mean }) => mean);
}

/** @typedef {{rgb: Colour, times: number}} Member */

/** @param {Member[]} members */
function measure(members) {
  const times = members.reduce((sum, member) => sum + member.times, 0);
  const mean = /** @type {Colour} */ ([0, 1, 2].map((c) => Math.round(members.reduce((sum, m) => sum + m.rgb[c] * m.times, 0) / times)));
  const spreads = [0, 1, 2].map((c) => members.reduce((sum, m) => sum + (m.rgb[c] - mean[c]) ** 2 * m.times, 0));
  const spread = Math.max(...spreads);
  return { members, times, mean, axis: spreads.indexOf(spread), spread };
}

/** Cut where the mean lies, which leaves both sides with something. @param {ReturnType<typeof measure>} box */
function halves({ members, axis }) {
  members.sort((a, b) => a.rgb[axis] - b.rgb[axis]);
  const times = members.reduce((sum, member) => sum + member.times, 0);
  const mean = members.reduce((sum, m) => sum + m.rgb[axis] * m.times, 0) / times;
  const cut = Math.min(Math.max(1, members.findIndex((m) => m.rgb[axis] > mean)), members.length - 1);
  return [measure(members.slice(0, cut)), measure(members.slice(cut))];
}

/**
 * Colours that are far from each other: the first, then always the one farthest from those taken.
 * @param {Colour[]} colours
 * @param {number} count
 * @returns {Colour[]}
 */
export function distinct(colours, count) {
  const away = (/** @type {Colour} */ a, /** @type {Colour} */ b) => (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2;
  const taken = colours.slice(0, 1);
  while (taken.length < Math.min(count, colours.length)) {
    const room = colours.map((colour) => Math.min(...taken.map((other) => away(colour, other))));
    taken.push(colours[room.indexOf(Math.max(...room))]);
  }
  return taken;
}

/** Looks colours up in a palette, remembering what it found. @param {Colour[]} colours */
export function nearest(colours) {
  /** @type {Map<number, number>} */
  const known = new Map();
  return (/** @type {number} */ red, /** @type {number} */ green, /** @type {number} */ blue) => {
    const key = (red << 16) | (green << 8) | blue;
    let best = known.get(key);
    if (best === undefined) {
      const away = colours.map(([r, g, b]) => (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2);
      best = away.indexOf(Math.min(...away));
      known.set(key, best);
    }
    return best;
  };
}

/** @param {Colour} colour */
export const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;
