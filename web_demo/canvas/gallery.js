// @ts-check
// Pictures to choose one of.

/**
 * @param {HTMLElement} root @param {{pictures: string[]}} data
 * @param {(name: string, value: any) => void} setStateValue
 */
export function mount(root, data, setStateValue) {
  const chosen = Number(root.dataset.chosen ?? 0);
  root.innerHTML = '';
  data.pictures.forEach((picture, i) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.setAttribute('aria-label', `picture ${i + 1}`);
    button.setAttribute('aria-pressed', String(i === chosen));
    const image = document.createElement('img');
    image.src = picture;
    image.alt = '';
    button.append(image);
    button.onclick = () => {
      root.dataset.chosen = String(i);
      for (const other of root.querySelectorAll('button')) other.setAttribute('aria-pressed', String(other === button));
      setStateValue('chosen', i);
    };
    root.append(button);
  });
  return () => {};
}
