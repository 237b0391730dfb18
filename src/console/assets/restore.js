// Restoring from the client's console: what, as of when, to where, and what becomes of what is there.

import { get, post } from './api.js';
import { busy, button, field, options, tick } from './controls.js';
import { openDialog } from './dialog.js';
import { h } from './dom.js';
import { pickFolder } from './folder-picker.js';
import { t, tOr } from './i18n.js';
import { show } from './names.js';
import { notify } from './notices.js';
import { go, hashOf } from './router.js';

let asked = null;

/** Which server the list that is shown came from: a restore is to come from the same. */
export function listedFrom(server) {
  asked = server ?? null;
}

/** `what` is {ref, path, at, kind}. Goes to the live page once it runs. */
export function restoreDialog(what) {
  const from = asked;
  return openDialog(t('restore.title'), (close) => {
    const place = h('input', { type: 'text', class: 'mono', 'aria-label': t('restore.folder'), autocomplete: 'off', spellcheck: 'false', 'data-test': 'restore-to' });
    const pick = button(t('pick'), async () => {
      const picked = await pickFolder(t('restore.folder'));
      if (picked) { place.value = picked.path; there.querySelector('input').checked = true; tell(); }
    }, { iconName: 'folder', test: 'restore-pick' });
    const here = tick('radio', t('restore.here'), { name: 'to', value: 'here', checked: true, 'data-test': 'restore-here' }, show(what.path));
    const there = tick('radio', t('restore.there'), { name: 'to', value: 'there', 'data-test': 'restore-there' }, t('restore.there.hint'));
    const line = h('div', { class: 'with-button' }, place, pick);
    const overwrite = h('select', { 'data-test': 'overwrite' }, options(['changed', 'newer', 'always', 'never'].map((o) => [o, t(`restore.overwrite.${o}`)]), 'changed'));
    const remove = what.kind === 'dir' && tick('checkbox', t('restore.delete'), { 'data-test': 'restore-delete' }, t('restore.delete.why'));
    const begin = button(t('restore.title'), null, { type: 'submit', className: 'primary', test: 'restore-begin' });
    const tell = () => { line.hidden = !there.querySelector('input').checked; place.required = !line.hidden; };
    tell();
    get('client').then((c) => { place.placeholder = `${c.home}/…`; }, () => {});
    return h('form', {
      onchange: tell,
      onsubmit: async (event) => {
        event.preventDefault();
        await busy(begin, t('restore.title'), async () => {
          await post('restores', { asked: from, path_ref: what.ref, at: what.at, to: line.hidden ? null : place.value.trim(), overwrite: overwrite.value, delete: Boolean(remove && remove.querySelector('input').checked) });
          close(true);
          notify(t('restore.begun'));
          go(hashOf('live'));
        });
      },
    },
    h('p', null, show(what.path), h('br'), h('span', { class: 'muted' }, what.at === null ? t('restore.newest') : t('snapshot.n', { n: what.at }), ' · ', tOr('entry', what.kind))),
    h('fieldset', null, h('legend', null, t('restore.to')), here, there, line),
    field(t('restore.overwrite'), overwrite), remove, h('div', { class: 'actions' }, button(t('cancel'), () => close()), begin));
  }, { test: 'restore-dialog' });
}
