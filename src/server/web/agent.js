// The page of one agent: charts, alerts, and the newest value of every series.

import { AlertTable } from "./alerts.js";
import { all, call, now } from "./api.js";
import { Chart } from "./chart.js";
import { Table, h, setText } from "./dom.js";
import { ago, duration, labels, number, percent, rate, when } from "./format.js";

/** How far back, the length of a bucket, and after how long a chart is fetched again: seconds. */
const RANGES = [
  { name: "1 h", secs: 3_600, step: 30, again: 10 },
  { name: "6 h", secs: 21_600, step: 120, again: 60 },
  { name: "24 h", secs: 86_400, step: 600, again: 60 },
  { name: "7 d", secs: 604_800, step: 3_600, again: 300 },
];

const CHARTS = [
  { title: "CPU", metrics: ["cpu.usage"], format: percent, max: 100 },
  { title: "Memory", metrics: ["memory.used_percent"], format: percent, max: 100 },
  { title: "Disks", metrics: ["disk.used_percent"], format: percent, max: 100 },
  {
    title: "Load",
    metrics: ["load.load_1", "load.load_5", "load.load_15"],
    names: ["1 min", "5 min", "15 min"],
    format: number,
  },
  { title: "Network, received", metrics: ["network.bytes_recv"], format: rate, least: 1000 },
  { title: "Network, sent", metrics: ["network.bytes_sent"], format: rate, least: 1000 },
];

// Kept while a person goes from agent to agent.
const kept = { range: RANGES[0] };

/** Fetches what a chart shows. */
async function fetchSeries(id, chart, from, step, signal) {
  const answers = await Promise.all(chart.metrics.map((metric) => {
    const query = new URLSearchParams({
      agent_id: id,
      metric_name: metric,
      timestamp__gte: new Date(from).toISOString(),
      step,
    });
    return call(`/v1/metrics/range?${query}`, { signal });
  }));
  return answers.flatMap(({ data }, index) => data.map((series) => ({
    name: chart.names?.[index] ?? Object.values(series.labels).join(" "),
    buckets: series.buckets.map((bucket) => ({ ...bucket, at: Date.parse(bucket.start) })),
  })));
}

class Panel {
  constructor(id, about) {
    Object.assign(this, { id, about, chart: new Chart(about), fetchedMs: 0 });
  }

  async load(range, signal) {
    if (this.range === range && Date.now() - this.fetchedMs < range.again * 1000 - 1000) return;
    const to = now();
    const from = to - range.secs * 1000;
    const found = await fetchSeries(this.id, this.about, from, range.step, signal);
    this.chart.show(found.filter((one) => one.buckets.length), from, to, range.step * 1000);
    Object.assign(this, { range, fetchedMs: Date.now() });
  }
}

function rangeButtons(choose) {
  const buttons = RANGES.map((range) => {
    const button = h("button", { type: "button" }, range.name);
    button.addEventListener("click", () => {
      kept.range = range;
      mark();
      choose();
    });
    return button;
  });
  const mark = () => buttons.forEach((button, index) => {
    button.setAttribute("aria-pressed", String(RANGES[index] === kept.range));
  });
  mark();
  return h("div", { class: "ranges", role: "group", "aria-label": "Time shown" }, ...buttons);
}

const LATEST = [
  { title: "Metric", class: "name", value: (row) => row.metric_name },
  { title: "Labels", class: "wide", value: (row) => labels(row.labels) },
  { title: "Value", class: "num", value: (row) => row.value, show: (cell, row) =>
    setText(cell, number(row.value)) },
  { title: "When", value: (row) => Date.parse(row.timestamp), show(cell, row) {
    setText(cell, ago(row.timestamp, now()));
    cell.title = when(row.timestamp);
  } },
];

/** A choice of one more metric to chart, for what the charts above do not show. */
function chooser(id, grid, shell) {
  const shown = new Set(CHARTS.flatMap((chart) => chart.metrics));
  const select = h("select", {}, h("option", { value: "" }, "none"));
  const node = h("label", { class: "more" }, h("span", {}, "Also chart"), select);
  const extra = { node, panel: null };
  select.addEventListener("change", () => {
    extra.panel?.chart.node.remove();
    const metric = select.value;
    extra.panel = metric && new Panel(id, { title: metric, metrics: [metric], format: number });
    if (extra.panel) grid.append(extra.panel.chart.node);
    shell.refresh();
  });
  extra.offer = (latest) => {
    const known = new Set([...select.options].map((option) => option.value));
    for (const { metric_name: name } of latest) {
      if (shown.has(name) || known.has(name)) continue;
      known.add(name);
      select.append(h("option", { value: name }, name));
    }
  };
  return extra;
}

export function agentPage(shell, id) {
  const panels = CHARTS.map((about) => new Panel(id, about));
  const grid = h("div", { class: "charts" }, ...panels.map((panel) => panel.chart.node));
  const extra = chooser(id, grid, shell);
  const state = h("p", { class: "state" });
  const firing = new AlertTable(shell, { caption: "Active alerts", empty: "", agent: false });
  const alerts = h("section", { hidden: true }, h("h2", {}, "Active alerts"), firing.node);
  const latest = new Table({
    caption: "Newest values",
    columns: LATEST,
    key: (row) => JSON.stringify([row.metric_name, row.labels]),
    sort: { index: 0, down: false },
    empty: "No value yet.",
  });
  const node = h(
    "div",
    {},
    h("p", {}, h("a", { href: "#/" }, "All agents")),
    h("div", { class: "head" }, h("h1", { tabindex: "-1" }, id), rangeButtons(shell.refresh)),
    state,
    alerts,
    grid,
    extra.node,
    h("details", {}, h("summary", {}, "Newest value of every series"), latest.node),
  );

  const load = async (signal) => {
    const path = `/v1/agents/${encodeURIComponent(id)}/latest`;
    const [newest, active] = await Promise.all([
      call(path, { signal }),
      all("/v1/alerts/active", signal),
    ]);
    const rows = newest.data;
    const seen = rows.reduce((last, row) => (row.timestamp > last ? row.timestamp : last), "");
    const up = rows.find((row) => row.metric_name === "load.uptime");
    const since = up ? `; host up ${duration(up.value)}` : "";
    setText(state, `Last seen ${ago(seen, now())}${since}`);
    const mine = active.filter((event) => event.agent_id === id);
    alerts.hidden = mine.length === 0;
    firing.show(mine);
    latest.show(rows);
    extra.offer(rows);
    const names = new Set(rows.map((row) => row.metric_name));
    for (const panel of panels) {
      panel.chart.node.hidden = !panel.about.metrics.some((metric) => names.has(metric));
    }
    const wanted = [...panels, extra.panel].filter((panel) => panel && !panel.chart.node.hidden);
    await Promise.all(wanted.map((panel) => panel.load(kept.range, signal)));
  };
  return { title: id, node, load };
}
