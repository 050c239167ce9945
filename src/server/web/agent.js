// The page of one host: charts, alerts, and the newest value of every series.

import { AlertTable } from "./alerttable.js";
import { all, call, idPath, isAdmin, now, withQuery } from "./api.js";
import { globTest } from "./backtest.js";
import { Chart, Crosshair } from "./chart.js";
import { Table, button, h, setText } from "./dom.js";
import { facts } from "./facts.js";
import { ago, bytes, duration, formatOf, labels, when } from "./format.js";
import { editHost, removeHost, tellHost } from "./hosts.js";
import { t, word } from "./i18n.js";
import { Field } from "./kit.js";
import { current, rangeButtons } from "./range.js";
import { href, route, setQuery } from "./route.js";
import { silenceFor } from "./silences.js";

/** How far a young host's first samples are spread over the chart, at the least. */
const FIRST_MS = 600_000;
const MARKS = 200;
const COMPARED_MAX = 5;

const CHARTS = [
  { title: "chart.cpu", metrics: ["cpu.usage"], max: 100 },
  { title: "chart.memory", metrics: ["memory.used_percent"], max: 100 },
  { title: "chart.disks", metrics: ["disk.used_percent"], max: 100 },
  {
    title: "chart.load",
    metrics: ["load.load_1", "load.load_5", "load.load_15"],
    names: ["1 min", "5 min", "15 min"],
  },
  { title: "chart.received", metrics: ["network.bytes_recv"], least: 1024, binary: true },
  { title: "chart.sent", metrics: ["network.bytes_sent"], least: 1024, binary: true },
  { title: "chart.read", metrics: ["diskio.read_bytes"], least: 1024, binary: true },
  { title: "chart.written", metrics: ["diskio.write_bytes"], least: 1024, binary: true },
  {
    title: "chart.pressure",
    metrics: ["pressure.cpu_some", "pressure.memory_some", "pressure.io_some"],
    names: ["CPU", "RAM", "I/O"],
  },
  { title: "chart.temperature", metrics: ["sensors.temperature"], least: 50 },
];

/** Charts of everything else, each of one metric or of several: a group is fetched once open. */
const GROUPS = [
  {
    title: "group.cpu",
    charts: [
      ["cpu.user", "cpu.system", "cpu.iowait", "cpu.irq", "cpu.steal"],
      ["kernel.processes_running", "kernel.processes_blocked"],
      ["kernel.forks"],
      ["kernel.context_switches"],
      ["pressure.cpu_full", "pressure.memory_full", "pressure.io_full"],
      ["cpu.frequency"],
    ],
  },
  {
    title: "group.memory",
    charts: [
      ["memory.cached", "memory.buffers", "memory.shared", "memory.slab", "memory.zfs_arc"],
      ["memory.swap_used"],
      ["vm.swap_in", "vm.swap_out"],
      ["vm.major_faults"],
      ["vm.oom_kills"],
      ["memory.huge_used"],
    ],
  },
  {
    title: "group.disks",
    charts: [
      ["disk.inodes_used_percent"],
      ["disk.read_only"],
      ["diskio.busy_percent"],
      ["diskio.latency"],
      ["diskio.queue"],
      ["diskio.reads"],
      ["diskio.writes"],
      ["raid.disks_missing"],
      ["raid.sync_percent"],
      ["raid.btrfs_errors"],
    ],
  },
  {
    title: "group.network",
    charts: [
      ["network.errors_recv", "network.errors_sent"],
      ["network.drops_recv", "network.drops_sent"],
      ["tcp.established", "sockets.tcp_time_wait", "sockets.tcp_orphans"],
      ["tcp.retransmit_percent"],
      ["tcp.listen_overflows", "tcp.listen_drops"],
      ["tcp.resets", "udp.errors"],
      ["sockets.used", "sockets.tcp", "sockets.udp"],
      ["kernel.conntrack_used"],
      ["network.up"],
      ["wireless.signal"],
    ],
  },
  {
    title: "group.system",
    charts: [
      ["kernel.files_used"],
      ["kernel.entropy"],
      ["time.synchronised"],
      ["time.offset"],
      ["time.error_max"],
      ["sensors.fan"],
      ["power.battery_percent"],
      ["power.under_voltage", "power.throttled"],
    ],
  },
  {
    title: "group.containers",
    charts: [
      ["container.cpu_percent"],
      ["container.throttled_percent"],
      ["container.memory"],
      ["container.memory_percent"],
      ["container.read_bytes"],
      ["container.write_bytes"],
      ["container.tasks"],
      ["container.oom_kills"],
    ],
  },
  {
    title: "group.services",
    charts: [
      ["unit.running"],
      ["unit.restarts"],
      ["unit.cpu_percent"],
      ["unit.memory"],
      ["unit.tasks"],
      ["unit.open_files"],
      ["process.running"],
      ["process.restarts"],
      ["process.cpu_percent"],
      ["process.memory"],
      ["process.tasks"],
      ["process.open_files"],
    ],
  },
  {
    title: "group.agent",
    charts: [
      ["textfile.age"],
      ["scrape.success"],
      ["scrape.ms"],
      ["scrape.series"],
      ["agent.collect_ms"],
      ["agent.buffer.batches"],
    ],
  },
];

