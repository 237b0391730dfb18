// Which language, and the words in it. en.js and es.js have the same keys.

import en from './en.js';
import es from './es.js';

const LANGUAGES = { en, es };
let current = 'en';
let plurals = new Intl.PluralRules('en');

/** The code of the language that holds. */
export const language = () => current;
/** For Intl: the browser's own variant of the language (dates as its user writes them). */
export function locale() {
  return navigator.languages?.find((l) => l.toLowerCase().startsWith(current)) ?? current;
}

/** What was chosen, else the first of the browser's languages that there is. */
export function pickLanguage() {
  let chosen = null;
  try { chosen = localStorage.getItem('language'); } catch { /* not allowed: the browser's languages decide */ }
  const wanted = [chosen, ...(navigator.languages ?? [])].map((l) => String(l ?? '').slice(0, 2).toLowerCase());
  setLanguage(wanted.find((l) => l in LANGUAGES) ?? 'en');
}

/** Takes a language; `keep` remembers it. */
export function setLanguage(code, keep = false) {
  current = code in LANGUAGES ? code : 'en';
  plurals = new Intl.PluralRules(current);
  document.documentElement.lang = current;
  if (keep) try { localStorage.setItem('language', current); } catch { /* only for this page then */ }
}

/** The words of a key. `{n}` takes a parameter; a key with one and other is chosen by the number `n`. */
export function t(key, params) {
  let words = LANGUAGES[current][key] ?? en[key];
  if (words === undefined) return key;
  if (typeof words === 'object') words = words[plurals.select(Number(params?.n ?? 0))] ?? words.other;
  if (!params) return words;
  return words.replace(/\{(\w+)\}/g, (all, name) => (name in params ? String(params[`${name}Text`] ?? params[name]) : all));
}

/** The words of a key that may not exist (a state or a phase that a newer server knows): the key's last part then. */
export function tOr(stem, value) {
  const key = `${stem}.${value}`;
  return key in en ? t(key) : String(value);
}
