// Builds DOM without ever parsing text as HTML: every string becomes a text node or an attribute's value.

const SVG = 'http://www.w3.org/2000/svg';

/**
 * h('p', {class: 'x', onclick: f, 'data-test': 'y'}, 'text', node, [more])
 * null, undefined and false are left out, true is an empty attribute; `vars` sets custom properties (CSSOM).
 */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') node.addEventListener(key.slice(2), value);
    else if (key === 'vars') for (const [name, v] of Object.entries(value)) node.style.setProperty(name, v);
    else if (key === 'value' || key === 'checked' || key === 'selected' || key === 'indeterminate') node[key] = value;
    else if (key === 'style' || key === 'innerHTML') throw new Error(`${key} is not set here`);
    else node.setAttribute(key, value === true ? '' : value);
  }
  add(node, children);
  return node;
}

/** Appends what h() takes as children. */
export function add(node, children) {
  for (const child of [children].flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
}

/** Everything in `node` gives way to `children`. */
export function replace(node, ...children) {
  node.replaceChildren();
  add(node, children);
}

/** Sets a text only if it differs: an untouched node costs no layout. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets or removes an attribute only if it differs. */
export function setAttr(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else {
    const text = value === true ? '' : String(value);
    if (node.getAttribute(name) !== text) node.setAttribute(name, text);
  }
}

/**
 * Patches a list in place: nodes of keys that stay are kept (and so are focus and scroll), moved only where the order
 * changed. `create(item)` gives {el, update?(item)}; `known` is a Map that the caller keeps.
 */
export function patchList(parent, known, items, keyOf, create) {
  const seen = new Set();
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    if (seen.has(key)) continue;
    seen.add(key);
    let part = known.get(key);
    if (!part) known.set(key, (part = create(item)));
    part.update?.(item);
    if (part.el === at) at = at.nextElementSibling;
    else parent.insertBefore(part.el, at);
  }
  for (const [key, part] of known) {
    if (seen.has(key)) continue;
    part.el.remove();
    known.delete(key);
  }
}

/** Calls `f` once, `ms` after the last call. */
export function later(ms, f) {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => f(...args), ms);
  };
}

let ids = 0;
/** An id that is used nowhere else on the page. */
export const freshId = (stem) => `${stem}-${++ids}`;
