// Who may come in: users with their rights and quotas, invitations that are open, and the making of new ones.

import { del, get, patch, post } from './api.js';
import { busy, button } from './controls.js';
import { confirmDialog, openDialog } from './dialog.js';
import { h, replace } from './dom.js';
import { t, tOr } from './i18n.js';
import { plain, show } from './names.js';
import { emptyBox, notify } from './notices.js';
import { poll } from './poll.js';
import { settingsTabs } from './page-settings.js';
import { pill } from './states.js';
import { facts, sortedTable } from './table.js';
import { count, shortMoment, sized, when } from './units.js';
import { inviteDialog, quotaInput, rightsInput } from './invite.js';

const EVERY_MS = 20_000;
const who = (u) => plain(`${u.user} / ${u.node}`, 120);
const rights = (list) => h('span', { class: 'chips' }, list.map((r) => h('span', { class: `chip ${r === 'admin' ? 'warn' : ''}` }, tOr('right', r))));
const quota = (bytes) => (bytes === null ? h('span', { class: 'muted' }, t('value.no_limit')) : sized(bytes));

function open(root, { admin }) {
  const place = h('div', { class: 'stack' });
  const body = h('div', { class: 'stack' });
  root.append(h('div', { class: 'page-head' }, h('h1', null, t('nav.settings')), settingsTabs('people')), place);

  const edit = async (user) => {
    const made = await openDialog(t('people.edit', { who: who(user) }), (close) => {
      const may = rightsInput(user.rights);
      const room = quotaInput(user.quota_bytes);
      const save = button(t('settings.save'), null, { className: 'primary', test: 'save-user', type: 'submit' });
      return h('form', { onsubmit: async (event) => {
        event.preventDefault();
        if (!room.check()) return;
        await busy(save, t('people.edit', { who: who(user) }), async () => {
          await patch(`users/${user.ref}`, { rights: may.value(), quota_bytes: room.value() });
          close(true);
        });
      } }, may.el, room.field, h('div', { class: 'actions' }, button(t('cancel'), () => close()), save));
    });
    if (made) { notify(t('people.saved')); source.now(); }
  };
  const revoke = async (user, event) => {
    const node = event.currentTarget;
    if (!await confirmDialog(t('people.revoke.ask', { who: who(user) }), [t('people.revoke.words')], t('people.revoke'))) return;
    await busy(node, t('people.revoke'), async () => {
      const { connections } = await post(`users/${user.ref}/revoke`);
      notify(t('people.revoked', { n: connections }));
      source.now();
    });
  };
  const withdraw = async (invitation, event) => {
    const node = event.currentTarget;
    if (!await confirmDialog(t('invite.withdraw.ask', { who: plain(invitation.user, 80) }), t('invite.withdraw.words'), t('invite.withdraw'))) return;
    await busy(node, t('invite.withdraw'), async () => {
      await del(`invitations/${encodeURIComponent(invitation.id)}`);
      notify(t('invite.withdrawn'));
      source.now();
    });
  };

  const users = sortedTable({
    label: t('people.users'), keyOf: (u) => `${u.ref} ${u.key}`, start: 'user', className: 'dense', test: 'users-table',
    details: (u) => h('div', { class: 'opened-body' }, facts([[t('col.created'), when(u.created_secs, shortMoment)], [t('col.key'), h('span', { class: 'mono break' }, u.key)]])),
    rowTest: 'user', rowTone: (u) => (u.revoked_secs ? 'revoked' : ''),
    columns: [
      { id: 'user', head: true, label: t('col.user'), className: 'c-copy', sort: (u) => `${u.user} ${u.node}`, key: () => '', cell: (u) => [h('strong', null, show(u.user, 80)), h('span', { class: 'muted' }, ' / ', show(u.node, 80))] },
      { id: 'rights', label: t('col.rights'), className: 'c-rights', key: (u) => u.rights.join() + u.revoked_secs, cell: (u) => (u.revoked_secs ? [pill('plain', 'cross', t('people.shut')), ' ', when(u.revoked_secs)] : rights(u.rights)) },
      { id: 'quota', label: t('quota'), className: 'num', sort: (u) => u.quota_bytes ?? Infinity, key: (u) => u.quota_bytes, cell: (u) => quota(u.quota_bytes) },
      { id: 'newest', label: t('col.newest'), sort: (u) => -(u.newest_secs ?? 0), key: (u) => u.newest_secs, cell: (u) => when(u.newest_secs) },
      { id: 'connections', label: t('col.connections'), className: 'num', sort: (u) => u.connections, key: (u) => u.connections, cell: (u) => (u.connections ? count(u.connections) : '–') },
      admin && { id: 'do', label: t('col.do'), className: 'c-do', key: (u) => u.revoked_secs + u.rights.join() + u.quota_bytes, cell: (u) => (u.revoked_secs ? ''
        : h('span', { class: 'actions' }, button(t('edit'), () => edit(u), { className: 'quiet', test: 'edit-user', title: t('people.edit', { who: who(u) }) }), button(t('people.revoke'), (event) => revoke(u, event), { className: 'quiet danger-text', test: 'revoke', title: t('people.revoke.ask', { who: who(u) }) }))) },
    ].filter(Boolean),
  });
  const invitations = sortedTable({
    label: t('people.invitations'), keyOf: (i) => i.id, start: 'expires', className: 'dense', test: 'invitations-table', rowTest: 'invitation',
    columns: [
      { id: 'user', head: true, label: t('col.user'), className: 'c-copy', sort: (i) => i.user, key: () => '', cell: (i) => [h('strong', null, show(i.user, 80)), i.node && h('span', { class: 'muted' }, ' / ', show(i.node, 80)), i.replace && [' ', pill('warn', 'warn', t('invite.replaces'))]] },
      { id: 'rights', label: t('col.rights'), key: () => '', cell: (i) => (i.rights ? rights(i.rights) : h('span', { class: 'muted' }, t('invite.same_rights'))) },
      { id: 'quota', label: t('quota'), className: 'num', key: () => '', cell: (i) => quota(i.quota_bytes) },
      { id: 'expires', label: t('col.expires'), sort: (i) => i.expires_secs, key: (i) => i.expires_secs, cell: (i) => when(i.expires_secs) },
      admin && { id: 'do', label: t('col.do'), className: 'c-do', key: () => '', cell: (i) => button(t('invite.withdraw'), (event) => withdraw(i, event), { className: 'quiet danger-text', test: 'withdraw' }) },
    ].filter(Boolean),
  });

  const invite = admin && button(t('invite'), async () => { await inviteDialog(); source.now(); }, { iconName: 'plus', className: 'primary', test: 'invite' });
  const invited = h('div');
  const known = h('div');
  replace(body, h('section', { class: 'group' }, h('div', { class: 'group-head' }, h('h2', null, t('people.invitations')), invite), h('p', { class: 'lead' }, t('people.invitations.lead')), invited),
    h('section', { class: 'group' }, h('h2', null, t('people.users')), known));
  const fillIn = (box, table, list, blank) => {
    const kind = list.length ? 'some' : 'none';
    if (box.dataset.kind !== kind) replace(box, list.length ? table.el : blank());
    box.dataset.kind = kind;
    table.show(list);
  };
  const source = poll(place, EVERY_MS, (signal) => get('users', signal), () => body, (data) => {
    fillIn(invited, invitations, data.invitations, () => h('p', { class: 'muted none' }, t('people.invitations.none')));
    fillIn(known, users, data.users, () => emptyBox('person', t('people.none'), t('people.none.do')));
  });
  return { close: source.close };
}

export default { title: () => t('nav.people'), open };
