// Addresses of pages: #/page/part/part?key=value. A `path` in them is a ref, so it is kept as it stands.

/** The route that the address bar names. */
export function readRoute() {
  const text = location.hash.replace(/^#\/?/, '');
  const mark = text.indexOf('?');
  const parts = (mark < 0 ? text : text.slice(0, mark)).split('/').filter(Boolean);
  const query = {};
  for (const pair of (mark < 0 ? '' : text.slice(mark + 1)).split('&')) {
    const eq = pair.indexOf('=');
    if (eq > 0) query[pair.slice(0, eq)] = pair.slice(eq + 1);
  }
  return { page: parts[0] ?? '', parts: parts.slice(1), query };
}

/** The hash of a page. `parts` and values are encoded already (refs, numbers) or need no encoding. */
export function hashOf(page, parts = [], query = {}) {
  const pairs = Object.entries(query).filter(([, v]) => v !== null && v !== undefined && v !== '');
  return `#/${[page, ...parts].join('/')}${pairs.length ? `?${pairs.map(([k, v]) => `${k}=${v}`).join('&')}` : ''}`;
}

/** Goes there; `replaced` leaves no step in the history. */
export function go(hash, replaced = false) {
  if (location.hash === hash) return;
  if (!replaced) { location.hash = hash; return; }
  history.replaceState(null, '', hash);
}
