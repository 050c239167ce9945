// The page with all hosts, and the whole at a glance.

import { AlertTable } from "./alerttable.js";
import { all, call, isAdmin, now } from "./api.js";
import { Table, button, h, setBar, setLink, setText } from "./dom.js";
import { ago, bytes, duration, number, percent, when } from "./format.js";
import { t, word } from "./i18n.js";
import { addHost } from "./hosts.js";
import { filterBar } from "./kit.js";
import { agentHref, href, route } from "./route.js";

/** Alerts that the page has room for; the others are one page further. */
const ALERTS_MAX = 5;
/** What the server itself reports as: not a host. */
const OWN = "cert-checker";

// Kept while a person looks at a host and comes back.
const kept = { sort: { index: 0, down: false } };

function tile(title) {
  const figure = h("strong");
  const more = h("span");
  const node = h("div", { class: "card tile" }, h("h2", {}, title), figure, more);
  return {
    node,
    show(text, detail, level = "") {
      setText(figure, text);
      setText(more, detail);
      figure.className = level;
    },
  };
}

function showName(cell, host) {
  if (!cell.firstChild) cell.append(h("span", { role: "img" }), h("a"), h("small"));
  const [dot, , more] = cell.children;
  const state = word("host.status", host.status);
  dot.className = `dot ${host.status}`;
  dot.setAttribute("aria-label", state);
  dot.title = state;
  setLink(cell, host.display_name || host.agent_id, agentHref(host.agent_id));
  const tags = (host.tags ?? []).map((tag) => `#${tag}`);
  setText(more, [host.display_name ? host.agent_id : "", ...tags].filter(Boolean).join(" "));
  cell.parentNode.classList.toggle("old", host.status !== "active");
}

function showSeen(cell, host) {
  if (!cell.firstChild) cell.append(h("span"), h("a", { class: "badge" }));
  const [seen, firing] = cell.children;
  const since = ago(host.last_seen, now());
  setText(seen, host.status === "inactive" ? t("host.silent", { time: since }) : since);
  cell.title = when(host.last_seen);
  firing.hidden = !host.firing;
  firing.className = `badge ${host.worst ?? ""}`;
  firing.setAttribute("href", href("alerts", "", { host: host.agent_id }));
  setText(firing, host.firing ? t("host.firing", { count: host.firing }) : "");
}

const bar = (title, value, more) => ({
  title,
  class: "num",
  down: true,
  value,
  show(cell, host) {
    setBar(cell, percent(value(host)), value(host));
    cell.title = more?.(host) ?? "";
  },
});

const COLUMNS = () => [
  {
    title: t("host"),
    class: "name",
    value: (host) => host.display_name || host.agent_id,
    show: showName,
  },
  {
    title: t("host.last"),
    class: "time",
    down: true,
    value: (host) => (host.last_seen ? Date.parse(host.last_seen) : null),
    show: showSeen,
  },
  bar("CPU", (host) => host.cpu_percent),
  bar(t("chart.memory"), (host) => host.memory_percent),
  bar(t("host.disk"), (host) => host.disk_percent, (host) => host.disk_mount),
  {
    title: t("chart.load"),
    class: "num",
    down: true,
    value: (host) => host.load_1,
    show: (cell, host) => setText(cell, number(host.load_1)),
  },
];

/** Whether a host has what the filters ask for. */
function fits(host, { q, status, tag }) {
  const part = q.trim().toLowerCase();
  const text = [host.agent_id, host.display_name, host.note, ...(host.tags ?? [])].join("\n");
  const state = !status || (status === "firing" ? host.firing > 0 : host.status === status);
  return state && text.toLowerCase().includes(part) && (!tag || host.tags?.includes(tag));
}

/** Tags that are shown as groups; the filter offers all. */
const GROUPS_MAX = 40;
const SEVERITIES = ["critical", "warning", "info"];
const STATUSES = ["active", "inactive", "unknown", "firing"];

class Overview {
  constructor(shell) {
    this.tiles = {
      hosts: tile(t("hosts")),
      alerts: tile(t("overview.alerts")),
      certs: tile(t("nav.certs")),
      disk: tile(t("overview.disk")),
    };
    this.firing = new AlertTable(shell, { caption: t("alerts.active"), empty: "" });
    this.more = h("a", { href: href("alerts") });
    this.hosts = [];
    this.active = [];
    const options = [["", t("all")], ...STATUSES.map((it) => [it, word("host.status", it)])];
    this.filters = filterBar([
      { name: "q", label: t("filter"), attributes: { type: "search" } },
      { name: "status", label: t("state"), options },
      { name: "tag", label: t("host.tag") },
    ], () => this.list());
    this.table = new Table({
      caption: t("hosts"),
      columns: COLUMNS(),
      key: (host) => host.agent_id,
      sort: kept.sort,
      empty: t("table.loading"),
    });
    this.lacking = h("div");
    this.groups = h("nav", { class: "chips", "aria-label": t("host.groups"), hidden: true });
    this.count = h("span", { role: "status" });
    const add = () => addHost(shell);
    this.actions = isAdmin() ? button(t("host.add"), add, { class: "main" }) : "";
    this.draw();
  }

  draw() {
    const head = h("div", { class: "head" }, h("h2", {}, t("alerts.active")), this.more);
    this.alerts = h("section", { hidden: true }, head, this.firing.node);
    const title = h("h2", {}, t("hosts"));
    const above = h("div", { class: "head" }, title, this.count, this.actions);
    this.node = h(
      "div",
      {},
      h("h1", { tabindex: "-1", class: "unseen" }, t("nav.overview")),
      this.lacking,
      h("div", { class: "tiles" }, ...Object.values(this.tiles).map((each) => each.node)),
      this.alerts,
      h("section", {}, above, this.filters.node, this.groups, this.table.node),
    );
  }

