// How a copy, a run or a destination is: a word, a colour and a drawing, so that none of them has to be seen alone.

import { h, setAttr, setText, replace } from './dom.js';
import { t, tOr } from './i18n.js';
import { icon } from './icons.js';
import { plain, show } from './names.js';

// From the worst to the best: the order in which the overview sorts.
const STATES = {
  damaged: ['bad', 'warn'], failing: ['bad', 'cross'], incomplete: ['warn', 'part'], late: ['warn', 'clock'],
  unverified: ['info', 'question'], empty: ['plain', 'ring'], good: ['good', 'check'],
};
export const STATE_ORDER = Object.keys(STATES);

/** 0 for the worst. */
export const badness = (state) => { const at = STATE_ORDER.indexOf(state); return at < 0 ? 0 : at; };

/** A word in a colour with a drawing. */
export function pill(tone, iconName, words, test) {
  return h('span', { class: `pill ${tone}`, 'data-test': test }, iconName && icon(iconName), h('span', null, words));
}

/** A copy's state. */
export function statePill(state) {
  const [tone, name] = STATES[state] ?? ['plain', 'question'];
  const node = pill(tone, name, tOr('state', state), 'state');
  node.dataset.state = state;
  node.title = tOr('state.why', state);
  return node;
}

/** Tone, drawing and words of how a run ended, by the command line's exit code. */
export function endOf(exitCode) {
  if (exitCode === 0) return ['good', 'check', t('exit.0')];
  if (exitCode === 3 || exitCode === 15) return ['warn', 'part', tOr('exit', exitCode)];
  if (exitCode === 130) return ['plain', 'stop', t('exit.130')];
  return ['bad', 'cross', tOr('exit', exitCode ?? 1)];
}

/** The same as a pill. */
export function endPill(exitCode) {
  const node = pill(...endOf(exitCode), 'end');
  node.dataset.exit = exitCode;
  return node;
}

const PHASE_TONE = { waiting: 'warn', committing: 'good' };
/** A run's phase, patched in place. */
export function phasePill() {
  const words = h('span');
  const node = h('span', { class: 'pill info', 'data-test': 'phase' }, words);
  return {
    el: node,
    set(phase) {
      setText(words, tOr('phase', phase));
      setAttr(node, 'class', `pill ${PHASE_TONE[phase] ?? 'info'}`);
      setAttr(node, 'data-phase', phase);
    },
  };
}

/** "attic up to date", "cellar 3 behind", as small chips. */
export function destinationChips(destinations) {
  if (!destinations?.length) return h('span', { class: 'muted' }, '–');
  return h('span', { class: 'chips' }, destinations.map((d) => {
    const words = d.behind ? t('dest.behind', { n: d.behind }) : t('dest.level');
    return h('span', { class: `chip ${d.behind ? 'warn' : 'good'}`, title: `${plain(d.name, 100)}: ${words}` },
      icon(d.behind ? 'clock' : 'check'), show(d.name, 60), d.behind ? h('span', { class: 'num' }, `−${d.behind}`) : null,
      h('span', { class: 'unseen' }, ` ${words}`));
  }));
}

/** Replaces a pill only if what it says has changed. */
export function swap(cell, key, make) {
  if (cell.dataset.key === String(key)) return;
  cell.dataset.key = String(key);
  replace(cell, make());
}
