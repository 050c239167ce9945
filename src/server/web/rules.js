// Rules: all of them, and the form of one with its backtest.

import { all, call, idPath, isAdmin, post, put, remove } from "./api.js";
import { Backtest, globTest, hostList } from "./backtest.js";
import { Table, button, h, setBadge, setText } from "./dom.js";
import { formatOf, unitOf } from "./format.js";
import { t, word } from "./i18n.js";
import { Field, Form, attempt, confirmed, dialog, filterBar, toast } from "./kit.js";
import { href } from "./route.js";
import { TYPES, configOf, fieldsOf, inWords } from "./ruletypes.js";

const RULES = "/v1/alerts/rules";
const SEVERITIES = ["info", "warning", "critical"];
const NAMES_SHOWN = 5;

/** A rule's own configuration as an object. */
function configuration(rule) {
  const given = rule.config_json ?? "{}";
  try {
    return typeof given === "string" ? JSON.parse(given) : given;
  } catch {
    return {};
  }
}

const summary = (rule) => inWords(rule, configuration(rule), formatOf(rule.metric));

function acts(shell, cell, rule) {
  const again = () => shell.refresh();
  const key = `${rule.id} ${rule.enabled} ${rule.source}`;
  if (cell.dataset.of === key) return;
  cell.dataset.of = key;
  const copy = h("a", { href: href("rules", "new", { copy: rule.id }) }, t("rule.copy"));
  copy.setAttribute("aria-label", `${t("rule.copy")}: ${rule.name}`);
  if (rule.source === "file") {
    cell.replaceChildren(h("small", {}, t("rule.file")), copy);
    return;
  }
  const named = (text) => ({ "aria-label": `${text}: ${rule.name}` });
  const enable = async () => {
    const body = { enabled: !rule.enabled };
    await attempt(shell, () => put(`${idPath(RULES, rule.id)}/enable`, body));
    again();
  };
  const drop = async () => {
    if (!(await confirmed(t("rule.delete"), t("rule.delete.sure", rule), t("delete")))) return;
    await attempt(shell, () => remove(idPath(RULES, rule.id)), t("rule.deleted", rule));
    again();
  };
  const turn = t(rule.enabled ? "disable" : "enable");
  cell.replaceChildren(
    h("a", { href: href("rules", rule.id), ...named(t("edit")) }, t("edit")),
    copy,
    button(turn, enable, named(turn)),
    button(t("delete"), drop, named(t("delete"))),
  );
}

function columns(shell) {
  const found = [
    {
      title: t("rule"),
      class: "wide",
      value: (rule) => rule.name,
      show(cell, rule) {
        if (!cell.firstChild) cell.append(h("b"), h("span"));
        setText(cell.firstChild, rule.name);
        setText(cell.lastChild, summary(rule));
      },
    },
    { title: t("rule.type"), value: (rule) => word("rule.kind", rule.rule_type) },
    { title: t("hosts"), class: "name", value: (rule) => rule.agent_pattern },
    {
      title: t("severity"),
      value: (rule) => SEVERITIES.indexOf(rule.severity),
      down: true,
      show: (cell, rule) => setBadge(cell, word("severity", rule.severity), rule.severity),
    },
    {
      title: t("state"),
      value: (rule) => (rule.enabled ? 1 : 0),
      show: (cell, rule) => setText(cell, t(rule.enabled ? "rule.on" : "rule.off")),
    },
  ];
  if (isAdmin()) {
    const show = (cell, rule) => acts(shell, cell, rule);
    found.push({ title: t("act"), class: "act", show });
  }
  return found;
}

/** A choice of stock rules, each of which can be edited afterwards. */
async function addStock(shell, names) {
  const { data: stock } = await call("/v1/alerts/stock-rules");
  const boxes = stock.map((rule) => {
    const exists = names.has(rule.name);
    const field = new Field({
      name: rule.name,
      label: rule.name,
      kind: "flag",
      value: !exists,
      help: `${exists ? t("rule.stock.exists") : summary(rule)}`,
    });
    field.input.disabled = exists;
    return { rule, field };
  });
  const add = button(t("rule.stock.add"), async () => {
    const wanted = boxes.filter(({ field }) => field.get() && !field.input.disabled);
    const done = await attempt(shell, async () => {
      for (const { rule } of wanted) await post(RULES, rule);
    }, t("rule.stock.added", { count: wanted.length }));
    shell.refresh();
    if (done) box.close();
  }, { class: "main" });
  const list = h("div", { class: "fields" }, ...boxes.map(({ field }) => field.node));
  const buttons = h("div", { class: "buttons" }, add);
  const box = dialog(t("rule.stock"), h("p", {}, t("rule.stock.help")), list, buttons);
  add.focus();
}

