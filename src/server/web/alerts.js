// Alerts: those that fire, with what can be done about them, and those of the past.

import { AlertTable } from "./alerttable.js";
import { all } from "./api.js";
import { h } from "./dom.js";
import { t, word } from "./i18n.js";
import { PagedList, filterBar, tabs } from "./kit.js";
import { href } from "./route.js";

const severities = () =>
  [["", t("all")], ...["critical", "warning", "info"].map((it) => [it, word("severity", it)])];

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
    { name: "q", label: t("filter"), attributes: { type: "search" } },
  ], () => list());
  const list = () => {
    const { host, severity, q } = filters.values();
    const part = q.trim().toLowerCase();
    const text = (event) => `${event.rule_name}\n${event.message}\n${event.agent_id}`.toLowerCase();
    table.show(events.filter((event) =>
      (!host || event.agent_id.includes(host)) &&
      (!severity || event.severity === severity) && text(event).includes(part)));
  };
  const load = async (signal) => {
    events = await all("/v1/alerts/active", signal);
    list();
  };
  return { title: t("nav.alerts"), node: frame("", filters.node, table.node), load };
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
      { name: "severity", label: t("severity"), options: severities() },
      { name: "from", label: t("range.from"), attributes: { type: "datetime-local" } },
      { name: "to", label: t("range.to"), attributes: { type: "datetime-local" } },
    ],
    query: ({ host, severity, from, to }) => ({
      agent_id__eq: host,
      severity__eq: severity,
      timestamp__gte: from && new Date(from).toISOString(),
      timestamp__lte: to && new Date(to).toISOString(),
    }),
  });
  const load = (signal) => list.load(signal);
  return { title: t("alerts.history"), node: frame("history", list.node), load };
}

export const page = (shell, { id }) => (id === "history" ? historyPage : activePage)(shell);
