// The server itself: deliveries, storage, audit log, users, API tokens, configuration in force.

import { call, idPath, isAdmin, now, post, put, remove, session } from "./api.js";
import { deliveryColumns } from "./deliveries.js";
import { Table, button, h, setText } from "./dom.js";
import { facts } from "./facts.js";
import { ago, bytes, duration, exactly, number, when } from "./format.js";
import { t, word } from "./i18n.js";
import { PagedList, attempt, confirmed, copyLine, dialog, formDialog, tabs } from "./kit.js";
import { href } from "./route.js";

const ROLES = ["viewer", "admin"];

const time = (title, value) => ({
  title,
  class: "time",
  value,
  show(cell, row) {
    setText(cell, when(value(row)));
    cell.title = exactly(value(row));
  },
});

const timeFilters = () => [
  { name: "from", label: t("range.from"), attributes: { type: "datetime-local" } },
  { name: "to", label: t("range.to"), attributes: { type: "datetime-local" } },
];

const iso = (text) => text && new Date(text).toISOString();

function deliveries(shell) {
  const statuses = ["success", "failed", "suppressed"].map((it) => [it, word("delivery", it)]);
  const list = new PagedList(shell, {
    path: "/v1/notifications/logs",
    rows: (data) => data.items,
    caption: t("nav.deliveries"),
    columns: deliveryColumns(),
    key: (row) => row.id,
    empty: t("delivery.none"),
    filters: [
      { name: "status", label: t("delivery.result"), options: [["", t("all")], ...statuses] },
      { name: "host", label: t("host") },
      ...timeFilters(),
    ],
    query: ({ status, host, from, to }) =>
      ({ status, agent_id: host, start_time: iso(from), end_time: iso(to) }),
  });
  return { node: list.node, load: (signal) => list.load(signal) };
}

async function cleanUp(shell) {
  const sure = t("storage.cleanup.sure");
  if (!(await confirmed(t("storage.cleanup"), sure, t("storage.cleanup")))) return;
  const done = ({ data }) =>
    t("storage.cleaned", { count: data.removed_partitions, size: bytes(data.freed_bytes) });
  await attempt(shell, () => post("/v1/system/storage/cleanup"), done);
  shell.refresh();
}

function storage(shell) {
  const about = h("div");
  const table = new Table({
    caption: t("storage.days"),
    columns: [
      { title: t("storage.day"), value: (day) => day.date },
      {
        title: t("storage.size"),
        class: "num",
        down: true,
        value: (day) => day.size_bytes,
        show: (cell, day) => setText(cell, bytes(day.size_bytes)),
      },
    ],
    key: (day) => day.date,
    sort: { index: 0, down: true },
    empty: t("storage.none"),
  });
  const engine = new Table({
    caption: t("remote.title"),
    columns: [
      { title: t("remote.target"), value: (it) => it.target },
      { title: t("remote.up"), value: (it) => t(it.up ? "yes" : "no") },
      { title: t("remote.lag"), value: (it) => duration(it.lag_secs) },
      { title: t("remote.gaps"), value: (it) => duration(it.gap_secs) },
      {
        title: t("remote.lost"),
        value: (it) => number(it.refused_samples + it.missing_samples),
      },
      time(t("remote.audited"), (it) => it.audited_to),
    ],
    key: (it) => it.target,
    empty: "",
  });
  const beyond = h("section", { hidden: true }, h("h2", {}, t("remote.title")), engine.node);
  const clean = isAdmin() ? button(t("storage.cleanup"), () => cleanUp(shell)) : "";
  const node = h("div", {}, about, beyond, h("div", { class: "bulk" }, clean), table.node);
  const load = async (signal) => {
    const [{ data }, { data: remote }] = await Promise.all([
      call("/v1/system/storage", { signal }),
      call("/v1/system/remote", { signal }),
    ]);
    beyond.hidden = !remote.targets.length;
    engine.show(remote.targets);
    about.replaceChildren(facts([
      [t("storage.points"), bytes(data.total_size_bytes)],
      [t("storage.all"), bytes(data.data_dir_bytes)],
      [t("storage.head"), `${bytes(data.head_bytes)} · ${number(data.head_series)}`],
      [t("storage.damaged"), data.damaged.join(", ")],
      [t("storage.full"), data.disk_full ? t("yes") : ""],
    ]));
    table.show(data.partitions);
  };
  return { node, load };
}