function listPage(shell) {
  const table = new Table({
    caption: t("nav.rules"),
    columns: columns(shell),
    key: (rule) => rule.id,
    sort: { index: 0, down: false },
    empty: t("rule.none"),
  });
  let rules = [];
  const list = () => {
    const part = filters.values().q.trim().toLowerCase();
    const text = (rule) => `${rule.name}\n${rule.metric}\n${rule.agent_pattern}`.toLowerCase();
    table.show(rules.filter((rule) => text(rule).includes(part)));
  };
  const search = { name: "q", label: t("filter"), attributes: { type: "search" } };
  const filters = filterBar([search], list);
  const names = () => new Set(rules.map((rule) => rule.name));
  const actions = isAdmin()
    ? [
      button(t("rule.stock"), () => attempt(shell, () => addStock(shell, names()))),
      h("a", { class: "button main", href: href("rules", "new") }, t("rule.new")),
    ]
    : [];
  const title = h("h1", { tabindex: "-1" }, t("nav.rules"));
  const nobody = h("p", { class: "notice inside", hidden: true }, t("rule.none.warn"));
  const node = h("div", {}, h("div", { class: "head" }, title, ...actions), nobody,
    filters.node, table.node);
  const load = async (signal) => {
    rules = await all(isAdmin() ? `${RULES}/config` : RULES, signal);
    nobody.hidden = rules.some((rule) => rule.enabled);
    list();
  };
  return { title: t("nav.rules"), node, load };
}

class RulePage {
  constructor(shell, rule, isNew) {
    Object.assign(this, { shell, rule, isNew, config: configuration(rule) });
    this.hosts = hostList();
    this.backtest = new Backtest(() => this.body(), async () => {
      return globTest(this.common.field("agent_pattern").get() || "*", await this.hosts())
        .map(({ agent_id: id }) => id);
    });
    this.common = new Form({
      shell,
      fields: this.commonFields(),
      submit: t(isNew ? "rule.create" : "save"),
      send: () => this.save(),
      extra: [h("a", { class: "button", href: href("rules") }, t("cancel"))],
    });
    this.own = h("div", { class: "fields" });
    this.more = h("div", { class: "fields" });
    const details = h("details", {}, h("summary", {}, t("rule.more")), this.more);
    this.common.body.after(this.own, details);
    this.drawOwn();
    this.listen();
    this.title = isNew ? t("rule.new") : rule.name;
    const head = h("h1", { tabindex: "-1" }, this.title);
    const back = h("p", {}, h("a", { href: href("rules") }, t("nav.rules")));
    const form = h("section", { class: "card padded" }, this.common.node);
    const both = h("div", { class: "columns" }, form, this.backtest.node);
    this.node = h("div", {}, back, head, both);
  }

  commonFields() {
    const { rule } = this;
    const types = Object.keys(TYPES).map((name) => [name, t(`rule.kind.${name}`)]);
    const severities = SEVERITIES.map((name) => [name, word("severity", name)]);
    return [
      { name: "name", label: t("rule.name"), required: true, value: rule.name },
      { name: "rule_type", label: t("rule.type"), options: types, value: rule.rule_type },
      { name: "metric", label: t("metric"), value: rule.metric },
      { name: "agent_pattern", label: t("hosts"), value: rule.agent_pattern, help: " " },
      { name: "severity", label: t("severity"), options: severities, value: rule.severity },
      {
        name: "silence_secs",
        label: t("rule.silence_secs"),
        kind: "number",
        unit: "s",
        value: rule.silence_secs,
        help: t("rule.silence_secs.help"),
        attributes: { min: 0 },
      },
      { name: "enabled", label: t("rule.enabled"), kind: "flag", value: rule.enabled },
    ];
  }

