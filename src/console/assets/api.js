// The one door to the server. Errors become ApiError with the server's sentence; a 401 is told to whoever listens.

let csrf = null;
let onSignIn = () => {};

/** What the session answered: its token goes with every change. */
export function useSession(session) { csrf = session?.csrf ?? null; }
/** Called with the body's `password` whenever there is no session (any more). */
export function whenSignedOut(f) { onSignIn = f; }

/** An answer other than 2xx, or none at all (status 0). */
export class ApiError extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? '');
    this.status = status;
    this.code = body?.error?.code ?? (status === 0 ? 'no_answer' : 'failed');
    this.exitCode = body?.error?.exit_code ?? null;
    this.password = body?.password === true;
  }
}

/** The answer as it is: for previews. */
export async function raw(method, path, { body, signal } = {}) {
  const headers = {};
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (method !== 'GET' && csrf) headers['X-CSRF-Token'] = csrf;
  let answer;
  try {
    answer = await fetch(`/api/v1/${path}`, {
      method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body), credentials: 'same-origin', cache: 'no-store',
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, null);
  }
  if (answer.ok) return answer;
  const error = new ApiError(answer.status, await answer.json().catch(() => null));
  if (answer.status === 401) onSignIn(error.password);
  throw error;
}

async function json(method, path, options) {
  const answer = await raw(method, path, options);
  const text = await answer.text();
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    throw new ApiError(answer.status, null);
  }
}

export const get = (path, signal) => json('GET', path, { signal });
export const post = (path, body = {}) => json('POST', path, { body });
export const put = (path, body = {}) => json('PUT', path, { body });
export const patch = (path, body = {}) => json('PATCH', path, { body });
export const del = (path) => json('DELETE', path);

/** Below a copy: `copies/NODE/USER/what?…`. `copy` is its ref ("192.168.1.20/ana", "-/-"); a value {ref} goes as it is. */
export function copyPath(copy, what, query = {}) {
  const parts = [];
  for (const [key, value] of Object.entries(query)) {
    if (value === null || value === undefined) continue;
    parts.push(`${key}=${typeof value === 'object' ? value.ref : encodeURIComponent(value)}`);
  }
  return `copies/${copy}/${what}${parts.length ? `?${parts.join('&')}` : ''}`;
}

/** The same as an address for a link. */
export const copyUrl = (copy, what, query) => `/api/v1/${copyPath(copy, what, query)}`;