/** Fetches what a chart shows, of one host or several. */
async function fetchSeries(agents, about, { from, to, step }, signal) {
  const wanted = agents.flatMap((agent) => about.metrics.map((metric, at) => [agent, metric, at]));
  const answers = await Promise.all(wanted.map(([agent, metric]) => {
    const query = {
      agent_id: agent,
      metric_name: metric,
      timestamp__gte: new Date(from).toISOString(),
      timestamp__lte: new Date(to).toISOString(),
      step,
    };
    return call(withQuery("/v1/metrics/range", query), { signal });
  }));
  const found = answers.flatMap(({ data }, index) => data.map((series) => {
    const [agent, metric, at] = wanted[index];
    const parts = [about.names?.[at] ?? (about.metrics.length > 1 ? metric : "")];
    if (agents.length > 1) parts.unshift(agent);
    parts.push(Object.values(series.labels).join(" "));
    const buckets = series.buckets.map((bucket) => ({ ...bucket, at: Date.parse(bucket.start) }));
    return { name: parts.filter(Boolean).join(" ") || metric, buckets };
  }));
  const series = found.filter((one) => one.buckets.length);
  if (about.names) return series;
  // The fullest first: of twelve disks it is the one that matters.
  return series.sort((a, b) => b.buckets.at(-1).last - a.buckets.at(-1).last);
}

/** The time of the axis: a host that is new fills it from the left, as an hour that begins. */
export function axis(range, first, isYoung) {
  if (!range.live || !isYoung || first === null) return range;
  const span = Math.max(FIRST_MS, (range.to - first) * 1.25);
  return { ...range, from: first, to: first + Math.min(span, range.to - range.from) };
}

class Panel {
  constructor(agents, about, shared) {
    const format = formatOf(about.metrics[0]);
    const title = about.name ?? t(about.title);
    this.chart = new Chart({ ...about, title, format, ...shared });
    Object.assign(this, { agents, about, fetchedMs: 0, key: null });
  }

  isFresh(range, agents) {
    const same = this.key === `${range.key} ${agents.join("\n")}`;
    return same && Date.now() - this.fetchedMs < range.again * 1000 - 1000;
  }

  async fetch(range, agents, signal) {
    if (this.isFresh(range, agents)) return;
    this.found = await fetchSeries(agents, this.about, range, signal);
    const key = `${range.key} ${agents.join("\n")}`;
    Object.assign(this, { fetchedMs: Date.now(), key });
  }

  get first() {
    const starts = (this.found ?? []).map(({ buckets }) => buckets[0].at);
    return starts.reduce((least, at) => Math.min(least, at), Infinity);
  }

