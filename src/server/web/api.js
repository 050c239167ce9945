// Calls of the API, who is logged in, and errors in words that say what to do.

import { has, t } from "./i18n.js";

const KIOSK = "oxmon.kiosk";
/** Whether this browser has logged in: without it there is no session to ask for. */
const KNOWN = "oxmon.session";
const PAGE = 1000;
const PAGES_MAX = 10;
const DEFAULT_PASSWORD = 1014;
let skewMs = 0;
let who = null;

/** The server's time, since it is its clock that points are compared with. */
export const now = () => Date.now() + skewMs;

/** Who is logged in: `username`, `role`, `must_change`, `only_change`; null when nobody is. */
export const session = () => who;

/** Whether the caller may change things. */
export const isAdmin = () => who?.role === "admin" && !who.by_token;

/** The token of a read-only link for a wall display, kept for this tab. */
export const kiosk = () => sessionStorage.getItem(KIOSK);

export function keepKiosk(token) {
  if (token) sessionStorage.setItem(KIOSK, token);
  else sessionStorage.removeItem(KIOSK);
}

export function forget() {
  who = null;
  localStorage.removeItem(KNOWN);
  keepKiosk(null);
}

/** Why the login is shown: `over` the session has ended, `change` the password must be changed. */
export class Failure extends Error {
  constructor(message, { over = false, change = false, status = 0 } = {}) {
    super(message);
    Object.assign(this, { over, change, status });
  }
}

function sentence(text) {
  const trimmed = text.trim();
  const end = /[.!?。]$/.test(trimmed) ? "" : ".";
  return trimmed.charAt(0).toUpperCase() + trimmed.slice(1) + end;
}

function failure(answer, envelope) {
  const { status } = answer;
  const code = envelope?.err_code;
  const said = sentence(envelope?.err_msg ?? t("api.http", { status }));
  const wait = Number(answer.headers.get("Retry-After"));
  if (code === DEFAULT_PASSWORD) return new Failure(t("api.change"), { change: true, status });
  if (status === 401 && who) return new Failure(t("api.expired"), { over: true, status });
  const known = has(`error.${code}`) ? `${t(`error.${code}`)} (${said})` : said;
  if (wait > 0) return new Failure(`${known} ${t("api.wait", { secs: wait })}`, { status });
  if (status >= 500 && status !== 502) {
    const trace = envelope?.trace_id ?? answer.headers.get("X-Trace-Id");
    return new Failure(`${known} ${t("api.trace", { trace })}`, { status });
  }
  return new Failure(known, { status });
}

async function send(path, { method = "GET", body, signal, headers = {} } = {}) {
  const token = kiosk();
  const all = { "X-Oxmon-Page": location.protocol.slice(0, -1), ...headers };
  if (token) all.Authorization = `Bearer ${token}`;
  const options = { method, headers: all, signal, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) {
    options.body = body;
    all["Content-Type"] ??= "application/json";
  }
  try {
    const answer = await fetch(path, options);
    const date = Date.parse(answer.headers.get("Date"));
    if (date) skewMs = date - Date.now();
    return answer;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(t("api.unreachable"));
  }
}

async function json(answer) {
  try {
    return await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return null;
  }
}

/** `data` of an answer, and the number of all matches of a list. */
export async function call(path, { method, body, signal } = {}) {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const answer = await send(path, { method, body: text, signal });
  const envelope = await json(answer);
  if (!answer.ok || !envelope) throw failure(answer, envelope);
  return { data: envelope.data, total: Number(answer.headers.get("X-Total-Count")) };
}

export const post = (path, body) => call(path, { method: "POST", body });
export const put = (path, body) => call(path, { method: "PUT", body });
export const remove = (path) => call(path, { method: "DELETE" });

/** `data` of Prometheus' API, whose answers have a form of their own. */
export async function prometheus(path, parameters, signal) {
  const answer = await send(path, {
    method: "POST",
    body: new URLSearchParams(parameters).toString(),
    headers: { "Content-Type": "application/x-www-form-urlencoded" },
    signal,
  });
  const said = await json(answer);
  if (!answer.ok || said?.status !== "success") {
    throw failure(answer, { err_msg: said?.error ?? said?.err_msg, err_code: said?.err_code });
  }
  return said.data;
}

/** `data` of a GET of Prometheus' API. */
export async function prometheusGet(path, signal) {
  const answer = await send(path, { signal });
  const said = await json(answer);
  if (!answer.ok || said?.status !== "success") {
    throw failure(answer, { err_msg: said?.error ?? said?.err_msg, err_code: said?.err_code });
  }
  return said.data;
}

/** A path with parameters; those without a value are left out. */
export function withQuery(path, query) {
  const kept = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  return kept.length ? `${path}?${new URLSearchParams(kept)}` : path;
}

export const idPath = (path, id) => `${path}/${encodeURIComponent(id)}`;

/** All rows of a list, page by page, up to ten thousand. */
export async function all(path, signal, query = {}) {
  const rows = [];
  for (let page = 0; page < PAGES_MAX; page += 1) {
    const asked = withQuery(path, { ...query, limit: PAGE, offset: page * PAGE });
    const { data, total } = await call(asked, { signal });
    rows.push(...data);
    if (data.length < PAGE || rows.length >= total) break;
  }
  return rows;
}

/** Asks who is logged in; null when nobody is. */
export async function loadSession() {
  if (!kiosk() && !localStorage.getItem(KNOWN)) return null;
  try {
    who = (await call("/v1/auth/session")).data;
  } catch (error) {
    if (error.status !== 401) throw error;
    forget();
  }
  return who;
}

export async function logIn(username, password) {
  keepKiosk(null);
  who = (await post("/v1/auth/session", { username, password })).data;
  localStorage.setItem(KNOWN, "yes");
}

/** Ends the session at the server. */
export async function logOut() {
  try {
    if (!who?.by_token) await post("/v1/auth/logout");
  } finally {
    forget();
  }
}
