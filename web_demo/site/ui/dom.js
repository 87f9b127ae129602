/** Small helpers for elements. */

/**
 * The element with this selector, of this class; a page without it is broken, and says so.
 * @template {Element} T
 * @param {ParentNode} root
 * @param {string} selector
 * @param {new () => T} Kind
 * @returns {T}
 */
export function find(root, selector, Kind) {
  const found = root.querySelector(selector);
  if (!(found instanceof Kind)) throw new Error(`the page has no ${Kind.name} ${selector}`);
  return found;
}

/**
 * A new element: attributes, then children (text or elements).
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | number | boolean>} [attributes] true: present; false: left out
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children);
  return element;
}

/**
 * The 2D context that is read as often as it is drawn to.
 * @param {HTMLCanvasElement} canvas
 */
export function context(canvas) {
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d', { willReadFrequently: true }));
}

/** Whether the user wants things to stand still. */
export const still = () => matchMedia('(prefers-reduced-motion: reduce)').matches;

/** Hand a file to the user. @param {Blob} blob @param {string} name */
export function download(blob, name) {
  const address = URL.createObjectURL(blob);
  make('a', { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Bytes as people read them. @param {number} bytes */
export function megabytes(bytes) {
  return bytes < 999_500 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
