// The beginning: who am I here, which pages are there, and which of them does the address name.

import { ApiError, del, get, useSession, whenSignedOut } from './api.js';
import { add, h, replace } from './dom.js';
import { pickLanguage, t } from './i18n.js';
import { start, stop } from './live.js';
import { clearNotices, errorBox, loadingBox, notifyError } from './notices.js';
import { hashOf, readRoute } from './router.js';
import { buildShell } from './shell.js';
import { openSignIn } from './page-signin.js';
import overview from './page-overview.js';
import live from './page-live.js';
import browse from './page-browse.js';
import changes from './page-changes.js';
import destinations from './page-destinations.js';
import activity from './page-activity.js';
import settings from './page-settings.js';
import people from './page-people.js';
import begin from './page-begin.js';

// Which pages a program has: [id, page, the page under which it stands in the menu, or null for none of its own].
const PAGES = {
  rbbackupd: [['overview', overview], ['live', live], ['browse', browse], ['destinations', destinations], ['activity', activity],
    ['settings', settings], ['changes', changes, 'browse'], ['people', people, 'settings']],
  rbbackup: [['begin', begin], ['live', live], ['browse', browse], ['activity', activity], ['changes', changes, 'browse']],
};

const app = document.getElementById('app');
let session = null;
let shell = null;
let open = null;

function leave() {
  open?.handle?.close?.();
  open = null;
  shell?.close();
  shell = null;
}

function signIn(password) {
  if (!session && app.querySelector('[data-test=sign-in-page]')) return;
  leave();
  stop();
  clearNotices();
  session = null;
  useSession(null);
  const show = () => openSignIn(app, { password, opened: boot, changed: show });
  show();
}

async function boot() {
  leave();
  replace(app, h('main', { id: 'main' }, loadingBox()));
  try {
    session = await get('session');
  } catch (error) {
    // A 401 has brought the sign-in page already.
    if (!(error instanceof ApiError && error.status === 401)) replace(app, h('main', { id: 'main' }, errorBox(error, boot)));
    return;
  }
  useSession(session);
  build();
  start();
}

function pages() { return PAGES[session.program] ?? PAGES.rbbackupd; }

/** Builds all that has words; also after another language was chosen. */
function build() {
  leave();
  shell = buildShell(app, {
    session,
    pages: pages().filter(([, , under]) => !under).map(([id, page]) => [id, page.title(session)]),
    changed: build,
    signOut: async () => {
      try {
        await del('session');
        session = null;
        stop();
        boot();
      } catch (error) { notifyError(error, t('sign_out')); }
    },
  });
  route();
}

function route() {
  if (!session) return;
  const to = readRoute();
  const [id, page, under] = pages().find(([name]) => name === to.page) ?? pages()[0];
  if (to.page !== id) { history.replaceState(null, '', hashOf(id)); to.page = id; }
  shell.current(under ?? id);
  if (open?.id === id && open.handle?.route) { open.handle.route(to); return; }
  const first = open === null;
  open?.handle?.close?.();
  replace(shell.main);
  shell.main.className = `page-${id}`;
  document.title = `${page.title(session)} · ${session.host || session.program}`;
  open = { id, handle: null };
  const context = { session, route: to, admin: session.role === 'admin', client: session.program === 'rbbackup' };
  const root = h('div', { class: 'page' });
  add(shell.main, [root]);
  try {
    open.handle = page.open(root, context) ?? {};
  } catch (error) {
    replace(root, errorBox(error, build));
    throw error;
  }
  if (!first) { shell.main.focus({ preventScroll: true }); window.scrollTo(0, 0); }
}

pickLanguage();
whenSignedOut(signIn);
window.addEventListener('hashchange', route);
boot();
