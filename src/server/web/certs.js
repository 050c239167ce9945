// The page with certificates: every watched domain with its newest check, the most urgent first.

import { all, now } from "./api.js";
import { Table, h, setText } from "./dom.js";
import { NONE, ago, when } from "./format.js";

const SOON_DAYS = 30;

function state({ check }) {
  if (!check) return ["unchecked", "info"];
  if (!check.is_valid) return ["invalid", "critical"];
  if (check.days_until_expiry <= SOON_DAYS) return ["ends soon", "warning"];
  return ["valid", "good"];
}

const RANKS = { critical: 0, warning: 1, info: 2, good: 3 };

/** Invalid ones first, then by the days that are left. */
function urgency(item) {
  const days = Math.min(item.check?.days_until_expiry ?? 0, 1e5);
  return RANKS[state(item)[1]] * 1e6 + days;
}

const COLUMNS = [
  {
    title: "State",
    value: urgency,
    show(cell, item) {
      if (!cell.firstChild) cell.append(h("span"));
      const [word, level] = state(item);
      cell.firstChild.className = `badge ${level}`;
      setText(cell.firstChild, word);
    },
  },
  {
    title: "Domain",
    class: "name",
    value: ({ domain: { domain, port } }) => (port === 443 ? domain : `${domain}:${port}`),
  },
  {
    title: "Days left",
    class: "num",
    value: ({ check }) => check?.days_until_expiry,
    show(cell, { check }) {
      setText(cell, String(check?.days_until_expiry ?? NONE));
      cell.title = when(check?.not_after);
    },
  },
  { title: "Issuer", class: "wide", value: ({ check }) => check?.issuer },
  { title: "What is wrong", class: "wide", value: ({ check }) => check?.error ?? "" },
  {
    title: "Checked",
    value: ({ check }) => (check ? Date.parse(check.checked_at) : null),
    show: (cell, { check }) => setText(cell, ago(check?.checked_at, now())),
  },
];

export function certsPage() {
  const table = new Table({
    caption: "Certificates",
    columns: COLUMNS,
    key: ({ domain }) => domain.id,
    sort: { index: 0, down: false },
    empty: "No domain is watched. Add one with POST /v1/certs/domains.",
  });
  const node = h("div", {}, h("h1", { tabindex: "-1" }, "Certificates"), table.node);
  const load = async (signal) => {
    const [domains, checks] = await Promise.all([
      all("/v1/certs/domains", signal),
      all("/v1/certs/status", signal),
    ]);
    const newest = new Map(checks.map((check) => [check.domain_id, check]));
    table.show(domains.map((domain) => ({ domain, check: newest.get(domain.id) })));
  };
  return { title: "Certificates", node, load };
}
