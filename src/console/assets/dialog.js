// Dialogs: the browser's own <dialog>, so that focus stays inside, Escape closes and the rest is out of reach.

import { freshId, h } from './dom.js';
import { t } from './i18n.js';
import { icon } from './icons.js';
import { raiseNotices } from './notices.js';

/**
 * Opens one. `body(close)` gives its content. Resolves with what close() was given; null when it was left.
 */
export function openDialog(title, body, { wide = false, test = 'dialog' } = {}) {
  return new Promise((resolve) => {
    const id = freshId('dialog');
    let result = null;
    const box = h('dialog', { class: wide ? 'wide' : '', 'aria-labelledby': id, 'data-test': test });
    const close = (value = null) => { result = value; box.close(); };
    box.append(
      h('header', { class: 'dialog-head' }, h('h2', { id }, title),
        h('button', { type: 'button', class: 'quiet', 'aria-label': t('close'), title: t('close'), onclick: () => close() }, icon('close'))),
      h('div', { class: 'dialog-body' }, body(close)));
    box.addEventListener('close', () => { raiseNotices(box); box.remove(); resolve(result); });
    document.body.append(box);
    box.showModal();
    (box.querySelector('[autofocus]') ?? box.querySelector('.dialog-body input, .dialog-body button'))?.focus();
  });
}

/** Asks before what cannot be taken back. True when it is meant. */
export async function confirmDialog(title, words, yes, { danger = true } = {}) {
  const answer = await openDialog(title, (close) => [
    [words].flat().map((w) => h('p', null, w)),
    h('div', { class: 'actions' },
      h('button', { type: 'button', autofocus: true, onclick: () => close() }, t('cancel')),
      h('button', { type: 'button', class: danger ? 'danger' : 'primary', 'data-test': 'confirm', onclick: () => close(true) }, yes)),
  ], { test: 'confirm-dialog' });
  return answer === true;
}
