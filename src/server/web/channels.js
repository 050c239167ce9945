// Channels: whom alerts notify. The form is made from what the server says of each type's fields.

import { all, call, idPath, isAdmin, post, put, remove } from "./api.js";
import { Table, button, h, setBadge, setText } from "./dom.js";
import { has, t, word } from "./i18n.js";
import { Field, Form, attempt, confirmed, dialog, toast } from "./kit.js";
import { href } from "./route.js";

const CHANNELS = "/v1/notifications/channels";
const CONFIG = `${CHANNELS}/config`;
const SEVERITIES = ["info", "warning", "critical"];

/** Sends a real message, and shows what the endpoint answered. */
async function test(channel) {
  const says = h("p", { class: "lines", role: "status" }, t("channel.testing"));
  const box = dialog(t("channel.test.of", channel), says);
  try {
    const { data } = await post(`${idPath(CHANNELS, channel.id)}/test`);
    setText(says, `${t("channel.test.sent")}\n${data.answer}`);
    says.classList.add("good");
  } catch (error) {
    setText(says, `${t("channel.test.failed")}\n${error.message}`);
    says.classList.add("bad");
  }
  return box;
}

function acts(shell, cell, channel) {
  const key = `${channel.id} ${channel.enabled} ${channel.name}`;
  if (cell.dataset.of === key) return;
  cell.dataset.of = key;
  const named = (text) => ({ "aria-label": `${text}: ${channel.name}` });
  const enable = async () => {
    const body = { enabled: !channel.enabled };
    await attempt(shell, () => put(idPath(CONFIG, channel.id), body));
    shell.refresh();
  };
  const drop = async () => {
    const sure = t("channel.delete.sure", channel);
    if (!(await confirmed(t("channel.delete"), sure, t("delete")))) return;
    const done = t("channel.deleted", channel);
    await attempt(shell, () => remove(idPath(CONFIG, channel.id)), done);
    shell.refresh();
  };
  const turn = t(channel.enabled ? "disable" : "enable");
  cell.replaceChildren(
    button(t("channel.test"), () => test(channel), named(t("channel.test"))),
    h("a", { href: href("channels", channel.id), ...named(t("edit")) }, t("edit")),
    button(turn, enable, named(turn)),
    button(t("delete"), drop, named(t("delete"))),
  );
}

function columns(shell) {
  const found = [
    {
      title: t("channel"),
      class: "wide",
      value: (channel) => channel.name,
      show(cell, channel) {
        if (!cell.firstChild) cell.append(h("b"), h("small"));
        setText(cell.firstChild, channel.name);
        setText(cell.lastChild, channel.description ?? "");
      },
    },
    { title: t("channel.type"), value: (channel) => word("channel.kind", channel.channel_type) },
    {
      title: t("channel.from"),
      value: (channel) => SEVERITIES.indexOf(channel.min_severity),
      show: (cell, it) => setBadge(cell, word("severity", it.min_severity), it.min_severity),
    },
    {
      title: t("channel.recipients"),
      class: "wide",
      value: (channel) => channel.recipients.join(", "),
    },
    {
      title: t("state"),
      value: (channel) => (channel.enabled ? 1 : 0),
      show: (cell, channel) => setText(cell, t(channel.enabled ? "rule.on" : "rule.off")),
    },
  ];
  const show = (cell, channel) => acts(shell, cell, channel);
  if (isAdmin()) found.push({ title: t("act"), class: "act", show });
  return found;
}

function listPage(shell) {
  const table = new Table({
    caption: t("nav.channels"),
    columns: columns(shell),
    key: (channel) => channel.id,
    sort: { index: 0, down: false },
    empty: t("channel.none"),
  });
  const nobody = h("p", { class: "notice inside", hidden: true }, t("channel.none.warn"));
  const title = h("h1", { tabindex: "-1" }, t("nav.channels"));
  const add = h("a", { class: "button main", href: href("channels", "new") }, t("channel.new"));
  const log = h("a", { class: "button", href: href("system", "deliveries") }, t("nav.deliveries"));
  const head = h("div", { class: "head" }, title, log, isAdmin() ? add : "");
  const load = async (signal) => {
    const channels = await all(CHANNELS, signal);
    nobody.hidden = channels.some((channel) => channel.enabled);
    table.show(channels);
  };
  return { title: t("nav.channels"), node: h("div", {}, head, nobody, table.node), load };
}

/** How a field of a type is asked for, by its kind: every kind of the server's registry. */
const KINDS = {
  text: {},
  host: { attributes: { spellcheck: "false", autocapitalize: "none" } },
  url: { attributes: { inputmode: "url", spellcheck: "false" } },
  word: {},
  template: { kind: "lines" },
  texts: { kind: "texts" },
  port: { kind: "number", attributes: { min: 1, max: 65_535, step: 1 } },
  number: { kind: "number" },
  headers: { kind: "pairs" },
  address: { attributes: { inputmode: "email" } },
  secret: { kind: "password", attributes: { autocomplete: "new-password" } },
};

