// What a rule would have done: a summary, the alerts, and where they would have been in the chart.

import { all, now, post } from "./api.js";
import { Chart } from "./chart.js";
import { Table, button, h, setBadge, setLink, setText } from "./dom.js";
import { duration, exactly, formatOf, labels, number, when } from "./format.js";
import { t, word } from "./i18n.js";
import { Field } from "./kit.js";
import { agentHref } from "./route.js";
import { ofExpression, stored } from "./series.js";

const DAY_MS = 86_400_000;
const SPANS = [["1", "1d"], ["7", "7d"], ["30", "30d"]];

const columns = () => [
  { title: t("when"), class: "time", value: (it) => Date.parse(it.fired_at), show(cell, it) {
    setText(cell, when(it.fired_at));
    cell.title = exactly(it.fired_at);
  } },
  { title: t("host"), class: "name", value: (it) => it.agent_id, show: (cell, it) =>
    setLink(cell, it.agent_id, agentHref(it.agent_id)) },
  { title: t("severity"), value: (it) => it.severity, show: (cell, it) =>
    setBadge(cell, word("severity", it.severity), it.severity) },
  { title: t("labels"), class: "wide", value: (it) => labels(it.labels) },
  { title: t("rule.lasted"), value: (it) => it.duration_secs, show: (cell, it) =>
    setText(cell, duration(it.duration_secs)) },
  { title: t("rule.notified"), value: (it) => (it.notified ? t("yes") : t("no")) },
];

/** Marks in a chart: from when on the condition held until the alert would have ended. */
const marksOf = (alerts, end) => alerts.map((it) => ({
  level: it.severity,
  from: Date.parse(it.first_triggered_at),
  to: it.resolved_at ? Date.parse(it.resolved_at) : end,
  text: `${when(it.fired_at)}: ${it.message}`,
}));

/** The part of a rule's page that tries it on history. `draft()` gives the rule as it is typed. */
export class Backtest {
  constructor(draft, matching) {
    Object.assign(this, { draft, matching, result: null });
    const spans = SPANS.map(([days, name]) => {
      return button(t(`rule.test.${name}`), () => this.run(Number(days)));
    });
    this.says = h("p", { role: "status" }, t("rule.test.help"));
    this.host = new Field({ name: "host", label: t("rule.test.host"), options: [["", ""]] });
    this.host.input.addEventListener("change", () => this.draw());
    this.host.node.hidden = true;
    this.place = h("div");
    this.table = new Table({
      caption: t("rule.test.alerts"),
      columns: columns(),
      key: (it) => it.id,
      sort: { index: 0, down: true },
      empty: t("rule.test.none"),
    });
    this.table.node.hidden = true;
    this.node = h(
      "section",
      { class: "card backtest" },
      h("h2", {}, t("rule.test")),
      h("div", { class: "buttons start" }, ...spans),
      this.says,
      this.host.node,
      this.place,
      this.table.node,
    );
  }

  async run(days) {
    const to = now();
    const from = to - days * DAY_MS;
    setText(this.says, t("rule.test.running"));
    try {
      const { name, enabled, silence_secs, ...rule } = this.draft();
      const range = {
        timestamp__gte: new Date(from).toISOString(),
        timestamp__lte: new Date(to).toISOString(),
      };
      const { data } = await post("/v1/alerts/rules/test", { ...rule, silence_secs, ...range });
      this.result = { ...data, metric: rule.metric, config: rule.config_json, from, to };
      this.tell(data);
      if (rule.rule_type === "promql") await this.drawExpression();
      else await this.offerHosts();
    } catch (error) {
      this.result = null;
      this.table.node.hidden = true;
      this.place.replaceChildren();
      setText(this.says, error.message);
      this.says.className = "bad";
    }
  }

  tell(data) {
    this.says.className = "";
    const hosts = new Set(data.alerts.map((it) => it.agent_id)).size;
    const values = { count: data.total, hosts, notified: data.notified };
    const series = { series: data.series_evaluated, points: data.points_evaluated };
    const found = t(data.total ? "rule.test.found" : "rule.test.nothing", values);
    setText(this.says, `${found} ${t("rule.test.over", series)}`);
    this.table.node.hidden = false;
    this.table.show(data.alerts);
  }

  async offerHosts() {
    const counts = new Map();
    for (const { agent_id: agent } of this.result.alerts) {
      counts.set(agent, (counts.get(agent) ?? 0) + 1);
    }
    const fired = [...counts].sort((a, b) => b[1] - a[1]).map(([agent]) => agent);
    const hosts = [...new Set([...fired, ...(await this.matching())])].slice(0, 200);
    const options = hosts.map((agent) => {
      const count = counts.get(agent) ?? 0;
      return h("option", { value: agent }, count ? `${agent} (${count})` : agent);
    });
    this.host.input.replaceChildren(...options);
    this.host.node.hidden = hosts.length === 0;
    await this.draw();
  }

  /** The chart of a rule in PromQL: what its expression compares, of every host. */
  async drawExpression() {
    const { config, from, to, alerts } = this.result;
    this.host.node.hidden = true;
    const { title, series, step, bounds } = await ofExpression(config.expr, from, to);
    const chart = new Chart({ title, format: number, heading: "h3", bounds });
    this.place.replaceChildren(chart.node);
    chart.show(series, from, to, step * 1000, marksOf(alerts, to));
  }

  async draw() {
    const { result } = this;
    const agent = this.host.input.value;
    if (!result || !agent || !result.metric || result.metric === "*") {
      this.place.replaceChildren();
      return;
    }
    const { config, metric, from, to } = result;
    const { series, step } = await stored({ agent, metric, from, to });
    const marks = marksOf(result.alerts.filter((it) => it.agent_id === agent), to);
    const bounds = [config.value, config.predict_threshold, config.recovery_value];
    const about = { title: `${agent} · ${metric}`, format: formatOf(metric) };
    const chart = new Chart({ ...about, heading: "h3", bounds: bounds.filter(Number.isFinite) });
    this.place.replaceChildren(chart.node);
    chart.show(series, from, to, step * 1000, marks);
  }
}

/** A glob over host ids as a test: `web-*`, `db-[0-9]`, `{web,db}-1`, `tag:web`. */
export function globTest(pattern, hosts) {
  const tag = pattern.startsWith("tag:") ? pattern.slice(4) : null;
  if (tag !== null) return hosts.filter(({ tags }) => (tags ?? []).includes(tag));
  let depth = 0;
  const source = [...pattern].map((letter, index) => {
    if (letter === "*") return ".*";
    if (letter === "?") return ".";
    if (letter === "{") return (depth += 1) && "(?:";
    if (letter === "}" && depth > 0) return (depth -= 1) >= 0 && ")";
    if (letter === "," && depth > 0) return "|";
    if (letter === "[" || letter === "]") return letter;
    if (letter === "!" && pattern[index - 1] === "[") return "^";
    if (letter === "-") return "-";
    return letter.replace(/[.+^$()|\\/]/g, "\\$&");
  }).join("");
  try {
    const test = new RegExp(`^${source}$`, "s");
    return hosts.filter(({ agent_id: id }) => test.test(id));
  } catch {
    return [];
  }
}

/** All hosts with their tags; asked for once a page. */
export function hostList() {
  let asked = null;
  return () => (asked ??= all("/v1/dashboard/agents").catch(() => []));
}
