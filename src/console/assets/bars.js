// A progress bar that is patched in place: a filled line (moved by a transform, so nothing else is laid out again), and for those
// who do not see it a value that is told in steps of a whole per cent. Without a total it says so.

import { h, setAttr, setText } from './dom.js';
import { t } from './i18n.js';
import { percent, size } from './units.js';

/** A bar with a text at its right; `label` names it. */
export function bar(label, { test, thin = false } = {}) {
  const fill = h('span', { class: 'bar-fill' });
  const track = h('div', { class: thin ? 'bar thin' : 'bar', role: 'progressbar', 'aria-label': label, 'aria-valuemin': 0, 'aria-valuemax': 100, 'data-test': test }, fill);
  let last = 0;
  return {
    el: track,
    label: (text) => setAttr(track, 'aria-label', text),
    /** `part` 0 to 1, or null where the total is not known. */
    set(part, words) {
      const known = part !== null && Number.isFinite(part);
      const held = known ? Math.min(1, Math.max(0, part)) : 0;
      track.classList.toggle('unknown', !known);
      // Another file begins: back at once, for a bar that runs backwards would say something else.
      track.classList.toggle('jump', known && held < last);
      last = known ? held : 0;
      fill.style.setProperty('--part', known ? held.toFixed(4) : '1');
      setAttr(track, 'aria-valuenow', known ? Math.floor(held * 100) : null);
      setAttr(track, 'aria-valuetext', words ?? (known ? percent(held) : t('live.total_unknown')));
    },
  };
}

/** How much of how much: null where the total is not known; whole where there is nothing to do. */
export function partOf(done, total) {
  if (total === null || total === undefined) return null;
  return total === 0 ? 1 : done / total;
}

/** "5.2 of 12 GB" */
export function amount(node, done, total) {
  setText(node, total === null || total === undefined || total === 0 ? size(done) : t('live.of', { done: size(done), total: size(total) }));
}

/** How full a disk is. */
export function spaceBar(free, total, label) {
  const used = total ? 1 - free / total : 0;
  const line = bar(label, { thin: true });
  line.el.classList.add(used > 0.97 ? 'bad' : used > 0.9 ? 'warn' : 'calm');
  line.el.setAttribute('role', 'meter');
  line.set(used, t('space.free_of', { free: size(free), total: size(total) }));
  return line.el;
}
