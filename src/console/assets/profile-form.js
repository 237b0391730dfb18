// The client's form: server, role, what belongs to the role, then start it, or keep it as a profile.

import { post, put } from './api.js';
import { busy, button, field, iconButton, tick } from './controls.js';
import { commandOf } from './command-line.js';
import { h, replace, setText } from './dom.js';
import { pickFolder } from './folder-picker.js';
import { t } from './i18n.js';
import { icon } from './icons.js';
import { plain, show } from './names.js';
import { notify } from './notices.js';
import { go, hashOf } from './router.js';
import { copyable } from './invite.js';
import { serverPart } from './server-part.js';

/** What the form begins with. */
export const emptyProfile = (client) => ({
  name: '', role: 'source', server: client.server ?? '127.0.0.1:8730', user: null, folders: [], recursive: true, delete: false, excludes: [], copies: 0,
  folder: null, called: client.host, timer: null,
});

/** {el, set(profile), focus()}; `onsaved(profile)` after it was kept. */
export function profileForm(client, onsaved) {
  let folders = [];
  let timer = null;
  const title = h('h2', { tabindex: -1 });
  const server = serverPart(client, () => tell());
  const source = tick('radio', t('role.source'), { name: 'role', value: 'source', 'data-test': 'role-source' }, t('role.source.why'));
  const target = tick('radio', t('role.destination'), { name: 'role', value: 'destination', 'data-test': 'role-destination' }, t('role.destination.why'));
  const list = h('ul', { class: 'picked', 'data-test': 'folders-picked' });
  const addFolder = button(t('folders.add'), async () => {
    const picked = await pickFolder(t('folders.add'));
    if (picked && !folders.includes(picked.path)) { folders.push(picked.path); drawFolders(); tell(); }
  }, { iconName: 'plus', test: 'folder-pick' });
  const recursive = tick('checkbox', t('opt.recursive'), { 'data-test': 'recursive' }, t('opt.recursive.why'));
  const remove = tick('checkbox', t('opt.delete'), { 'data-test': 'delete' }, t('opt.delete.why'));
  const excludes = h('textarea', { rows: 3, class: 'mono', spellcheck: 'false', placeholder: '*.tmp\nnode_modules/', 'data-test': 'excludes' });
  const copies = h('input', { type: 'number', min: 0, max: 100, step: 1, required: true, class: 'short', 'data-test': 'copies' });
  const folder = h('input', { type: 'text', class: 'mono', spellcheck: 'false', autocomplete: 'off', 'data-test': 'destination-folder' });
  const pick = button(t('pick'), async () => {
    const picked = await pickFolder(t('destination.folder'));
    if (picked) { folder.value = picked.path; tell(); }
  }, { iconName: 'folder', test: 'destination-pick' });
  const called = h('input', { type: 'text', maxlength: 100, spellcheck: 'false', autocomplete: 'off', 'data-test': 'name' });
  const folderError = h('p', { class: 'inline-error', role: 'alert', hidden: true }, icon('warn'), h('span', null, t('folders.need')));
  const sourcePart = h('div', { class: 'part' },
    h('div', { class: 'field', role: 'group', 'aria-label': t('folders') }, h('span', { class: 'label' }, t('folders')), list, h('div', { class: 'actions' }, addFolder), folderError),
    h('div', { class: 'pair' }, recursive, remove),
    h('div', { class: 'pair' }, field(t('opt.excludes'), excludes, { hint: t('opt.excludes.why') }), field(t('opt.copies'), copies, { hint: t('opt.copies.why') })));
  const targetPart = h('div', { class: 'part' }, field(t('destination.folder'), folder, { hint: t('destination.folder.why'), beside: pick }), field(t('destination.name'), called, { hint: t('destination.name.why') }));
  const name = h('input', { type: 'text', maxlength: 64, pattern: '[\\p{L}\\p{N}_][\\p{L}\\p{N}_.\\-]*', title: t('profile.name.rule'), spellcheck: 'false', autocomplete: 'off', 'data-test': 'profile-name' });
  const commandPlace = h('div');
  const runLine = h('p', { class: 'hint' });
  const start = button(t('start'), () => begin(), { iconName: 'play', className: 'primary', test: 'start' });
  const save = button(t('profile.save'), () => keep(), { iconName: 'save', test: 'save-profile' });
  const el = h('form', { class: 'begin-form', 'data-test': 'profile-form', 'aria-label': t('form'), onsubmit: (event) => event.preventDefault() }, title,
    step(1, t('step.server'), server.el),
    step(2, t('step.role'), h('div', { class: 'roles', role: 'radiogroup', 'aria-label': t('step.role') }, source, target)),
    step(3, t('step.what'), sourcePart, targetPart),
    step(4, t('step.go'),
      h('div', { class: 'go-line' }, start, h('div', { class: 'keep-line' }, field(t('profile.name'), name, { hint: t('profile.name.hint') }), save)),
      h('div', { class: 'field' }, h('span', { class: 'label' }, t('command')), commandPlace), runLine));
  el.addEventListener('input', () => tell());
  el.addEventListener('change', () => tell());

  function step(n, words, ...content) {
    return h('section', { class: 'step' }, h('h3', null, h('span', { class: 'step-n', 'aria-hidden': 'true' }, n), words), content);
  }

  function drawFolders() {
    folderError.hidden = true;
    replace(list, folders.length ? folders.map((path, at) => h('li', null, icon('folder', 'kind-dir'), h('span', { class: 'mono', title: plain(path) }, show(path, 400)),
      iconButton('close', t('folders.remove', { name: plain(path, 100) }), () => {
        folders.splice(at, 1);
        drawFolders();
        tell();
        addFolder.focus();
      }))) : h('li', { class: 'muted none' }, t('folders.none')));
  }

  const on = (part) => part.querySelector('input').checked;

  function value() {
    const isSource = on(source);
    return {
      name: name.value.trim(), role: isSource ? 'source' : 'destination', ...server.value(),
      folders: isSource ? [...folders] : [], recursive: isSource && on(recursive), delete: isSource && on(remove),
      excludes: excludes.value.split('\n').map((l) => l.trim()).filter(Boolean), copies: Number(copies.value) || 0,
      folder: isSource ? null : folder.value.trim() || null, called: isSource ? null : called.value.trim() || null, timer: isSource ? timer : null,
    };
  }

  let shownCommand = null;
  function tell() {
    const profile = value();
    sourcePart.hidden = profile.role !== 'source';
    targetPart.hidden = profile.role === 'source';
    folder.required = profile.role !== 'source';
    source.classList.toggle('chosen', profile.role === 'source');
    target.classList.toggle('chosen', profile.role !== 'source');
    setText(start.lastChild, profile.role === 'source' ? t('start') : t('start.receive'));
    const command = commandOf({ ...profile, user: profile.user === client.user ? null : profile.user });
    if (command !== shownCommand) replace(commandPlace, copyable(command, t('command'), 'command'));
    shownCommand = command;
    setText(runLine, profile.name ? t('profile.run', { name: profile.name }) : '');
  }

  function valid(profile) {
    if (!server.check()) return false;
    if (profile.role === 'source') {
      folderError.hidden = folders.length > 0;
      if (!folders.length) { addFolder.focus(); return false; }
      return copies.reportValidity();
    }
    return folder.reportValidity();
  }

  async function begin() {
    const profile = value();
    if (!valid(profile)) return;
    await busy(start, t('start'), async () => {
      await post('jobs', { profile });
      go(hashOf('live'));
    });
  }

  async function keep() {
    const profile = value();
    if (!valid(profile)) return;
    name.required = true;
    const named = name.reportValidity();
    name.required = false;
    if (!named) return;
    await busy(save, t('profile.save'), async () => {
      await put(`profiles/${encodeURIComponent(profile.name)}`, profile);
      notify(t('profile.saved', { name: plain(profile.name, 60) }));
      setText(title, t('form.edit', { name: plain(profile.name, 60) }));
      onsaved(profile);
    });
  }

  function set(profile) {
    setText(title, profile.name ? t('form.edit', { name: plain(profile.name, 60) }) : t('form.fresh'));
    server.set(profile);
    source.querySelector('input').checked = profile.role !== 'destination';
    target.querySelector('input').checked = profile.role === 'destination';
    folders = [...profile.folders];
    recursive.querySelector('input').checked = profile.recursive;
    remove.querySelector('input').checked = profile.delete;
    excludes.value = profile.excludes.join('\n');
    copies.value = profile.copies ?? 0;
    folder.value = profile.folder ?? '';
    called.value = profile.called ?? client.host ?? '';
    name.value = profile.name;
    timer = profile.timer ?? null;
    drawFolders();
    tell();
  }
  return { el, set, focus: () => title.focus() };
}
