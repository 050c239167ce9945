// Silences: when nobody is notified, of what, why, and who said so.

import { all, idPath, isAdmin, now, post, put, remove } from "./api.js";
import { Table, button, h, setBadge, setText } from "./dom.js";
import { ago, exactly, when } from "./format.js";
import { t, word } from "./i18n.js";
import { attempt, confirmed, formDialog, toast } from "./kit.js";

const WINDOWS = "/v1/notifications/silence-windows";
const HOURS = [1, 4, 24];
const DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/** A pattern that fits one name alone. */
const exact = (name) => name.replace(/[\\*?[\]{}!]/g, "\\$&");

const state = (silence) => {
  if (silence.active_until) return "active";
  return silence.ends_at && Date.parse(silence.ends_at) < now() ? "past" : "waiting";
};

function spanOf(silence) {
  if (silence.starts_at) return `${when(silence.starts_at)} – ${when(silence.ends_at)}`;
  const days = silence.days?.map((day) => word("day", day)).join(", ");
  const dates = silence.date ? `${silence.date} ` : "";
  const zone = silence.time_zone ? ` (${silence.time_zone})` : "";
  const often = silence.recurrence ? t(`silence.${silence.recurrence}`) : "";
  const times = `${dates}${silence.start_time}–${silence.end_time}${zone}`;
  return [often, days, times].filter(Boolean).join(" · ");
}

const about = (silence) => [
  silence.agent_pattern ? `${t("host")}: ${silence.agent_pattern}` : t("silence.everything"),
  silence.metric_pattern ? `${t("metric")}: ${silence.metric_pattern}` : "",
].filter(Boolean).join(" · ");

function patterns(values) {
  const given = (text) => text.trim() || undefined;
  return {
    agent_pattern: given(values.agent_pattern),
    metric_pattern: given(values.metric_pattern),
    comment: given(values.comment),
  };
}

const patternFields = (silence) => [
  {
    name: "agent_pattern",
    label: t("hosts"),
    value: silence.agent_pattern ?? "",
    help: t("silence.pattern.help"),
  },
  {
    name: "metric_pattern",
    label: t("metric"),
    value: silence.metric_pattern ?? "",
    help: t("silence.metric.help"),
  },
  { name: "comment", label: t("comment"), value: silence.comment ?? "" },
];

async function save(shell, silence, body) {
  if (silence.id) await put(idPath(WINDOWS, silence.id), body);
  else await post(WINDOWS, body);
  toast(t("silence.saved"));
  shell.refresh();
}

/** A silence of its own time: from a moment to another. */
function onceDialog(shell, silence) {
  const start = silence.starts_at ?? new Date(now()).toISOString();
  const end = silence.ends_at ?? new Date(now() + 3_600_000).toISOString();
  const time = (name, value) =>
    ({ name, label: t(`silence.${name}`), kind: "time", required: true, value });
  const quick = HOURS.map((hours) => button(t("silence.for", { hours }), () => {
    form.field("starts_at").set(new Date(now()).toISOString());
    form.field("ends_at").set(new Date(now() + hours * 3_600_000).toISOString());
  }));
  const { form } = formDialog(t(silence.id ? "silence.edit" : "silence.new"), {
    shell,
    before: [h("div", { class: "actions" }, ...quick)],
    fields: [time("starts_at", start), time("ends_at", end), ...patternFields(silence)],
    submit: t("save"),
    send: (values) => {
      const { starts_at, ends_at } = values;
      return save(shell, silence, { starts_at, ends_at, ...patterns(values) });
    },
  });
}