function configField(about, config) {
  const key = `channel.field.${about.name}`;
  const options = about.options?.map((name) => [name, name]);
  if (options && !about.required) options.unshift(["", t("rule.default")]);
  const kind = KINDS[about.kind] ?? {};
  const limits = about.minimum === null ? {} : { min: about.minimum, max: about.maximum };
  return {
    ...kind,
    name: about.name,
    label: has(key) ? t(key) : about.name,
    help: has(`${key}.help`) ? t(`${key}.help`) : about.help ?? "",
    required: about.required,
    options,
    value: config[about.name],
    attributes: { ...kind.attributes, ...(about.kind === "number" ? limits : {}) },
  };
}

class ChannelPage {
  constructor(shell, types, channel, isNew) {
    Object.assign(this, { shell, types, channel, isNew });
    this.config = JSON.parse(channel.config_json);
    this.form = new Form({
      shell,
      fields: this.commonFields(),
      submit: t(isNew ? "channel.create" : "save"),
      send: () => this.save(),
      extra: [h("a", { class: "button", href: href("channels") }, t("cancel"))],
    });
    this.own = h("div", { class: "fields" });
    this.form.body.after(this.own);
    this.drawOwn();
    this.form.field("channel_type").input.addEventListener("change", () => this.drawOwn());
    this.title = isNew ? t("channel.new") : channel.name;
    const back = h("p", {}, h("a", { href: href("channels") }, t("nav.channels")));
    const head = h("h1", { tabindex: "-1" }, this.title);
    const secrets = isNew ? "" : h("p", { class: "state" }, t("channel.secrets"));
    const card = h("section", { class: "card padded" }, secrets, this.form.node);
    this.node = h("div", { class: "one" }, back, head, card);
  }

  commonFields() {
    const { channel } = this;
    const types = this.types.map(({ channel_type: type }) => [type, word("channel.kind", type)]);
    const severities = SEVERITIES.map((name) => [name, word("severity", name)]);
    return [
      { name: "name", label: t("rule.name"), required: true, value: channel.name },
      {
        name: "channel_type",
        label: t("channel.type"),
        options: types,
        value: channel.channel_type,
        attributes: this.isNew ? {} : { disabled: true },
      },
      { name: "description", label: t("channel.description"), value: channel.description ?? "" },
      {
        name: "min_severity",
        label: t("channel.from"),
        options: severities,
        value: channel.min_severity,
        help: t("channel.from.help"),
      },
      { name: "enabled", label: t("rule.enabled"), kind: "flag", value: channel.enabled },
    ];
  }

  drawOwn() {
    const name = this.form.field("channel_type").get();
    const type = this.types.find(({ channel_type: known }) => known === name) ?? this.types[0];
    const config = name === this.channel.channel_type ? this.config : {};
    const fields = type.fields.map((about) => new Field(configField(about, config)));
    const recipients = new Field({
      name: "recipients",
      label: t("channel.recipients"),
      kind: "list",
      value: name === this.channel.channel_type ? this.channel.recipients : [],
      help: t(`channel.recipient.${type.recipient_type}`),
    });
    recipients.node.hidden = type.recipient_type === "none";
    const old = [...(this.fields ?? []), this.recipients];
    this.form.fields = this.form.fields.filter((field) => !old.includes(field));
    Object.assign(this, { fields, recipients });
    this.form.fields.push(...fields, recipients);
    this.own.replaceChildren(...[...fields, recipients].map((field) => field.node));
  }

  body() {
    const { name, channel_type, description, min_severity, enabled } = this.form.values();
    const config = {};
    for (const field of this.fields) {
      const value = field.get();
      const isEmpty = value === undefined || value === "" ||
        (typeof value === "object" && Object.keys(value).length === 0);
      if (!isEmpty) config[field.name] = value;
    }
    const recipients = this.recipients.get();
    return { name, channel_type, description, min_severity, enabled, recipients,
      config_json: config };
  }

  async save() {
    const body = this.body();
    if (this.isNew) await post(CONFIG, body);
    else await put(idPath(CONFIG, this.channel.id), body);
    toast(t("channel.saved", body));
    this.shell.go(href("channels"));
  }
}

async function channelPage(shell, id) {
  const { data: types } = await call("/v1/notifications/channel-types");
  if (id !== "new") {
    const { data } = await call(idPath(CONFIG, id));
    return new ChannelPage(shell, types, data, false);
  }
  const blank = {
    name: "",
    channel_type: types[0].channel_type,
    config_json: "{}",
    min_severity: "warning",
    enabled: true,
    recipients: [],
  };
  return new ChannelPage(shell, types, blank, true);
}

export function page(shell, { id }) {
  return id && isAdmin() ? channelPage(shell, id) : listPage(shell);
}
