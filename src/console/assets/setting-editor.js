// One setting as something to change: a number, a time, a size or an address, each with the unit that a person would use.

import { h, freshId } from './dom.js';
import { t, tOr } from './i18n.js';
import { button, options } from './controls.js';
import { count, longSpan, size } from './units.js';

const TIME_UNITS = [['86400', 'days'], ['3600', 'hours'], ['60', 'minutes'], ['1', 'seconds']];
export const SIZE_UNITS = [['1000000', 'MB'], ['1000000000', 'GB'], ['1000000000000', 'TB'], ['1048576', 'MiB'], ['1073741824', 'GiB'], ['1099511627776', 'TiB'], ['1', 'B']];

/** What a null means for this one. */
function nullText(setting) {
  if (setting.key === 'limits.reserve') return t('value.auto');
  return setting.kind === 'seconds' ? t('value.for_ever') : t('value.no_limit');
}

/** A size, in the unit in which it is a whole number if there is one. */
export function wholeUnit(bytes) {
  if (!bytes) return 1e9;
  for (const unit of [1099511627776, 1e12, 1073741824, 1e9, 1048576, 1e6]) if (bytes % unit === 0) return unit;
  return [1e12, 1e9, 1e6].find((unit) => bytes >= unit) ?? 1;
}

function sizeText(bytes) {
  const unit = wholeUnit(bytes);
  return bytes % unit || unit === 1 ? size(bytes) : `${count(bytes / unit)}\u00a0${SIZE_UNITS.find(([u]) => Number(u) === unit)[1]}`;
}

/** A value in words. */
export function settingText(setting, value) {
  if (value === null || value === undefined) return nullText(setting);
  if (setting.kind === 'count') return value === 0 ? t('value.off') : count(value);
  if (setting.kind === 'seconds') return value === 0 ? t('value.off') : typeof value === 'number' ? longSpan(value) : String(value);
  if (setting.kind === 'bytes') return typeof value === 'number' ? sizeText(value) : String(value);
  return String(value);
}

/** A number with a unit, and a box for "none at all". Gives {el, value(), check(), focus()}; value() is undefined where it is not valid. */
export function amountInput({ value, unit, units, noneLabel, labelId, onchange, noneChosen = value === null }) {
  // What is not touched stays to the byte, however it is rounded here.
  const shown = value === null ? '' : String(Math.round((value / unit) * 100) / 100);
  const number = h('input', { type: 'number', min: 0, step: 'any', inputmode: 'decimal', 'aria-labelledby': labelId, required: true, value: shown });
  const select = h('select', { 'aria-label': t('unit') }, options(units, String(unit)));
  const noneId = freshId('none');
  const none = noneLabel && h('input', { type: 'checkbox', id: noneId, checked: noneChosen });
  const grey = () => { number.disabled = select.disabled = Boolean(none?.checked); };
  grey();
  const el = h('div', { class: 'amount' }, number, select, none && h('span', { class: 'none-box' }, none, h('label', { for: noneId }, noneLabel)));
  el.addEventListener('input', () => { grey(); onchange?.(); });
  return {
    el,
    focus: () => number.focus(),
    check: () => number.disabled || number.reportValidity(),
    value: () => (none?.checked ? null : number.value === shown && select.value === String(unit) && value !== null ? value : number.value === '' || !number.validity.valid ? undefined : Math.round(Number(number.value) * Number(select.value))),
  };
}

/** {el, label, check(), focus()}; onchange(value) with undefined where it is as it was, {reset: true} where the console's word is taken back. */
export function settingEditor(setting, { admin, onchange }) {
  const id = freshId('setting');
  const words = tOr('setting', setting.key);
  if (!admin) return { label: h('h3', { id }, words), el: h('strong', { class: 'setting-text' }, settingText(setting, setting.value)) };
  const label = h('label', { id: `${id}-l`, for: id }, words);
  const tell = (value) => { if (back) back.setAttribute('aria-pressed', 'false'); onchange(value === setting.value ? undefined : value); };
  let part;
  if (setting.kind === 'seconds' || setting.kind === 'bytes') {
    const unit = setting.kind === 'bytes' ? wholeUnit(setting.value) : Number(TIME_UNITS.find(([u]) => setting.value && setting.value % Number(u) === 0)?.[0] ?? 86400);
    part = amountInput({
      value: setting.value, unit, labelId: label.id, noneLabel: nullText(setting),
      units: setting.kind === 'bytes' ? SIZE_UNITS : TIME_UNITS.map(([u, name]) => [u, t(`unit.name.${name}`)]),
      onchange: () => tell(part.value()),
    });
    part.el.querySelector('input').id = id;
    part.el.querySelector('input').removeAttribute('aria-labelledby');
  } else {
    const number = setting.kind === 'count';
    const input = h('input', { id, type: number ? 'number' : 'text', min: number ? 0 : null, step: number ? 1 : null, required: true, class: number ? 'short' : 'mono', spellcheck: 'false', autocomplete: 'off', value: String(setting.value ?? '') });
    input.addEventListener('input', () => tell(!input.validity.valid ? undefined : number ? Number(input.value) : input.value.trim()));
    part = { el: input, check: () => input.reportValidity(), focus: () => input.focus() };
  }
  const back = setting.from === 'console' && button(t('settings.take_back', { value: settingText(setting, setting.before) }), () => {
    back.setAttribute('aria-pressed', String(back.getAttribute('aria-pressed') !== 'true'));
    onchange(back.getAttribute('aria-pressed') === 'true' ? { reset: true } : undefined);
  }, { className: 'quiet', test: `reset-${setting.key}` });
  if (!back) return { label, ...part };
  return { ...part, label, el: h('div', { class: 'with-button' }, part.el, back) };
}