  draw(range, marks) {
    const { metrics } = this.about;
    const mine = marks.filter(({ metric }) => metric === "*" || metrics.includes(metric));
    this.chart.show(this.found ?? [], range.from, range.to, range.step * 1000, mine);
  }
}

const LATEST = () => [
  { title: t("metric"), class: "name", value: (row) => row.metric_name },
  { title: t("labels"), class: "wide", value: (row) => labels(row.labels) },
  {
    title: t("value"),
    class: "num",
    value: (row) => row.value,
    show: (cell, row) => setText(cell, formatOf(row.metric_name)(row.value)),
  },
  {
    title: t("when"),
    value: (row) => Date.parse(row.timestamp),
    show(cell, row) {
      setText(cell, ago(row.timestamp, now()));
      cell.title = when(row.timestamp);
    },
  },
];

/** A choice of one more metric to chart, for what the charts above do not show. */
function chooser(page, shell) {
  const shown = new Set(CHARTS.flatMap((about) => about.metrics));
  const select = h("select", {}, h("option", { value: "" }, t("none")));
  const node = h("label", { class: "more" }, h("span", {}, t("host.also")), select);
  const pick = () => {
    page.extra?.chart.node.remove();
    const metric = select.value;
    page.extra = metric ? page.panel({ name: metric, metrics: [metric] }) : null;
    if (page.extra) page.grid.append(page.extra.chart.node);
  };
  select.addEventListener("change", () => {
    setQuery({ metric: select.value });
    pick();
    shell.refresh();
  });
  const offer = (latest) => {
    const known = new Set([...select.options].map((option) => option.value));
    for (const { metric_name: name } of latest) {
      if (shown.has(name) || known.has(name)) continue;
      known.add(name);
      select.append(h("option", { value: name }, name));
    }
    const wanted = route().query.get("metric") ?? "";
    if (wanted !== select.value && known.has(wanted)) {
      select.value = wanted;
      pick();
    }
  };
  return { node, offer };
}

/** Hosts to compare with: their names are in the address. */
function comparer(id, shell) {
  const others = () => (route().query.get("compare") ?? "").split("\n").filter(Boolean);
  const field = new Field({ name: "compare", label: t("host.compare") });
  const chips = h("span", { class: "chips" });
  const set = (names) => {
    setQuery({ compare: names.join("\n") }, true);
    draw();
    shell.refresh();
  };
  const draw = () => chips.replaceChildren(...others().map((name) => {
    const label = t("host.compare.end", { name });
    const drop = () => set(others().filter((other) => other !== name));
    const about = { type: "button", class: "chip", "aria-label": label, click: drop };
    return h("button", about, `${name} ×`);
  }));
  field.input.addEventListener("change", () => {
    const name = field.get().trim();
    field.set("");
    const names = others();
    if (!name || name === id || names.includes(name) || names.length >= COMPARED_MAX) return;
    set([...names, name]);
  });
  draw();
  field.node.className = "filter";
  const node = h("div", { class: "filters" }, field.node, chips);
  return { node, others, offer: (names) => field.offer(names.filter((name) => name !== id)) };
}

/** Alerts of a host as marks in its charts. */
async function alertMarks(id, range, signal) {
  const query = {
    agent_id__eq: id,
    timestamp__gte: new Date(range.from - 86_400_000).toISOString(),
    timestamp__lte: new Date(range.to).toISOString(),
    limit: MARKS,
  };
  const { data } = await call(withQuery("/v1/alerts/history", query), { signal });
  // An alert and its recovery are two events of one time.
  const key = (it) => JSON.stringify([it.rule_id, it.labels, it.first_triggered_at]);
  const once = [...new Map(data.map((event) => [key(event), event])).values()];
  return once.map((event) => ({
    metric: event.metric_name,
    level: event.severity,
    from: Date.parse(event.first_triggered_at),
    to: event.resolved_at ? Date.parse(event.resolved_at) : now(),
    text: `${word("severity", event.severity)}: ${event.message}`,
  }));
}

