// The first part of the client's form: which server, on which port, under which name; whether it is there, and joining it where
// one has to be invited.

import { post } from './api.js';
import { busy, button, field } from './controls.js';
import { h, replace } from './dom.js';
import { t } from './i18n.js';
import { icon } from './icons.js';
import { plain, show } from './names.js';
import { explain, notify } from './notices.js';
import { destinationChips } from './states.js';

const PORT = 8730;

/** "nas:8730", "[::1]:8730", "nas" as [host, port]. */
export function splitServer(server) {
  const found = /^(\[.*\]|[^:]*)(?::(\d+))?$/.exec(server ?? '');
  return found ? [found[1], Number(found[2] ?? PORT)] : [server ?? '', PORT];
}

/** {el, value() → {server, user}, set(profile), check()}; `onchange` hears of every change. */
export function serverPart(client, onchange) {
  const host = h('input', { type: 'text', required: true, class: 'mono', spellcheck: 'false', autocomplete: 'off', placeholder: 'backup.lan', 'data-test': 'server' });
  const port = h('input', { type: 'number', min: 1, max: 65535, step: 1, required: true, 'data-test': 'port' });
  const user = h('input', { type: 'text', maxlength: 255, spellcheck: 'false', autocomplete: 'off', placeholder: client.user, 'data-test': 'user' });
  const answer = h('div', { class: 'check-answer', 'aria-live': 'polite', 'data-test': 'check-answer' });
  const ask = button(t('check'), () => check(), { iconName: 'server', test: 'check' });
  const server = () => {
    const name = host.value.trim();
    const whole = name.includes(':') && !name.startsWith('[') ? `[${name}]` : name;
    return whole && `${whole}:${port.value || PORT}`;
  };
  const el = h('div', null, h('div', { class: 'server-line' }, field(t('server.address'), host, { hint: t('server.address.hint') }), field(t('server.port'), port), field(t('server.user'), user, { hint: t('server.user.hint') })),
    h('div', { class: 'actions' }, ask), answer);
  el.addEventListener('input', (event) => { if (event.target === host || event.target === port) replace(answer); onchange(); });

  async function check() {
    if (!host.reportValidity() || !port.reportValidity()) return;
    await busy(ask, '', async () => {
      try {
        const found = await post('check', { server: server(), user: user.value.trim() || null });
        replace(answer, h('div', { class: 'inline-good' }, icon('check'), h('div', null,
          h('strong', null, t('check.good', { software: plain(found.software, 80) })),
          h('p', null, t('check.who'), ' ', h('strong', null, show(`${found.user} / ${found.node}`, 120)), `. ${t('check.roots', { n: found.roots })}`),
          h('p', null, t('nav.destinations'), ': ', found.destinations.length ? destinationChips(found.destinations) : t('check.no_destinations')),
          found.daemon_key && h('p', { class: 'muted' }, t('check.key'), ' ', h('span', { class: 'mono break' }, found.daemon_key)))));
      } catch (error) {
        if (error.status === 401) return;
        const { title, message } = explain(error);
        replace(answer, h('div', { class: 'inline-error' }, icon('warn'), h('div', null, h('strong', null, title), h('p', { lang: 'en' }, plain(message, 1000)), error.status === 403 && join())));
      }
    });
  }

  /** Where one has to be invited. */
  function join() {
    const token = h('input', { type: 'text', required: true, class: 'mono', spellcheck: 'false', autocomplete: 'off', 'data-test': 'join-token' });
    const send = button(t('join'), null, { type: 'submit', className: 'primary', test: 'join' });
    return h('form', { class: 'find-form', onsubmit: async (event) => {
      event.preventDefault();
      await busy(send, t('join'), async () => {
        const { node, user: name } = await post('join', { server: server(), token: token.value.trim() });
        notify(t('join.done', { who: plain(`${name} / ${node}`, 120) }));
        check();
      });
    } }, field(t('join.token'), token, { hint: t('join.hint') }), send);
  }

  return {
    el,
    value: () => ({ server: server(), user: user.value.trim() || null }),
    set(profile) { [host.value, port.value] = splitServer(profile.server); user.value = profile.user === client.user ? '' : profile.user ?? ''; replace(answer); },
    check: () => host.reportValidity() && port.reportValidity(),
  };
}
