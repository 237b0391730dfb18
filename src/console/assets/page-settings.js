// The daemon's settings: what holds, who said so, and what would hold otherwise. A change is shown before it is made.

import { get, put } from './api.js';
import { busy, button } from './controls.js';
import { h, replace } from './dom.js';
import { t, tOr } from './i18n.js';
import { show } from './names.js';
import { errorBox, loadingBox, notify } from './notices.js';
import { hashOf } from './router.js';
import { settingEditor, settingText } from './setting-editor.js';

const GROUPS = [['listen', (key) => key === 'listen'], ['retention', (key) => key.startsWith('retention.')], ['limits', (key) => key.startsWith('limits.')], ['other', () => true]];

/** The two pages below Settings. */
export function settingsTabs(current) {
  return h('nav', { class: 'tabs', 'aria-label': t('nav.settings') }, [['settings', t('settings.daemon')], ['people', t('nav.people')]].map(([id, words]) => h('a', {
    href: hashOf(id), 'aria-current': id === current ? 'page' : null, 'data-test': `tab-${id}`,
  }, words)));
}

/** Who has the word, and what would be without it. */
function origin(setting) {
  const words = tOr('from', setting.from);
  if (setting.from !== 'console') return h('p', { class: 'origin' }, h('span', { class: 'pill plain' }, words));
  return h('p', { class: 'origin' }, h('span', { class: 'pill info' }, words), ' ', t('settings.before', { value: settingText(setting, setting.before) }));
}

function open(root, { admin }) {
  const place = h('div', { class: 'stack' }, loadingBox());
  const control = new AbortController();
  root.append(h('div', { class: 'page-head' }, h('h1', null, t('nav.settings')), settingsTabs('settings')), place);
  let editors = [];

  function build(data) {
    const changes = new Map();
    const list = h('ul', { class: 'change-list' });
    const bar = h('div', { class: 'save-bar', hidden: true, 'data-test': 'save-bar' }, h('div', null, h('strong', null, t('settings.unsaved')), list),
      h('div', { class: 'actions' }, button(t('settings.discard'), () => build(data)), button(t('settings.save'), () => save(), { className: 'primary', test: 'save' })));

    function changed(setting, value) {
      if (value === undefined) changes.delete(setting.key);
      else changes.set(setting.key, { setting, value });
      bar.hidden = changes.size === 0;
      replace(list, [...changes.values()].map((c) => h('li', null, tOr('setting', c.setting.key), ': ', h('s', null, settingText(c.setting, c.setting.value)), ' → ',
        h('strong', null, c.value?.reset ? settingText(c.setting, c.setting.before) : settingText(c.setting, c.value)))));
    }

    async function save() {
      const wrong = editors.find((e) => !e.check());
      if (wrong) { wrong.focus(); return; }
      const node = bar.querySelector('[data-test=save]');
      await busy(node, t('settings.save'), async () => {
        const body = Object.fromEntries([...changes].map(([key, c]) => [key, c.value]));
        const answer = await put('settings', { changes: body });
        const moved = 'listen' in body;
        build(answer ?? await get('settings'));
        notify(t(moved ? 'settings.saved.listen' : 'settings.saved'));
      });
    }

    editors = [];
    const left = new Set(data.settings);
    const groups = GROUPS.map(([id, belongs]) => {
      const some = [...left].filter((x) => belongs(x.key));
      some.forEach((x) => left.delete(x));
      if (!some.length) return null;
      return h('section', { class: 'group' }, h('h2', null, t(`settings.group.${id}`)), h('p', { class: 'lead' }, t(`settings.group.${id}.lead`)),
        some.map((setting) => {
          const editor = settingEditor(setting, { admin, onchange: (value) => changed(setting, value) });
          if (admin) editors.push(editor);
          return h('div', { class: 'setting', 'data-test': `setting-${setting.key}`, 'data-from': setting.from },
            h('div', { class: 'setting-words' }, editor.label, h('p', { class: 'hint' }, tOr('setting.why', setting.key))),
            h('div', { class: 'setting-value' }, editor.el, origin(setting)));
        }));
    });
    replace(place, groups, h('p', { class: 'muted files-note' }, t('settings.file'), ' ', data.file ? h('code', null, show(data.file)) : t('settings.file.none'), '. ', t('settings.override'), ' ', h('code', null, show(data.override ?? '–')), '.'), bar);
  }

  const load = () => get('settings', control.signal).then(build, (error) => {
    if (error.name !== 'AbortError' && error.status !== 401) replace(place, errorBox(error, load));
  });
  load();
  return { close: () => control.abort() };
}

export default { title: () => t('nav.settings'), open };
