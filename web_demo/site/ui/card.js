/**
 * A model card as elements. Of Markdown it knows headings, paragraphs, lists, tables and code, and in a line `code`,
 * **bold** and links to the web; pictures and links to files beside the card are not here to be shown. Elements are made
 * one by one of text, so that nothing in a card becomes HTML.
 */

import { make } from './dom.js';

const INLINE = /(`[^`]+`|\*\*[^*]+\*\*|!?\[[^\]]*\]\([^)\s]*\))/;

/** @param {string} text @returns {HTMLElement[]} */
export function read(text) {
  const plain = text.replaceAll('\r', '').replace(/^---\n[^]*?\n---\n/, '').replace(/<!--[^]*?-->/g, '');
  return plain.split(/^```.*$/m).flatMap((part, place) => {
    if (place % 2) return [make('pre', {}, part.trim())];
    return part.replace(/^#+ .*$/gm, '\n$&\n').split(/\n\s*\n/).flatMap((chunk) => block(chunk.split('\n').filter((line) => line.trim())));
  });
}

/** @param {string[]} lines that belong together @returns {HTMLElement[]} */
function block(lines) {
  const first = lines[0] ?? '';
  const [, depth, title] = /^(#+) +(.*)$/.exec(first) ?? [];
  if (depth) return [make(depth.length > 2 ? 'h4' : 'h3', {}, ...inline(title))];
  if (/^( {4}|\t)/.test(first)) return [make('pre', {}, lines.map((line) => line.replace(/^( {4}|\t)/, '')).join('\n'))];
  if (first.startsWith('|')) return [make('div', { class: 'wide' }, table(lines))];
  if (/^\s*([-*+]|\d+\.) /.test(first)) {
    const items = lines.join('\n').split(/^\s*(?:[-*+]|\d+\.) /m).slice(1);
    return [make('ul', {}, ...items.map((item) => make('li', {}, ...inline(item))))];
  }
  const words = inline(lines.join(' '));
  return words.some((word) => word instanceof Node || word.trim()) ? [make('p', {}, ...words)] : [];
}

/** @param {string[]} lines */
function table(lines) {
  const rows = lines.filter((line) => !/^[|:\s-]+$/.test(line)).map((line) => line.replace(/^\||\|\s*$/g, '').split('|'));
  return make('table', {}, ...rows.map((cells, place) => make('tr', {}, ...cells.map((cell) => make(place ? 'td' : 'th', {}, ...inline(cell.trim()))))));
}

/** @param {string} text @returns {(Node | string)[]} */
function inline(text) {
  return text.split(INLINE).filter(Boolean).flatMap((part) => {
    if (part.length > 2 && part.startsWith('`')) return [make('code', {}, part.slice(1, -1))];
    if (part.length > 4 && part.startsWith('**')) return [make('b', {}, ...inline(part.slice(2, -2)))];
    const [, mark, words, target] = /^(!?)\[([^\]]*)\]\(([^)\s]*)\)$/.exec(part) ?? [];
    if (words === undefined) return [part];
    if (mark) return [];
    if (!target.startsWith('https://')) return inline(words);
    return [make('a', { href: target, target: '_blank', rel: 'noopener noreferrer' }, ...inline(words))];
  });
}
