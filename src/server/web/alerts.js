// Alerts: those that fire, with a button to acknowledge them, and what was.

import { all, call, now, session } from "./api.js";
import { Table, agentHref, h, setLink, setText } from "./dom.js";
import { ago, labels, when } from "./format.js";

const STATES = { 1: "firing", 2: "acknowledged", 3: "resolved" };
const FIRING = 1;
const RANKS = { critical: 3, warning: 2, info: 1 };

function badge(cell, event) {
  if (!cell.firstChild) cell.append(h("span"));
  cell.firstChild.className = `badge ${event.severity}`;
  setText(cell.firstChild, event.severity);
}

function what(cell, event) {
  if (!cell.firstChild) cell.append(h("b"), h("span"), h("small"));
  const [rule, message, series] = cell.children;
  setText(rule, event.rule_name);
  setText(message, event.message);
  setText(series, labels(event.labels));
}

/** A table of alerts, of one agent or of all. */
export class AlertTable {
  constructor(shell, { caption, empty, agent = true, past = false }) {
    this.shell = shell;
    const about = {
      title: "Agent",
      class: "name",
      value: (event) => event.agent_id,
      show: (cell, event) => setLink(cell, event.agent_id, agentHref(event.agent_id)),
    };
    const severity = {
      title: "Severity",
      down: true,
      value: (event) => RANKS[event.severity],
      show: badge,
    };
    const time = past ? "timestamp" : "first_triggered_at";
    const since = {
      title: past ? "When" : "Since",
      down: true,
      value: (event) => Date.parse(event[time]),
      show(cell, event) {
        setText(cell, ago(event[time], now()));
        cell.title = when(event[time]);
      },
    };
    const columns = [
      severity,
      ...(agent ? [about] : []),
      { title: "Alert", class: "wide", value: (event) => event.rule_name, show: what },
      since,
      { title: "State", value: (event) => STATES[event.status] },
    ];
    if (!past && session()?.role === "admin") {
      columns.push({ title: "", class: "act", show: (cell, event) => this.button(cell, event) });
    }
    const sort = past ? undefined : { index: 0, down: true };
    this.table = new Table({ caption, columns, key: (event) => event.id, sort, empty });
    this.node = this.table.node;
  }

  /** Shows alerts; of a long list, the `most` that matter most. */
  show(events, most = Infinity) {
    const worst = (a, b) => RANKS[b.severity] - RANKS[a.severity];
    this.table.show(most < events.length ? [...events].sort(worst).slice(0, most) : events);
  }

  button(cell, event) {
    if (event.status !== FIRING) {
      cell.replaceChildren();
      return;
    }
    if (cell.firstChild) return;
    const name = `Acknowledge ${event.rule_name} of ${event.agent_id}`;
    const button = h("button", { type: "button", "aria-label": name }, "Acknowledge");
    button.addEventListener("click", async () => {
      button.disabled = true;
      const path = `/v1/alerts/history/${encodeURIComponent(event.id)}/acknowledge`;
      try {
        await call(path, { method: "POST" });
        this.shell.refresh();
      } catch (error) {
        button.disabled = false;
        this.shell.fail(error);
      }
    });
    cell.append(button);
  }
}

export function alertsPage(shell) {
  const active = new AlertTable(shell, { caption: "Active alerts", empty: "No alert is active." });
  const past = new AlertTable(shell, {
    caption: "Recent alerts and recoveries",
    empty: "Nothing has fired yet.",
    past: true,
  });
  const node = h(
    "div",
    {},
    h("h1", { tabindex: "-1" }, "Alerts"),
    h("section", {}, h("h2", {}, "Active"), active.node),
    h("section", {}, h("h2", {}, "The last 50 alerts and recoveries"), past.node),
  );
  const load = async (signal) => {
    const [firing, history] = await Promise.all([
      all("/v1/alerts/active", signal),
      call("/v1/alerts/history?limit=50", { signal }),
    ]);
    active.show(firing);
    past.show(history.data);
  };
  return { title: "Alerts", node, load };
}