function audit(shell) {
  const list = new PagedList(shell, {
    path: "/v1/audit",
    caption: t("nav.audit"),
    columns: [
      time(t("when"), (row) => row.timestamp),
      { title: t("audit.user"), class: "name", value: (row) => row.username },
      { title: t("audit.address"), value: (row) => row.address },
      {
        title: t("audit.what"),
        class: "wide",
        value: (row) => row.target,
        show(cell, row) {
          if (!cell.firstChild) cell.append(h("span"), h("small"));
          setText(cell.firstChild, row.action);
          setText(cell.lastChild, row.target);
        },
      },
      { title: t("audit.status"), class: "num", value: (row) => row.status },
    ],
    key: (row) => row.id,
    empty: t("audit.none"),
    filters: [{ name: "user", label: t("audit.user") }, ...timeFilters()],
    query: ({ user, from, to }) =>
      ({ username__eq: user, timestamp__gte: iso(from), timestamp__lte: iso(to) }),
  });
  return { node: list.node, load: (signal) => list.load(signal) };
}

const password = (name = "password") => ({
  name,
  label: t("login.password"),
  kind: "password",
  required: true,
  attributes: { autocomplete: "new-password", minlength: 8 },
});

const roleField = (value) => ({
  name: "role",
  label: t("user.role"),
  options: ROLES.map((name) => [name, t(`user.role.${name}`)]),
  value,
});

const USERS = "/v1/users";

function newUser(shell) {
  formDialog(t("user.new"), {
    shell,
    fields: [
      { name: "username", label: t("login.name"), required: true },
      password(),
      roleField("viewer"),
    ],
    send: async (values) => {
      await post(USERS, values);
      shell.refresh();
    },
  });
}

function userActs(shell, cell, user) {
  const key = `${user.id} ${user.role}`;
  if (cell.dataset.of === key) return;
  cell.dataset.of = key;
  const own = user.username === session().username;
  const named = (text) => ({ "aria-label": `${text}: ${user.username}` });
  const role = () => formDialog(user.username, {
    shell,
    fields: [roleField(user.role)],
    send: async (values) => {
      await put(idPath(USERS, user.id), values);
      shell.refresh();
    },
  });
  const reset = () => formDialog(t("user.reset"), {
    shell,
    fields: [
      password("new_password"),
      { name: "end_tokens", label: t("user.tokens"), kind: "flag" },
    ],
    send: (values) => post(`${idPath(USERS, user.id)}/password`, values),
  });
  const drop = async () => {
    if (!(await confirmed(t("user.delete"), t("user.delete.sure", user), t("delete")))) return;
    await attempt(shell, () => remove(idPath(USERS, user.id)), t("user.deleted", user));
    shell.refresh();
  };
  cell.replaceChildren(
    button(t("user.role"), role, named(t("user.role"))),
    button(t("user.reset"), reset, named(t("user.reset"))),
    own ? "" : button(t("delete"), drop, named(t("delete"))),
  );
}

function users(shell) {
  const list = new PagedList(shell, {
    path: USERS,
    caption: t("nav.users"),
    columns: [
      {
        title: t("login.name"),
        class: "wide",
        value: (user) => user.username,
        show(cell, user) {
          if (!cell.firstChild) cell.append(h("span"), h("small"));
          setText(cell.firstChild, user.username);
          setText(cell.lastChild, user.must_change ? t("user.default") : "");
        },
      },
      { title: t("user.role"), value: (user) => t(`user.role.${user.role}`) },
      time(t("created"), (user) => user.created_at),
      { title: t("act"), class: "act", show: (cell, user) => userActs(shell, cell, user) },
    ],
    key: (user) => user.id,
    empty: "",
  });
  const add = button(t("user.new"), () => newUser(shell), { class: "main" });
  const node = h("div", {}, h("div", { class: "bulk" }, add), list.node);
  return { node, load: (signal) => list.load(signal) };
}

const TOKENS = "/v1/auth/tokens";

/** A token's text is shown once; of a read-only one also the link for a wall display. */
function showToken({ token, read_only: readOnly }) {
  const parts = [h("p", {}, t("token.once")), copyLine(token, t("token"))];
  if (readOnly) {
    const link = `${location.origin}/#/?token=${token}`;
    parts.push(h("p", {}, t("token.kiosk")), copyLine(link, t("token.link")));
  }
  dialog(t("token.made"), ...parts);
}

