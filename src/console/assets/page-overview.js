// Every copy at a glance: one line each, the worst first, so that what needs somebody stands at the top.

import { get } from './api.js';
import { h, replace } from './dom.js';
import { t } from './i18n.js';
import { icon } from './icons.js';
import { plain, show } from './names.js';
import { emptyBox } from './notices.js';
import { poll } from './poll.js';
import { hashOf } from './router.js';
import { badness, destinationChips, pill, STATE_ORDER, statePill } from './states.js';
import { facts, sortedTable } from './table.js';
import { count, serverTime, size, sized, span, when } from './units.js';
import { spaceBar } from './bars.js';
import { watch } from './live.js';

const EVERY_MS = 15_000;
let order = 'state';

/** Who: "ana" on "192.168.1.20", leading to what it holds. */
export function copyName(copy) {
  return h('a', { class: 'copy', href: hashOf('browse', [copy.ref]), title: plain(`${copy.node} / ${copy.user}`) },
    show(copy.user, 80), h('span', { class: 'copy-node' }, show(copy.node, 80)));
}

const farthest = (copy) => Math.max(0, ...copy.destinations.map((d) => d.behind));

const columns = () => [
  { id: 'state', label: t('col.state'), className: 'c-state', sort: (c) => badness(c.state), key: (c) => `${c.state}${c.running}`,
    cell: (c) => [statePill(c.state), c.running && h('a', { class: 'running', href: hashOf('live') }, t('running'))] },
  { id: 'name', head: true, label: t('col.copy'), className: 'c-name', sort: (c) => `${c.user} ${c.node}`, key: (c) => c.ref, cell: copyName },
  { id: 'good', label: t('col.last_good'), sort: (c) => (c.last_good_secs === null ? Infinity : -c.last_good_secs), key: (c) => c.last_good_secs, cell: (c) => when(c.last_good_secs) },
  { id: 'files', label: t('col.files'), className: 'num', sort: (c) => c.files, key: (c) => c.files, cell: (c) => count(c.files) },
  { id: 'size', label: t('col.size'), className: 'num', sort: (c) => c.bytes, key: (c) => c.bytes, cell: (c) => sized(c.bytes) },
  { id: 'history', label: t('col.history'), className: 'num', sort: (c) => c.history_bytes, key: (c) => c.history_bytes, cell: (c) => sized(c.history_bytes) },
  { id: 'verified', label: t('col.verified'), sort: (c) => (c.verified_secs === null ? Infinity : -c.verified_secs), key: (c) => `${c.verified_secs}${c.damages}`, cell: (c) => (c.damages
    ? h('span', { class: 'bad-text' }, t('damages', { n: c.damages, nText: count(c.damages) })) : when(c.verified_secs)) },
  { id: 'destinations', label: t('col.destinations'), className: 'c-chips', sort: farthest, key: (c) => JSON.stringify(c.destinations), cell: (c) => destinationChips(c.destinations) },
];

/** What stands below an opened line. */
function details(copy) {
  return h('div', { class: 'opened-body' },
    h('p', { class: 'state-why' }, t(`state.why.${copy.state}`)),
    copy.last_message && h('p', { class: 'server-words', lang: 'en' }, show(copy.last_message, 1000)),
    facts([
      [t('col.last_run'), when(copy.last_run_secs)],
      [t('usual_gap'), copy.usual_gap_secs === null ? null : span(copy.usual_gap_secs)],
      [t('col.snapshots'), count(copy.snapshots)],
      [t('stored'), sized(copy.stored_bytes)],
      [t('quota'), copy.quota_bytes === null ? t('value.no_limit') : t('live.of', { done: size(copy.used_bytes), total: size(copy.quota_bytes) })],
    ]),
    copy.roots.length > 0 && h('ul', { class: 'roots' }, copy.roots.map((root) => h('li', null,
      h('a', { href: hashOf('browse', [copy.ref], { path: root.ref }) }, icon('folder'), show(root.path)),
      h('span', { class: 'muted' }, `${t('files', { n: root.files, nText: count(root.files) })}, ${size(root.bytes)}, `,
        root.complete_secs === null ? t('root.never_complete') : [t('root.complete'), ' ', when(root.complete_secs)])))),
    h('p', { class: 'actions' }, h('a', { href: hashOf('activity', [], { copy: copy.ref }) }, t('to_runs'))));
}

