// One alert: what fired, its chart around the moment, its rule, who was notified, and comments.

import { acknowledge, FIRING, RESOLVED, resolve, STATES } from "./alerttable.js";
import { all, call, idPath, isAdmin, now, post, prometheusGet, withQuery } from "./api.js";
import { Chart } from "./chart.js";
import { Table, button, h, setBadge, setText } from "./dom.js";
import { facts } from "./facts.js";
import { ago, bytes, duration, exactly, formatOf, labels, number, percent, rate }
  from "./format.js";
import { t, word } from "./i18n.js";
import { deliveryColumns } from "./deliveries.js";
import { Form } from "./kit.js";
import { agentHref, href } from "./route.js";
import { ofExpression, stored } from "./series.js";
import { silenceFor } from "./silences.js";

const AROUND_MS = 1_800_000;

/** The expression of the rule that fired, where it is one in PromQL and still in force. */
async function expressionOf(event) {
  const rules = await all("/v1/alerts/rules");
  const rule = rules.find(({ id }) => id === event.rule_id);
  if (rule?.rule_type !== "promql") return null;
  const { groups } = await prometheusGet("/api/v1/rules");
  return groups.flatMap((group) => group.rules).find(({ name }) => name === rule.name)?.query;
}

/** What an alert's chart shows between two times; `null` where it has none. */
async function seriesOf(event, expr, from, to, signal) {
  if (expr) return { format: number, ...(await ofExpression(expr, from, to, signal)) };
  const { agent_id: agent, metric_name: metric } = event;
  if (metric === "*") return null;
  const wanted = Object.entries(event.labels).map(([name, value]) =>
    `${name}=${value.replace(/[\\,]/g, "\\$&")}`);
  const found = await stored({ agent, metric, from, to, labels: wanted.join(",") }, signal);
  const bounds = [event.threshold].filter(Number.isFinite);
  return { title: metric, format: formatOf(metric), bounds, ...found };
}

const PROCESS_COLUMNS = () => [
  {
    title: t("process"),
    class: "name",
    value: (process) => process.name,
    show(cell, process) {
      if (!cell.firstChild) cell.append(h("b"), h("small"), h("small"));
      const [name, who, command] = cell.children;
      setText(name, process.name);
      setText(who, t("process.who", process));
      setText(command, process.arguments ?? process.cgroup);
    },
  },
  {
    title: "CPU",
    class: "num",
    down: true,
    value: (process) => process.cpu_percent,
    show: (cell, process) => setText(cell, percent(process.cpu_percent)),
  },
  {
    title: t("chart.memory"),
    class: "num",
    down: true,
    value: (process) => process.memory_bytes,
    show: (cell, process) => setText(cell, bytes(process.memory_bytes)),
  },
  ...["read", "write"].map((way) => ({
    title: t(`process.${way}`),
    class: "num",
    down: true,
    value: (process) => process[`${way}_bytes`],
    show: (cell, process) => setText(cell, rate(process[`${way}_bytes`])),
  })),
];

/** The column that an alert's metric is about: what used the most of it comes first. */
function columnOf(metric) {
  if (/^(memory|vm|container\.memory|pressure\.memory)/.test(metric)) return 2;
  return /^(diskio|pressure\.io|cpu\.iowait)/.test(metric) ? 4 : 1;
}

class AlertPage {
  constructor(shell, event) {
    Object.assign(this, { shell, event });
    this.facts = h("div");
    this.buttons = h("div", { class: "actions" });
    this.chart = h("div");
    const deliveries = {
      caption: t("alert.notifications"),
      columns: deliveryColumns(false),
      key: (row) => row.id,
      empty: t("alert.notnotified"),
    };
    this.deliveries = new Table(deliveries);
    this.processes = new Table({
      caption: t("alert.processes"),
      columns: PROCESS_COLUMNS(),
      key: (process) => process.pid,
      sort: { index: columnOf(event.metric_name), down: true },
      empty: "",
    });
    this.taken = h("p", { class: "state" });
    this.snapshot = h("section", { hidden: true }, h("h2", {}, t("alert.processes")), this.taken,
      this.processes.node);
    this.comments = h("ul", { class: "comments" });
    const heading = h("h1", { tabindex: "-1" }, event.rule_name);
    this.node = h(
      "div",
      {},
      h("p", {}, h("a", { href: href("alerts") }, t("nav.alerts"))),
      h("div", { class: "head" }, heading, this.buttons),
      h("p", {}, event.message),
      this.facts,
      this.chart,
      this.snapshot,
      h("section", {}, h("h2", {}, t("alert.notifications")), this.deliveries.node),
      h("section", {}, h("h2", {}, t("comments")), this.comments, this.commentForm()),
    );
  }

