// One run: its phase, the file under way and the whole with a bar each, rate and time left, a bar for every destination, and the
// files as they are done. Built once, then only texts and transforms change.

import { del } from './api.js';
import { amount, bar, partOf } from './bars.js';
import { busy, button } from './controls.js';
import { confirmDialog } from './dialog.js';
import { freshId, h, patchList, setAttr, setText } from './dom.js';
import { t, tOr } from './i18n.js';
import { icon } from './icons.js';
import { cut, plain, show } from './names.js';
import { notify } from './notices.js';
import { phasePill, pill } from './states.js';
import { count, now, percent, rate, size, span } from './units.js';

/** Texts of a path that changes often: two text nodes, set only when they differ. */
function pathLine(className) {
  const dir = h('span', { class: 'path-dir' });
  const name = h('bdi', { class: 'path-name' });
  let held = null;
  return {
    el: h('span', { class: `path ${className}` }, dir, '/', name),
    set(path) {
      if (path === held) return;
      held = path;
      const at = path.lastIndexOf('/');
      const odd = plain(path) !== path;
      setAttr(name.parentNode, 'title', plain(path, 1000));
      if (odd || path.length > 300) {
        dir.replaceChildren(at > 0 ? show(path.slice(0, at), 150) : '');
        name.replaceChildren(show(path.slice(at + 1), 150));
      } else {
        setText(dir, at > 0 ? path.slice(0, at) : '');
        setText(name, path.slice(at + 1));
      }
    },
  };
}

/** The files that were done last: as many lines as arrive, reused from event to event. */
function fileList(label) {
  const list = h('ol', { class: 'file-list', 'aria-label': label, tabindex: 0, 'data-test': 'file-list' });
  const lines = [];
  return {
    el: list,
    set(recent) {
      while (lines.length < recent.length) {
        const path = pathLine('');
        const bytes = h('span', { class: 'num muted' });
        const el = h('li', null, path.el, bytes);
        lines.push({ el, path, bytes });
        list.append(el);
      }
      lines.forEach((line, at) => {
        line.el.hidden = at >= recent.length;
        if (line.el.hidden) return;
        line.path.set(recent[at].path);
        setText(line.bytes, size(recent[at].bytes));
      });
    },
  };
}

function destinationLine(first) {
  const line = bar(t('live.bar.destination', { name: plain(first.name, 80) }), { test: 'bar-destination', thin: true });
  const words = h('span', { class: 'num muted' });
  const state = h('span');
  let held = null;
  const tones = { done: ['good', 'check'], failed: ['bad', 'cross'], running: ['info', null] };
  return {
    el: h('li', { 'data-test': 'destination' }, h('span', { class: 'destination-name' }, show(first.name, 60)), line.el, words, state),
    update(d) {
      const part = d.state === 'done' ? 1 : d.state === 'failed' ? partOf(d.bytes_done, d.bytes_total) ?? 0 : partOf(d.bytes_done, d.bytes_total);
      line.set(part);
      line.el.classList.toggle('bad', d.state === 'failed');
      setText(words, d.bytes_total === null ? size(d.bytes_done) : percent(part));
      if (held !== d.state) {
        held = d.state;
        state.replaceChildren(pill(...(tones[d.state] ?? ['plain', null]), tOr('live.dest', d.state)));
      }
    },
  };
}

/** Who is waited for: dots for those who are there and those who are not, and the same in words. */
function gatheringLine() {
  const dots = h('span', { class: 'dots', 'aria-hidden': 'true' });
  const words = h('span');
  let held = null;
  return {
    el: h('p', { class: 'gathering', hidden: true, 'data-test': 'gathering' }, dots, words),
    set(gathering) {
      const key = gathering && `${gathering.connected}/${gathering.wanted}`;
      if (key === held) return;
      held = key;
      this.el.hidden = !gathering;
      if (!gathering) return;
      const shown = Math.min(gathering.wanted, 12);
      dots.replaceChildren(...Array.from({ length: shown }, (_, i) => h('span', { class: i < gathering.connected ? 'dot there' : 'dot' })));
      setText(words, t('live.gathering', { n: gathering.wanted, connected: gathering.connected }));
    },
  };
}

