// A file manager through time: which copy, which folder, which snapshot stand in the address, so every view is a link.

import { copyPath, copyUrl, get } from './api.js';
import { h, replace } from './dom.js';
import { t } from './i18n.js';
import { icon } from './icons.js';
import { isWithin, parentRef, plain, refText, show } from './names.js';
import { emptyBox, errorBox, loadingBox } from './notices.js';
import { go, hashOf, readRoute } from './router.js';
import { button } from './controls.js';
import { createGrid } from './grid.js';
import { compare } from './table.js';
import { count, shortMoment, sized, when } from './units.js';
import { timeline } from './timeline.js';
import { filePanel } from './file-panel.js';
import { copyChooser } from './copy-chooser.js';
import { findPanel } from './find.js';
import { listedFrom, restoreDialog } from './restore.js';
import { crumbs } from './crumbs.js';

const PAGE_COUNT = 5000;
// More than this in one folder is nothing to scroll through: there is Find.
const LOADED_MAX = 100_000;
const KIND_ICON = { dir: 'folder', file: 'file', symlink: 'link' };

/** What a line shows: name (with where a link leads), size, time. */
function cellsOf(entry, hrefOf, top) {
  const name = top ? entry.path : entry.name;
  return [
    [icon(KIND_ICON[entry.kind] ?? 'device', `kind-${entry.kind}`), h('a', { href: hrefOf(entry), tabindex: -1, title: plain(name), 'data-test': 'entry-link' }, show(name)),
      entry.kind === 'symlink' && h('span', { class: 'muted' }, ' → ', show(entry.target ?? '', 100))],
    entry.size === null || entry.size === undefined ? '' : sized(entry.size),
    entry.mtime_secs ? when(entry.mtime_secs, shortMoment) : '',
  ];
}

/** Folders first, then as asked. */
function sortEntries(entries, sort) {
  const down = sort.startsWith('-') ? -1 : 1;
  const key = { name: (e) => e.name, size: (e) => e.size ?? -1, time: (e) => e.mtime_secs ?? 0 }[sort.replace('-', '')];
  const keyed = entries.map((e) => [e.kind === 'dir' ? 0 : 1, key(e), e]);
  keyed.sort((a, b) => a[0] - b[0] || compare(a[1], b[1]) * down);
  return keyed.map((k) => k[2]);
}