/** The states that there are, as switches that leave only one of them in the table. */
function stateChips(onpick) {
  const box = h('div', { class: 'filters', role: 'group', 'aria-label': t('filter.state') });
  return {
    el: box,
    show(copies, chosen) {
      const tally = new Map();
      for (const c of copies) tally.set(c.state, (tally.get(c.state) ?? 0) + 1);
      const key = JSON.stringify([[...tally], chosen]);
      if (box.dataset.key === key) return;
      box.dataset.key = key;
      const held = document.activeElement?.dataset?.filter;
      replace(box, STATE_ORDER.filter((s) => tally.has(s)).map((s) => {
        const node = h('button', { type: 'button', class: 'filter', 'aria-pressed': String(s === chosen), 'data-filter': s, onclick: () => onpick(s === chosen ? null : s) },
          statePill(s), h('span', { class: 'num' }, count(tally.get(s))));
        node.firstChild.removeAttribute('data-test');
        return node;
      }));
      if (held) box.querySelector(`[data-filter="${held}"]`)?.focus();
    },
  };
}

function open(root) {
  let data = null;
  let chosen = null;
  let words = '';
  const side = h('div', { class: 'head-facts' });
  const table = sortedTable({ label: t('nav.overview'), columns: columns(), keyOf: (c) => c.ref, details, start: order, className: 'dense', test: 'copies-table', rowTest: 'copy', rowTone: (c) => c.state });
  const chips = stateChips((state) => { chosen = state; refresh(); });
  const search = h('input', { type: 'search', 'aria-label': t('filter.copies'), placeholder: t('filter.copies'), 'data-test': 'filter', oninput: () => { words = search.value.toLowerCase(); refresh(); } });
  const none = h('p', { class: 'muted none', hidden: true }, t('filter.none'));
  const place = h('div', { class: 'stack' });
  root.append(h('div', { class: 'page-head' }, h('h1', null, t('nav.overview')), side), place);

  function refresh() {
    const shown = data.copies.filter((c) => (!chosen || c.state === chosen) && (!words || `${c.node} ${c.user}`.toLowerCase().includes(words)));
    chips.show(data.copies, chosen);
    table.show(shown);
    none.hidden = shown.length > 0;
  }

  const kinds = {
    relay: () => emptyBox('compare', t('relay.title'), t('relay.words')),
    empty: () => emptyBox('server', t('overview.empty'), t('overview.empty.do', { listen: plain(data.listen, 100) })),
    copies: () => [h('div', { class: 'tools' }, chips.el, search), table.el, none],
  };
  const body = h('div', { class: 'stack' });
  const source = poll(place, EVERY_MS, (signal) => get('overview', signal), () => body, (answer) => {
    data = answer;
    serverTime(data.time_secs);
    replace(side, head(data));
    const kind = data.relay ? 'relay' : data.copies.length ? 'copies' : 'empty';
    if (body.dataset.kind !== kind) replace(body, kinds[kind]());
    body.dataset.kind = kind;
    if (kind === 'copies') refresh();
  });
  // A run that ended changes the table at once.
  let ended = null;
  const unwatch = watch((live) => {
    const key = `${live.runs.length} ${live.ended[0]?.id}`;
    if (ended !== null && key !== ended) source.now();
    ended = key;
  });
  return {
    close: () => {
      order = currentOrder(table.el) ?? order;
      source.close();
      unwatch();
    },
  };
}

function currentOrder(frame) {
  const head = frame.querySelector('th[aria-sort]');
  const id = head?.querySelector('button')?.dataset.sort;
  return id && (head.getAttribute('aria-sort') === 'descending' ? `-${id}` : id);
}

function head(data) {
  const total = data.copies.reduce((sum, c) => sum + (c.stored_bytes ?? 0), 0);
  const behind = data.copies.filter((c) => badness(c.state) < badness('unverified')).length;
  return [
    behind > 0 ? pill('warn', 'warn', t('overview.need', { n: behind }), 'need') : data.copies.some((c) => c.state === 'good') && data.copies.every((c) => c.state === 'good' || c.state === 'empty') && pill('good', 'check', t('overview.well'), 'need'),
    h('span', null, t('copies', { n: data.copies.length, nText: count(data.copies.length) }), ', ', size(total)),
    data.space && h('span', { class: 'space' }, spaceBar(data.space.free_bytes, data.space.total_bytes, t('space')),
      h('span', null, t('space.free_of', { free: size(data.space.free_bytes), total: size(data.space.total_bytes) }))),
    h('span', { class: 'muted', title: plain(`${data.store} · ${data.listen}`) }, plain(data.software, 60), ', ', t('uptime', { time: span(data.uptime_secs) })),
  ];
}

export default { title: () => t('nav.overview'), open };
