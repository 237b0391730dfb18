// Names of files as they may be shown, whoever chose them: what a screen would obey instead of show is written out, and
// what is endless is cut. Only ever text nodes.

import { h } from './dom.js';

// C0, DEL, C1; line separators; what turns the direction of writing; what has no width. (Joiners stay: Persian needs them.)
const ODD = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e0fff}]/gu;
const C0 = 'NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US'.split(' ');
const SHOWN_MAX = 300;

/** How an odd character is written. */
function word(char) {
  const code = char.codePointAt(0);
  if (code < 0x20) return C0[code];
  return `U+${code.toString(16).toUpperCase().padStart(4, '0')}`;
}

/** The middle of an endless name is left out; its end says what kind of file it is. */
export function cut(text, max = SHOWN_MAX) {
  if (text.length <= max) return text;
  const tail = Math.min(60, Math.floor(max / 3));
  return `${[...text.slice(0, max - tail)].join('')}…${text.slice(-tail)}`;
}

/** As plain text: for titles, labels and messages. */
export function plain(text, max = 1000) {
  return cut(String(text), max).replace(ODD, (char) => `‹${word(char)}›`);
}

/** As nodes: isolated in direction, with odd characters marked. `max` bounds what is put into the page. */
export function show(text, max = SHOWN_MAX) {
  const whole = cut(String(text), max);
  const out = h('bdi', { class: 'name' });
  let from = 0;
  for (const found of whole.matchAll(ODD)) {
    if (found.index > from) out.append(whole.slice(from, found.index));
    out.append(h('span', { class: 'odd' }, word(found[0])));
    from = found.index + found[0].length;
  }
  if (from < whole.length) out.append(whole.slice(from));
  if (/^ | $/.test(whole)) out.classList.add('spaces');
  return out;
}

/** A text with lines (a preview): as show(), but lines and tabs stay. */
export function showText(text) {
  const out = document.createDocumentFragment();
  let from = 0;
  for (const found of text.matchAll(ODD)) {
    if ('\n\t\r'.includes(found[0])) continue;
    out.append(text.slice(from, found.index), h('span', { class: 'odd' }, word(found[0])));
    from = found.index + found[0].length;
  }
  out.append(text.slice(from));
  return out;
}

/** A path whose folder gives way first when room is short: the name stays readable. */
export function showPath(path, max = SHOWN_MAX) {
  const at = path.lastIndexOf('/');
  if (at < 0) return h('span', { class: 'path' }, show(path, max));
  return h('span', { class: 'path' },
    at > 0 && h('span', { class: 'path-dir' }, show(path.slice(0, at), max)), '/',
    h('span', { class: 'path-name' }, show(path.slice(at + 1), max)));
}

/** The text of a `ref` (percent-encoded bytes): exact when it is UTF-8, else escaped as the API does it. */
export function refText(ref) {
  const bytes = [];
  for (let i = 0; i < ref.length; i++) {
    const hex = ref[i] === '%' ? Number.parseInt(ref.slice(i + 1, i + 3), 16) : NaN;
    if (Number.isNaN(hex)) bytes.push(ref.charCodeAt(i) & 0xff);
    else { bytes.push(hex); i += 2; }
  }
  const all = Uint8Array.from(bytes);
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(all);
  } catch {
    return bytes.map((b) => (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : `\\x${b.toString(16).padStart(2, '0')}`)).join('');
  }
}

/** The ref of a path that was typed, or that came without one. */
export const refOfPath = (path) => path.split('/').map(encodeURIComponent).join('/');

/** Whether a path (both as refs) is `root` or lies below it. */
export const isWithin = (ref, root) => ref === root || root === '/' || ref.startsWith(`${root}/`);

/** The `ref` of the folder that holds it; null for the top. */
export function parentRef(ref) {
  const at = ref.lastIndexOf('/');
  if (at < 0 || ref === '/') return null;
  return at === 0 ? '/' : ref.slice(0, at);
}
