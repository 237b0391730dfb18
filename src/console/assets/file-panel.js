// One file (or folder) beside the list: what it is, its versions, a look at it, and ways to have it.

import { copyPath, copyUrl, get } from './api.js';
import { h, replace } from './dom.js';
import { t, tOr } from './i18n.js';
import { icon } from './icons.js';
import { plain, refText, show } from './names.js';
import { explain, loadingBox } from './notices.js';
import { button, iconButton } from './controls.js';
import { isLikely, preview } from './preview.js';
import { restoreDialog } from './restore.js';
import { facts } from './table.js';
import { exactSize, shortMoment, size, when } from './units.js';

/** rwxr-xr-x */
function modeText(mode) {
  if (mode === null || mode === undefined) return null;
  return [6, 3, 0].map((by) => ['r', 'w', 'x'].map((c, i) => ((mode >> by) & (4 >> i) ? c : '-')).join('')).join('');
}

/** Gives {el, show(what, hrefOf), focus(), close()}; `what` is {copy, ref, at, entry?} or null. */
export function filePanel({ onclose, client, admin }) {
  const el = h('aside', { class: 'file-panel', hidden: true, 'aria-label': t('panel'), 'data-test': 'panel' });
  let held = null;
  let free = () => {};
  let control = new AbortController();
  el.addEventListener('keydown', (event) => { if (event.key === 'Escape') { event.stopPropagation(); onclose(); } });

  function clear() {
    free();
    free = () => {};
    control.abort();
    control = new AbortController();
  }

  function versionRow(what, version, hrefOf) {
    // The version's last snapshot shows it; the newest of all needs no number.
    const at = version.newest ? null : version.last_snapshot;
    const here = what.at === null ? version.newest : version.first_snapshot <= what.at && what.at <= version.last_snapshot;
    return h('li', { class: here ? 'here' : '', 'data-test': 'version' },
      h('a', { href: hrefOf(what.ref, at), 'aria-current': here ? 'true' : null }, when(version.first_secs, shortMoment)),
      h('span', { class: 'muted num', title: exactSize(version.bytes) }, version.bytes === null ? tOr('entry', version.kind) : size(version.bytes)),
      h('span', { class: 'muted version-span' }, version.newest ? t('version.newest') : t('version.until', { n: version.last_snapshot })),
      version.kind === 'file' && h('a', { class: 'quiet', download: true, title: t('download'), 'aria-label': t('download.version', { time: shortMoment(version.first_secs) }), href: copyUrl(what.copy, 'file', { path: { ref: what.ref }, at: version.last_snapshot }) }, icon('download')));
  }

  async function versions(place, what, hrefOf) {
    replace(place, loadingBox());
    try {
      const answer = await get(copyPath(what.copy, 'versions', { path: { ref: what.ref } }), control.signal);
      const newestFirst = [...answer.versions].sort((a, b) => b.first_snapshot - a.first_snapshot);
      replace(place, newestFirst.length ? h('ol', { class: 'versions' }, newestFirst.map((v) => versionRow(what, v, hrefOf))) : h('p', { class: 'muted' }, t('version.none')));
    } catch (error) {
      if (error.name !== 'AbortError' && error.status !== 401) replace(place, h('p', { class: 'muted' }, explain(error).message));
    }
  }

  function actions(what, kind, path) {
    const query = { path: { ref: what.ref }, at: what.at };
    return h('div', { class: 'actions' },
      kind === 'file' && h('a', { class: 'button primary', href: copyUrl(what.copy, 'file', query), download: true, 'data-test': 'download' }, icon('download'), t('download')),
      kind === 'dir' && ['zip', 'tar'].map((format) => h('a', { class: 'button', href: copyUrl(what.copy, 'archive', { ...query, format }), download: true, 'data-test': `panel-${format}` }, icon('download'), `.${format}`)),
      client && admin && button(t('restore'), () => restoreDialog({ ref: what.ref, path, at: what.at, kind }), { iconName: 'restore', test: 'restore-entry' }));
  }

  function build(what, hrefOf) {
    clear();
    const path = what.entry?.path ?? refText(what.ref);
    const name = path.slice(path.lastIndexOf('/') + 1) || path;
    const entry = what.entry;
    // Without the entry (it is not in this snapshot, or not loaded yet) it is taken for a file; the server says if not.
    const kind = entry?.kind ?? 'file';
    const look = h('div', { class: 'preview' });
    const past = h('div');
    const see = () => { free(); free = preview(look, what.copy, what.ref, what.at, plain(name, 200)); };
    replace(el,
      h('header', { class: 'panel-head' }, icon({ dir: 'folder', symlink: 'link' }[kind] ?? 'file'), h('h2', { tabindex: -1, title: plain(path) }, show(name, 600)), iconButton('close', t('close'), onclose, { test: 'panel-close' })),
      actions(what, kind, path),
      facts([
        [t('fact.kind'), tOr('entry', kind)],
        [t('col.size'), entry?.size === null || entry?.size === undefined ? null : h('span', null, size(entry.size), h('span', { class: 'muted' }, ` (${exactSize(entry.size)})`))],
        [t('col.modified'), entry?.mtime_secs ? when(entry.mtime_secs, shortMoment) : null],
        [t('fact.target'), entry?.target ? show(entry.target) : null],
        [t('fact.owner'), entry ? show(`${entry.user ?? entry.uid ?? '?'} : ${entry.group ?? entry.gid ?? '?'}`, 80) : null],
        [t('fact.mode'), entry ? h('span', { class: 'mono' }, modeText(entry.mode)) : null],
        [t('fact.path'), show(path, 4200)],
      ]),
      !entry && h('p', { class: 'hint' }, t('panel.not_here')),
      kind === 'file' && [h('h3', null, t('preview')), look, h('h3', null, t('versions')), past]);
    if (kind !== 'file') return;
    versions(past, what, hrefOf);
    if (entry && isLikely(name, entry.size ?? 0)) see();
    else replace(look, button(t('preview.try'), see));
  }

  return {
    el,
    show(what, hrefOf) {
      const key = what && `${what.copy} ${what.ref} ${what.at} ${Boolean(what.entry)}`;
      if (key === held) return;
      held = key;
      el.hidden = !what;
      if (what) build(what, hrefOf);
      else { clear(); replace(el); }
    },
    focus: () => el.querySelector('h2')?.focus(),
    close: clear,
  };
}
