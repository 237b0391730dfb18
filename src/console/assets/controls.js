// Form controls with their labels and hints tied to them, and buttons that cannot be pressed twice.

import { freshId, h } from './dom.js';
import { icon } from './icons.js';
import { notifyError } from './notices.js';

/** A labelled control. `control` is an input, select or textarea without an id; `beside` is a button that goes with it. */
export function field(label, control, { hint, beside, className = '' } = {}) {
  const id = freshId('f');
  control.id = id;
  const note = hint && h('p', { class: 'hint', id: `${id}-h` }, hint);
  if (note) control.setAttribute('aria-describedby', note.id);
  return h('div', { class: `field ${className}` }, h('label', { for: id }, label), beside ? h('div', { class: 'with-button' }, control, beside) : control, note);
}

/** A checkbox or radio button with its words beside it. */
export function tick(type, label, props, hint) {
  const id = freshId('f');
  return h('div', { class: 'tick' },
    h('input', { type, id, 'aria-describedby': hint ? `${id}-h` : null, ...props }),
    h('div', null, h('label', { for: id }, label), hint && h('p', { class: 'hint', id: `${id}-h` }, hint)));
}

/** A button. */
export function button(label, onclick, { iconName, className = '', test, title, type = 'button' } = {}) {
  return h('button', { type, class: className, 'data-test': test, title, onclick }, iconName && icon(iconName), label);
}

/** A button with a drawing only; its words are for those who hear it and who wait on it. */
export function iconButton(iconName, label, onclick, { className = 'quiet', test } = {}) {
  return h('button', { type: 'button', class: className, title: label, 'aria-label': label, 'data-test': test, onclick }, icon(iconName));
}

/** Runs what a button does: it is out of order meanwhile, and an error is told. Gives what `f` gave, or undefined. */
export async function busy(node, doing, f) {
  if (node.getAttribute('aria-disabled') === 'true') return undefined;
  node.setAttribute('aria-disabled', 'true');
  node.classList.add('busy');
  try {
    return await f();
  } catch (error) {
    notifyError(error, doing);
    return undefined;
  } finally {
    node.removeAttribute('aria-disabled');
    node.classList.remove('busy');
  }
}

/** Options for a select. */
export const options = (pairs, chosen) => pairs.map(([value, label]) => h('option', { value, selected: value === chosen }, label));

/** One of few, shown as a row of buttons; for preferences and views. */
export function segments(label, pairs, chosen, onpick, test) {
  const box = h('div', { class: 'segments', role: 'group', 'aria-label': label, 'data-test': test });
  for (const [value, words, title] of pairs) {
    box.append(h('button', {
      type: 'button', 'aria-pressed': String(value === chosen), title, 'aria-label': words instanceof Node ? title : null, 'data-value': value,
      onclick: (event) => {
        for (const b of box.children) b.setAttribute('aria-pressed', String(b === event.currentTarget));
        onpick(value);
      },
    }, words));
  }
  return box;
}