/** A silence that comes again. */
function recurringDialog(shell, silence) {
  const clock = (name, value) => ({
    name,
    label: t(`silence.${name}`),
    required: true,
    value,
    attributes: { type: "time" },
  });
  const often = [["daily", t("silence.daily")], ["weekly", t("silence.weekly")]];
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const { form } = formDialog(t(silence.id ? "silence.edit" : "silence.recurring"), {
    shell,
    fields: [
      {
        name: "recurrence",
        label: t("silence.recurrence"),
        options: often,
        value: silence.recurrence ?? "daily",
      },
      {
        name: "days",
        label: t("silence.days"),
        kind: "list",
        value: silence.days ?? [],
        help: t("silence.days.help", { days: DAYS.join(", ") }),
      },
      clock("start_time", silence.start_time ?? "02:00"),
      clock("end_time", silence.end_time ?? "04:00"),
      { name: "time_zone", label: t("silence.time_zone"), value: silence.time_zone ?? zone },
      ...patternFields(silence),
    ],
    send: (values) => save(shell, silence, {
      recurrence: values.recurrence,
      days: values.recurrence === "weekly" ? values.days : undefined,
      start_time: values.start_time,
      end_time: values.end_time,
      time_zone: values.time_zone.trim() || undefined,
      ...patterns(values),
    }),
  });
  const weekly = () => {
    form.field("days").node.hidden = form.field("recurrence").get() !== "weekly";
  };
  form.field("recurrence").input.addEventListener("change", weekly);
  weekly();
}

/** A silence of a host, or of an alert's metric there, from now on. */
export function silenceFor(shell, { agent_id: agent, metric_name: metric, rule_name: rule }) {
  onceDialog(shell, {
    agent_pattern: exact(agent),
    metric_pattern: metric && metric !== "*" ? exact(metric) : "",
    comment: rule ?? "",
  });
}

function acts(shell, cell, silence) {
  const key = JSON.stringify(silence);
  if (cell.dataset.of === key) return;
  cell.dataset.of = key;
  const edit = silence.recurrence || !silence.starts_at ? recurringDialog : onceDialog;
  const isActive = state(silence) === "active";
  const end = async () => {
    const question = isActive ? "silence.end.sure" : "silence.delete.sure";
    if (!(await confirmed(t("silence.end"), t(question), t("silence.end")))) return;
    await attempt(shell, () => remove(idPath(WINDOWS, silence.id)), t("silence.ended"));
    shell.refresh();
  };
  cell.replaceChildren(
    button(t("edit"), () => edit(shell, silence)),
    button(t(isActive ? "silence.end" : "delete"), end),
  );
}

function columns(shell) {
  const found = [
    {
      title: t("state"),
      value: (silence) => ["active", "waiting", "past"].indexOf(state(silence)),
      show(cell, silence) {
        const name = state(silence);
        setBadge(cell, t(`silence.state.${name}`), name === "active" ? "warning" : "info");
      },
    },
    {
      title: t("silence.when"),
      class: "wide",
      value: spanOf,
      show(cell, silence) {
        if (!cell.firstChild) cell.append(h("span"), h("small"));
        setText(cell.firstChild, spanOf(silence));
        const until = silence.active_until;
        const left = until ? t("silence.until", { time: ago(until, now()) }) : "";
        setText(cell.lastChild, left);
        cell.title = until ? exactly(until) : "";
      },
    },
    { title: t("silence.what"), class: "wide", value: about },
    {
      title: t("comment"),
      class: "wide",
      value: (silence) => silence.comment ?? "",
      show(cell, silence) {
        if (!cell.firstChild) cell.append(h("span"), h("small"));
        setText(cell.firstChild, silence.comment ?? "");
        setText(cell.lastChild, silence.created_by ?? "");
      },
    },
  ];
  const show = (cell, silence) => acts(shell, cell, silence);
  if (isAdmin()) found.push({ title: t("act"), class: "act", show });
  return found;
}

export function page(shell) {
  const table = new Table({
    caption: t("nav.silences"),
    columns: columns(shell),
    key: (silence) => silence.id,
    sort: { index: 0, down: false },
    empty: t("silence.none"),
  });
  const title = h("h1", { tabindex: "-1" }, t("nav.silences"));
  const buttons = isAdmin()
    ? [
      button(t("silence.recurring"), () => recurringDialog(shell, {})),
      button(t("silence.new"), () => onceDialog(shell, {}), { class: "main" }),
    ]
    : [];
  const head = h("div", { class: "head" }, title, ...buttons);
  const node = h("div", {}, head, h("p", { class: "state" }, t("silence.help")), table.node);
  const load = async (signal) => table.show(await all(WINDOWS, signal));
  return { title: t("nav.silences"), node, load };
}
