// Hosts: how another one joins, what it is called, and how it leaves.

import { all, call, idPath, now, put, post, withQuery } from "./api.js";
import { h, setText } from "./dom.js";
import { when } from "./format.js";
import { t } from "./i18n.js";
import { Field, attempt, copyLine, dialog, formDialog, toast } from "./kit.js";
import { agentHref, href } from "./route.js";

const POLL_MS = 2_000;
const LOCAL = /^(localhost|127\.|\[?::1)/;

/** A text as one word of a shell. */
const quoted = (text) => (/^[\w.:@/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** The ways in which a host joins, each as one line. */
function lines({ address, code, id, tls }) {
  const named = id ? ` --agent-id ${quoted(id)}` : "";
  const enroll = `--server ${quoted(address)} --code ${code}${named}${tls ? " --tls" : ""}`;
  const mounts = "-v /proc:/host/proc:ro -v /sys:/host/sys:ro -v /:/host/root:ro,rslave";
  const roots = "-e OXMON_HOST_PROC=/host/proc -e OXMON_HOST_SYS=/host/sys " +
    "-e OXMON_HOST_ROOT=/host/root";
  const run = "docker run -d --name oxmon-agent --network host --pid host";
  return [
    [
      "host.add.package",
      `sudo oxmon-agent enroll ${enroll} && sudo systemctl enable --now oxmon-agent`,
    ],
    [
      "host.add.script",
      `sudo sh install.sh agent --server-endpoint ${quoted(address)} --code ${code}${named}` +
        `${tls ? " --tls" : ""} --setup-systemd`,
    ],
    [
      "host.add.file",
      `./oxmon-agent enroll ${enroll} --config agent.toml && ./oxmon-agent agent.toml`,
    ],
    [
      "host.add.container",
      `docker run --rm -v oxmon-agent:/etc/oxmon oxmon-agent enroll ${enroll} && ` +
        `${run} ${mounts} ${roots} -v oxmon-agent:/etc/oxmon oxmon-agent`,
    ],
  ];
}

/** Waits until the host reports, or any new one where it was not named. */
function watch(box, id, known, says) {
  const opened = now();
  const isNew = (host) => (id ? host.agent_id === id : !known.has(host.agent_id));
  const reports = (host) => host.last_seen && Date.parse(host.last_seen) >= opened - 1_000;
  const look = async () => {
    if (!box.open) return;
    try {
      const found = (await all("/v1/dashboard/agents")).find((it) => isNew(it) && reports(it));
      if (found) {
        const link = h("a", { href: agentHref(found.agent_id) }, found.agent_id);
        says.replaceChildren("✓ ", t("host.add.reports"), " ", link);
        says.className = "joined good";
        return;
      }
    } catch {
      // Asked again below.
    }
    setTimeout(look, POLL_MS);
  };
  look();
}

async function showLines(shell, id) {
  const body = id ? { agent_id: id } : {};
  const [{ data: code }, { data: config }, hosts] = await Promise.all([
    post("/v1/agents/enroll-codes", body),
    call("/v1/system/config"),
    all("/v1/dashboard/agents"),
  ]);
  const bound = config.settings.bind ?? [];
  const address = new Field({
    name: "address",
    label: t("host.add.address"),
    value: `${location.hostname}:${config.grpc_port}`,
    help: t("host.add.address.help"),
  });
  const list = h("div", { class: "fields" });
  const draw = () => {
    const about = { address: address.get().trim(), code: code.code, id };
    const tls = Boolean(config.settings["tls.cert_file"]);
    list.replaceChildren(...lines({ ...about, tls }).map(([key, line]) =>
      h("div", {}, h("h3", {}, t(key)), copyLine(line, t(key)))));
  };
  address.input.addEventListener("input", draw);
  draw();
  const closed = bound.length > 0 && bound.every((ip) => LOCAL.test(ip));
  const warning = closed ? h("p", { class: "notice inside" }, t("host.add.bound")) : "";
  const says = h("p", { class: "joined", role: "status" }, t("host.add.waiting"));
  const until = h("p", { class: "state" }, t("host.add.until", { time: when(code.expires_at) }));
  const box = dialog(t("host.add"), warning, address.node, list, until, says);
  box.addEventListener("close", () => shell.refresh());
  watch(box, id, new Set(hosts.map(({ agent_id: known }) => known)), says);
}

/** Makes a code and shows how a host joins with it. */
export function addHost(shell) {
  formDialog(t("host.add"), {
    shell,
    fields: [{ name: "id", label: t("host.add.id"), help: t("host.add.id.help") }],
    submit: t("host.add.code"),
    send: async ({ id }) => {
      const name = id.trim();
      setTimeout(() => attempt(shell, () => showLines(shell, name)));
    },
  });
}

/** The name, note and tags of a host. */
export function editHost(shell, host) {
  formDialog(t("host.edit"), {
    shell,
    fields: [
      { name: "display_name", label: t("host.name"), value: host.display_name },
      { name: "note", label: t("note"), value: host.note },
      {
        name: "tags",
        label: t("host.tags"),
        kind: "list",
        value: host.tags,
        help: t("host.tags.help"),
      },
    ],
    send: async (values) => {
      await put(idPath("/v1/agents", host.agent_id), values);
      shell.refresh();
    },
  });
}

/** Removes a host, and on request what is stored of it. */
export function removeHost(shell, host) {
  formDialog(t("host.remove"), {
    shell,
    before: [h("p", {}, t("host.remove.sure", { name: host.agent_id }))],
    fields: [
      {
        name: "points",
        label: t("host.remove.points"),
        kind: "flag",
        help: t("host.remove.points.help"),
      },
    ],
    submit: t("host.remove"),
    send: async ({ points }) => {
      const path = withQuery(idPath("/v1/agents", host.agent_id), { points });
      await call(path, { method: "DELETE" });
      toast(t("host.removed", { name: host.agent_id }));
      shell.go(href(""));
    },
  });
}

/** What is known of a host besides its values, as a line of text with links. */
export function tellHost(node, host) {
  const tags = (host.tags ?? []).map((tag) =>
    h("a", { class: "chip", href: href("", "", { tag }) }, `#${tag}`));
  const note = h("span", {}, host.note ?? "");
  const warnings = (host.warnings ?? []).map((text) => h("p", { class: "notice inside" }, text));
  const id = host.display_name ? h("small", {}, host.agent_id) : "";
  node.replaceChildren(id, ...tags, note, ...warnings);
  if (!host.display_name && !host.note && tags.length === 0 && warnings.length === 0) {
    setText(node, "");
  }
}