  commentForm() {
    if (!isAdmin()) return "";
    const form = new Form({
      shell: this.shell,
      fields: [{ name: "text", label: t("comment"), kind: "lines", required: true }],
      submit: t("comment.add"),
      send: async (values) => {
        await post(`${idPath("/v1/alerts/history", this.event.id)}/comments`, values);
        form.field("text").set("");
        this.shell.refresh();
      },
    });
    form.node.classList.add("one");
    return form.node;
  }

  draw() {
    const { event } = this;
    const badge = h("span");
    setBadge(badge, word("severity", event.severity), event.severity);
    const end = event.resolved_at ? Date.parse(event.resolved_at) : now();
    const start = event.first_triggered_at;
    const secs = (end - Date.parse(start)) / 1000;
    const rule = isAdmin() ? h("a", { href: href("rules", event.rule_id) }, event.rule_name)
      : event.rule_name;
    const format = formatOf(event.metric_name);
    this.facts.replaceChildren(facts([
      [t("state"), word("alerts.state", STATES[event.status])],
      [t("severity"), badge],
      [t("host"), h("a", { href: agentHref(event.agent_id) }, event.agent_id)],
      [t("rule"), rule],
      [t("metric"), event.metric_name === "*" ? "" : event.metric_name],
      [t("labels"), labels(event.labels)],
      [t("value"), `${format(event.value)} / ${format(event.threshold)}`],
      [t("since"), `${exactly(start)} (${ago(start, now())})`],
      [t("alert.resolved"), event.resolved_at ? exactly(event.resolved_at) : ""],
      [t("rule.lasted"), duration(secs)],
    ]));
    this.drawButtons();
  }

  drawButtons() {
    const { event, shell } = this;
    // Buttons that stay the same keep the focus.
    if (this.drawnFor === event.status) return;
    this.drawnFor = event.status;
    if (!isAdmin() || event.status === RESOLVED) {
      this.buttons.replaceChildren();
      return;
    }
    const nodes = [button(t("alerts.resolve"), () => resolve(shell, [event]))];
    if (event.status === FIRING) {
      nodes.unshift(button(t("alerts.acknowledge"), () => acknowledge(shell, [event])));
    }
    nodes.push(button(t("silence.here"), () => silenceFor(shell, event)));
    this.buttons.replaceChildren(...nodes);
  }

  async load(signal) {
    const path = idPath("/v1/alerts/history", this.event.id);
    const [{ data: event }, { data: comments }, { data: logs }] = await Promise.all([
      call(path, { signal }),
      call(`${path}/comments`, { signal }),
      call(withQuery("/v1/notifications/logs", { alert_event_id: this.event.id, limit: 100 }), {
        signal,
      }),
    ]);
    this.event = event;
    this.draw();
    this.deliveries.show(logs.items);
    this.comments.replaceChildren(...comments.map((each) => h(
      "li",
      {},
      h("small", {}, `${each.username}, ${exactly(each.created_at)}`),
      h("p", { class: "lines" }, each.text),
    )));
    this.tellProcesses(event.processes);
    await this.drawChart(signal);
  }

  /** The processes that used the most on the host, where its agent sent them. */
  tellProcesses(snapshot) {
    this.snapshot.hidden = !snapshot;
    if (!snapshot) return;
    const values = { time: exactly(snapshot.taken_at), seen: snapshot.processes_seen };
    const incomplete = snapshot.incomplete ? ` ${snapshot.incomplete}` : "";
    setText(this.taken, t("alert.processes.taken", values) + incomplete);
    this.processes.show(snapshot.processes);
  }

  async drawChart(signal) {
    const { event } = this;
    this.expression ??= expressionOf(event).catch(() => null);
    const start = Date.parse(event.first_triggered_at);
    const end = event.resolved_at ? Date.parse(event.resolved_at) : now();
    const [from, to] = [start - AROUND_MS, Math.min(now(), end + AROUND_MS)];
    const found = await seriesOf(event, await this.expression, from, to, signal);
    if (!found) return;
    const { series, step, ...about } = found;
    // Its elements stay, so that a reader's place in the chart is kept.
    this.drawn ??= new Chart(about);
    if (!this.drawn.node.isConnected) this.chart.replaceChildren(this.drawn.node);
    const mark = { from: start, to: end, level: event.severity, text: event.message };
    this.drawn.show(series, from, to, step * 1000, [mark]);
  }
}

export async function page(shell, { id }) {
  const { data } = await call(idPath("/v1/alerts/history", id));
  const alert = new AlertPage(shell, data);
  return { title: data.rule_name, node: alert.node, load: (signal) => alert.load(signal) };
}