/** The card of a run: {el, update(run)}. */
export function runCard(first, { client, admin, folded }) {
  const phase = phasePill();
  const note = h('p', { class: 'run-note', hidden: true });
  const gathering = gatheringLine();
  const filePath = pathLine('current');
  const fileAmount = h('span', { class: 'num' });
  const fileBar = bar(t('live.bar.file'), { test: 'bar-file', thin: true });
  const fileBox = h('div', { class: 'meter-line' }, h('div', { class: 'meter-words' }, filePath.el, fileAmount), fileBar.el);
  const whole = h('span', { class: 'num strong' });
  const wholePart = h('span', { class: 'num' });
  const wholeBar = bar(t('live.bar.whole'), { test: 'bar-whole' });
  const files = h('span', { class: 'num' });
  const speed = h('span', { class: 'num', 'data-test': 'rate' });
  const left = h('span', { class: 'num', 'data-test': 'eta' });
  const elapsed = h('span', { class: 'num muted' });
  const wholeBox = h('div', { class: 'meter-line' }, h('div', { class: 'meter-words' }, whole, wholePart), wholeBar.el,
    h('div', { class: 'meter-facts' }, files, speed, left));
  const destinations = h('ul', { class: 'destinations' });
  const known = new Map();
  const destinationBox = h('div', { hidden: true }, h('h3', null, t('nav.destinations')), destinations);
  const list = fileList(t('live.files'));
  const listId = freshId('files');
  list.el.id = listId;
  const fold = h('button', { type: 'button', class: 'quiet fold', 'aria-expanded': String(!folded), 'aria-controls': listId, onclick: () => {
    list.el.hidden = !list.el.hidden;
    setAttr(fold, 'aria-expanded', String(!list.el.hidden));
  } }, icon('down'), t('live.files'));
  list.el.hidden = folded;
  const listBox = h('div', { class: 'run-files' }, fold, list.el);

  const stop = client && admin && button(t('stop'), async () => {
    if (!await confirmDialog(t('stop.ask'), t('stop.words'), t('stop'))) return;
    await busy(stop, t('stop'), async () => {
      await del(`jobs/${encodeURIComponent(first.id)}`);
      notify(t('stop.done'));
    });
  }, { iconName: 'stop', test: 'stop' });

  const title = client ? [h('span', { class: 'muted' }, tOr('kind', first.kind)), ' ', show(first.root, 300), first.kind === 'receive' && h('span', { class: 'muted' }, ' · ', show(`${first.user} / ${first.node}`, 120))]
    : [h('strong', null, show(first.user, 80)), h('span', { class: 'muted' }, ' / ', show(first.node, 80)), ' ', h('span', { class: 'run-root' }, show(first.root, 300))];
  const body = h('div', { class: 'run-body' }, h('div', { class: 'run-meters' }, wholeBox, fileBox, destinationBox), listBox);
  const el = h('article', { class: 'run', 'data-test': 'run', 'data-id': first.id },
    h('header', { class: 'run-head' }, h('h2', { title: plain(first.root) }, title), h('div', { class: 'run-side' }, elapsed, phase.el, stop)),
    note, gathering.el, body);

  return {
    el,
    update(run) {
      phase.set(run.phase);
      if (stop) stop.hidden = Boolean(run.over);
      setText(elapsed, t('live.for', { time: span(now() - run.since_secs) }));
      // A destination that waits is as it should be; "queued" is how the program says it.
      const waits = run.kind === 'receive' && run.phase === 'waiting' && !run.gathering && !/^(?!queued)./.test(run.note ?? '');
      note.hidden = !run.note && !waits;
      note.classList.toggle('muted', waits);
      if (!note.hidden) setText(note, waits ? t('live.waits') : plain(cut(run.note, 500)));
      gathering.set(run.phase === 'waiting' || run.gathering?.connected < run.gathering?.wanted ? run.gathering : null);
      fileBox.hidden = !run.file;
      if (run.file) {
        filePath.set(run.file.path);
        amount(fileAmount, run.file.done, run.file.bytes);
        fileBar.set(partOf(run.file.done, run.file.bytes), fileAmount.textContent);
      }
      const quiet = run.phase === 'waiting' && run.bytes_done === 0;
      wholeBox.hidden = quiet;
      const part = run.percent !== null && run.percent !== undefined ? run.percent / 100 : partOf(run.bytes_done, run.bytes_total);
      amount(whole, run.bytes_done, run.bytes_total);
      setText(wholePart, part === null ? t('live.total_unknown') : percent(part));
      wholeBar.set(part, `${whole.textContent}, ${wholePart.textContent}`);
      setText(files, t('files', { n: run.files_done, nText: count(run.files_done) }));
      setText(speed, run.bytes_per_sec ? rate(run.bytes_per_sec) : '');
      setText(left, run.eta_secs === null ? '' : t('live.left', { time: span(run.eta_secs) }));
      destinationBox.hidden = !run.destinations?.length;
      patchList(destinations, known, run.destinations ?? [], (d) => d.name, destinationLine);
      listBox.hidden = !run.recent?.length;
      body.hidden = quiet && fileBox.hidden && destinationBox.hidden && listBox.hidden;
      if (!list.el.hidden) list.set(run.recent ?? []);
    },
  };
}
