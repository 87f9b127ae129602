// @ts-check
// A small drawing board: what is on it becomes the start picture.

const COLOURS = ['#6ec6ff', '#1b1f3b', '#3b7d2a', '#8a5a2b', '#e0b04c', '#d64541', '#f5f5f5', '#7e57c2'];
const SIZE = 320;

/**
 * @param {HTMLElement} root @param {{width: number, height: number}} data
 * @param {(name: string, value: any) => void} setStateValue
 */
export function mount(root, data, setStateValue) {
  if (root.dataset.ready) return () => {};
  root.dataset.ready = '1';
  const height = Math.round((SIZE * data.height) / data.width);
  root.innerHTML = `<canvas width="${SIZE}" height="${height}" aria-label="drawing"></canvas>
    <div class="tools">${COLOURS.map((colour, i) =>
    `<button type="button" class="colour" data-colour="${colour}" style="--c:${colour}" aria-label="colour ${i + 1}" aria-pressed="${i === 2}"></button>`).join('')}
      <input type="range" min="4" max="60" value="18" aria-label="brush size">
      <button type="button" class="wipe">Wipe</button></div>`;
  const canvas = /** @type {HTMLCanvasElement} */ (root.querySelector('canvas'));
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  const size = /** @type {HTMLInputElement} */ (root.querySelector('input'));
  let colour = COLOURS[2];
  const wipe = () => {
    pen.fillStyle = COLOURS[0];
    pen.fillRect(0, 0, SIZE, height);
  };
  wipe();
  for (const button of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll('.colour'))) {
    button.onclick = () => {
      colour = String(button.dataset.colour);
      for (const other of root.querySelectorAll('.colour')) other.setAttribute('aria-pressed', String(other === button));
    };
  }
  /** @type {HTMLElement} */ (root.querySelector('.wipe')).onclick = () => {
    wipe();
    setStateValue('png', null);
  };
  /** @type {{x: number, y: number} | null} */
  let last = null;
  const at = (/** @type {PointerEvent} */ event) => {
    const box = canvas.getBoundingClientRect();
    return { x: ((event.clientX - box.left) * SIZE) / box.width, y: ((event.clientY - box.top) * height) / box.height };
  };
  const line = (/** @type {{x: number, y: number}} */ to) => {
    pen.strokeStyle = colour;
    pen.lineWidth = Number(size.value);
    pen.lineCap = pen.lineJoin = 'round';
    pen.beginPath();
    pen.moveTo(last?.x ?? to.x, last?.y ?? to.y);
    pen.lineTo(to.x, to.y);
    pen.stroke();
    last = to;
  };
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    line(at(event));
  };
  canvas.onpointermove = (event) => {
    if (last) line(at(event));
  };
  canvas.onpointerup = canvas.onpointercancel = () => {
    if (last) setStateValue('png', canvas.toDataURL('image/png'));
    last = null;
  };
  return () => {};
}
