// The page with all agents, and the whole at a glance.

import { AlertTable } from "./alerts.js";
import { all, call, now } from "./api.js";
import { Table, agentHref, h, setBar, setLink, setText } from "./dom.js";
import { ago, bytes, duration, number, percent } from "./format.js";

/** Alerts that the page has room for; the others are one page further. */
const ALERTS_MAX = 5;

// Kept while a person looks at an agent and comes back.
const kept = { filter: "", sort: { index: 0, down: false } };

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

const COLUMNS = [
  {
    title: "Agent",
    class: "name",
    value: (agent) => agent.agent_id,
    show(cell, agent) {
      if (!cell.firstChild) cell.append(h("span", { role: "img" }));
      const dot = cell.firstChild;
      dot.className = `dot ${agent.status}`;
      dot.setAttribute("aria-label", agent.status);
      dot.title = agent.status;
      setLink(cell, agent.agent_id, agentHref(agent.agent_id));
    },
  },
  {
    title: "Last seen",
    down: true,
    value: (agent) => (agent.last_seen ? Date.parse(agent.last_seen) : null),
    show: (cell, agent) => setText(cell, ago(agent.last_seen, now())),
  },
  {
    title: "CPU",
    class: "num",
    down: true,
    value: (agent) => agent.cpu_percent,
    show: (cell, agent) => setBar(cell, percent(agent.cpu_percent), agent.cpu_percent),
  },
  {
    title: "Memory",
    class: "num",
    down: true,
    value: (agent) => agent.memory_percent,
    show: (cell, agent) => setBar(cell, percent(agent.memory_percent), agent.memory_percent),
  },
  {
    title: "Fullest disk",
    class: "num",
    down: true,
    value: (agent) => agent.disk_percent,
    show(cell, agent) {
      setBar(cell, percent(agent.disk_percent), agent.disk_percent);
      cell.title = agent.disk_mount ?? "";
    },
  },
  {
    title: "Load",
    class: "num",
    down: true,
    value: (agent) => agent.load_1,
    show: (cell, agent) => setText(cell, number(agent.load_1)),
  },
];

export function overviewPage(shell) {
  const tiles = {
    agents: tile("Agents"),
    alerts: tile("Alerts in 24 h"),
    certs: tile("Certificates"),
    disk: tile("Disk use"),
  };
  const firing = new AlertTable(shell, { caption: "Active alerts", empty: "" });
  const title = h("h2", {}, "Active alerts");
  const more = h("a", { href: "#/alerts" });
  const head = h("div", { class: "head" }, title, more);
  const alerts = h("section", { hidden: true }, head, firing.node);
  const table = new Table({
    caption: "Agents",
    columns: COLUMNS,
    key: (agent) => agent.agent_id,
    sort: kept.sort,
    empty: "No agent to show.",
  });
  const count = h("span", { role: "status" });
  const filter = h("input", { type: "search", placeholder: "Filter by id", value: kept.filter });
  filter.setAttribute("aria-label", "Filter agents by id");
  let agents = [];
  const list = () => {
    kept.filter = filter.value;
    const part = filter.value.trim().toLowerCase();
    const found = agents.filter((agent) => agent.agent_id.toLowerCase().includes(part));
    const none = "No agent has reported yet. Point oxmon-agent's server_endpoint here.";
    table.empty = agents.length ? "No agent's id has that in it." : none;
    table.show(found);
    setText(count, part ? `${found.length} of ${agents.length}` : "");
  };
  filter.addEventListener("input", list);
  const above = h("div", { class: "head" }, h("h2", {}, "Agents"), count, filter);
  const node = h(
    "div",
    {},
    h("h1", { tabindex: "-1", class: "unseen" }, "Overview"),
    h("div", { class: "tiles" }, ...Object.values(tiles).map((each) => each.node)),
    alerts,
    h("section", {}, above, table.node),
  );

  const load = async (signal) => {
    // A part that fails leaves the others to be seen; then what went wrong is said.
    const parts = await Promise.allSettled([
      call("/v1/dashboard/overview", { signal }).then(({ data }) => glance(tiles, data)),
      all("/v1/alerts/active", signal).then((active) => {
        alerts.hidden = active.length === 0;
        firing.show(active, ALERTS_MAX);
        setText(more, active.length > ALERTS_MAX ? `All ${active.length} alerts` : "");
      }),
      all("/v1/dashboard/agents", signal).then((fleet) => {
        agents = fleet;
        list();
      }),
    ]);
    const failed = parts.find((part) => part.status === "rejected");
    if (failed) throw failed.reason;
  };
  return { title: "Overview", node, load };
}

function glance(tiles, data) {
  const { active_agents: active, total_agents: total } = data;
  const silent = total - active;
  const quiet = silent > 0 ? `active; ${silent} silent` : "active";
  tiles.agents.show(`${active} of ${total}`, quiet, silent > 0 ? "warning" : "");
  const by = data.alerts_by_severity;
  const [critical, warning, info] = ["critical", "warning", "info"].map((name) => by[name] ?? 0);
  const worst = critical > 0 ? "critical" : warning > 0 ? "warning" : "";
  const counts = `${critical} critical, ${warning} warning, ${info} info`;
  tiles.alerts.show(number(data.alerts_24h), counts, worst);
  const certs = data.cert_summary;
  const state = certs.invalid > 0 ? "critical" : certs.expiring_soon > 0 ? "warning" : "";
  const ending = `valid; ${certs.invalid} invalid, ${certs.expiring_soon} end soon`;
  if (certs.total_domains === 0) tiles.certs.show("0", "no domain is watched");
  else tiles.certs.show(`${certs.valid} of ${certs.total_domains}`, ending, state);
  const days = `${data.partition_count} day${data.partition_count === 1 ? "" : "s"}`;
  const up = duration(data.uptime_secs);
  tiles.disk.show(bytes(data.storage_total_bytes), `${days} of points; server up ${up}`);
}
