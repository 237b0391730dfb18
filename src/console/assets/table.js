// A table that sorts by the head that is pressed, whose rows are patched in place, and which becomes a list of cards where it is narrow.
// Roles are written out because a changed `display` would take them away.

import { h, setAttr } from './dom.js';
import { icon } from './icons.js';
import { t } from './i18n.js';

/**
 * `columns`: [{id, label, sort?(item), cell(item) → {key, make()} | nodes, className?}]; `keyOf(item)`; `details?(item)` gives what an opened row
 * shows. The order is by `start` ('id' or '-id'). Gives {el, show(items)}.
 */
export function sortedTable({ label, columns, keyOf, details, start, test, rowTest, rowTone, className = '' }) {
  let order = start;
  let items = [];
  const known = new Map();
  const heads = new Map();
  const table = h('table', { class: `data ${className}`, role: 'table', 'aria-label': label, 'data-test': test });
  table.append(h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, columns.map((c) => {
    const head = h('th', { role: 'columnheader', scope: 'col', class: c.className },
      c.sort ? h('button', { type: 'button', 'data-sort': c.id, onclick: () => pick(c.id) }, c.label, icon('up', 'arrow')) : c.label);
    heads.set(c.id, head);
    return head;
  }), details && h('th', { role: 'columnheader', scope: 'col', class: 'more' }, h('span', { class: 'unseen' }, t('details'))))));

  function pick(id) {
    order = order === id ? `-${id}` : id;
    render();
  }

  function sorted() {
    const down = order.startsWith('-');
    const by = columns.find((c) => c.id === order.replace(/^-/, ''));
    if (!by?.sort) return items;
    const keyed = items.map((item, at) => [by.sort(item), at, item]);
    keyed.sort(([a, i], [b, j]) => (compare(a, b) || 0) * (down ? -1 : 1) || i - j);
    return keyed.map(([, , item]) => item);
  }

  function makeRow(first) {
    let item = first;
    const cells = columns.map((c) => h(c.head ? 'th' : 'td', { role: c.head ? 'rowheader' : 'cell', scope: c.head ? 'row' : null, class: c.className, 'data-label': c.label }));
    const row = h('tr', { role: 'row', 'data-test': rowTest }, cells);
    const body = h('tbody', { role: 'rowgroup' }, row);
    let opened = null;
    if (details) {
      const toggle = h('button', { type: 'button', class: 'quiet', 'aria-expanded': 'false', 'aria-label': t('details'), title: t('details'), 'data-test': 'details' }, icon('down'));
      toggle.addEventListener('click', () => {
        if (opened) { opened.remove(); opened = null; } else {
          opened = h('tr', { role: 'row', class: 'opened' }, h('td', { role: 'cell', colspan: columns.length + 1 }, details(item)));
          body.append(opened);
        }
        setAttr(toggle, 'aria-expanded', String(opened !== null));
      });
      row.append(h('td', { role: 'cell', class: 'more' }, toggle));
    }
    return {
      el: body,
      update(next) {
        item = next;
        if (rowTone) setAttr(row, 'data-tone', rowTone(item));
        columns.forEach((c, at) => {
          const key = c.key ? String(c.key(item)) : null;
          if (key !== null && cells[at].dataset.key === key) return;
          if (key !== null) cells[at].dataset.key = key;
          cells[at].replaceChildren(...[c.cell(item)].flat(Infinity).filter((n) => n !== null && n !== false && n !== undefined));
        });
      },
    };
  }

  function render() {
    const id = order.replace(/^-/, '');
    for (const [key, head] of heads) setAttr(head, 'aria-sort', key === id ? (order.startsWith('-') ? 'descending' : 'ascending') : null);
    // The head is the first child; bodies follow it.
    patchAfterHead(sorted());
  }

  function patchAfterHead(list) {
    const seen = new Set(list.map(keyOf));
    for (const [key, part] of known) if (!seen.has(key)) { part.el.remove(); known.delete(key); }
    let at = table.tHead.nextElementSibling;
    for (const item of list) {
      const key = keyOf(item);
      let part = known.get(key);
      if (!part) known.set(key, (part = makeRow(item)));
      part.update(item);
      if (part.el === at) at = at.nextElementSibling;
      else table.insertBefore(part.el, at);
    }
  }

  return { el: h('div', { class: 'table-frame' }, table), show: (next) => { items = next; render(); } };
}

/** Numbers by size, texts as a person sorts them; what is not known comes first. */
export function compare(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return -1;
  if (b === null || b === undefined) return 1;
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  return collator.compare(String(a), String(b));
}

const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

/** A list of [term, what] where what is known. */
export const facts = (pairs, className = '') => h('dl', { class: `facts ${className}` },
  pairs.filter((p) => p && p[1] !== null && p[1] !== undefined && p[1] !== '').map(([term, what]) => h('div', null, h('dt', null, term), h('dd', null, what))));
