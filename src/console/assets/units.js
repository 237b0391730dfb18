// Numbers in a person's units. Sizes are decimal: 1 kB is 1000 bytes, as disks are sold and networks are measured.

import { h, setText } from './dom.js';
import { locale, t } from './i18n.js';

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB'];
const UNKNOWN = '–';
// The server's clock less this machine's, in seconds: ages are the server's.
let skew = 0;

/** Tells what the server's clock says. */
export function serverTime(secs) { skew = secs - Date.now() / 1000; }
/** Now, on the server's clock. */
export const now = () => Date.now() / 1000 + skew;

const formats = new Map();
/** An Intl formatter, made once for each language. */
function format(kind, options) {
  const key = `${locale()} ${kind.name} ${JSON.stringify(options)}`;
  if (!formats.has(key)) formats.set(key, new kind(locale(), options));
  return formats.get(key);
}

/** 12 345 */
export function count(n) {
  return n === null || n === undefined ? UNKNOWN : format(Intl.NumberFormat, { useGrouping: 'always' }).format(n);
}

/** 1.3 GB */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return UNKNOWN;
  let value = Math.abs(bytes);
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) { value /= 1000; unit++; }
  const digits = unit > 0 && value < 9.95 ? 1 : 0;
  const text = format(Intl.NumberFormat, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
  return `${text}\u00a0${UNITS[unit]}`;
}

/** With all its bytes, for a title. */
export const exactSize = (bytes) => (bytes === null || bytes === undefined ? '' : t('unit.bytes', { n: bytes, nText: count(bytes) }));

/** 105 MB/s */
export const rate = (bytesPerSec) => (bytesPerSec ? `${size(bytesPerSec)}/s` : UNKNOWN);

/** 43 %; not 100 before all is done. */
export const percent = (part) => format(Intl.NumberFormat, { style: 'percent', maximumFractionDigits: 0 }).format(Math.floor(Math.min(1, Math.max(0, part)) * 100 + 1e-9) / 100);

/** 3 h 20 min: two units at most. */
export function span(secs) {
  if (secs === null || secs === undefined) return UNKNOWN;
  const left = Math.max(0, Math.round(secs));
  const parts = [[86400, 'unit.d'], [3600, 'unit.h'], [60, 'unit.min'], [1, 'unit.s']];
  const first = parts.findIndex(([of]) => left >= of);
  if (first < 0) return t('unit.s', { n: 0 });
  const [big, bigKey] = parts[first];
  const text = t(bigKey, { n: Math.floor(left / big) });
  const next = parts[first + 1];
  const rest = next ? Math.floor((left % big) / next[0]) : 0;
  return rest && first < 3 ? `${text} ${t(next[1], { n: rest })}` : text;
}

/** In whole units, for settings: 30 days. */
export function longSpan(secs) {
  for (const [of, key] of [[86400, 'unit.days'], [3600, 'unit.hours'], [60, 'unit.minutes']]) {
    if (secs && secs % of === 0) return t(key, { n: secs / of, nText: count(secs / of) });
  }
  return t('unit.seconds', { n: secs, nText: count(secs) });
}

/** 3 hours ago */
export function ago(secs) {
  const past = now() - secs;
  const steps = [[60, 1, 'second'], [3600, 60, 'minute'], [86400, 3600, 'hour'], [86400 * 30, 86400, 'day'],
    [86400 * 365, 86400 * 30, 'month'], [Infinity, 86400 * 365, 'year']];
  const size = Math.abs(past);
  if (size < 10) return t('time.now');
  const [, unit, name] = steps.find(([under]) => size < under);
  return format(Intl.RelativeTimeFormat, { numeric: 'always' }).format(-Math.sign(past) * Math.floor(size / unit), name);
}

// A file may claim any time; what no calendar holds is shown as it came.
const isDate = (secs) => Math.abs(secs) <= 8.64e12;
const dated = (secs, options) => (isDate(secs) ? format(Intl.DateTimeFormat, options).format(secs * 1000) : `@${secs}`);

/** Monday, 30 November 2026 at 03:00:12 */
export const moment = (secs) => dated(secs, { dateStyle: 'full', timeStyle: 'medium' });
/** 30 Nov 2026, 03:00 */
export const shortMoment = (secs) => dated(secs, { dateStyle: 'medium', timeStyle: 'short' });

/** A moment as "3 hours ago", with the exact one as title; refreshed by itself. */
export function when(secs, shown = ago) {
  if (secs === null || secs === undefined) return h('span', { class: 'muted' }, t('time.never'));
  if (!isDate(secs)) return h('span', null, `@${secs}`);
  const node = h('time', { datetime: new Date(secs * 1000).toISOString(), title: moment(secs) }, shown(secs));
  if (shown === ago) node.dataset.secs = secs;
  return node;
}

/** Size with all its bytes as title. */
export const sized = (bytes) => h('span', { class: 'num', title: exactSize(bytes) }, size(bytes));

setInterval(() => {
  for (const node of document.querySelectorAll('time[data-secs]')) setText(node, ago(Number(node.dataset.secs)));
}, 15_000);