/** Silences of a host as marks in its charts. */
async function silenceMarks(host, range, signal) {
  const query = {
    timestamp__gte: new Date(range.from).toISOString(),
    timestamp__lte: new Date(range.to).toISOString(),
  };
  const path = withQuery("/v1/notifications/silence-spans", query);
  const { data } = await call(path, { signal });
  const mine = data.filter(({ agent_pattern: pattern }) =>
    !pattern || globTest(pattern, [host]).length > 0);
  return mine.map((span) => ({
    metric: span.metric_pattern && !span.metric_pattern.includes("*") ? span.metric_pattern : "*",
    level: "silence",
    from: Date.parse(span.start),
    to: Date.parse(span.end),
    text: t("silence.mark", { comment: span.comment ?? when(span.start) }),
  }));
}

/** What a host said of itself: system, processor, memory, addresses. */
function hostFacts(known) {
  if (!known) return "";
  const cores = known.cpu_cores ? ` (${known.cpu_cores})` : "";
  return facts([
    [t("fact.os"), known.os],
    [t("fact.kernel"), [known.kernel, known.architecture].filter(Boolean).join(" ")],
    [t("fact.virtualization"), known.virtualization],
    [t("fact.cpu"), known.cpu_model + cores],
    [t("chart.memory"), known.memory_bytes ? bytes(known.memory_bytes) : ""],
    [t("fact.addresses"), known.addresses.join(", ")],
    [t("fact.boot"), known.boot_time ? when(known.boot_time) : ""],
    [t("fact.zone"), known.time_zone],
    [t("fact.agent"), known.agent_version],
  ]);
}

/** Whether nothing is stored of a host from before `first`. */
async function beginsAt(id, first, signal) {
  const query = { agent_id__eq: id, timestamp__lte: new Date(first - 1).toISOString(), limit: 1 };
  return (await call(withQuery("/v1/metrics", query), { signal })).total === 0;
}

class HostPage {
  constructor(shell, id) {
    Object.assign(this, { shell, id, title: id, extra: null, young: new Map() });
    this.range = rangeButtons(() => shell.refresh());
    this.shared = { crosshair: new Crosshair(), zoom: this.range.zoom };
    this.panels = CHARTS.map((about) => this.panel(about));
    this.grid = h("div", { class: "charts" }, ...this.panels.map(({ chart }) => chart.node));
    this.groups = GROUPS.map((group) => this.group(group));
    this.chooser = chooser(this, shell);
    this.comparer = comparer(id, shell);
    this.state = h("p", { class: "state" });
    this.about = h("div", { class: "about" });
    const about = { caption: t("alerts.active"), empty: "", agent: false };
    this.firing = new AlertTable(shell, about);
    const head = h("h2", {}, t("alerts.active"));
    this.alerts = h("section", { hidden: true }, head, this.firing.node);
    this.latest = new Table({
      caption: t("host.newest"),
      columns: LATEST(),
      key: (row) => JSON.stringify([row.metric_name, row.labels]),
      sort: { index: 0, down: false },
      empty: t("host.novalue"),
    });
    this.draw();
  }

  panel(about) {
    return new Panel([this.id], about, this.shared);
  }

  /** Charts that are shown when somebody opens them. */
  group({ title, charts }) {
    const name = ([first, ...others]) =>
      [first, ...others.map((metric) => metric.slice(metric.lastIndexOf(".") + 1))].join(", ");
    const panels = charts.map((metrics) => this.panel({ name: name(metrics), metrics }));
    const grid = h("div", { class: "charts" }, ...panels.map(({ chart }) => chart.node));
    const about = { class: "group", hidden: true };
    const node = h("details", about, h("summary", {}, t(title)), grid);
    node.addEventListener("toggle", () => node.open && this.shell.refresh());
    return { node, panels };
  }