function open(root, { route: first, client, admin }) {
  let view = null;
  let entries = [];
  let shown = [];
  let more = false;
  let sort = 'name';
  let control = new AbortController();
  let cameFrom = null;

  const path = h('div', { class: 'crumb-place' });
  const tools = h('div', { class: 'actions' });
  const line = timeline((snapshot) => { if (snapshot) visit(hash({ at: snapshot.number, sel: view.sel }), true); });
  const filter = h('input', { type: 'search', 'aria-label': t('filter.names'), placeholder: t('filter.names'), 'data-test': 'filter', oninput: () => arrange() });
  const tally = h('span', { class: 'muted', role: 'status', 'data-test': 'tally' });
  const bar = h('div', { class: 'tools' }, filter, tally);
  const blank = h('div');
  const body = h('div', { class: 'browse-body' });
  const grid = createGrid({
    label: t('browse.entries'), test: 'entries', rowTest: 'entry',
    columns: [{ id: 'name', label: t('col.name'), className: 'c-file', sortable: true }, { id: 'size', label: t('col.size'), className: 'num c-size', sortable: true }, { id: 'time', label: t('col.modified'), className: 'c-time', sortable: true }],
    cells: (entry) => cellsOf(entry, hrefOf, !view.path),
    nameOf: (entry) => entry.name ?? entry.path,
    isChosen: (entry) => entry.ref === view.sel,
    onopen: (entry) => { go(hrefOf(entry)); if (entry.kind !== 'dir') setTimeout(() => panel.focus()); },
    onlook: (entry) => visit(hash({ sel: entry.ref === view.sel ? null : entry.ref }), true),
    onsort: (id) => { sort = sort === id ? `-${id}` : id; arrange(); },
    onend: () => loadMore(),
    onup: () => up(),
  });
  const panel = filePanel({ onclose: () => { visit(hash({ sel: null }), true); grid.focus(); }, client, admin });
  const find = findPanel();
  const damage = h('details', { class: 'damage', hidden: true });
  root.append(h('h1', { class: 'unseen' }, t('nav.browse')), h('div', { class: 'browse-head' }, path, tools), find.el, line.el, damage, body);

  /** The address of this view with changes. */
  const hash = (changes) => {
    const query = { path: view.path, at: view.at, sel: view.sel, ...changes };
    return hashOf('browse', view.copy ? [view.copy] : [], query);
  };
  const hrefOf = (entry) => (entry.kind === 'dir' ? hash({ path: entry.ref, sel: null }) : hash({ sel: entry.ref }));
  /** Goes to an address; replaced ones bring no event of their own. */
  function visit(to, replaced) {
    go(to, replaced);
    if (replaced) route(readRoute());
  }

  function arrange({ keep = false } = {}) {
    const words = filter.value.toLowerCase();
    const some = words ? entries.filter((e) => (e.name ?? e.path).toLowerCase().includes(words)) : entries;
    shown = sortEntries(some, sort);
    grid.set(shown, { hasMore: more && !words, keep, activeAt: cameFrom ? shown.findIndex((e) => e.ref === cameFrom) : 0, sort });
    cameFrom = null;
    const total = t('entries', { n: entries.length, nText: count(entries.length) });
    tally.textContent = words ? t('browse.filtered', { n: shown.length, nText: count(shown.length), total }) : more ? t(entries.length < LOADED_MAX ? 'browse.more' : 'browse.limit', { total }) : total;
  }

  function tellDamage(paths) {
    damage.hidden = paths.length === 0;
    replace(damage, h('summary', null, icon('warn'), ' ', t('browse.damaged', { n: paths.length, nText: count(paths.length) })), h('ul', null, paths.slice(0, 100).map((p) => h('li', null, show(p)))));
  }

  async function loadEntries(keepPlace) {
    control.abort();
    control = new AbortController();
    const { signal } = control;
    const timer = setTimeout(() => { if (!keepPlace) replace(body, loadingBox()); }, 150);
    try {
      const jobs = [get(copyPath(view.copy, 'entries', { path: view.path && { ref: view.path }, at: view.path ? view.at : null, count: PAGE_COUNT }), signal)];
      if (view.path && !keepPlace) jobs.push(get(copyPath(view.copy, 'snapshots', { path: { ref: view.path } }), signal));
      const [answer, past] = await Promise.allSettled(jobs);
      clearTimeout(timer);
      if (signal.aborted) return;
      if (past?.status === 'fulfilled') { ({ snapshots } = past.value); tellDamage(past.value.damaged ?? []); head(); }
      if (past?.status === 'fulfilled' || view.path) line.set(snapshots, view.at);
      if (answer.status === 'rejected') throw answer.reason;
      ({ entries, more } = answer.value);
      entries.forEach((e) => { e.name ??= e.path; });
      listedFrom(answer.value.asked);
      if (view.path && answer.value.snapshot) line.set(snapshots, answer.value.snapshot.number);
      replace(body, bar, entries.length ? h('div', { class: 'browse-split' }, grid.el, panel.el)
        : emptyBox('folder', view.path ? t('browse.empty') : t('browse.no_roots'), view.path ? null : t('browse.no_copies.do')));
      bar.hidden = entries.length === 0;
      if (entries.length) arrange();
    } catch (error) {
      clearTimeout(timer);
      if (signal.aborted || error.name === 'AbortError' || error.status === 401) return;
      // The server names a path that a snapshot lacks as any failure; where there are other snapshots the slider leads on.
      const notThen = ['not_found', 'failed'].includes(error.code) && view.at !== null && snapshots.length > 0;
      if (notThen) head(false);
      replace(body, notThen
        ? emptyBox('clock', t('browse.not_then'), error.message && plain(error.message), t('browse.not_then.do')) : errorBox(error, () => loadEntries(false)));
    }
  }
  let snapshots = [];

  let loading = false;
  async function loadMore() {
    if (loading || !more || !entries.length || entries.length >= LOADED_MAX) return;
    loading = true;
    try {
      const last = entries.at(-1);
      const answer = await get(copyPath(view.copy, 'entries', { path: view.path && { ref: view.path }, at: view.at, after: { ref: last.ref }, count: PAGE_COUNT }), control.signal);
      answer.entries.forEach((e) => { e.name ??= e.path; });
      entries = entries.concat(answer.entries);
      more = answer.more && answer.entries.length > 0;
      arrange({ keep: true });
    } catch (error) {
      if (error.name !== 'AbortError') { more = false; replace(blank, errorBox(error)); body.append(blank); }
    } finally { loading = false; }
  }

  /** The outermost root around here, as the snapshots tell. */
  function rootOf() {
    const around = view.path ? snapshots.map((s) => s.ref).filter((ref) => isWithin(view.path, ref)) : [];
    return around.length ? around.reduce((a, b) => (a.length <= b.length ? a : b)) : null;
  }

  /** One folder up; above a root come the roots. */
  function up() {
    if (!view.path) return;
    const above = parentRef(view.path);
    const root = rootOf();
    go(hash({ path: above && root && isWithin(above, root) ? above : null, sel: null }));
  }

  function head(there = true) {
    document.title = `${view.path ? plain(refText(view.path), 80) : t('nav.browse')} · rbbackup`;
    replace(path, crumbs(view, client, (query) => hash({ sel: null, ...query }), rootOf()));
    const folder = view.path && there && [
      client && admin && button(t('restore'), () => restoreDialog({ ref: view.path, path: refText(view.path), at: view.at, kind: 'dir' }), { iconName: 'restore', className: 'primary', test: 'restore' }),
      h('a', { class: 'button', href: hashOf('changes', [view.copy], { path: view.path, to: view.at }), 'data-test': 'changes' }, icon('compare'), t('changes')),
      h('span', { class: 'joined', role: 'group', 'aria-label': t('download.folder') },
        ['zip', 'tar'].map((format) => h('a', { class: 'button', href: copyUrl(view.copy, 'archive', { path: { ref: view.path }, at: view.at, format }), download: true, 'data-test': `download-${format}`, title: t('download.folder.as', { format }) },
          format === 'zip' && icon('download'), `.${format}`)))];
    replace(tools, folder, button(t('find'), () => find.toggle(), { iconName: 'search', test: 'find' }));
  }

  function route(to) {
    const before = view;
    view = parse(to, client);
    if (!view.copy) {
      replace(path); replace(tools); line.el.hidden = damage.hidden = true; find.close();
      replace(body, copyChooser());
      return;
    }
    find.use(view.copy, (ref, at, kind) => hashOf('browse', [view.copy], kind === 'dir' ? { path: ref, at } : { path: parentRef(ref), at, sel: ref }));
    const same = before && before.copy === view.copy && before.path === view.path;
    if (!same) {
      filter.value = '';
      snapshots = [];
      if (before?.path && view.path && isWithin(before.path, view.path)) cameFrom = before.path.split('/').slice(0, view.path.split('/').length + 1).join('/');
    }
    if (!same || before.at !== view.at) head();
    if (!view.path) line.el.hidden = damage.hidden = true;
    if (!same || before.at !== view.at) loadEntries(same).then(() => { if (!same && before && isFocusLost()) grid.focus(); look(); });
    else look();
  }

  function look() {
    grid.refresh();
    panel.show(view.sel ? { copy: view.copy, ref: view.sel, at: view.at, entry: entries.find((e) => e.ref === view.sel) } : null, (ref, at) => hash({ sel: ref, at }));
  }

  route(first);
  return { route, close: () => { control.abort(); grid.close(); panel.close(); } };
}

/** Whether what had the focus has gone: only then may the list take it. */
const isFocusLost = () => [null, document.body].includes(document.activeElement) || document.activeElement.id === 'main';

/** A route as what is to be seen. */
function parse({ parts, query }, client) {
  const copy = parts.length >= 2 ? `${parts[0]}/${parts[1]}` : client ? '-/-' : null;
  return { copy, path: query.path ?? null, at: query.at ? Number(query.at) : null, sel: query.sel ?? null };
}

export default { title: (session) => t(session?.program === 'rbbackup' ? 'nav.restore' : 'nav.browse'), open };
