// Certificates: every watched domain with its newest check, the most urgent first; and one of them.

import { all, call, idPath, isAdmin, now, post, put, remove, withQuery } from "./api.js";
import { Table, button, h, setBadge, setLink, setText } from "./dom.js";
import { facts } from "./facts.js";
import { NONE, ago, exactly, when } from "./format.js";
import { t, word } from "./i18n.js";
import { attempt, confirmed, filterBar, formDialog, toast } from "./kit.js";
import { href } from "./route.js";

const DOMAINS = "/v1/certs/domains";
const SOON_DAYS = 30;
const HISTORY = 50;
const STARTTLS = ["smtp", "imap", "pop3", "ldap", "postgres"];

function state({ check, domain }) {
  if (domain && !domain.enabled) return [t("certs.off"), "info"];
  if (!check) return [t("certs.unchecked"), "info"];
  if (!check.is_valid) return [t("certs.invalid"), "critical"];
  if (check.days_until_expiry <= SOON_DAYS) return [t("certs.soon"), "warning"];
  return [t("certs.valid"), "good"];
}

const RANKS = { critical: 0, warning: 1, info: 2, good: 3 };

/** Invalid ones first, then by the days that are left. */
function urgency(item) {
  const days = Math.min(item.check?.days_until_expiry ?? 0, 1e5);
  return RANKS[state(item)[1]] * 1e6 + days;
}

const nameOf = ({ domain, port }) => (port === 443 ? domain : `${domain}:${port}`);

/** What is wrong: the kind in the reader's language, then the sentence of the check. */
function wrong(cell, check) {
  if (!cell.firstChild) cell.append(h("span"), h("small"));
  setText(cell.firstChild, check?.error_kind ? word("certs.error", check.error_kind) : "");
  setText(cell.lastChild, check?.error ?? "");
}

const check = (shell, domain) =>
  attempt(shell, () => post(`${idPath(DOMAINS, domain.id)}/check`), t("certs.checked.now"));

async function drop(shell, domain) {
  const sure = t("certs.delete.sure", { name: nameOf(domain) });
  if (!(await confirmed(t("certs.delete"), sure, t("delete")))) return false;
  return attempt(shell, () => remove(idPath(DOMAINS, domain.id)), t("certs.deleted"));
}

const settingFields = (domain) => [
  {
    name: "port",
    label: t("certs.port"),
    kind: "number",
    value: domain.port,
    attributes: { min: 1, max: 65_535, step: 1 },
  },
  {
    name: "starttls",
    label: "STARTTLS",
    options: [["", t("none")], ...STARTTLS.map((name) => [name, name])],
    value: domain.starttls ?? "",
  },
  {
    name: "check_interval_secs",
    label: t("certs.interval"),
    kind: "number",
    unit: "s",
    value: domain.check_interval_secs ?? undefined,
    help: t("certs.interval.help"),
    attributes: { min: 60, step: 1 },
  },
  { name: "note", label: t("note"), value: domain.note ?? "" },
];

function edit(shell, domain) {
  const enabled = {
    name: "enabled",
    label: t("certs.watched"),
    kind: "flag",
    value: domain.enabled,
  };
  formDialog(nameOf(domain), {
    shell,
    fields: [...settingFields(domain), enabled],
    send: async (values) => {
      await put(idPath(DOMAINS, domain.id), {
        port: values.port,
        starttls: values.starttls || null,
        check_interval_secs: values.check_interval_secs ?? null,
        note: values.note,
        enabled: values.enabled,
      });
      shell.refresh();
    },
  });
}

/** `example.org`, `example.org:8443` or `[::1]:443` as a domain to watch. */
function parse(text, values) {
  const [, bracketed, plain, port] = /^(?:\[(.+)\]|([^:]+))(?::(\d+))?$/.exec(text) ?? [];
  const domain = { domain: bracketed ?? plain ?? text };
  if (port) domain.port = Number(port);
  else if (values.port) domain.port = values.port;
  if (values.starttls) domain.starttls = values.starttls;
  if (values.note) domain.note = values.note;
  if (values.check_interval_secs) domain.check_interval_secs = values.check_interval_secs;
  return domain;
}

