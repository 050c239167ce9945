// One alert: what fired, its chart around the moment, its rule, who was notified, and comments.

import { acknowledge, FIRING, RESOLVED, resolve, STATES } from "./alerttable.js";
import { call, idPath, isAdmin, now, post, withQuery } from "./api.js";
import { Chart } from "./chart.js";
import { Table, button, h, setBadge } from "./dom.js";
import { facts } from "./facts.js";
import { ago, duration, exactly, formatOf, labels } from "./format.js";
import { t, word } from "./i18n.js";
import { deliveryColumns } from "./deliveries.js";
import { Form } from "./kit.js";
import { stepFor } from "./range.js";
import { agentHref, href } from "./route.js";
import { silenceFor } from "./silences.js";

const AROUND_MS = 1_800_000;

async function drawChart(event, place) {
  if (event.metric_name === "*") return;
  const from = Date.parse(event.first_triggered_at) - AROUND_MS;
  const end = event.resolved_at ? Date.parse(event.resolved_at) : now();
  const to = Math.min(now(), end + AROUND_MS);
  const step = stepFor(to - from);
  const wanted = Object.entries(event.labels).map(([name, value]) =>
    `${name}=${value.replace(/[\\,]/g, "\\$&")}`);
  const { data } = await call(withQuery("/v1/metrics/range", {
    agent_id: event.agent_id,
    metric_name: event.metric_name,
    timestamp__gte: new Date(from).toISOString(),
    timestamp__lte: new Date(to).toISOString(),
    step,
    labels: wanted.join(","),
  }));
  const series = data.map((one) => ({
    name: Object.values(one.labels).join(" ") || event.metric_name,
    buckets: one.buckets.map((bucket) => ({ ...bucket, at: Date.parse(bucket.start) })),
  }));
  const chart = new Chart({
    title: event.metric_name,
    format: formatOf(event.metric_name),
    bounds: [event.threshold],
  });
  place.replaceChildren(chart.node);
  const start = Date.parse(event.first_triggered_at);
  const mark = { from: start, to: end, level: event.severity, text: event.message };
  chart.show(series.filter((one) => one.buckets.length), from, to, step * 1000, [mark]);
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
    await drawChart(event, this.chart);
  }
}

export async function page(shell, { id }) {
  const { data } = await call(idPath("/v1/alerts/history", id));
  const alert = new AlertPage(shell, data);
  return { title: data.rule_name, node: alert.node, load: (signal) => alert.load(signal) };
}
