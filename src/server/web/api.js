// Calls of the API, the session, and errors in words that say what to do.

const KEY = "oxmon.session";
const PAGE = 1000;
const PAGES_MAX = 10;
let skewMs = 0;

/** The server's time, since it is its clock that points are compared with. */
export const now = () => Date.now() + skewMs;

/** Who is logged in: `token`, `role`, `must_change`; null when nobody is. */
export function session() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null;
  }
}

/** Keeps a login for this tab, or forgets it. */
export function keep(login) {
  if (login) sessionStorage.setItem(KEY, JSON.stringify(login));
  else sessionStorage.removeItem(KEY);
}

/** What a person is told. `over` says that the session is. */
export class Failure extends Error {
  constructor(message, over = false) {
    super(message);
    this.over = over;
  }
}

function sentence(text) {
  const trimmed = text.trim();
  const end = /[.!?]$/.test(trimmed) ? "" : ".";
  return trimmed.charAt(0).toUpperCase() + trimmed.slice(1) + end;
}

function failure(answer, envelope, login) {
  const said = sentence(envelope?.err_msg ?? `the answer was HTTP ${answer.status}`);
  const wait = Number(answer.headers.get("Retry-After"));
  if (answer.status === 401 && login) {
    return new Failure("Your session has expired. Log in again.", true);
  }
  if (answer.status === 403) return new Failure(`${said} Ask an administrator.`);
  if (wait > 0) return new Failure(`${said} Try again in ${wait} s.`);
  if (answer.status >= 500) {
    const trace = envelope?.trace_id ?? answer.headers.get("X-Trace-Id");
    return new Failure(`${said} If it stays, look for ${trace} in the server's log.`);
  }
  return new Failure(said);
}

/** `data` of an answer, and the number of all matches of a list. */
export async function call(path, { method = "GET", body, signal } = {}) {
  const login = session();
  const headers = login ? { Authorization: `Bearer ${login.token}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  const sent = { method, headers, signal, credentials: "omit", cache: "no-store" };
  if (body) sent.body = JSON.stringify(body);
  let answer;
  try {
    answer = await fetch(path, sent);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(
      "The server does not answer. See whether oxmon-server runs, and whether this device has a " +
        "way to it. It is asked again every 10 seconds.",
    );
  }
  const date = Date.parse(answer.headers.get("Date"));
  if (date) skewMs = date - Date.now();
  let envelope = null;
  try {
    envelope = await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  if (!answer.ok || !envelope) throw failure(answer, envelope, login);
  return { data: envelope.data, total: Number(answer.headers.get("X-Total-Count")) };
}

/** All rows of a list, page by page, up to ten thousand. */
export async function all(path, signal) {
  const rows = [];
  for (let page = 0; page < PAGES_MAX; page += 1) {
    const query = `limit=${PAGE}&offset=${page * PAGE}`;
    const { data, total } = await call(`${path}?${query}`, { signal });
    rows.push(...data);
    if (data.length < PAGE || rows.length >= total) break;
  }
  return rows;
}
