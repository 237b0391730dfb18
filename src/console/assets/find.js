// Finds names in all snapshots of a copy, those that are gone too.

import { copyPath, get } from './api.js';
import { h, replace } from './dom.js';
import { t } from './i18n.js';
import { icon } from './icons.js';
import { showPath } from './names.js';
import { errorBox, loadingBox } from './notices.js';
import { field, iconButton } from './controls.js';
import { count, size, when, shortMoment } from './units.js';

const SHOWN_MAX = 200;

/** Gives {el, use(copy, hrefOf), toggle(), close()}; hrefOf(ref, snapshot, kind) is where a finding is seen. */
export function findPanel() {
  let copy = null;
  let hrefOf = null;
  let control = new AbortController();
  const input = h('input', { type: 'search', required: true, maxlength: 1000, placeholder: '*.pdf', 'data-test': 'find-pattern' });
  const results = h('div', { class: 'found' });
  const form = h('form', { class: 'find-form', role: 'search', onsubmit: (event) => { event.preventDefault(); run(); } },
    field(t('find.label'), input, { hint: t('find.hint') }), h('button', { type: 'submit', class: 'primary' }, icon('search'), t('find')),
    iconButton('close', t('close'), () => close()));
  const el = h('section', { class: 'find', hidden: true, 'aria-label': t('find') }, form, results);
  el.addEventListener('keydown', (event) => { if (event.key === 'Escape') close(); });

  function close() { el.hidden = true; control.abort(); replace(results); }

  function row(found) {
    return h('li', { 'data-test': 'found' }, icon(found.kind === 'dir' ? 'folder' : 'file', `kind-${found.kind}`), h('a', { href: hrefOf(found.ref, found.gone ? found.last_snapshot : null, found.kind) }, showPath(found.path)),
      h('span', { class: 'muted num' }, size(found.bytes), ' · ', when(found.mtime_secs, shortMoment)),
      found.gone && h('span', { class: 'pill plain' }, t('find.gone', { n: found.last_snapshot })));
  }

  async function run() {
    control.abort();
    control = new AbortController();
    const { signal } = control;
    replace(results, loadingBox());
    try {
      const answer = await get(copyPath(copy, 'find', { pattern: input.value }), signal);
      const list = h('ul');
      let shown = 0;
      const next = h('button', { type: 'button', onclick: () => add() }, t('more'));
      const add = () => {
        list.append(...answer.found.slice(shown, shown + SHOWN_MAX).map(row));
        shown += SHOWN_MAX;
        next.hidden = shown >= answer.found.length;
      };
      add();
      const n = answer.found.length;
      replace(results, h('p', { class: 'muted', role: 'status' }, t(answer.more ? 'find.more' : 'find.n', { n, nText: count(n) })), list, next);
    } catch (error) {
      if (error.name !== 'AbortError' && error.status !== 401) replace(results, errorBox(error));
    }
  }

  return {
    el,
    use(nextCopy, nextHref) { if (nextCopy !== copy) close(); copy = nextCopy; hrefOf = nextHref; },
    toggle() { if (el.hidden) { el.hidden = false; input.focus(); } else close(); },
    close,
  };
}
