// Picks a folder of this machine: walk down and up, or type a path. Resolves with {path, ref}, or null.

import { get } from './api.js';
import { button, field } from './controls.js';
import { openDialog } from './dialog.js';
import { add, h, replace } from './dom.js';
import { createGrid } from './grid.js';
import { t } from './i18n.js';
import { icon } from './icons.js';
import { refOfPath, show } from './names.js';
import { errorBox, loadingBox } from './notices.js';

/** Opens it; begins at `startRef`, or at home. */
export function pickFolder(title, startRef = null) {
  let grid = null;
  return openDialog(title, (close) => {
    let here = null;
    let hidden = false;
    let control = new AbortController();
    const typed = h('input', { type: 'text', class: 'mono', spellcheck: 'false', autocomplete: 'off', 'data-test': 'folder-path' });
    const form = h('form', { class: 'find-form', onsubmit: (event) => { event.preventDefault(); load(refOfPath(typed.value.trim() || '/')); } }, field(t('pick.path'), typed), button(t('pick.go'), null, { type: 'submit' }));
    const up = button(t('pick.up'), () => load(here.parent_ref), { iconName: 'up', test: 'folder-up' });
    const box = h('input', { type: 'checkbox', id: 'pick-hidden', onchange: () => { hidden = box.checked; arrange(); } });
    const place = h('div', { class: 'pick-list' });
    const choose = button(t('pick.this'), () => close({ path: here.path, ref: here.ref }), { className: 'primary', test: 'folder-choose' });
    grid = createGrid({
      label: t('pick.folders'), test: 'folders', rowTest: 'folder', columns: [{ id: 'name', label: t('col.name'), className: 'c-file' }],
      cells: (e) => [[icon('folder', 'kind-dir'), h('button', { type: 'button', class: 'as-link', tabindex: -1, onclick: () => load(e.ref) }, show(e.name))]],
      nameOf: (e) => e.name, isChosen: () => false, onopen: (e) => load(e.ref), onlook: () => {}, onup: () => { if (here.parent_ref !== null) load(here.parent_ref); },
    });

    function arrange() {
      const some = here.entries.filter((e) => hidden || !e.hidden);
      replace(place, some.length ? grid.el : h('p', { class: 'muted none' }, t('pick.none')), here.more && h('p', { class: 'hint' }, t('pick.more')));
      if (some.length) grid.set(some);
    }

    async function load(ref) {
      control.abort();
      control = new AbortController();
      const held = here && grid.el.contains(document.activeElement);
      if (!here) replace(place, loadingBox());
      try {
        here = await get(`folders${ref === null ? '' : `?path=${ref}`}`, control.signal);
        typed.value = here.path;
        up.setAttribute('aria-disabled', String(here.parent_ref === null));
        choose.replaceChildren();
        add(choose, [t('pick.this'), ' ', h('strong', null, show(here.path.slice(here.path.lastIndexOf('/') + 1) || '/', 40))]);
        arrange();
        if (held) grid.focus();
      } catch (error) {
        if (error.name !== 'AbortError') replace(place, errorBox(error, here && (() => load(here.ref))));
      }
    }
    up.addEventListener('click', (event) => { if (up.getAttribute('aria-disabled') === 'true') event.stopImmediatePropagation(); }, { capture: true });
    load(startRef);
    return [form, h('div', { class: 'tools' }, up, h('span', { class: 'none-box' }, box, h('label', { for: 'pick-hidden' }, t('pick.hidden')))), place,
      h('div', { class: 'actions' }, button(t('cancel'), () => close()), choose)];
  }, { wide: true, test: 'folder-picker' }).finally(() => grid?.close());
}
