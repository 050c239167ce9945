// Attempts to deliver a notification, as rows of a table.

import { h, setBadge, setText } from "./dom.js";
import { exactly, when } from "./format.js";
import { t, word } from "./i18n.js";
import { href } from "./route.js";

export const deliveryColumns = (named = true) => [
  {
    title: t("when"),
    class: "time",
    value: (row) => row.created_at,
    show(cell, row) {
      setText(cell, when(row.created_at));
      cell.title = exactly(row.created_at);
    },
  },
  {
    title: t("delivery.result"),
    value: (row) => row.status,
    show(cell, row) {
      const levels = { success: "good", failed: "critical" };
      setBadge(cell, word("delivery", row.status), levels[row.status] ?? "info");
    },
  },
  { title: t("channel"), class: "name", value: (row) => row.channel_name },
  ...(named ? [{ title: t("alert"), class: "wide", value: (row) => row.rule_name, show(cell, row) {
    if (!cell.firstChild) cell.append(h("a"), h("small"));
    setText(cell.firstChild, row.rule_name);
    cell.firstChild.setAttribute("href", href("alert", row.alert_event_id));
    setText(cell.lastChild, row.agent_id);
  } }] : []),
  {
    title: t("delivery.answer"),
    class: "wide",
    value: (row) => row.error_message ?? row.response_body,
    show(cell, row) {
      if (!cell.firstChild) cell.append(h("span"), h("small"), h("details"));
      const [said, more, whole] = cell.children;
      setText(said, row.error_message ?? row.response_body?.slice(0, 200) ?? t("delivery.taken"));
      const parts = [
        row.http_status_code ? `HTTP ${row.http_status_code}` : "",
        t("delivery.to", { count: row.recipient_count }),
        `${row.duration_ms} ms`,
        row.retry_count ? t("delivery.retries", { count: row.retry_count }) : "",
      ];
      setText(more, parts.filter(Boolean).join(" · "));
      tellRecipients(whole, row);
    },
  },
];

/** Each recipient's own result, and what was sent. */
function tellRecipients(node, row) {
  node.hidden = !row.recipient_details && !row.request_body;
  if (node.dataset.of === row.id || node.hidden) return;
  node.dataset.of = row.id;
  let recipients = [];
  try {
    recipients = JSON.parse(row.recipient_details ?? "[]");
  } catch {
    // An older row holds something else.
  }
  const line = (each) => Object.values(each).filter((it) => it !== null).join(" · ");
  const lines = recipients.map(line);
  const text = [...lines, row.request_body ?? ""].filter(Boolean).join("\n");
  node.replaceChildren(h("summary", {}, t("delivery.details")), h("pre", { tabindex: "0" }, text));
}
