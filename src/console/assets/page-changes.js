// What changed between two snapshots, below one folder.

import { copyPath, get } from './api.js';
import { h, replace } from './dom.js';
import { t, tOr } from './i18n.js';
import { icon } from './icons.js';
import { plain, refText, show, showPath } from './names.js';
import { emptyBox, errorBox, loadingBox } from './notices.js';
import { go, hashOf } from './router.js';
import { field, options } from './controls.js';
import { createGrid } from './grid.js';
import { pill } from './states.js';
import { compare } from './table.js';
import { count, exactSize, shortMoment, size } from './units.js';

const ACTIONS = { created: ['good', 'plus'], changed: ['info', 'edit'], moved: ['info', 'right'], deleted: ['bad', 'trash'], touched: ['plain', 'clock'] };

function cellsOf(d, hrefOf) {
  const grown = (d.bytes_after ?? 0) - (d.bytes_before ?? 0);
  return [
    pill(...(ACTIONS[d.action] ?? ['plain', null]), tOr('action', d.action)),
    [icon(d.kind === 'dir' ? 'folder' : 'file', `kind-${d.kind}`), h('a', { href: hrefOf(d), tabindex: -1, title: plain(d.path) }, showPath(d.path)), d.from && h('span', { class: 'muted from' }, t('action.from'), ' ', showPath(d.from))],
    h('span', { title: `${exactSize(d.bytes_before)} → ${exactSize(d.bytes_after)}` }, d.bytes_before === null ? size(d.bytes_after) : d.bytes_after === null ? size(d.bytes_before)
      : d.bytes_before === d.bytes_after ? size(d.bytes_after) : `${size(d.bytes_after)} (${grown > 0 ? '+' : '−'}${size(Math.abs(grown))})`),
  ];
}

function open(root, { route: first }) {
  let view = null;
  let all = [];
  let more = false;
  let action = null;
  let sort = 'path';
  let control = new AbortController();
  const title = h('p', { class: 'muted' });
  const pick = h('div', { class: 'tools pick' });
  const filters = h('div', { class: 'filters', role: 'group', 'aria-label': t('filter.action') });
  const tally = h('p', { class: 'muted', role: 'status' });
  const body = h('div', { class: 'browse-body' });
  const grid = createGrid({
    label: t('changes'), test: 'differences', rowTest: 'difference',
    columns: [{ id: 'action', label: t('col.action'), className: 'c-action', sortable: true }, { id: 'path', label: t('fact.path'), className: 'c-file', sortable: true }, { id: 'size', label: t('col.size'), className: 'num c-size', sortable: true }],
    cells: (d) => cellsOf(d, hrefOf), nameOf: (d) => d.path, isChosen: () => false,
    onopen: (d) => go(hrefOf(d)), onlook: () => {}, onsort: (id) => { sort = sort === id ? `-${id}` : id; arrange(); },
  });
  root.append(h('div', { class: 'page-head' }, h('h1', null, t('changes'))), title, pick, h('div', { class: 'tools' }, filters, tally), body);

  /** A file as it was after; what was deleted as it was before. */
  function hrefOf(d) {
    const at = d.action === 'deleted' ? view.from : view.to;
    const up = d.ref.slice(0, d.ref.lastIndexOf('/')) || '/';
    return d.kind === 'dir' ? hashOf('browse', [view.copy], { path: d.ref, at }) : hashOf('browse', [view.copy], { path: up, at, sel: d.ref });
  }

  function arrange() {
    const some = all.filter((d) => !action || d.action === action);
    const key = { path: (d) => d.path, action: (d) => Object.keys(ACTIONS).indexOf(d.action), size: (d) => d.bytes_after ?? d.bytes_before ?? 0 }[sort.replace('-', '')];
    const sorted = some.map((d) => [key(d), d]).sort((a, b) => compare(a[0], b[0]) * (sort.startsWith('-') ? -1 : 1)).map((k) => k[1]);
    grid.set(sorted, { sort });
    const counts = new Map();
    for (const d of all) counts.set(d.action, (counts.get(d.action) ?? 0) + 1);
    replace(filters, Object.keys(ACTIONS).filter((a) => counts.has(a)).map((a) => h('button', { type: 'button', class: 'filter', 'aria-pressed': String(a === action), 'data-filter': a, onclick: () => {
      action = a === action ? null : a;
      arrange();
      filters.querySelector(`[data-filter=${a}]`)?.focus();
    } }, pill(...ACTIONS[a], tOr('action', a)), h('span', { class: 'num' }, count(counts.get(a))))));
    tally.textContent = !all.length ? '' : t(more ? 'changes.more' : 'changes.n', { n: all.length, nText: count(all.length) });
  }

  async function load() {
    control.abort();
    control = new AbortController();
    replace(body, loadingBox());
    try {
      const answer = await get(copyPath(view.copy, 'diff', { from: view.from, to: view.to, path: view.path && { ref: view.path } }), control.signal);
      ({ differences: all, more } = answer);
      action = null;
      arrange();
      replace(body, all.length ? grid.el : emptyBox('check', t('changes.none')));
      if (all.length) arrange();
    } catch (error) {
      if (error.name !== 'AbortError' && error.status !== 401) replace(body, errorBox(error, load));
    }
  }

  async function route({ parts, query }) {
    view = { copy: `${parts[0]}/${parts[1]}`, path: query.path ?? null, from: query.from ? Number(query.from) : null, to: query.to ? Number(query.to) : null };
    replace(title, h('a', { href: hashOf('browse', [view.copy], { path: view.path, at: view.to }) }, icon('left'), show(view.path ? refText(view.path) : view.copy, 400)));
    try {
      const { snapshots } = await get(copyPath(view.copy, 'snapshots', { path: view.path && { ref: view.path } }), control.signal);
      if (snapshots.length < 2) { replace(pick); replace(body, emptyBox('clock', t('changes.one'), t('changes.one.do'))); return; }
      view.to ??= snapshots.at(-1).number;
      const before = snapshots.filter((x) => x.number < view.to);
      view.from ??= (before.at(-1) ?? snapshots[0]).number;
      const pairs = [...snapshots].reverse().map((x) => [String(x.number), `${shortMoment(x.time_secs)} · ${t('snapshot.n', { n: x.number })}`]);
      const chosen = (key) => (event) => go(hashOf('changes', [view.copy], { path: view.path, from: view.from, to: view.to, [key]: event.target.value }));
      replace(pick, field(t('changes.from'), h('select', { 'data-test': 'from', onchange: chosen('from') }, options(pairs, String(view.from)))),
        field(t('changes.to'), h('select', { 'data-test': 'to', onchange: chosen('to') }, options(pairs, String(view.to)))));
      load();
    } catch (error) {
      if (error.name !== 'AbortError' && error.status !== 401) replace(body, errorBox(error, () => route({ parts, query })));
    }
  }
  route(first);
  return { route, close: () => { control.abort(); grid.close(); } };
}

export default { title: () => t('changes'), open };
