// The client's first page: profiles that can be started by one button, and the form for a new one.

import { del, get, post, put } from './api.js';
import { busy, button, field, options } from './controls.js';
import { confirmDialog, openDialog } from './dialog.js';
import { h, patchList, replace } from './dom.js';
import { t, tOr } from './i18n.js';
import { icon } from './icons.js';
import { plain, show } from './names.js';
import { emptyBox, errorBox, loadingBox, notify, notifyError } from './notices.js';
import { go, hashOf } from './router.js';
import { watch } from './live.js';
import { emptyProfile, profileForm } from './profile-form.js';

/** A profile in a sentence. */
function inWords(p) {
  if (p.role === 'destination') return [show(p.folder ?? '', 200), ' ← ', h('span', { class: 'mono' }, show(p.server ?? '', 100))];
  const more = p.folders.length - 1;
  return [show(p.folders[0] ?? '', 200), more > 0 && ` ${t('profile.more', { n: more })}`, ' → ', h('span', { class: 'mono' }, show(p.server ?? '', 100)), p.copies > 0 && ` ${t('profile.copies', { n: p.copies })}`];
}

const timerText = (timer) => (timer ? t(timer.every === 'hourly' ? 'timer.is_hourly' : 'timer.is', { every: tOr('timer', timer.every), at: timer.at, minute: timer.at.slice(-3) }) : t('timer.none'));

/** Asks when; resolves with {every, at}, 'none' or null. */
function timerDialog(profile) {
  return openDialog(t('timer.title', { name: plain(profile.name, 60) }), (close) => {
    const every = h('select', { 'data-test': 'timer-every' }, options(['hourly', 'daily', 'weekly'].map((e) => [e, t(`timer.${e}`)]), profile.timer?.every ?? 'daily'));
    const at = h('input', { type: 'time', required: true, value: profile.timer?.at ?? '03:00', 'data-test': 'timer-at' });
    return h('form', { onsubmit: (event) => { event.preventDefault(); close({ every: every.value, at: at.value }); } },
      h('p', null, t('timer.words')), h('div', { class: 'pair' }, field(t('timer.every'), every), field(t('timer.at'), at, { hint: t('timer.at.hint') })),
      h('div', { class: 'actions' }, profile.timer && button(t('timer.remove'), () => close('none'), { className: 'danger-text quiet', test: 'timer-remove' }),
        button(t('cancel'), () => close()), button(t('timer.install'), null, { type: 'submit', className: 'primary', test: 'timer-install' })));
  }, { test: 'timer-dialog' });
}

function open(root, { admin }) {
  const control = new AbortController();
  const now = h('div', { class: 'now', hidden: true });
  const list = h('ul', { class: 'profiles' });
  const broken = h('div', { class: 'stack', 'data-test': 'damaged' });
  const saved = h('section', { hidden: true }, h('h2', null, t('profiles')), list);
  const place = h('div', { class: 'stack' }, loadingBox());
  const head = h('div', { class: 'page-head' }, h('h1', null, t('nav.begin')));
  root.append(head, now, broken, saved, place);
  const cards = new Map();
  let form = null;
  let client = null;

  function card(first) {
    let profile = first;
    const words = h('p', { class: 'profile-words' });
    const timer = h('span');
    const start = button(t('start'), () => busy(start, t('start'), async () => { await post('jobs', { run: profile.name }); go(hashOf('live')); }), { iconName: 'play', className: 'primary', test: 'run-profile' });
    const edit = button(t('edit'), () => { form.set(profile); form.el.scrollIntoView(); form.focus(); }, { className: 'quiet', iconName: 'edit', test: 'edit-profile' });
    const clock = button(t('timer'), async () => {
      const made = await timerDialog(profile);
      if (!made) return;
      const at = `profiles/${encodeURIComponent(profile.name)}/timer`;
      await busy(clock, t('timer'), async () => {
        if (made === 'none') await del(at);
        else await put(at, made);
        notify(t(made === 'none' ? 'timer.removed' : 'timer.installed', { name: plain(profile.name, 60) }));
        await load();
      });
    }, { className: 'quiet', iconName: 'clock', test: 'timer' });
    const remove = button(t('remove'), async () => {
      if (!await confirmDialog(t('profile.remove.ask', { name: plain(profile.name, 60) }), t('profile.remove.words'), t('remove'))) return;
      await busy(remove, t('remove'), async () => { await del(`profiles/${encodeURIComponent(profile.name)}`); await load(); });
    }, { className: 'quiet danger-text', iconName: 'trash', test: 'remove-profile' });
    return {
      el: h('li', { class: 'profile', 'data-test': 'profile' }, h('div', null, h('h3', null, icon(profile.role === 'destination' ? 'server' : 'folder'), show(profile.name, 80)), words,
        h('p', { class: 'muted profile-facts' }, profile.role === 'source' && [icon('clock'), timer, ' · '], h('code', null, plain(`rbbackup run ${profile.name}`, 100)))), admin && h('div', { class: 'actions' }, start, edit, profile.role === 'source' && clock, remove)),
      update(next) {
        profile = next;
        replace(words, inWords(next));
        replace(timer, timerText(next.timer));
      },
    };
  }

  async function load() {
    const { profiles, damaged = [] } = await get('profiles', control.signal);
    replace(broken, damaged.map((words) => h('p', { class: 'inline-error' }, icon('warn'), h('span', { lang: 'en' }, plain(words)))));
    saved.hidden = profiles.length === 0;
    patchList(list, cards, profiles, (p) => `${p.name} ${p.role}`, card);
    return profiles;
  }

  async function begin() {
    try {
      client = await get('client', control.signal);
      const profiles = await load();
      if (!admin) { replace(place, profiles.length ? null : emptyBox('folder', t('profiles.none'), t('role.reader.why'))); return; }
      form = profileForm(client, () => load().catch(notifyError));
      replace(place, form.el);
      form.set(emptyProfile(client));
      head.append(button(t('form.new'), () => { form.set(emptyProfile(client)); form.el.scrollIntoView(); form.focus(); }, { iconName: 'plus', test: 'new' }));
    } catch (error) {
      if (error.name !== 'AbortError' && error.status !== 401) replace(place, errorBox(error, begin));
    }
  }
  begin();

  let held = '';
  const unwatch = watch((live) => {
    const key = live.runs.map((r) => `${r.id}${r.phase}`).join();
    now.hidden = live.runs.length === 0;
    if (key === held) return;
    held = key;
    replace(now, live.runs.slice(0, 3).map((r) => h('p', null, h('span', { class: 'pill info' }, tOr('phase', r.phase)), ' ', show(r.root, 200), ' ', ' ',
      h('a', { href: hashOf('live') }, t('now.watch')))));
  });
  return { close: () => { control.abort(); unwatch(); } };
}

export default { title: () => t('nav.begin'), open };