  listen() {
    const on = (name, act) => this.common.field(name).input.addEventListener("change", act);
    on("rule_type", () => this.drawOwn());
    on("metric", () => this.drawOwn());
    this.common.field("agent_pattern").input.addEventListener("input", () => this.tellHosts());
    this.tellHosts();
    call("/v1/metrics/names?limit=1000").then(({ data }) => {
      this.common.field("metric").offer(data);
    }, () => {});
    this.hosts().then((hosts) => {
      const ids = hosts.map(({ agent_id: id }) => id);
      const tags = [...new Set(hosts.flatMap(({ tags }) => tags ?? []))].map((tag) => `tag:${tag}`);
      this.common.field("agent_pattern").offer(["*", ...tags, ...ids]);
    });
  }

  /** Says which hosts match now. */
  async tellHosts() {
    const field = this.common.field("agent_pattern");
    const found = globTest(field.get() || "*", await this.hosts());
    const names = found.slice(0, NAMES_SHOWN).map(({ agent_id: id }) => id).join(", ");
    const values = { count: found.length, names: names || t("none") };
    setText(field.help, t("rule.matches", values) + (found.length > NAMES_SHOWN ? ", …" : ""));
  }

  /** Draws the fields of the chosen type again; what was typed stays. */
  drawOwn() {
    const type = this.common.field("rule_type").get();
    const metric = this.common.field("metric");
    if (this.fields) this.config = configOf(this.type, this.ownValues(), this.config);
    this.type = type;
    const { metric: hasMetric = true, metrics, anyMetric } = TYPES[type] ?? {};
    metric.node.hidden = !hasMetric;
    metric.input.required = hasMetric;
    if (metrics && !metrics.includes(metric.get())) metric.set(metrics[0]);
    if (anyMetric && !metric.get()) metric.set("*");
    const about = fieldsOf(type, metric.get(), unitOf, this.config);
    const own = about.own.map((each) => new Field(each));
    const common = about.common.map((each) => new Field(each));
    this.common.fields = this.common.fields.filter((field) => !this.fields?.includes(field));
    this.fields = [...own, ...common];
    this.common.fields.push(...this.fields);
    this.own.replaceChildren(...own.map((field) => field.node));
    this.more.replaceChildren(...common.map((field) => field.node));
    this.more.parentNode.hidden = common.length === 0;
  }

  ownValues() {
    return Object.fromEntries(this.fields.map((field) => [field.name, field.get()]));
  }

  body() {
    const values = this.common.values();
    const { name, rule_type, severity, enabled, silence_secs } = values;
    const body = { name, rule_type, severity, enabled };
    body.agent_pattern = values.agent_pattern || "*";
    if (silence_secs !== undefined) body.silence_secs = silence_secs;
    if (TYPES[rule_type]?.metric !== false) body.metric = values.metric;
    const known = TYPES[rule_type] ? rule_type : this.rule.rule_type;
    body.config_json = configOf(known, this.ownValues(), this.kept(rule_type));
    return body;
  }

  /** Of the stored configuration what this form does not show, while the type is the same. */
  kept(type) {
    return type === this.rule.rule_type ? configuration(this.rule) : {};
  }

  async save() {
    const body = this.body();
    if (this.isNew) await post(RULES, body);
    else await put(idPath(RULES, this.rule.id), body);
    toast(t("rule.saved", body));
    this.shell.go(href("rules"));
  }
}

const BLANK = {
  name: "",
  rule_type: "threshold",
  metric: "cpu.usage",
  agent_pattern: "*",
  severity: "warning",
  silence_secs: 600,
  enabled: true,
  config_json: { operator: "greater_than", value: 90, duration_secs: 300 },
};

async function rulePage(shell, { id, query }) {
  const isNew = id === "new";
  const from = isNew ? query.get("copy") : id;
  let rule = BLANK;
  if (from) rule = (await call(idPath(RULES, from))).data;
  else if (query.get("metric")) rule = { ...BLANK, metric: query.get("metric") };
  if (isNew && from) rule = { ...rule, name: t("rule.copied", rule) };
  return new RulePage(shell, rule, isNew);
}

export function page(shell, at) {
  return at.id && isAdmin() ? rulePage(shell, at) : listPage(shell);
}
