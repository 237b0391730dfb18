// What is going on now: every run with its bars, who is waited for, and what has just ended. Drawn by patching: an event costs a few texts.

import { h, patchList, setAttr, setText } from './dom.js';
import { t, tOr } from './i18n.js';
import { icon } from './icons.js';
import { plain, refOfPath, show } from './names.js';
import { emptyBox, loadingBox } from './notices.js';
import { hashOf } from './router.js';
import { endPill } from './states.js';
import { count, serverTime, size, when } from './units.js';
import { iconButton } from './controls.js';
import { lingering } from './linger.js';
import { watch } from './live.js';
import { runCard } from './run-card.js';

/** Errors of runs that ended, until each is dismissed: remembered for the session of the browser. */
const dismissed = {
  all: () => { try { return new Set(JSON.parse(sessionStorage.getItem('dismissed') ?? '[]')); } catch { return new Set(); } },
  add(id) { try { sessionStorage.setItem('dismissed', JSON.stringify([...this.all(), id].slice(-200))); } catch { /* it comes back then */ } },
};

/** Where a run's results are: the snapshot that it made. */
function snapshotLink(run, client) {
  if (run.snapshot === null || run.snapshot === undefined || run.kind !== 'backup') return null;
  const copy = client ? '-/-' : `${encodeURIComponent(run.node)}/${encodeURIComponent(run.user)}`;
  return h('a', { href: hashOf('browse', [copy], { path: run.ref ?? refOfPath(run.root), at: run.snapshot }) }, t('snapshot.n', { n: run.snapshot }));
}

/** One end of a run: an attempt that was cut off and the next one have the same id. */
const endOf = (run) => `${run.id} ${run.ended_secs}`;

function endedRow(run, client, ondismiss) {
  const failed = run.exit_code !== 0;
  return {
    el: h('li', { class: failed ? 'ended failed' : 'ended', 'data-test': 'ended', 'data-exit': run.exit_code },
      h('div', { class: 'ended-line' },
        endPill(run.exit_code),
        h('span', { class: 'ended-what' }, h('span', { class: 'muted' }, tOr('kind', run.kind), ' '), !client && h('strong', null, show(`${run.user} / ${run.node}`, 80)), ' ', show(run.root, 200)),
        h('span', { class: 'ended-facts muted' }, `${t('files', { n: run.files, nText: count(run.files) })}, ${size(run.bytes)}`, snapshotLink(run, client) && [' · ', snapshotLink(run, client)], ' · ', when(run.ended_secs)),
        failed && iconButton('close', t('notice.dismiss'), () => ondismiss(endOf(run)), { test: 'dismiss' })),
      run.message && h('p', { class: failed ? 'server-words' : 'server-words mild', lang: 'en' }, show(run.message, 1000)),
      failed && h('p', { class: 'hint' }, tOr('exit.do', run.exit_code)),
      problemList(run)),
  };
}

/** The paths that failed, each with its reason; open as long as there are few. */
function problemList(run) {
  if (!run.problems?.length) return null;
  const more = run.problems_total - run.problems.length;
  return h('details', { class: 'problems', open: run.problems.length <= 3, 'data-test': 'problems' },
    h('summary', null, t('problems', { n: run.problems_total, nText: count(run.problems_total) })),
    h('ul', { lang: 'en' }, run.problems.map((problem) => h('li', null, show(problem.path, 200), ': ', show(problem.message, 400)))),
    more > 0 && h('p', { class: 'muted' }, `+ ${count(more)}`));
}

/** Destinations that are connected and wait for work; in the client's console the servers that have us on their list. */
function attending(list, client) {
  if (client && !list.length) return '';
  return h('section', { class: 'attending', 'data-test': 'attending' }, h('h2', null, t(client ? 'live.listed' : 'live.attending')),
    list.length
      ? h('ul', { class: 'chips' }, list.map((d) => h('li', { class: 'chip good', title: d.address && plain(d.address) }, icon('check'), show(d.name, 60),
        h('span', { class: 'muted' }, t('since')), when(d.since_secs))))
      : h('p', { class: 'muted' }, t('live.attending.none')));
}

function open(root, { client, admin }) {
  let paused = false;
  const pause = h('button', { type: 'button', 'aria-pressed': 'false', 'data-test': 'pause', onclick: () => {
    paused = !paused;
    setAttr(pause, 'aria-pressed', String(paused));
    setText(pause.lastChild, t(paused ? 'live.resume' : 'live.pause'));
    if (!paused && last) take(last, true);
  } }, icon('pause'), h('span', null, t('live.pause')));
  const spoken = h('p', { class: 'unseen', role: 'status' });
  const runs = h('div', { class: 'runs', 'data-test': 'runs' });
  const idle = h('div', null, loadingBox());
  const guests = h('div');
  const endedList = h('ul', { class: 'ended-list' });
  const ended = h('section', { hidden: true }, h('h2', null, t('live.ended')), endedList);
  root.append(h('div', { class: 'page-head' }, h('h1', null, t('nav.live')), h('div', { class: 'head-facts' }, pause)), spoken, idle, runs, guests, ended);

  const cards = new Map();
  const rows = new Map();
  let last = null;
  let said = '';
  let guestKey = null;
  const shown = lingering(() => last && take(last));

  function take(live, forced = false) {
    last = live;
    if (paused && !forced) return;
    serverTime(live.time_ms / 1000);
    const going = shown(live.runs, live.ended);
    pause.hidden = !paused && live.runs.length === 0;
    const many = live.runs.length > 2 && !matchMedia('(min-width: 1100px)').matches;
    patchList(runs, cards, going, (r) => r.id, (r) => runCard(r, { client, admin, folded: many }));
    if (idle.dataset.idle !== String(going.length === 0)) {
      idle.dataset.idle = String(going.length === 0);
      idle.replaceChildren(...(going.length ? [] : [emptyBox('play', t('live.idle'), client ? h('p', null, h('a', { href: hashOf('begin') }, t('live.idle.begin'))) : t('live.idle.do'))]));
    }
    // Said aloud only when a run or its phase changes, never for bytes.
    const words = live.runs.map((r) => `${r.root} ${r.phase}`).join();
    if (words !== said) {
      said = words;
      setText(spoken, live.runs.map((r) => `${plain(r.root, 60)}: ${tOr('phase', r.phase)}`).slice(0, 3).join('. '));
    }
    const key = JSON.stringify(live.attending ?? []);
    if (key !== guestKey) guests.replaceChildren(attending(live.attending ?? [], client));
    guestKey = key;
    const hidden = dismissed.all();
    const list = live.ended.filter((r) => !hidden.has(endOf(r)));
    ended.hidden = list.length === 0;
    patchList(endedList, rows, list, endOf, (r) => endedRow(r, client, (end) => { dismissed.add(end); take(last, true); }));
  }

  return { close: watch((live) => take(live)) };
}

export default { title: () => t('nav.live'), open };
