// @ts-check
// Blocks of a report. The HTML comes from export/page.py, which escapes every text in it.

/** @param {HTMLElement} root @param {{html: string, large: boolean}} data */
export function mount(root, data) {
  root.innerHTML = data.html;
  root.classList.toggle('large', data.large);
  return () => {};
}