function newToken(shell) {
  formDialog(t("token.new"), {
    shell,
    fields: [
      { name: "name", label: t("rule.name"), required: true },
      {
        name: "read_only",
        label: t("token.readonly"),
        kind: "flag",
        value: true,
        help: t("token.readonly.help"),
      },
      {
        name: "expires_at",
        label: t("token.expires"),
        kind: "time",
        help: t("token.expires.help"),
      },
    ],
    submit: t("token.make"),
    send: async (values) => {
      const { data } = await post(TOKENS, values);
      shell.refresh();
      setTimeout(() => showToken(data));
    },
  });
}

function tokenList(shell, path, mine) {
  const revoke = (token) => async () => {
    const sure = t("token.revoke.sure", token);
    if (!(await confirmed(t("token.revoke"), sure, t("token.revoke")))) return;
    await attempt(shell, () => remove(idPath(path, token.id)), t("token.revoked"));
    shell.refresh();
  };
  const columns = [
    {
      title: t("rule.name"),
      class: "wide",
      value: (token) => token.name,
      show(cell, token) {
        if (!cell.firstChild) cell.append(h("span"), h("small"));
        setText(cell.firstChild, token.name);
        setText(cell.lastChild, token.read_only ? t("token.readonly") : "");
      },
    },
    time(t("created"), (token) => token.created_at),
    { title: t("token.used"), class: "time", value: (it) => ago(it.last_used_at, now()) },
    { title: t("token.expires"), class: "time", value: (it) => when(it.expires_at) },
    {
      title: t("act"),
      class: "act",
      show(cell, token) {
        if (cell.firstChild) return;
        const about = { "aria-label": `${t("token.revoke")}: ${token.name}` };
        cell.append(button(t("token.revoke"), revoke(token), about));
      },
    },
  ];
  if (!mine) {
    columns.unshift({ title: t("audit.user"), class: "name", value: (it) => it.username });
  }
  return new PagedList(shell, {
    path,
    caption: t(mine ? "token.mine" : "token.all"),
    columns,
    key: (token) => token.id,
    empty: t("token.none"),
  });
}

function tokens(shell) {
  const own = tokenList(shell, TOKENS, true);
  const every = isAdmin() ? tokenList(shell, "/v1/tokens", false) : null;
  const add = session().by_token
    ? ""
    : button(t("token.new"), () => newToken(shell), { class: "main" });
  const node = h("div", {}, h("div", { class: "bulk" }, add), own.node);
  if (every) node.append(h("section", {}, h("h2", {}, t("token.all")), every.node));
  const load = (signal) => Promise.all([own, every].filter(Boolean).map((it) => it.load(signal)));
  return { node, load };
}

function configuration() {
  const about = h("div");
  const table = new Table({
    caption: t("nav.config"),
    columns: [
      { title: t("config.key"), class: "name", value: ([key]) => key },
      {
        title: t("value"),
        class: "wide",
        value: ([, value]) => (value === null ? "" : JSON.stringify(value)),
      },
    ],
    key: ([key]) => key,
    sort: { index: 0, down: false },
    empty: "",
  });
  const load = async (signal) => {
    const [{ data }, { data: health }] = await Promise.all([
      call("/v1/system/config", { signal }),
      call("/v1/health", { signal }),
    ]);
    about.replaceChildren(facts([
      [t("config.version"), health.version],
      [t("config.up"), duration(health.uptime_secs)],
      [t("config.agents"), number(health.agent_count)],
      [t("nav.rules"), number(data.alert_rules_count)],
      [t("nav.channels"), number(data.notification_channels_count)],
    ]));
    table.show(Object.entries(data.settings));
  };
  return { node: h("div", {}, about, table.node), load };
}

/** The parts of the page, and which are for administrators alone. */
const PARTS = {
  deliveries: { make: deliveries, title: "nav.deliveries" },
  storage: { make: storage, title: "nav.storage" },
  audit: { make: audit, title: "nav.audit", admin: true },
  users: { make: users, title: "nav.users", admin: true },
  tokens: { make: tokens, title: "nav.tokens" },
  config: { make: configuration, title: "nav.config", admin: true },
};

export function page(shell, { id }) {
  const seen = Object.entries(PARTS).filter(([, { admin }]) => !admin || isAdmin());
  const [name, part] = seen.find(([known]) => known === id) ?? seen[0];
  const made = part.make(shell);
  const links = seen.map(([key, { title }]) => [t(title), href("system", key), key]);
  const title = h("h1", { tabindex: "-1" }, t("nav.system"));
  const node = h("div", {}, title, tabs(t("nav.system"), links, name), made.node);
  return { title: t(part.title), node, load: made.load };
}
