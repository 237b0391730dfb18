// Asks for something again and again while the page is seen, and keeps what came last when an answer fails.

import { loadingBox, errorBox } from './notices.js';
import { replace } from './dom.js';

/**
 * `load(signal)` is asked at once and every `everyMs`; `show(data)` patches what is in `place`, which `build()` fills at the first answer.
 * Gives {now(), close()}.
 */
export function poll(place, everyMs, load, build, show) {
  let stopped = false;
  let built = false;
  let timer = 0;
  const control = new AbortController();
  replace(place, loadingBox());
  async function ask() {
    clearTimeout(timer);
    if (stopped) return;
    try {
      const data = await load(control.signal);
      if (stopped) return;
      if (!built) { replace(place, build(data)); built = true; }
      show(data);
    } catch (error) {
      if (stopped || error.name === 'AbortError' || error.status === 401) return;
      if (!error.code) throw error;
      // What was shown stays; the banner of the stream tells that the server is away.
      if (!built) { replace(place, errorBox(error, () => { replace(place, loadingBox()); ask(); })); return; }
    }
    if (everyMs && !stopped) timer = setTimeout(() => (document.hidden ? wait() : ask()), everyMs);
  }
  const wait = () => document.addEventListener('visibilitychange', ask, { once: true });
  ask();
  return { now: ask, close: () => { stopped = true; clearTimeout(timer); control.abort(); } };
}
