// No session: a password where one is set, else how to come by a link. Nothing of the place is told here.

import { h, replace } from './dom.js';
import { busy, field } from './controls.js';
import { t } from './i18n.js';
import { icon } from './icons.js';
import { post } from './api.js';
import { explain } from './notices.js';
import { preferences } from './shell.js';
import { plain } from './names.js';

/** A one-time link that opened nothing leads here. */
const isUsed = () => /^#\/sign-in\?.*used=1/.test(location.hash);

/** Shows it; `opened` is called when there is a session, `changed` when the words have to be written anew. */
export function openSignIn(app, { password, opened, changed }) {
  document.title = `${t('sign_in')} · rbbackup`;
  const wrong = h('div', { role: 'alert' });
  const input = h('input', { type: 'password', autocomplete: 'current-password', required: true, 'data-test': 'password' });
  const send = h('button', { type: 'submit', class: 'primary', 'data-test': 'sign-in' }, t('sign_in'));
  const submit = async (event) => {
    event.preventDefault();
    replace(wrong);
    const done = await busy(send, '', async () => {
      try {
        await post('session', { password: input.value });
        return true;
      } catch (error) {
        const { title, message } = error.status === 401 || error.status === 403
          ? { title: t('sign_in.wrong'), message: error.message } : explain(error);
        replace(wrong, h('p', { class: 'inline-error' }, icon('warn'), h('span', null, h('strong', null, title), message && ` ${plain(message)}`)));
        input.select();
        input.focus();
        return false;
      }
    });
    if (done) opened();
  };
  const body = password
    ? h('form', { onsubmit: submit }, isUsed() && h('p', { class: 'inline-error', role: 'alert' }, icon('warn'), h('span', null, t('sign_in.used'))), h('p', null, t('sign_in.password')), field(t('password'), input), wrong, send)
    : h('div', null,
      isUsed() && h('p', { class: 'inline-error', role: 'alert', 'data-test': 'link-used' }, icon('warn'), h('span', null, t('sign_in.used'))),
      h('p', null, t('sign_in.link')),
      h('dl', { class: 'commands' },
        h('dt', null, t('sign_in.daemon')), h('dd', null, h('code', null, 'rbbackupd console STORE')),
        h('dt', null, t('sign_in.client')), h('dd', null, h('code', null, 'rbbackup console'))),
      h('p', { class: 'hint' }, t('sign_in.once')),
      h('button', { type: 'button', onclick: opened }, t('sign_in.again')));
  replace(app, h('main', { class: 'gate', id: 'main' },
    h('div', { class: 'gate-box', 'data-test': 'sign-in-page' }, h('h1', null, t('sign_in.title')), body), preferences(changed)));
  if (password) input.focus();
}
