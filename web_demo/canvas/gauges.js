// @ts-check
// Live charts: frames a second over the last minute, and where a frame's time goes, p50 and p95 by stage.

const KEPT = 240; // frames that the quantiles are about
const SECONDS = 60;

/** The stages of a frame, in order: key in Gauges.times, name, what it is. */
export const STAGES = /** @type {const} */ ([
  ['engine', 'world', 'the engine draws the frame'],
  ['handed', 'hand-over', 'from its process to the server'],
  ['way', 'delivery', 'over the socket onto the canvas, and back'],
]);

export class Gauges {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {Record<string, number[]>} */
    this.times = { engine: [], handed: [], way: [], gap: [] };
    /** @type {number[]} */
    this.shown = [];
    /** Frames a second, one per second. @type {number[]} */
    this.history = [];
    this.total = 0;
    this.before = 0;
    root.innerHTML = `
      <div class="fps"><b>–</b><span>frames per second</span></div>
      <canvas class="line" height="88"></canvas>
      <table><thead><tr><th></th><th>p50</th><th>p95</th></tr></thead><tbody>${STAGES.map(
        ([key, name, what]) => `<tr data-stage="${key}" title="${what}"><td>${name}</td><td>–</td><td>–</td></tr>
          <tr class="meter" data-meter="${key}"><td colspan="3"><i><u></u><s></s></i></td></tr>`,
      ).join('')}</tbody></table>
      <p class="count"></p>`;
    this.timer = setInterval(() => this.draw(), 250);
    this.second = setInterval(() => this.tick(), 1000);
  }

  /** @param {{engine: number, handed: number, way: number, number: number}} frame */
  add(frame) {
    const now = performance.now();
    this.total++;
    this.shown.push(now);
    if (this.shown.length > 2000) this.shown.splice(0, 1000);
    if (frame.number === 0) return; // starting is no frame of play
    this.put('engine', frame.engine);
    this.put('handed', frame.handed);
    if (frame.way > 0) this.put('way', frame.way);
    if (this.before) this.put('gap', now - this.before);
    this.before = now;
  }

  /** @param {string} key @param {number} ms */
  put(key, ms) {
    const times = this.times[key];
    times.push(ms);
    if (times.length > KEPT) times.shift();
  }

  /** Frames in the last second. */
  fps() {
    const since = performance.now() - 1000;
    let count = 0;
    for (let i = this.shown.length - 1; i >= 0 && this.shown[i] > since; i--) count++;
    return count;
  }

  tick() {
    this.history.push(this.fps());
    if (this.history.length > SECONDS) this.history.shift();
  }

  draw() {
    const fps = this.fps();
    /** @type {HTMLElement} */ (this.root.querySelector('.fps b')).textContent = fps ? String(fps) : '–';
    const most = Math.max(1, ...STAGES.map(([key]) => quantile(this.times[key], 0.95)));
    for (const [key] of STAGES) {
      const [p50, p95] = [quantile(this.times[key], 0.5), quantile(this.times[key], 0.95)];
      const cells = this.root.querySelectorAll(`[data-stage=${key}] td`);
      const some = this.times[key].length > 0;
      cells[1].textContent = some ? ms(p50) : '–';
      cells[2].textContent = some ? ms(p95) : '–';
      const meter = /** @type {HTMLElement} */ (this.root.querySelector(`[data-meter=${key}]`));
      /** @type {HTMLElement} */ (meter.querySelector('u')).style.width = `${(100 * p50) / most}%`;
      /** @type {HTMLElement} */ (meter.querySelector('s')).style.left = `${(100 * p95) / most}%`;
    }
    /** @type {HTMLElement} */ (this.root.querySelector('.count')).textContent = this.total
      ? `${this.total} shown since the page was opened` : '';
    this.root.dataset.frames = String(this.total);
    this.line();
  }

  line() {
    const canvas = /** @type {HTMLCanvasElement} */ (this.root.querySelector('.line'));
    const ratio = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, 88];
    if (!width) return;
    if (canvas.width !== Math.round(width * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
    const style = getComputedStyle(this.root);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const top = Math.max(10, ...this.history) * 1.15;
    pen.font = '11px system-ui, sans-serif';
    pen.fillStyle = style.getPropertyValue('--soft');
    pen.strokeStyle = style.getPropertyValue('--line');
    for (const value of [0, niceHalf(top)]) {
      const y = Math.round(height - 16 - ((height - 22) * value) / top) + 0.5;
      pen.beginPath();
      pen.moveTo(24, y);
      pen.lineTo(width, y);
      pen.stroke();
      pen.fillText(String(value), 0, y + 4);
    }
    pen.fillText(`last ${SECONDS} s`, 24, height - 2);
    pen.strokeStyle = style.getPropertyValue('--ours');
    pen.lineWidth = 2;
    pen.beginPath();
    this.history.forEach((value, i) => {
      const x = width - ((this.history.length - 1 - i) * (width - 24)) / (SECONDS - 1);
      const y = height - 16 - ((height - 22) * value) / top;
      if (i) pen.lineTo(x, y);
      else pen.moveTo(x, y);
    });
    pen.stroke();
  }

  close() {
    clearInterval(this.timer);
    clearInterval(this.second);
  }
}

/** @param {number[]} values @param {number} share */
export function quantile(values, share) {
  if (!values.length) return 0;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

/** @param {number} value */
function ms(value) {
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;
}

/** A round number near the upper half. @param {number} top */
function niceHalf(top) {
  const step = 10 ** Math.floor(Math.log10(top));
  return Math.max(...[1, 2, 5].map((factor) => factor * step).filter((value) => value <= top));
}
