// @ts-check
// The drawing board of the browser player, on the page: what is on it becomes the start picture.

import { Sketch } from '../site/ui/sketch.js';
import { Picture } from '../site/ui/screen.js';

const PAUSE_MS = 300; // after the last change the picture is sent

/**
 * Streamlit runs this again on the same element, and then only the last `setStateValue` is heard.
 * @param {HTMLElement & {tell?: (name: string, value: any) => void}} root
 * @param {{width: number, height: number, colours: [number, number, number][]}} data the ground's colour first
 * @param {(name: string, value: any) => void} setStateValue
 */
export function mount(root, data, setStateValue) {
  root.tell = setStateValue;
  if (root.dataset.ready) return () => {};
  root.dataset.ready = '1';
  root.innerHTML = `<canvas class="board" tabindex="0"></canvas><div class="swatches"></div><div class="brushes"></div>
    <div class="brushes"><button type="button" class="undo">Undo</button><button type="button" class="wipe">Begin again</button></div>`;
  const find = (/** @type {string} */ what) => /** @type {HTMLElement} */ (root.querySelector(what));
  const plain = document.createElement('canvas');
  const copy = new Picture(plain, data);
  let drawn = false;
  /** @type {any} */
  let timer = 0;
  const sketch = new Sketch(
    /** @type {HTMLCanvasElement} */ (find('.board')),
    { swatches: find('.swatches'), brushes: find('.brushes') },
    data,
    (frame) => {
      if (!drawn) return;
      clearTimeout(timer);
      timer = setTimeout(() => {
        copy.draw(frame); // without the cursor
        root.tell?.('png', plain.toDataURL('image/png'));
      }, PAUSE_MS);
    },
  );
  sketch.offer(data.colours);
  sketch.begin();
  drawn = true;
  find('.undo').onclick = () => sketch.undo();
  find('.wipe').onclick = () => sketch.begin();
  return () => {};
}
