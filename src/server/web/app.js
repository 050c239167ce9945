// Which page is shown, and when it is fetched again.

import { forget, isAdmin, keepKiosk, kiosk, loadSession, logOut, session } from "./api.js";
import { button, h, setText } from "./dom.js";
import { clockSecs } from "./format.js";
import { LANGUAGES, choose, language, t } from "./i18n.js";
import { toast } from "./kit.js";
import { href, route } from "./route.js";

const AGAIN_MS = 10_000;

/** A page: its module, the link to it, and whether it is for administrators alone. */
const PAGES = {
  "": { load: () => import("./overview.js"), link: "nav.overview" },
  agents: { load: () => import("./agent.js"), under: "" },
  alerts: { load: () => import("./alerts.js"), link: "nav.alerts" },
  alert: { load: () => import("./alert.js"), under: "alerts" },
  rules: { load: () => import("./rules.js"), link: "nav.rules" },
  channels: { load: () => import("./channels.js"), link: "nav.channels" },
  silences: { load: () => import("./silences.js"), link: "nav.silences" },
  certs: { load: () => import("./certs.js"), link: "nav.certs" },
  explore: { load: () => import("./explore.js"), link: "nav.explore" },
  system: { load: () => import("./system.js"), link: "nav.system" },
  password: { load: () => import("./login.js").then((all) => ({ page: all.passwordPage })) },
};

const part = (id) => document.getElementById(id);
let page = null;
let timer = 0;
let running = null;
let showing = 0;

/** What a page may do with the shell around it. */
const shell = {
  /** Shows the page of an address, again if it is the one that is shown. */
  go(hash) {
    if (location.hash === hash) show();
    else location.hash = hash;
  },
  show,
  refresh,
  fail,
};

function say(text) {
  part("notice").hidden = !text;
  setText(part("notice"), text ?? "");
}

/** Says what went wrong; back to the login when the session has expired. */
function fail(error) {
  if (error.name === "AbortError") return;
  if (error.over) {
    forget();
    show(error.message);
    return;
  }
  if (error.change) {
    session().only_change = true;
    shell.go("#/password");
    return;
  }
  say(error.message);
  // A mistake of these scripts, and not of the server or the way to it.
  if (error.over === undefined) console.error(error);
}

/** The name of the page that may be shown: nothing but the password while only that is served. */
function allowed(name) {
  if (session().only_change) return "password";
  const known = Object.hasOwn(PAGES, name) ? name : "";
  return PAGES[known].admin && !isAdmin() ? "" : known;
}

function drawNav(current) {
  const login = session();
  const nav = part("nav");
  nav.hidden = !login || login.only_change;
  const at = PAGES[current]?.under ?? current;
  const seen = ([, { link, admin }]) => link && !(admin && !isAdmin());
  const links = Object.entries(PAGES).filter(seen);
  nav.replaceChildren(...links.map(([name, { link }]) => {
    const attributes = { href: href(name), "aria-current": name === at ? "page" : null };
    return h("a", attributes, t(link));
  }));
}

function drawWho() {
  const login = session();
  const other = Object.keys(LANGUAGES).find((name) => name !== language);
  const speak = h("button", { type: "button", lang: other, click: () => choose(other) });
  speak.append(LANGUAGES[other]);
  const parts = [h("span", { id: "updated" })];
  if (login) {
    parts.push(h("span", { class: "user" }, login.username));
    if (!login.by_token) parts.push(h("a", { href: "#/password" }, t("nav.password")));
    parts.push(button(t("nav.logout"), leave, { id: "logout" }));
  }
  parts.push(speak);
  part("who").replaceChildren(...parts);
}

function drawHints(current) {
  const hints = [];
  const login = session();
  if (login?.must_change && current !== "password") {
    const link = h("a", { href: "#/password" }, t("hint.change"));
    hints.push(h("p", { id: "hint", class: "notice" }, `${t("hint.default")} `, link));
  }
  part("hints").hidden = hints.length === 0;
  part("hints").replaceChildren(...hints);
}

async function leave() {
  try {
    await logOut();
  } catch (error) {
    toast(error.message, true);
  }
  show(t("login.out"));
}

async function make(message) {
  if (!session()) return (await import("./login.js")).loginPage(shell, message);
  const at = route();
  const current = allowed(at.name);
  return (await PAGES[current].load()).page(shell, { ...at, name: current });
}

/** A link of a wall display holds its token: it is kept for this tab and leaves the address. */
async function takeKiosk() {
  const { name, id, query } = route();
  const token = query.get("token");
  if (!token) return;
  keepKiosk(token);
  query.delete("token");
  history.replaceState(null, "", href(name, id, Object.fromEntries(query)));
  await loadSession();
}

async function show(message) {
  const mine = (showing += 1);
  running?.abort();
  clearTimeout(timer);
  document.querySelectorAll("dialog").forEach((open) => open.close());
  let made;
  try {
    await takeKiosk();
    made = await make(typeof message === "string" ? message : undefined);
  } catch (error) {
    fail(error instanceof TypeError ? new Error(t("api.unreachable")) : error);
    return;
  }
  if (mine !== showing) return;
  page = made;
  const current = session() ? allowed(route().name) : null;
  document.body.classList.toggle("kiosk", Boolean(kiosk()));
  drawNav(current);
  drawWho();
  drawHints(current);
  say(null);
  document.title = `${page.title} · oxmon`;
  part("main").replaceChildren(page.node);
  (page.focus ?? part("main").querySelector("h1"))?.focus();
  refresh();
}

async function refresh() {
  clearTimeout(timer);
  running?.abort();
  if (!page?.load || document.hidden) return;
  const [mine, control] = [page, new AbortController()];
  running = control;
  try {
    await mine.load(control.signal);
    if (running !== control) return;
    say(null);
    setText(part("updated"), t("updated", { time: clockSecs(Date.now()) }));
  } catch (error) {
    if (running !== control) return;
    fail(error);
  }
  if (page === mine && !document.hidden) timer = setTimeout(refresh, mine.againMs ?? AGAIN_MS);
}

function prepare() {
  part("nav").setAttribute("aria-label", t("nav.label"));
  setText(part("skip"), t("nav.skip"));
  part("hints").setAttribute("aria-label", t("hint.label"));
  part("skip").hidden = false;
  part("skip").addEventListener("click", () => part("main").querySelector("h1")?.focus());
  addEventListener("hashchange", show);
  document.addEventListener("visibilitychange", refresh);
}

async function start() {
  try {
    await loadSession();
  } catch (error) {
    fail(error);
    setTimeout(start, AGAIN_MS);
    return;
  }
  show();
}

prepare();
start();
