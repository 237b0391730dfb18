// What stands around every page: the name of the place, the way to the pages, language and light, sign-out.

import { h, replace, setAttr, setText } from './dom.js';
import { language, setLanguage, t } from './i18n.js';
import { icon } from './icons.js';
import { plain } from './names.js';
import { noticePlace } from './notices.js';
import { hashOf } from './router.js';
import { segments } from './controls.js';
import { watch, watchState } from './live.js';

const LOST_AFTER_MS = 3000;

function themePicker() {
  let chosen = document.documentElement.dataset.theme ?? 'auto';
  const pick = (theme) => {
    chosen = theme;
    if (theme === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    try { localStorage.setItem('theme', theme); } catch { /* only for this page then */ }
  };
  return segments(t('theme'), [['light', icon('sun'), t('theme.light')], ['auto', icon('half'), t('theme.auto')], ['dark', icon('moon'), t('theme.dark')]], chosen, pick, 'theme');
}

/** Language and light; `changed` is called when the words have to be written anew. */
export function preferences(changed) {
  const pick = (code) => { setLanguage(code, true); changed(); };
  return h('div', { class: 'prefs' },
    segments(t('language'), [['en', 'EN', 'English'], ['es', 'ES', 'Español']], language(), pick, 'language'),
    themePicker());
}

/**
 * Builds it into `app`. `pages` are [id, title]; gives `main` to fill, `current(id)` to mark where one is, `close()`.
 */
export function buildShell(app, { session, pages, changed, signOut }) {
  const links = new Map(pages.map(([id, title]) => [id, h('a', { href: hashOf(id), 'data-test': `nav-${id}` }, title)]));
  const running = h('span', { class: 'count', hidden: true, 'data-test': 'running' });
  links.get('live')?.append(' ', running);
  const panel = h('div', { class: 'panel', id: 'panel' },
    h('nav', { 'aria-label': t('nav') }, [...links.values()]),
    preferences(changed),
    h('button', { type: 'button', class: 'quiet sign-out', 'data-test': 'sign-out', onclick: signOut }, icon('out'), t('sign_out')));
  const menu = h('button', {
    type: 'button', class: 'menu', 'aria-expanded': 'false', 'aria-controls': 'panel',
    onclick: () => open(menu.getAttribute('aria-expanded') !== 'true'),
  }, icon('menu'), t('menu'));
  const open = (yes) => { setAttr(menu, 'aria-expanded', String(yes)); panel.classList.toggle('open', yes); };
  panel.addEventListener('click', (event) => { if (event.target.closest('a')) open(false); });
  panel.addEventListener('keydown', (event) => { if (event.key === 'Escape') { open(false); menu.focus(); } });

  const lost = h('p', { class: 'lost', role: 'status', hidden: true, 'data-test': 'lost' });
  const main = h('main', { id: 'main', tabindex: -1 });
  const place = plain(session.host ?? '', 60);
  replace(app,
    h('a', { class: 'skip', href: '#main', onclick: (event) => { event.preventDefault(); main.focus(); } }, t('skip')),
    h('header', { class: 'top' },
      h('a', { class: 'brand', href: hashOf(pages[0][0]), title: plain(session.name ?? '', 300) },
        h('span', { class: 'brand-name' }, session.program), place && h('span', { class: 'brand-host' }, place),
        session.role === 'reader' && h('span', { class: 'brand-role', title: t('role.reader.why') }, t('role.reader'))),
      menu, panel),
    lost, noticePlace(), main);

  let timer = 0;
  const ends = [
    watch((live) => {
      setText(running, String(live.runs.length));
      running.hidden = live.runs.length === 0;
      setAttr(running, 'aria-label', t('live.running', { n: live.runs.length }));
    }),
    watchState((state) => {
      clearTimeout(timer);
      if (state !== 'lost') { lost.hidden = true; return; }
      timer = setTimeout(() => { setText(lost, t('live.lost')); lost.hidden = false; }, LOST_AFTER_MS);
    }),
  ];
  return {
    main,
    current: (id) => links.forEach((link, key) => setAttr(link, 'aria-current', key === id ? 'page' : null)),
    close: () => { clearTimeout(timer); ends.forEach((end) => end()); },
  };
}
