// The page with certificates: every watched domain with its newest check, the most urgent first.

import { all, now } from "./api.js";
import { Table, h, setBadge, setText } from "./dom.js";
import { NONE, ago, when } from "./format.js";
import { t } from "./i18n.js";

const SOON_DAYS = 30;

function state({ check }) {
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

const COLUMNS = () => [
  {
    title: t("state"),
    value: urgency,
    show(cell, item) {
      setBadge(cell, ...state(item));
    },
  },
  {
    title: t("certs.domain"),
    class: "name",
    value: ({ domain: { domain, port } }) => (port === 443 ? domain : `${domain}:${port}`),
  },
  {
    title: t("certs.days"),
    class: "num",
    value: ({ check }) => check?.days_until_expiry,
    show(cell, { check }) {
      setText(cell, String(check?.days_until_expiry ?? NONE));
      cell.title = when(check?.not_after);
    },
  },
  { title: t("certs.issuer"), class: "wide", value: ({ check }) => check?.issuer },
  { title: t("certs.wrong"), class: "wide", value: ({ check }) => check?.error ?? "" },
  {
    title: t("certs.checked"),
    value: ({ check }) => (check ? Date.parse(check.checked_at) : null),
    show: (cell, { check }) => setText(cell, ago(check?.checked_at, now())),
  },
];

export function page() {
  const table = new Table({
    caption: t("nav.certs"),
    columns: COLUMNS(),
    key: ({ domain }) => domain.id,
    sort: { index: 0, down: false },
    empty: t("certs.none"),
  });
  const node = h("div", {}, h("h1", { tabindex: "-1" }, t("nav.certs")), table.node);
  const load = async (signal) => {
    const [domains, checks] = await Promise.all([
      all("/v1/certs/domains", signal),
      all("/v1/certs/status", signal),
    ]);
    const newest = new Map(checks.map((check) => [check.domain_id, check]));
    table.show(domains.map((domain) => ({ domain, check: newest.get(domain.id) })));
  };
  return { title: t("nav.certs"), node, load };
}
