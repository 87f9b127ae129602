/** Where a user's picture comes from: a file, dropped, pasted, or the camera. */

import { find } from './dom.js';
import { PictureError } from './picture.js';

/**
 * @param {HTMLElement} root the page
 * @param {(file: Blob, name: string) => void} onFile
 * @param {(words: string) => void} onTrouble
 * @returns {() => void} clean-up
 */
export function mountSources(root, onFile, onTrouble) {
  const closing = new AbortController();
  const options = { signal: closing.signal };
  const chooser = find(root, '#chooser', HTMLInputElement);
  const drop = find(root, '#drop', HTMLElement);
  find(root, '#file', HTMLButtonElement).addEventListener('click', () => chooser.click(), options);
  chooser.addEventListener('change', () => {
    const file = chooser.files?.[0];
    if (file) onFile(file, file.name);
    chooser.value = '';
  }, options);

  find(root, '#paste', HTMLButtonElement).addEventListener('click', async () => {
    try {
      for (const item of await navigator.clipboard.read()) {
        const type = item.types.find((name) => name.startsWith('image/'));
        if (type) return onFile(await item.getType(type), 'the clipboard');
      }
      onTrouble('There is no picture in the clipboard. Copy one first.');
    } catch {
      onTrouble('This browser keeps the clipboard to itself. Press Ctrl+V (or ⌘V) instead.');
    }
  }, options);
  window.addEventListener('paste', (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith('image/'));
    if (file) onFile(file, 'the clipboard');
  }, options);

  const carries = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes('Files') ?? false;
  window.addEventListener('dragover', (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    drop.hidden = false;
  }, options);
  window.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) drop.hidden = true;
  }, options);
  window.addEventListener('drop', (event) => {
    drop.hidden = true;
    const file = event.dataTransfer?.files[0];
    if (!file) return;
    event.preventDefault();
    onFile(file, file.name);
  }, options);
  return () => closing.abort();
}

/**
 * A picture from the camera, through a dialog with a live view.
 * @template T
 * @param {HTMLDialogElement} dialog as index.html has it
 * @param {(video: HTMLVideoElement) => T} take reads the picture while the camera is still open
 * @returns {Promise<T | null>} null: the user changed their mind
 */
export async function takePicture(dialog, take) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new PictureError('There is no camera for this page. It needs https or localhost, and a browser that lets pages use it.');
  }
  const wish = { video: { facingMode: 'environment' }, audio: false };
  const stream = await navigator.mediaDevices.getUserMedia(wish).catch((error) => {
    /** @type {Record<string, string>} */
    const why = {
      NotAllowedError: 'The camera was not allowed: allow it for this page in your browser, or choose a picture.',
      NotFoundError: 'No camera was found: connect one, or choose a picture.',
      NotReadableError: 'The camera is in use elsewhere: close what uses it, or choose a picture.',
    };
    throw new PictureError(why[error.name] ?? `The camera did not open (${error.message}); choose a picture.`);
  });
  const video = find(dialog, 'video', HTMLVideoElement);
  video.srcObject = stream;
  try {
    await video.play();
    dialog.returnValue = '';
    dialog.showModal();
    const shoot = find(dialog, '#shoot', HTMLButtonElement);
    const taken = () => dialog.close('taken');
    shoot.addEventListener('click', taken);
    await new Promise((resolve) => dialog.addEventListener('close', resolve, { once: true }));
    shoot.removeEventListener('click', taken);
    video.pause();
    return dialog.returnValue === 'taken' ? take(video) : null;
  } finally {
    for (const track of stream.getTracks()) track.stop();
  }
}
