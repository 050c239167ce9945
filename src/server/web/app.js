// Which page is shown, and when it is fetched again.

import { agentPage } from "./agent.js";
import { alertsPage } from "./alerts.js";
import { keep, session } from "./api.js";
import { certsPage } from "./certs.js";
import { setText } from "./dom.js";
import { clockSecs } from "./format.js";
import { loginPage, passwordPage } from "./login.js";
import { overviewPage } from "./overview.js";

const AGAIN_MS = 10_000;
const PAGES = {
  "": overviewPage,
  agents: agentPage,
  alerts: alertsPage,
  certs: certsPage,
  password: passwordPage,
};

const part = (id) => document.getElementById(id);
let page = null;
let timer = 0;
let running = null;

/** What a page may do with the shell around it. */
const shell = {
  /** Shows the page of an address, anew if it is the one that is shown. */
  go(hash) {
    if (location.hash === hash) show();
    else location.hash = hash;
  },
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
    keep(null);
    show(error.message);
    return;
  }
  say(error.message);
  // A mistake of these scripts, and not of the server or the way to it.
  if (error.over === undefined) console.error(error);
}

function parse() {
  const [, name = "", id = ""] = location.hash.split("/");
  try {
    return [name, decodeURIComponent(id)];
  } catch {
    return ["", ""];
  }
}

function show(message) {
  const [name, id] = parse();
  const login = session();
  const known = Object.hasOwn(PAGES, name) ? name : "";
  running?.abort();
  page = login ? PAGES[known](shell, id) : loginPage(shell, message);
  part("nav").hidden = part("who").hidden = !login;
  part("hint").hidden = !login?.must_change || known === "password";
  for (const link of part("nav").children) {
    const here = link.hash === `#/${known === "agents" ? "" : known}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  setText(part("updated"), "");
  say(null);
  document.title = `${page.title} · oxmon`;
  part("main").replaceChildren(page.node);
  (page.focus ?? part("main").querySelector("h1")).focus();
  refresh();
}

async function refresh() {
  clearTimeout(timer);
  running?.abort();
  if (!page.load || document.hidden) return;
  const [mine, control] = [page, new AbortController()];
  running = control;
  try {
    await mine.load(control.signal);
    if (running !== control) return;
    say(null);
    setText(part("updated"), `Updated ${clockSecs(Date.now())}`);
  } catch (error) {
    if (running !== control) return;
    fail(error);
  }
  if (page === mine && !document.hidden) timer = setTimeout(refresh, AGAIN_MS);
}

part("logout").addEventListener("click", () => {
  keep(null);
  show("You are logged out.");
});
part("skip").addEventListener("click", () => part("main").querySelector("h1")?.focus());
addEventListener("hashchange", () => show());
document.addEventListener("visibilitychange", refresh);
show();
