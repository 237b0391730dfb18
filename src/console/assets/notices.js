// What has to be told beside a page: errors, which stay until they are dismissed, and short confirmations, which do not.

import { h, replace } from './dom.js';
import { t } from './i18n.js';
import { icon } from './icons.js';
import { plain } from './names.js';

const NOTICES_MAX = 5;
const alerts = h('div', { class: 'notices', role: 'alert' });
const notes = h('div', { class: 'notices', role: 'status' });

const place = h('div', { class: 'notice-place' }, alerts, notes);

/** Where they stand: made once, kept while pages change. */
export const noticePlace = () => place;

/** Over an open dialog all else is out of reach, so errors stand inside the topmost one; `except` is one that closes. */
export function raiseNotices(except = null) {
  const host = [...document.querySelectorAll('dialog[open]')].filter((d) => d !== except).at(-1) ?? place;
  if (alerts.parentNode === host) return;
  host.append(alerts);
  if (host === place) place.append(notes);
}

/** What went wrong, in words: a title in the reader's language, and the server's own sentence. */
export function explain(error) {
  const code = error.code ?? 'failed';
  const known = ['usage', 'sign_in', 'not_allowed', 'not_found', 'locked', 'too_large', 'too_many', 'failed', 'unreachable', 'no_space', 'no_answer'];
  const title = t(`error.${known.includes(code) ? code : 'failed'}`);
  return { title, message: error.message || t(code === 'no_answer' ? 'error.no_answer.do' : 'error.no_words') };
}

function notice(list, kind, title, message) {
  const box = h('div', { class: `notice ${kind}`, 'data-test': `notice-${kind}` },
    icon(kind === 'bad' ? 'warn' : 'check'),
    h('div', { class: 'notice-words' }, h('strong', null, title), message && h('p', null, message)),
    h('button', { class: 'quiet', type: 'button', title: t('notice.dismiss'), 'aria-label': t('notice.dismiss'), onclick: () => box.remove() }, icon('close')));
  raiseNotices();
  list.prepend(box);
  if (list.closest('dialog')) box.scrollIntoView({ block: 'nearest' });
  while (list.children.length > NOTICES_MAX) list.lastElementChild.remove();
  return box;
}

/** An error, until it is dismissed. `doing` says what was tried. A 401 is no error: the sign-in page comes. */
export function notifyError(error, doing = '') {
  if (error.name === 'AbortError' || error.status === 401) return;
  const { title, message } = error.code ? explain(error) : { title: t('error.failed'), message: String(error.message ?? error) };
  notice(alerts, 'bad', doing ? `${doing}: ${title}` : title, plain(message, 2000));
}

/** Something is done. */
export function notify(text) {
  const box = notice(notes, 'good', text);
  setTimeout(() => box.remove(), 8000);
}

/** Nothing of before. */
export function clearNotices() { replace(alerts); replace(notes); }

/** In the place of what could not be had. */
export function errorBox(error, retry) {
  const { title, message } = explain(error);
  return h('div', { class: 'blank bad', role: 'alert', 'data-test': 'page-error' },
    icon('warn', 'big'), h('h2', null, title), h('p', null, plain(message, 2000)),
    retry && h('button', { type: 'button', onclick: retry }, t('again')));
}

/** Nothing there, and what to do about it. */
export const emptyBox = (iconName, title, ...words) => h('div', { class: 'blank', 'data-test': 'empty' },
  icon(iconName, 'big'), h('h2', null, title), words.filter(Boolean).map((w) => (w instanceof Node ? w : h('p', null, w))));

/** While it is on its way. Silent for a moment: what comes at once should not flicker. */
export const loadingBox = () => h('div', { class: 'blank loading', role: 'status' }, h('span', { class: 'spinner' }), t('loading'));