function add(shell) {
  formDialog(t("certs.add"), {
    shell,
    fields: [
      {
        name: "domains",
        label: t("certs.domains"),
        kind: "list",
        required: true,
        help: t("certs.domains.help"),
      },
      ...settingFields({ port: undefined }),
    ],
    submit: t("certs.add"),
    send: async (values) => {
      const domains = values.domains.map((text) => parse(text, values));
      const { data } = await post(`${DOMAINS}/batch`, { domains });
      toast(t("certs.added", { count: data.length }));
      // The first check of each, so that the list soon says how they are.
      await Promise.allSettled(data.map(({ id }) => post(`${idPath(DOMAINS, id)}/check`)));
      shell.refresh();
    },
  });
}

function acts(shell, cell, { domain }) {
  const key = JSON.stringify(domain);
  if (cell.dataset.of === key) return;
  cell.dataset.of = key;
  const named = (text) => ({ "aria-label": `${text}: ${nameOf(domain)}` });
  const again = (work) => async () => {
    await work(shell, domain);
    shell.refresh();
  };
  cell.replaceChildren(
    button(t("certs.check"), again(check), named(t("certs.check"))),
    button(t("edit"), () => edit(shell, domain), named(t("edit"))),
    button(t("delete"), again(drop), named(t("delete"))),
  );
}

function columns(shell) {
  const found = [
    { title: t("state"), value: urgency, show: (cell, item) => setBadge(cell, ...state(item)) },
    {
      title: t("certs.domain"),
      class: "name",
      value: ({ domain }) => nameOf(domain),
      show(cell, { domain }) {
        setLink(cell, nameOf(domain), href("certs", domain.id));
        if (cell.children.length < 2) cell.append(h("small"));
        setText(cell.lastChild, domain.note ? ` ${domain.note}` : "");
      },
    },
    {
      title: t("certs.days"),
      class: "num",
      value: (item) => item.check?.days_until_expiry,
      show(cell, item) {
        setText(cell, String(item.check?.days_until_expiry ?? NONE));
        cell.title = when(item.check?.not_after);
      },
    },
    { title: t("certs.issuer"), class: "wide", value: (item) => item.check?.issuer },
    {
      title: t("certs.wrong"),
      class: "wide",
      value: (item) => item.check?.error ?? "",
      show: (cell, item) => wrong(cell, item.check),
    },
    {
      title: t("certs.checked"),
      class: "time",
      value: (item) => (item.check ? Date.parse(item.check.checked_at) : null),
      show: (cell, item) => setText(cell, ago(item.check?.checked_at, now())),
    },
  ];
  const show = (cell, item) => acts(shell, cell, item);
  if (isAdmin()) found.push({ title: t("act"), class: "act", show });
  return found;
}

function listPage(shell) {
  const table = new Table({
    caption: t("nav.certs"),
    columns: columns(shell),
    key: ({ domain }) => domain.id,
    sort: { index: 0, down: false },
    empty: t("certs.none"),
  });
  let items = [];
  const search = { name: "q", label: t("filter"), attributes: { type: "search" } };
  const list = () => {
    const part = filters.values().q.trim().toLowerCase();
    const text = ({ domain }) => `${nameOf(domain)}\n${domain.note ?? ""}`.toLowerCase();
    table.show(items.filter((item) => text(item).includes(part)));
  };
  const filters = filterBar([search], list);
  const title = h("h1", { tabindex: "-1" }, t("nav.certs"));
  const checkAll = async () => {
    const done = ({ data }) => t("certs.checked.all", { count: data.length });
    await attempt(shell, () => post("/v1/certs/check"), done);
    shell.refresh();
  };
  const buttons = isAdmin()
    ? [
      button(t("certs.check.all"), checkAll),
      button(t("certs.add"), () => add(shell), { class: "main" }),
    ]
    : [];
  const head = h("div", { class: "head" }, title, ...buttons);
  const load = async (signal) => {
    const [domains, checks] = await Promise.all([
      all(DOMAINS, signal),
      all("/v1/certs/status", signal),
    ]);
    const newest = new Map(checks.map((it) => [it.domain_id, it]));
    items = domains.map((domain) => ({ domain, check: newest.get(domain.id) }));
    list();
  };
  return { title: t("nav.certs"), node: h("div", {}, head, filters.node, table.node), load };
}

const lines = (values) => (values?.length ? values.join(", ") : "");

