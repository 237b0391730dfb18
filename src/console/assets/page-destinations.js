// Who keeps copies of the copies: connected or not is told by being here, for the daemon's list is true.

import { get } from './api.js';
import { spaceBar } from './bars.js';
import { h, replace } from './dom.js';
import { t } from './i18n.js';
import { plain, show } from './names.js';
import { emptyBox } from './notices.js';
import { poll } from './poll.js';
import { pill } from './states.js';
import { sortedTable } from './table.js';
import { size, when } from './units.js';

const EVERY_MS = 5000;

const columns = () => [
  { id: 'name', head: true, label: t('col.name'), sort: (d) => d.name, key: (d) => d.name, cell: (d) => h('strong', null, show(d.name, 100)) },
  { id: 'behind', label: t('col.behind'), sort: (d) => d.behind, key: (d) => d.behind, cell: (d) => (d.behind ? pill('warn', 'clock', t('dest.behind', { n: d.behind }), 'behind') : pill('good', 'check', t('dest.level'), 'behind')) },
  { id: 'running', label: t('col.running'), key: (d) => d.running ?? '', cell: (d) => (d.running ? h('span', { class: 'clip', title: plain(d.running) }, show(d.running, 200)) : h('span', { class: 'muted' }, t('dest.idle'))) },
  { id: 'space', label: t('space'), sort: (d) => d.space_free, key: (d) => `${d.space_free}`, className: 'c-space', cell: (d) => [spaceBar(d.space_free, d.space_total, t('space')), h('span', { class: 'muted num' }, t('space.free_of', { free: size(d.space_free), total: size(d.space_total) }))] },
  { id: 'address', label: t('col.address'), sort: (d) => d.address, key: (d) => d.address, cell: (d) => h('span', { class: 'mono' }, show(d.address, 80)) },
  { id: 'since', label: t('col.connected'), sort: (d) => -d.since_secs, key: (d) => d.since_secs, cell: (d) => when(d.since_secs) },
];

function open(root) {
  const place = h('div', { class: 'stack' });
  root.append(h('div', { class: 'page-head' }, h('h1', null, t('nav.destinations'))), h('p', { class: 'lead' }, t('dest.lead')), place);
  const table = sortedTable({ label: t('nav.destinations'), columns: columns(), keyOf: (d) => `${d.name} ${d.address}`, start: 'name', test: 'destinations-table', rowTest: 'destination-row' });
  const body = h('div', { class: 'stack' });
  const source = poll(place, EVERY_MS, (signal) => get('destinations', signal), () => body, ({ destinations }) => {
    const kind = destinations.length ? 'some' : 'none';
    if (body.dataset.kind !== kind) {
      replace(body, destinations.length ? table.el : emptyBox('server', t('dest.none'), t('dest.none.do'), h('p', null, h('code', null, 'rbbackup receive DIR -s SERVER --name NAME'))));
    }
    body.dataset.kind = kind;
    table.show(destinations);
  });
  return { close: source.close };
}

export default { title: () => t('nav.destinations'), open };
