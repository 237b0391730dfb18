// A look at a file without saving it: text as text, pictures as pictures, and nothing else. The bytes become a blob of a kind that is
// named here, so nothing in them can run.

import { copyPath, raw } from './api.js';
import { h, replace } from './dom.js';
import { t } from './i18n.js';
import { showText } from './names.js';
import { explain, loadingBox } from './notices.js';

const PICTURES = ['image/png', 'image/jpeg', 'image/gif', 'image/webp'];
const LIKELY = /\.(txt|md|log|csv|json|toml|ya?ml|xml|html?|css|m?js|ts|rs|c|h|cpp|py|sh|sql|ini|conf|cfg|tex|diff|patch|png|jpe?g|gif|webp|svg)$/i;
const PICTURE_BYTES_MAX = 8 * 1024 * 1024;

/** Whether it is worth asking for without being told to. */
export const isLikely = (name, bytes) => (LIKELY.test(name) || !/\.[^/.]{1,8}$/.test(name)) && bytes <= PICTURE_BYTES_MAX;

/** Fills `place`; gives what frees it. */
export function preview(place, copy, ref, at, name) {
  const control = new AbortController();
  let address = null;
  replace(place, loadingBox());
  (async () => {
    try {
      const answer = await raw('GET', copyPath(copy, 'preview', { path: { ref }, at }), { signal: control.signal });
      const kind = (answer.headers.get('Content-Type') ?? '').split(';')[0].trim();
      if (PICTURES.includes(kind)) {
        address = URL.createObjectURL(new Blob([await answer.arrayBuffer()], { type: kind }));
        const image = h('img', { src: address, alt: t('preview.of', { name }), 'data-test': 'preview-picture' });
        image.addEventListener('error', () => replace(place, h('p', { class: 'muted' }, t('preview.broken'))));
        replace(place, image);
      } else {
        const text = await answer.text();
        replace(place, text ? h('pre', { tabindex: 0, role: 'region', 'aria-label': t('preview.of', { name }), 'data-test': 'preview-text', dir: 'auto' }, showText(text)) : h('p', { class: 'muted' }, t('preview.empty')));
      }
    } catch (error) {
      if (error.name === 'AbortError' || error.status === 401) return;
      const words = error.code === 'usage' ? t('preview.none') : error.code === 'too_large' ? t('preview.large') : explain(error).message;
      replace(place, h('p', { class: 'muted' }, words));
    }
  })();
  return () => { control.abort(); if (address) URL.revokeObjectURL(address); };
}
