// Back in time: a slider over the snapshots there are (arrow keys go one by one, Page Up and Down ten), with the date in words, and a
// mark for each snapshot above it at its place in the row.

import { h, later, replace, s, setText } from './dom.js';
import { t } from './i18n.js';
import { iconButton } from './controls.js';
import { ago, count, moment, shortMoment, size } from './units.js';

const MARKS_MAX = 240;
const SETTLE_MS = 180;

/** Calls onpick(snapshot) once the hand rests. Gives {el, set(snapshots, number)}. */
export function timeline(onpick) {
  let list = [];
  const input = h('input', { type: 'range', min: 0, max: 0, step: 1, 'aria-label': t('time.slider'), 'data-test': 'slider' });
  const marks = s('svg', { class: 'marks', 'aria-hidden': 'true', preserveAspectRatio: 'none', viewBox: '0 0 1000 10' });
  const date = h('strong', { 'data-test': 'snapshot-date' });
  const age = h('span', { class: 'muted' });
  const words = h('span', { class: 'muted snapshot-facts' });
  const older = iconButton('left', t('time.older'), () => step(-1), { test: 'older' });
  const newer = iconButton('right', t('time.newer'), () => step(1), { test: 'newer' });
  const newest = h('button', { type: 'button', class: 'quiet', 'data-test': 'newest', onclick: () => to(list.length - 1) }, t('time.newest'));
  const el = h('div', { class: 'timeline', role: 'group', 'aria-label': t('time.travel') },
    older, h('div', { class: 'slide' }, marks, input), newer,
    h('div', { class: 'timeline-words' }, date, age, words), newest);

  const settle = later(SETTLE_MS, () => onpick(list[Number(input.value)]));
  input.addEventListener('input', () => { tell(); settle(); });
  input.addEventListener('keydown', (event) => {
    const by = { PageUp: 10, PageDown: -10 }[event.key];
    if (!by) return;
    event.preventDefault();
    to(Number(input.value) + by);
  });

  function to(at) {
    input.value = Math.min(list.length - 1, Math.max(0, at));
    tell();
    settle();
  }
  const step = (by) => to(Number(input.value) + by);

  function tell() {
    const at = Number(input.value);
    const snapshot = list[at];
    if (!snapshot) return;
    setText(date, shortMoment(snapshot.time_secs));
    date.title = moment(snapshot.time_secs);
    setText(age, ago(snapshot.time_secs));
    replace(words, t('snapshot.n', { n: snapshot.number }), ' · ', t('files', { n: snapshot.files, nText: count(snapshot.files) }), ', ', size(snapshot.bytes),
      snapshot.complete ? null : [' · ', h('span', { class: 'warn-text' }, t('snapshot.incomplete', { n: snapshot.errors, nText: count(snapshot.errors) }))]);
    input.setAttribute('aria-valuetext', `${moment(snapshot.time_secs)}, ${t('snapshot.of', { n: at + 1, of: list.length })}`);
    // At an end the buttons do nothing; they stay in the order of the Tab key.
    older.setAttribute('aria-disabled', String(at === 0));
    newer.setAttribute('aria-disabled', String(at === list.length - 1));
    newest.hidden = at === list.length - 1;
    marks.querySelector('.here')?.classList.remove('here');
    marks.querySelector(`[data-at="${at}"]`)?.classList.add('here');
  }

  function draw() {
    const stride = Math.ceil(list.length / MARKS_MAX);
    replace(marks, list.map((snapshot, at) => (at % stride && snapshot.complete && at !== list.length - 1 ? null
      : s('rect', { 'data-at': at, class: snapshot.complete ? '' : 'part', x: (list.length > 1 ? (at / (list.length - 1)) * 1000 : 500) - 1, y: 2, width: 2, height: 8 }))));
  }

  return {
    el,
    set(snapshots, number) {
      const changed = snapshots.length !== list.length || snapshots.at(-1)?.number !== list.at(-1)?.number || snapshots[0]?.number !== list[0]?.number;
      list = snapshots;
      el.hidden = list.length === 0;
      input.max = Math.max(0, list.length - 1);
      if (changed) draw();
      // Without a number the newest; a number that is no snapshot of this root means the last one before it.
      let at = list.length - 1;
      if (number !== null) { at = list.findLastIndex((x) => x.number <= number); if (at < 0) at = 0; }
      input.value = at;
      tell();
    },
  };
}
