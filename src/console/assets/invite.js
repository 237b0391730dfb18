// Inviting somebody: who, what they may, how much room, how long the token is good; then the token, shown this once.

import { post } from './api.js';
import { busy, button, field, iconButton, options, tick } from './controls.js';
import { openDialog } from './dialog.js';
import { freshId, h, replace } from './dom.js';
import { t } from './i18n.js';
import { notify } from './notices.js';
import { amountInput, SIZE_UNITS, wholeUnit } from './setting-editor.js';
import { shortMoment, when } from './units.js';

const RIGHTS = ['backup', 'restore', 'receive', 'admin'];
const VALID = [['3600', '1', 'hours'], ['86400', '24', 'hours'], ['604800', '7', 'days'], ['2592000', '30', 'days']];

/** A box for each right. {el, value()} */
export function rightsInput(held) {
  const el = h('fieldset', null, h('legend', null, t('col.rights')), RIGHTS.map((r) => tick('checkbox', t(`right.${r}`), { value: r, checked: held.includes(r), 'data-test': `right-${r}` }, t(`right.${r}.why`))));
  return { el, value: () => [...el.querySelectorAll('input:checked')].map((i) => i.value) };
}

/** {field, value(), check()} */
export function quotaInput(bytes) {
  const id = freshId('quota');
  const part = amountInput({ value: bytes, unit: wholeUnit(bytes), units: SIZE_UNITS, noneLabel: t('value.no_limit'), labelId: id });
  return { ...part, field: h('div', { class: 'field', role: 'group', 'aria-labelledby': id }, h('span', { class: 'label', id }, t('quota')), part.el) };
}

/** A text with a button that copies it. */
export function copyable(text, label, test) {
  const box = h('input', { type: 'text', readonly: true, class: 'mono', 'data-test': test, 'aria-label': label, value: text });
  return h('div', { class: 'copyable' }, box, iconButton('copy', t('copy'), async () => {
    try {
      await navigator.clipboard.writeText(text);
      notify(t('copied'));
    } catch {
      // Not allowed without TLS elsewhere than on this machine: it is marked, so that Ctrl-C takes it.
      box.select();
    }
  }, { className: '' }));
}

/** What is told once. */
function token(made, close) {
  const host = location.hostname.includes(':') ? `[${location.hostname}]` : location.hostname;
  const server = ['localhost', '127.0.0.1', '[::1]', '::1'].includes(host) ? 'SERVER' : host;
  return [
    h('p', null, t('invite.made')),
    copyable(made.token, t('invite.token'), 'token'),
    h('p', null, t('invite.run')),
    copyable(`rbbackup join ${server} ${made.token}`, t('invite.command'), 'join-command'),
    h('p', { class: 'hint' }, t('invite.expires'), ' ', when(made.expires_secs, shortMoment), '. ', t('invite.key'), ' ', h('span', { class: 'mono break' }, made.daemon_key ?? '')),
    h('div', { class: 'actions' }, button(t('done'), () => close(true), { className: 'primary', test: 'token-done' })),
  ];
}

/** Opens it; resolves when it is over. */
export function inviteDialog() {
  return openDialog(t('invite'), (close) => {
    const place = h('div');
    const user = h('input', { type: 'text', required: true, maxlength: 255, autocomplete: 'off', spellcheck: 'false', autofocus: true, 'data-test': 'invite-user' });
    const node = h('input', { type: 'text', maxlength: 255, autocomplete: 'off', spellcheck: 'false', 'data-test': 'invite-node' });
    const may = rightsInput(['backup', 'restore']);
    const room = quotaInput(null);
    const valid = h('select', { 'data-test': 'invite-valid' }, options(VALID.map(([secs, n, unit]) => [secs, t(`unit.${unit}`, { n: Number(n) })]), '86400'));
    const instead = tick('checkbox', t('invite.replace'), { 'data-test': 'invite-replace' }, t('invite.replace.why'));
    const send = button(t('invite.make'), null, { className: 'primary', type: 'submit', test: 'invite-make' });
    replace(place, h('form', { onsubmit: async (event) => {
      event.preventDefault();
      if (!room.check()) return;
      await busy(send, t('invite'), async () => {
        const made = await post('invitations', {
          user: user.value.trim(), node: node.value.trim() || null, rights: may.value(), quota_bytes: room.value(),
          valid_secs: Number(valid.value), replace_key: instead.querySelector('input').checked,
        });
        replace(place, token(made, close));
        place.querySelector('input')?.focus();
      });
    } }, h('div', { class: 'pair' }, field(t('invite.user'), user, { hint: t('invite.user.hint') }), field(t('invite.node'), node, { hint: t('invite.node.hint') })),
    may.el, h('div', { class: 'pair' }, room.field, field(t('invite.valid'), valid)), instead, h('div', { class: 'actions' }, button(t('cancel'), () => close()), send)));
    return place;
  }, { test: 'invite-dialog', wide: true });
}
