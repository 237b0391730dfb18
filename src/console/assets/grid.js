// A list that may be endless: only the lines in sight are in the page. One stop for the Tab key, then arrows, Page Up and Down, Home, End,
// letters; Enter opens, Space looks, Backspace goes up. (role=grid with aria-activedescendant, so the line in sight may come and go.)

import { freshId, h, setAttr } from './dom.js';
import { icon } from './icons.js';

const SPARE_ROWS = 8;
const TYPED_MS = 800;

/**
 * `columns`: [{id, label, className?, sortable?}]; `cells(item)` gives what stands in each; `nameOf(item)` is for letters; `isChosen(item)` marks a
 * line. Calls onopen(item), onlook(item), onsort(id), onend() (the end is near).
 */
export function createGrid({ label, columns, cells, nameOf, isChosen, onopen, onlook, onsort, onend, onup, test, rowTest }) {
  let items = [];
  let active = 0;
  let more = false;
  const rows = new Map();
  const stem = freshId('row');
  const heads = columns.map((c) => h('div', { role: 'columnheader', class: `cell ${c.className ?? ''}` },
    c.sortable ? h('button', { type: 'button', onclick: () => onsort(c.id) }, c.label, icon('up', 'arrow')) : c.label));
  const body = h('div', { class: 'grid-body', role: 'rowgroup' });
  const el = h('div', { class: 'grid', role: 'grid', tabindex: 0, 'aria-label': label, 'data-test': test },
    h('div', { class: 'grid-head', role: 'rowgroup' }, h('div', { role: 'row', class: 'grid-row', 'aria-rowindex': 1 }, heads)), body);

  let rowPx = 36;
  const measure = () => { rowPx = Number.parseFloat(getComputedStyle(el).getPropertyValue('--row')) || 36; };
  const headPx = () => el.firstElementChild.offsetHeight;

  function rowOf(at) {
    const item = items[at];
    const row = h('div', { class: 'grid-row', role: 'row', id: `${stem}-${at}`, 'aria-rowindex': at + 2, 'data-at': at, 'data-test': rowTest },
      cells(item).map((content, i) => h('div', { role: 'gridcell', class: `cell ${columns[i].className ?? ''}` }, content)));
    row.style.setProperty('top', `${at * rowPx}px`);
    return row;
  }

  function draw() {
    const from = Math.max(0, Math.floor(el.scrollTop / rowPx) - SPARE_ROWS);
    const to = Math.min(items.length, Math.ceil((el.scrollTop + (el.clientHeight || 600)) / rowPx) + SPARE_ROWS);
    for (const [at, row] of rows) if (at < from || at >= to) { row.remove(); rows.delete(at); }
    const fresh = [];
    for (let at = from; at < to; at++) {
      if (!rows.has(at)) { const row = rowOf(at); rows.set(at, row); fresh.push(row); }
      const row = rows.get(at);
      row.classList.toggle('active', at === active);
      setAttr(row, 'aria-selected', String(isChosen(items[at])));
    }
    body.append(...fresh);
    setAttr(el, 'aria-activedescendant', rows.has(active) ? `${stem}-${active}` : null);
    if (more && to > items.length - 3 * SPARE_ROWS) onend?.();
  }

  let frame = 0;
  const soon = () => { frame ||= requestAnimationFrame(() => { frame = 0; draw(); }); };

  function toActive() {
    const top = active * rowPx;
    const room = el.clientHeight - headPx();
    if (top < el.scrollTop) el.scrollTop = top;
    else if (top + rowPx > el.scrollTop + room) el.scrollTop = top + rowPx - room;
    draw();
  }

  function move(to) {
    active = Math.min(items.length - 1, Math.max(0, to));
    toActive();
  }

  let typed = '';
  let typedTimer = 0;
  function type(letter) {
    clearTimeout(typedTimer);
    typedTimer = setTimeout(() => { typed = ''; }, TYPED_MS);
    typed += letter.toLowerCase();
    const from = typed.length > 1 ? active : active + 1;
    for (let i = 0; i < items.length; i++) {
      const at = (from + i) % items.length;
      if (nameOf(items[at]).toLowerCase().startsWith(typed)) { move(at); return; }
    }
  }

  el.addEventListener('keydown', (event) => {
    if (event.target !== el || event.ctrlKey || event.metaKey || event.altKey || !items.length) return;
    const page = Math.max(1, Math.floor((el.clientHeight - headPx()) / rowPx) - 1);
    const keys = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: items.length - 1 };
    if (event.key in keys) move(keys[event.key]);
    else if (event.key === 'Enter') onopen(items[active]);
    else if (event.key === 'Backspace') onup?.();
    else if (event.key === ' ' && !typed) onlook(items[active]);
    else if (event.key.length === 1) type(event.key);
    else return;
    event.preventDefault();
  });
  el.addEventListener('click', (event) => {
    const row = event.target.closest('[data-at]');
    if (!row) return;
    active = Number(row.dataset.at);
    if (!event.target.closest('a, button')) onlook(items[active]);
    draw();
  });
  el.addEventListener('dblclick', (event) => {
    const row = event.target.closest('[data-at]');
    if (row && !event.target.closest('a, button')) onopen(items[Number(row.dataset.at)]);
  });
  el.addEventListener('scroll', soon, { passive: true });
  const observer = new ResizeObserver(() => {
    const before = rowPx;
    measure();
    if (rowPx !== before) clear();
    setHeight();
    soon();
  });
  observer.observe(el);

  function clear() { body.replaceChildren(); rows.clear(); }
  function setHeight() { body.style.setProperty('height', `${items.length * rowPx}px`); }

  return {
    el,
    /** Other items. `keep`: the place stays (more of the same); else it begins at `activeAt`. */
    set(next, { hasMore = false, keep = false, activeAt = 0, sort = null } = {}) {
      items = next;
      more = hasMore;
      measure();
      clear();
      setHeight();
      setAttr(el, 'aria-rowcount', hasMore ? -1 : items.length + 1);
      columns.forEach((c, i) => setAttr(heads[i], 'aria-sort', sort?.replace('-', '') === c.id ? (sort.startsWith('-') ? 'descending' : 'ascending') : null));
      if (!keep) { active = Math.max(0, activeAt); el.scrollTop = 0; toActive(); } else draw();
    },
    refresh: draw,
    focus: () => el.focus({ preventScroll: true }),
    close: () => observer.disconnect(),
  };
}
