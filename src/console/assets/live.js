// The one stream of events. Whatever arrives, pages hear of it at most four times a second and in step with the screen: what
// came between is not even parsed. The stream is closed while the page is hidden (a browser has few connections to a host).

import { ApiError, get } from './api.js';

const EVERY_MS = 250;
const listeners = new Set();
const stateListeners = new Set();
let source = null;
let pending = null;
let last = null;
let lastMs = 0;
let timer = 0;
let state = 'idle';
let running = false;

/** Hears of what is going on; at once if it is known. Gives what ends it. */
export function watch(f) {
  listeners.add(f);
  if (last) f(last);
  return () => listeners.delete(f);
}

/** Hears of the stream itself: 'open' or 'lost'. */
export function watchState(f) {
  stateListeners.add(f);
  f(state);
  return () => stateListeners.delete(f);
}

/** Begins; until then, and after stop(), nothing is asked. */
export function start() { running = true; connect(); }
/** Ends, and forgets what it knew. */
export function stop() { running = false; disconnect(); last = pending = null; setState('idle'); }

function setState(to) {
  if (state === to) return;
  state = to;
  for (const f of stateListeners) f(to);
}

function flush() {
  timer = 0;
  requestAnimationFrame((ms) => {
    if (pending === null) return;
    lastMs = ms;
    const text = pending;
    pending = null;
    try { last = JSON.parse(text); } catch { return; }
    for (const f of listeners) f(last);
  });
}

function take(event) {
  pending = event.data;
  setState('open');
  timer ||= setTimeout(flush, Math.max(0, EVERY_MS - (performance.now() - lastMs)));
}

function connect() {
  if (!running || source || document.hidden) return;
  source = new EventSource('/api/v1/live');
  source.addEventListener('live', take);
  source.addEventListener('open', () => setState('open'));
  source.addEventListener('error', () => {
    setState('lost');
    if (source?.readyState !== EventSource.CLOSED) return;
    // Refused, which the browser does not try again: is it the session? get() tells the page if it is.
    disconnect();
    get('session').catch((error) => error).then((answer) => {
      if (!(answer instanceof ApiError && answer.status === 401)) setTimeout(connect, 4000);
    });
  });
}

function disconnect() {
  source?.close();
  source = null;
  clearTimeout(timer);
  timer = 0;
}

document.addEventListener('visibilitychange', () => (document.hidden ? disconnect() : connect()));
