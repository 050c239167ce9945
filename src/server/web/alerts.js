// Alerts: those that fire, with what can be done about them, and those of the past.

import { AlertTable, STATES } from "./alerttable.js";
import { all } from "./api.js";
import { h } from "./dom.js";
import { t, word } from "./i18n.js";
import { PagedList, filterBar, tabs } from "./kit.js";
import { href } from "./route.js";

const severities = () =>
  [["", t("all")], ...["critical", "warning", "info"].map((it) => [it, word("severity", it)])];

const states = (shown) =>
  [["", t("all")], ...shown.map((it) => [String(it), word("alerts.state", STATES[it])])];

function frame(current, ...content) {
  const items = [
    [t("alerts.active"), href("alerts"), ""],
    [t("alerts.history"), href("alerts", "history"), "history"],
  ];
  const title = h("h1", { tabindex: "-1" }, t("nav.alerts"));
  return h("div", {}, title, tabs(t("nav.alerts"), items, current), ...content);
}

function activePage(shell) {
  const about = { caption: t("alerts.active"), empty: t("alerts.none"), bulk: true };
  const table = new AlertTable(shell, about);
  let events = [];
  const filters = filterBar([
    { name: "host", label: t("host") },
    { name: "severity", label: t("severity"), options: severities() },
    { name: "state", label: t("state"), options: states([1, 2]) },
    { name: "q", label: t("filter"), attributes: { type: "search" } },
  ], () => list());
  const list = () => {
    const { host, severity, state, q } = filters.values();
    const part = q.trim().toLowerCase();
    const text = ({ rule_name, metric_name, message, agent_id }) =>
      [rule_name, metric_name, message, agent_id].join("\n").toLowerCase();
    table.show(events.filter((event) =>
      (!host || event.agent_id.includes(host)) &&
      (!severity || event.severity === severity) &&
      (!state || String(event.status) === state) && text(event).includes(part)));
  };
  const load = async (signal) => {
    events = await all("/v1/alerts/active", signal);
    list();
  };
  return { title: t("nav.alerts"), node: frame("", filters.node, table.node), load };
}

/** Offers the names of what is reported and in force now; others can be typed. */
function offerNames(inputs) {
  const field = (name) => inputs.find((it) => it.name === name);
  const offer = async (name, path, of) => {
    // Without the offers the filters work all the same.
    const rows = await all(path).catch(() => []);
    field(name).offer([...new Set(rows.map(of))]);
  };
  offer("host", "/v1/dashboard/agents", (it) => it.agent_id);
  offer("rule", "/v1/alerts/rules", (it) => it.name);
  offer("metric", "/v1/alerts/rules", (it) => it.metric);
}

function historyPage(shell) {
  const table = new AlertTable(shell, { caption: t("alerts.history"), empty: "", past: true });
  const list = new PagedList(shell, {
    path: "/v1/alerts/history",
    caption: t("alerts.history"),
    columns: table.columns(true, true),
    key: (event) => event.id,
    empty: t("alerts.nothing"),
    filters: [
      { name: "host", label: t("host") },
      { name: "rule", label: t("rule") },
      { name: "metric", label: t("metric") },
      { name: "severity", label: t("severity"), options: severities() },
      { name: "state", label: t("state"), options: states([1, 2, 3]) },
      { name: "from", label: t("range.from"), attributes: { type: "datetime-local" } },
      { name: "to", label: t("range.to"), attributes: { type: "datetime-local" } },
    ],
    query: ({ host, rule, metric, severity, state, from, to }) => ({
      agent_id__contains: host,
      rule_name__contains: rule,
      metric_name__eq: metric,
      severity__eq: severity,
      status__eq: state,
      timestamp__gte: from && new Date(from).toISOString(),
      timestamp__lte: to && new Date(to).toISOString(),
    }),
  });
  offerNames(list.filters.inputs);
  const load = (signal) => list.load(signal);
  return { title: t("alerts.history"), node: frame("history", list.node), load };
}

export const page = (shell, { id }) => (id === "history" ? historyPage : activePage)(shell);