/** What a certificate says, and whether it leads to an authority. */
function aboutCertificate(certificate) {
  const subject = [certificate.subject_cn, certificate.subject_o].filter(Boolean).join(", ");
  const issuer = [certificate.issuer_cn, certificate.issuer_o, certificate.issuer_c];
  const bits = certificate.public_key_bits ? ` ${certificate.public_key_bits} bit` : "";
  const chain = certificate.chain_valid ? t("certs.chain.good") : certificate.chain_error;
  return facts([
    [t("certs.subject"), subject],
    [t("certs.issuer"), issuer.filter(Boolean).join(", ")],
    [t("certs.names"), lines(certificate.subject_alt_names)],
    [t("certs.not_before"), exactly(certificate.not_before)],
    [t("certs.not_after"), exactly(certificate.not_after)],
    [t("certs.chain"), chain ?? t("certs.chain.bad")],
    [t("certs.depth"), certificate.chain_depth ?? ""],
    [t("certs.key"), `${certificate.public_key_algorithm ?? ""}${bits}`.trim()],
    [t("certs.signature"), certificate.signature_algorithm ?? ""],
    ["TLS", [certificate.tls_version, certificate.cipher_suite].filter(Boolean).join(", ")],
    [t("certs.serial"), certificate.serial_number ?? ""],
    ["SHA-256", certificate.fingerprint_sha256 ?? ""],
  ]);
}

function tables() {
  const addresses = new Table({
    caption: t("certs.addresses"),
    columns: [
      { title: t("certs.address"), class: "name", value: (it) => it.address },
      {
        title: t("state"),
        value: (it) => it.is_valid,
        show: (cell, it) =>
          setBadge(cell, t(it.is_valid ? "certs.valid" : "certs.invalid"),
            it.is_valid ? "good" : "critical"),
      },
      { title: t("certs.not_after"), value: (it) => when(it.not_after) },
      { title: t("certs.wrong"), class: "wide", value: (it) => it.error, show: wrong },
    ],
    key: (it) => it.address,
    empty: t("certs.noaddress"),
  });
  const history = new Table({
    caption: t("certs.history"),
    columns: [
      { title: t("when"), class: "time", value: (it) => exactly(it.checked_at) },
      {
        title: t("state"),
        value: (it) => it.is_valid,
        show: (cell, it) => setBadge(cell, ...state({ check: it })),
      },
      { title: t("certs.days"), class: "num", value: (it) => it.days_until_expiry },
      { title: t("certs.issuer"), class: "wide", value: (it) => it.issuer },
      { title: t("certs.wrong"), class: "wide", value: (it) => it.error, show: wrong },
    ],
    key: (it) => it.id,
    empty: t("certs.unchecked"),
  });
  return { addresses, history };
}

async function onePage(shell, id) {
  const path = idPath(DOMAINS, id);
  let { data: domain } = await call(path);
  const { addresses, history } = tables();
  const about = h("div");
  const says = h("p");
  const back = async (work) => {
    if (await work(shell, domain)) shell.refresh();
  };
  const buttons = isAdmin()
    ? [
      button(t("certs.check"), () => back(check)),
      button(t("edit"), () => edit(shell, domain)),
      button(t("delete"), async () => {
        if (await drop(shell, domain)) shell.go(href("certs"));
      }),
    ]
    : [];
  const title = h("h1", { tabindex: "-1" }, nameOf(domain));
  const node = h(
    "div",
    {},
    h("p", {}, h("a", { href: href("certs") }, t("nav.certs"))),
    h("div", { class: "head" }, title, ...buttons),
    says,
    about,
    h("section", {}, h("h2", {}, t("certs.addresses")), addresses.node),
    h("section", {}, h("h2", {}, t("certs.history")), history.node),
  );
  const load = async (signal) => {
    const [one, checks, certificate] = await Promise.all([
      call(path, { signal }),
      call(withQuery(`${path}/history`, { limit: HISTORY }), { signal }),
      certificateOf(domain, signal),
    ]);
    domain = one.data;
    const newest = checks.data[0];
    wrong(says, newest);
    says.className = newest?.error ? "notice inside bad" : "";
    about.replaceChildren(certificate ? aboutCertificate(certificate) : "");
    addresses.show(newest?.addresses ?? []);
    history.show(checks.data);
  };
  return { title: nameOf(domain), node, load };
}

/** The certificate that a domain serves; null where none was seen yet. */
async function certificateOf(domain, signal) {
  const found = await call("/v1/certificates?limit=1000", { signal });
  const mine = found.data.filter((it) => it.domain === domain.domain);
  return mine.find((it) => it.port === domain.port) ?? mine[0] ?? null;
}

export const page = (shell, { id }) => (id ? onePage(shell, id) : listPage(shell));