  draw() {
    this.heading = h("h1", { tabindex: "-1" }, this.id);
    this.facts = h("div");
    const { shell } = this;
    const known = () => this.host ?? { agent_id: this.id };
    const buttons = isAdmin()
      ? [
        button(t("edit"), () => editHost(shell, known())),
        button(t("silence.here"), () => silenceFor(shell, { agent_id: this.id })),
        button(t("host.remove"), () => removeHost(shell, known())),
      ]
      : [];
    this.node = h(
      "div",
      {},
      h("p", {}, h("a", { href: href("") }, t("host.all"))),
      h("div", { class: "head" }, this.heading, ...buttons, this.range.node),
      this.state,
      this.about,
      this.alerts,
      this.comparer.node,
      this.grid,
      this.chooser.node,
      ...this.groups.map(({ node }) => node),
      h("details", {}, h("summary", {}, t("host.facts")), this.facts),
      h("details", {}, h("summary", {}, t("host.series")), this.latest.node),
    );
  }

  async load(signal) {
    const path = idPath("/v1/agents", this.id);
    const [rows, active, hosts, detail] = await Promise.all([
      all(`${path}/latest`, signal),
      all("/v1/alerts/active", signal),
      all("/v1/dashboard/agents", signal),
      call(path, { signal }),
    ]);
    this.comparer.offer(hosts.map(({ agent_id: id }) => id));
    this.host = hosts.find(({ agent_id: id }) => id === this.id) ?? { agent_id: this.id };
    setText(this.heading, this.host.display_name || this.id);
    tellHost(this.about, this.host);
    this.facts.replaceChildren(hostFacts(detail.data.facts));
    this.facts.parentNode.hidden = !detail.data.facts;
    this.tell(rows);
    const mine = active.filter((event) => event.agent_id === this.id);
    this.alerts.hidden = mine.length === 0;
    this.firing.show(mine);
    this.latest.show(rows);
    this.chooser.offer(rows);
    await this.loadCharts(rows, signal);
  }

  tell(rows) {
    const seen = this.host.last_seen;
    const up = rows.find((row) => row.metric_name === "load.uptime");
    const since = up ? ` · ${t("host.up", { time: duration(up.value) })}` : "";
    const stale = this.host.status === "inactive";
    const text = t(stale ? "host.stale" : "host.seen", { time: ago(seen, now()) });
    setText(this.state, text + since);
    this.state.classList.toggle("stale", stale);
    this.grid.classList.toggle("old", stale);
  }

  async loadCharts(rows, signal) {
    const names = new Set(rows.map((row) => row.metric_name));
    const reported = ({ about }) => about.metrics.some((metric) => names.has(metric));
    for (const panel of this.panels) panel.chart.node.hidden = !reported(panel);
    for (const { node, panels } of this.groups) {
      node.hidden = !panels.some(reported);
      for (const panel of panels) panel.chart.node.hidden = !node.open || !reported(panel);
    }
    const panels = [...this.panels, ...this.groups.flatMap((group) => group.panels), this.extra];
    const wanted = panels.filter((it) => it && !it.chart.node.hidden);
    const range = current();
    const agents = [this.id, ...this.comparer.others()];
    const [fired, silent] = await Promise.all([
      alertMarks(this.id, range, signal),
      silenceMarks(this.host, range, signal),
      ...wanted.map((panel) => panel.fetch(range, agents, signal)),
    ]);
    const shown = await this.axis(range, wanted, signal);
    for (const panel of wanted) panel.draw(shown, [...silent, ...fired]);
  }

  async axis(range, panels, signal) {
    const first = Math.min(...panels.map((panel) => panel.first));
    const late = first - range.from > (range.to - range.from) / 20;
    if (!range.live || !Number.isFinite(first) || !late) return range;
    if (!this.young.has(first)) this.young.set(first, await beginsAt(this.id, first, signal));
    return axis(range, first, this.young.get(first));
  }
}

export const page = (shell, { id }) => {
  const host = new HostPage(shell, id);
  return { title: id, node: host.node, load: (signal) => host.load(signal) };
};

