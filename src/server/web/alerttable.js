// A table of alerts, of one host or of all, with what can be done about them.

import { idPath, isAdmin, now, post } from "./api.js";
import { Table, button, h, setBadge, setLink, setText } from "./dom.js";
import { ago, exactly, labels, when } from "./format.js";
import { t, word } from "./i18n.js";
import { attempt, formDialog, toast } from "./kit.js";
import { agentHref, href } from "./route.js";

export const STATES = { 1: "firing", 2: "acknowledged", 3: "resolved" };
export const [FIRING, RESOLVED] = [1, 3];
export const RANKS = { critical: 3, warning: 2, info: 1 };

const path = (event, what) => `${idPath("/v1/alerts/history", event.id)}/${what}`;

function what(cell, event) {
  if (!cell.firstChild) cell.append(h("a"), h("span"), h("small"));
  const [rule, message, series] = cell.children;
  setText(rule, event.rule_name);
  rule.setAttribute("href", href("alert", event.id));
  setText(message, event.message);
  setText(series, labels(event.labels));
}

async function acknowledgeAll(shell, events, comment) {
  for (const event of events) {
    if (event.status === FIRING) await post(path(event, "acknowledge"));
    if (comment) await post(path(event, "comments"), { text: comment });
  }
  shell.refresh();
}

/** Asks for a comment, then acknowledges alerts. */
export function acknowledge(shell, events) {
  const names = events.map((event) => `${event.rule_name} · ${event.agent_id}`);
  const shown = names.slice(0, 5).join("\n") + (names.length > 5 ? "\n…" : "");
  formDialog(t("alerts.acknowledge"), {
    shell,
    before: [h("p", { class: "lines" }, shown)],
    fields: [{ name: "comment", label: t("comment"), kind: "lines", help: t("comment.help") }],
    submit: t("alerts.acknowledge"),
    send: async ({ comment }) => {
      await acknowledgeAll(shell, events, comment.trim());
      toast(t("alerts.acknowledged", { count: events.length }));
    },
  });
}

export const resolve = (shell, events) =>
  attempt(shell, async () => {
    for (const event of events) await post(path(event, "resolve"));
    shell.refresh();
  }, t("alerts.resolved", { count: events.length }));

export class AlertTable {
  constructor(shell, { caption, empty, agent = true, past = false, bulk = false }) {
    this.shell = shell;
    this.chosen = new Set();
    const columns = this.columns(agent, past);
    const acts = !past && isAdmin();
    const show = (cell, event) => this.acts(cell, event);
    if (acts) columns.push({ title: t("act"), class: "act", show });
    if (acts && bulk) columns.unshift(this.choice());
    const sort = past ? undefined : { index: columns.findIndex(({ key }) => key), down: true };
    this.table = new Table({ caption, columns, key: (event) => event.id, sort, empty });
    this.bulk = acts && bulk ? this.bulkBar() : "";
    this.node = h("div", {}, this.bulk, this.table.node);
  }

  columns(agent, past) {
    const time = past ? "timestamp" : "first_triggered_at";
    const host = {
      title: t("host"),
      class: "name",
      value: (event) => event.agent_id,
      show: (cell, event) => setLink(cell, event.agent_id, agentHref(event.agent_id)),
    };
    return [
      {
        key: "severity",
        title: t("severity"),
        down: true,
        value: (event) => RANKS[event.severity],
        show: (cell, event) =>
          setBadge(cell, word("severity", event.severity), event.severity),
      },
      ...(agent ? [host] : []),
      { title: t("alert"), class: "wide", value: (event) => event.rule_name, show: what },
      {
        title: past ? t("when") : t("since"),
        class: "time",
        down: true,
        value: (event) => Date.parse(event[time]),
        show(cell, event) {
          if (!cell.firstChild) cell.append(h("span"), h("small"));
          setText(cell.firstChild, ago(event[time], now()));
          setText(cell.lastChild, when(event[time]));
          cell.title = exactly(event[time]);
        },
      },
      { title: t("state"), value: (event) => word("alerts.state", STATES[event.status]) },
    ];
  }

  choice() {
    return {
      title: t("choose"),
      class: "choice",
      show: (cell, event) => {
        const box = cell.firstChild ?? cell.appendChild(h("input", { type: "checkbox" }));
        box.setAttribute("aria-label", `${event.rule_name} · ${event.agent_id}`);
        box.checked = this.chosen.has(event.id);
        box.onchange = () => {
          if (box.checked) this.chosen.add(event.id);
          else this.chosen.delete(event.id);
          this.count();
        };
      },
    };
  }

  bulkBar() {
    this.number = h("span", { role: "status" });
    const chosen = () => this.table.items.filter((event) => this.chosen.has(event.id));
    const all = button(t("choose.all"), () => {
      const every = this.table.items.map((event) => event.id);
      this.chosen = new Set(this.chosen.size === every.length ? [] : every);
      this.show(this.table.items);
    });
    const done = (work) => async () => {
      await work(this.shell, chosen());
      this.chosen.clear();
      this.count();
    };
    this.buttons = [
      button(t("alerts.acknowledge"), () => acknowledge(this.shell, chosen())),
      button(t("alerts.resolve"), done(resolve)),
    ];
    return h("div", { class: "bulk" }, all, this.number, ...this.buttons);
  }

  count() {
    if (!this.number) return;
    const present = new Set(this.table.items.map((event) => event.id));
    this.chosen = new Set([...this.chosen].filter((id) => present.has(id)));
    setText(this.number, t("choose.count", { count: this.chosen.size }));
    for (const node of this.buttons) node.disabled = this.chosen.size === 0;
    this.bulk.hidden = present.size === 0;
  }

  /** Shows alerts; of a long list, the `most` that matter most. */
  show(events, most = Infinity) {
    const worst = (a, b) => RANKS[b.severity] - RANKS[a.severity];
    this.table.show(most < events.length ? [...events].sort(worst).slice(0, most) : events);
    this.count();
  }

  acts(cell, event) {
    if (event.status !== FIRING) {
      cell.replaceChildren();
      return;
    }
    if (cell.firstChild) return;
    const name = `${t("alerts.acknowledge")}: ${event.rule_name} · ${event.agent_id}`;
    const ask = () => acknowledge(this.shell, [event]);
    cell.append(button(t("alerts.acknowledge"), ask, { "aria-label": name }));
  }
}
