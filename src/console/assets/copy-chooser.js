// Which copy to browse: all there are, as a list to pick from.

import { get } from './api.js';
import { h, replace } from './dom.js';
import { t } from './i18n.js';
import { show } from './names.js';
import { emptyBox, errorBox, loadingBox } from './notices.js';
import { hashOf } from './router.js';
import { compare } from './table.js';
import { count, size, when } from './units.js';

/** The list, filled when the answer is there. */
export function copyChooser() {
  const place = h('div', null, loadingBox());
  const load = () => get('overview').then((data) => {
    const copies = data.copies.filter((c) => c.snapshots > 0).sort((a, b) => compare(`${a.user} ${a.node}`, `${b.user} ${b.node}`));
    if (!copies.length) { replace(place, emptyBox('folder', t('browse.no_copies'), t('browse.no_copies.do'))); return; }
    replace(place, h('h2', { class: 'section-title' }, t('browse.choose')), h('ul', { class: 'choices' }, copies.map((c) => h('li', null,
      h('a', { href: hashOf('browse', [c.ref], c.roots.length === 1 ? { path: c.roots[0].ref } : {}), 'data-test': 'choice' },
        h('span', { class: 'choice-name' }, show(c.user, 80), h('span', { class: 'muted' }, ' / ', show(c.node, 80))),
        h('span', { class: 'muted choice-facts' }, `${t('files', { n: c.files, nText: count(c.files) })}, ${size(c.bytes)}, ${t('snapshots', { n: c.snapshots, nText: count(c.snapshots) })}`),
        h('span', { class: 'muted' }, when(c.last_good_secs)))))));
  }).catch((error) => { if (error.status !== 401) replace(place, errorBox(error, () => { replace(place, loadingBox()); load(); })); });
  load();
  return place;
}
