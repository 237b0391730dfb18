// Where one is: the copies, the copy, its root, and folder by folder down to here.

import { h } from './dom.js';
import { t } from './i18n.js';
import { icon } from './icons.js';
import { plain, refText, show } from './names.js';
import { hashOf } from './router.js';

/**
 * `view` has copy ("node/user", encoded) and path (a ref, or null); `hrefOf(query)` makes an address in the same copy. `root` is the ref of the
 * root around it, which is one step (above it there is nothing to see); null while it is not known.
 */
export function crumbs(view, client, hrefOf, root) {
  const steps = [];
  if (!client) {
    const [node, user] = view.copy.split('/').map(refText);
    steps.push([hashOf('browse'), t('browse.copies')], [hrefOf({ path: null, at: null }), `${user} / ${node}`]);
  } else {
    steps.push([hrefOf({ path: null, at: null }), t('browse.mine')]);
  }
  if (view.path) {
    const top = root ?? view.path;
    steps.push([hrefOf({ path: top }), refText(top)]);
    let below = top === '/' ? '' : top;
    for (const part of view.path.slice(below.length).split('/').filter(Boolean)) {
      below = `${below}/${part}`;
      steps.push([hrefOf({ path: below }), refText(part)]);
    }
  }
  return h('nav', { class: 'crumbs', 'aria-label': t('browse.crumbs') }, h('ol', null, steps.map(([href, words], at) => h('li', null,
    at > 0 && icon('right'),
    h('a', { href, 'aria-current': at === steps.length - 1 ? 'page' : null, title: plain(words) }, show(words, 120))))));
}