  list() {
    const by = new Map();
    for (const event of this.active) {
      if (!by.has(event.agent_id)) by.set(event.agent_id, []);
      by.get(event.agent_id).push(event.severity);
    }
    const hosts = this.hosts.filter(({ agent_id: id }) => id !== OWN).map((host) => {
      const firing = by.get(host.agent_id) ?? [];
      const worst = SEVERITIES.find((it) => firing.includes(it));
      return { ...host, firing: firing.length, worst };
    });
    const found = hosts.filter((host) => fits(host, this.filters.values()));
    this.table.empty = t(hosts.length ? "hosts.nomatch" : "hosts.none");
    this.table.show(found);
    const counts = { shown: found.length, all: hosts.length };
    setText(this.count, found.length < hosts.length ? t("hosts.count", counts) : "");
    const tags = [...new Set(hosts.flatMap(({ tags }) => tags ?? []))].sort();
    const tag = this.filters.inputs[2];
    tag.node.hidden = tags.length === 0;
    tag.offer(tags);
    this.tellGroups(tags, hosts);
    this.tellHosts(hosts);
  }

  /** A link for each tag, with how many of its hosts report and what is worst there. */
  tellGroups(tags, hosts) {
    const chosen = this.filters.values().tag;
    const links = tags.slice(0, GROUPS_MAX).map((tag) => {
      const mine = hosts.filter((host) => host.tags?.includes(tag));
      const active = mine.filter(({ status }) => status === "active").length;
      const worst = SEVERITIES.find((it) => mine.some((host) => host.worst === it));
      const text = t("host.group", { tag: `#${tag}`, active, all: mine.length });
      const query = Object.fromEntries(route().query);
      const current = tag === chosen;
      return h("a", {
        class: `chip ${worst ?? (active < mine.length ? "old" : "")}`,
        href: href("", "", { ...query, tag: current ? "" : tag }),
        "aria-current": current ? "true" : null,
      }, text);
    });
    this.groups.hidden = links.length === 0;
    // Links that say the same stay, so that the focus stays on them.
    const same = links.length === this.groups.children.length &&
      links.every((link, at) => link.isEqualNode(this.groups.children[at]));
    if (!same) this.groups.replaceChildren(...links);
  }

  tellHosts(hosts) {
    const seen = hosts.filter(({ last_seen: last }) => last);
    const active = seen.filter(({ status }) => status === "active").length;
    const stale = seen.length - active;
    const detail = stale > 0 ? t("hosts.stale", { count: stale }) : t("hosts.reporting");
    const text = t("hosts.of", { active, all: seen.length });
    this.tiles.hosts.show(text, detail, stale > 0 ? "warning" : "");
  }

  /** Says it plainly where alerts would reach nobody. */
  async tellLacking(signal) {
    const [rules, channels] = await Promise.all([
      call("/v1/alerts/rules?limit=1", { signal }),
      call("/v1/notifications/channels?limit=1000", { signal }),
    ]);
    const notices = [];
    const say = (text, link, where) =>
      notices.push(h("p", { class: "notice inside" }, `${text} `, h("a", { href: where }, link)));
    if (rules.total === 0) {
      say(t("overview.norule"), t("overview.norule.link"), href("rules"));
    }
    if (!channels.data.some(({ enabled }) => enabled)) {
      const where = href("channels", isAdmin() ? "new" : "");
      say(t("overview.nochannel"), t("overview.nochannel.link"), where);
    }
    if (notices.length !== this.lacking.children.length) this.lacking.replaceChildren(...notices);
  }

  async load(signal) {
    // A part that fails leaves the others to be seen; then what went wrong is said.
    const parts = await Promise.allSettled([
      call("/v1/dashboard/overview", { signal }).then(({ data }) => glance(this.tiles, data)),
      all("/v1/alerts/active", signal).then((active) => {
        this.active = active;
        this.alerts.hidden = active.length === 0;
        this.firing.show(active, ALERTS_MAX);
        const count = { count: active.length };
        this.more.hidden = active.length <= ALERTS_MAX;
        setText(this.more, t("overview.more", count));
      }),
      all("/v1/dashboard/agents", signal).then((hosts) => (this.hosts = hosts)),
      this.tellLacking(signal),
    ]);
    if (parts[2].status === "fulfilled") this.list();
    const failed = parts.find((part) => part.status === "rejected");
    if (failed) throw failed.reason;
  }
}

function glance(tiles, data) {
  const by = data.alerts_by_severity;
  const [critical, warning, info] = ["critical", "warning", "info"].map((name) => by[name] ?? 0);
  const worst = critical > 0 ? "critical" : warning > 0 ? "warning" : "";
  const counts = t("overview.severities", { critical, warning, info });
  tiles.alerts.show(number(data.alerts_24h), counts, worst);
  const certs = data.cert_summary;
  const state = certs.invalid > 0 ? "critical" : certs.expiring_soon > 0 ? "warning" : "";
  const figures = { valid: certs.valid, all: certs.total_domains };
  const soon = t("overview.certs", { invalid: certs.invalid, soon: certs.expiring_soon });
  if (certs.total_domains === 0) tiles.certs.show("0", t("overview.nocerts"));
  else tiles.certs.show(t("overview.of", figures), soon, state);
  const values = { days: data.partition_count, up: duration(data.uptime_secs) };
  tiles.disk.show(bytes(data.storage_total_bytes), t("overview.stored", values));
}

export function page(shell) {
  const overview = new Overview(shell);
  const load = (signal) => overview.load(signal);
  return { title: t("nav.overview"), node: overview.node, load };
}
