// Every run and how it ended, with all it could not do: nothing vanishes. Newest first, more as one asks for them.

import { copyPath, get } from './api.js';
import { h, replace } from './dom.js';
import { t, tOr } from './i18n.js';
import { plain, refText, show } from './names.js';
import { emptyBox, errorBox, loadingBox } from './notices.js';
import { hashOf } from './router.js';
import { button, segments } from './controls.js';
import { endPill } from './states.js';
import { sortedTable } from './table.js';
import { count, sized, span, when } from './units.js';
import { watch } from './live.js';

const FIRST_COUNT = 100;
const COUNT_MAX = 1000;

const refOf = (run, client) => (client ? '-/-' : `${encodeURIComponent(run.node)}/${encodeURIComponent(run.user)}`);

function columns(client) {
  return [
    { id: 'end', label: t('col.result'), className: 'c-state', key: codeOf, cell: (r) => endPill(codeOf(r)) },
    !client && { id: 'copy', label: t('col.copy'), className: 'c-copy', key: () => '', cell: (r) => [h('strong', null, show(r.user, 60)), h('span', { class: 'muted' }, ' / ', show(r.node, 60))] },
    { id: 'root', head: true, label: t('col.root'), className: 'c-root', key: () => '', cell: (r) => [r.kind !== 'backup' && h('span', { class: 'muted' }, tOr('kind', r.kind), ' '), h('span', { title: plain(r.root) }, show(r.root, 200))] },
    { id: 'started', label: t('col.started'), key: () => '', cell: (r) => when(r.started_secs) },
    { id: 'took', label: t('col.took'), className: 'num', key: () => '', cell: (r) => span(r.ended_secs - r.started_secs) },
    { id: 'sent', label: t('col.content'), className: 'num', key: () => '', cell: (r) => sized(r.content_bytes) },
    { id: 'snapshot', label: t('col.snapshot'), className: 'num', key: () => '', cell: (r) => (r.snapshot === null ? '–' : h('a', { href: hashOf('browse', [refOf(r, client)], { path: r.ref, at: r.snapshot }) }, String(r.snapshot))) },
    { id: 'errors', label: t('col.errors'), className: 'num', key: () => '', cell: (r) => (r.errors_total ? h('span', { class: 'bad-text' }, count(r.errors_total)) : '–') },
  ].filter(Boolean);
}

/** All that a run has to say. */
function details(run) {
  const kept = run.errors?.length ?? 0;
  return h('div', { class: 'opened-body' },
    run.message && h('p', { class: 'server-words', lang: 'en' }, show(run.message, 2000)),
    codeOf(run) !== 0 && h('p', { class: 'hint' }, tOr('exit.do', codeOf(run))),
    h('p', { class: 'break' }, show(run.root, 4200)),
    h('p', { class: 'muted' }, when(run.started_secs), ' → ', when(run.ended_secs), ` · ${t('run.id')} `, h('span', { class: 'mono' }, run.run)),
    kept > 0 && [h('h2', null, t('errors', { n: run.errors_total, nText: count(run.errors_total) })), h('ul', { class: 'error-list', tabindex: 0, 'aria-label': t('col.errors'), 'data-test': 'run-errors', lang: 'en' }, run.errors.map((e) => h('li', null, show(e, 1000)))),
      run.errors_total > kept && h('p', { class: 'muted' }, t('errors.kept', { n: kept, nText: count(kept) }))]);
}

/** A run that could not read something is done, but not whole. */
const codeOf = (run) => (run.exit_code === 0 && run.errors_total > 0 ? 3 : run.exit_code);

function open(root, { client, route: first }) {
  let copy = first.query.copy ?? null;
  let wanted = FIRST_COUNT;
  let runs = [];
  let only = 'all';
  let control = new AbortController();
  const table = sortedTable({ label: t('nav.activity'), columns: columns(client), keyOf: (r) => `${r.node} ${r.user} ${r.run}`, details, start: '', className: 'dense', test: 'runs-table', rowTest: 'run-row', rowTone: (r) => (r.exit_code === 0 ? '' : 'failing') });
  const view = segments(t('filter.runs'), [['all', t('filter.all')], ['bad', t('filter.bad')]], only, (value) => { only = value; arrange(); }, 'only');
  const whose = h('span');
  const more = button(t('more'), () => { wanted = Math.min(COUNT_MAX, wanted + FIRST_COUNT * 3); load(); }, { test: 'more' });
  const tally = h('span', { class: 'muted', role: 'status' });
  const body = h('div', { class: 'stack' }, loadingBox());
  root.append(h('div', { class: 'page-head' }, h('h1', null, t('nav.activity'))), h('div', { class: 'tools' }, view, whose, tally), body, h('p', { class: 'actions' }, more));
  more.hidden = true;

  function arrange() {
    const some = runs.filter((r) => only === 'all' || codeOf(r) !== 0);
    table.show(some);
    tally.textContent = t('runs', { n: some.length, nText: count(some.length) });
    if (!some.length) replace(body, emptyBox(runs.length ? 'check' : 'clock', t(runs.length ? 'runs.none_bad' : 'runs.none')));
    else if (!table.el.isConnected) replace(body, table.el);
  }

  async function load() {
    control.abort();
    control = new AbortController();
    try {
      const whole = client ? '-/-' : copy;
      const answer = await get(whole ? copyPath(whole, 'runs', { count: wanted }) : `runs?count=${wanted}`, control.signal);
      const [node, user] = (whole ?? '/').split('/').map(refText);
      runs = answer.runs.map((r) => ({ node, user, ...r }));
      more.hidden = runs.length < wanted || wanted === COUNT_MAX;
      arrange();
    } catch (error) {
      if (error.name !== 'AbortError' && error.status !== 401) replace(body, errorBox(error, load));
    }
  }

  function route({ query }) {
    copy = query.copy ?? null;
    replace(whose, copy && h('span', { class: 'chip' }, show(copy.split('/').map(refText).reverse().join(' / '), 100), ' ', h('a', { href: hashOf('activity'), 'aria-label': t('filter.remove'), title: t('filter.remove') }, '×')));
    load();
  }
  let ended = null;
  const unwatch = watch((live) => {
    const key = live.ended[0]?.id ?? '';
    if (ended !== null && key !== ended) load();
    ended = key;
  });
  route(first);
  return { route, close: () => { control.abort(); unwatch(); } };
}

export default { title: () => t('nav.activity'), open };
