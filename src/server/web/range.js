// The time that charts show: a range up to now, or a time of its own. It is in the address.

import { call, now } from "./api.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { formDialog } from "./kit.js";
import { when } from "./format.js";
import { route, setQuery } from "./route.js";

const DAY = 86_400;
const RANGES = [
  ["1h", 3_600],
  ["6h", 21_600],
  ["24h", DAY],
  ["7d", 7 * DAY],
  ["30d", 30 * DAY],
  ["90d", 90 * DAY],
  ["365d", 365 * DAY],
];
/** Lengths of a bucket in seconds: the multiples that clocks show. */
const STEPS = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200];
const BUCKETS = 260;
/** A range that was chosen is kept from host to host. */
let kept = "1h";

export const stepFor = (spanMs) =>
  STEPS.find((step) => spanMs / 1000 / step <= BUCKETS) ?? Math.ceil(spanMs / 1000 / BUCKETS);

/** The range that the address asks for. */
export function current() {
  const { query } = route();
  const [from, to] = [Number(query.get("from")), Number(query.get("to"))];
  if (from > 0 && to > from) {
    return { key: `${from}-${to}`, from, to, live: false, step: stepFor(to - from), again: 3_600 };
  }
  const name = query.get("range") ?? kept;
  const [key, secs] = RANGES.find(([known]) => known === name) ?? RANGES[0];
  const to_ms = now();
  const step = stepFor(secs * 1000);
  const again = secs <= 3_600 ? 10 : secs <= DAY ? 60 : 300;
  return { key, from: to_ms - secs * 1000, to: to_ms, live: true, step, again, secs };
}

/** The first day that is stored, in ms; the newest day where nothing is. */
async function oldest() {
  try {
    const { data } = await call("/v1/system/storage");
    const first = data.partitions[0]?.date;
    return first ? Date.parse(`${first}T00:00:00Z`) : now();
  } catch {
    return now();
  }
}

function ownRange(apply) {
  const { from, to } = current();
  const time = (name, value) => ({
    name,
    label: t(`range.${name}`),
    kind: "time",
    required: true,
    value: new Date(value).toISOString(),
  });
  formDialog(t("range.own"), {
    fields: [time("from", from), time("to", to)],
    submit: t("range.show"),
    send: (values) => {
      const [start, end] = [Date.parse(values.from), Date.parse(values.to)];
      if (!(end > start)) throw new Error(t("range.order"));
      apply(start, end);
    },
  });
}

/** Buttons for the ranges that there are points for. `changed` is called after each choice. */
export function rangeButtons(changed) {
  const node = h("div", { class: "ranges", role: "group", "aria-label": t("range.label") });
  const apply = (query) => {
    setQuery({ range: "", from: "", to: "", ...query }, true);
    draw();
    changed();
  };
  const zoom = (from, to) => apply({ from, to });
  let reach = 7 * DAY;
  const draw = () => {
    const shown = current();
    const buttons = RANGES.filter(([, secs], index) => {
      return secs <= 7 * DAY || (RANGES[index - 1]?.[1] ?? 0) < reach;
    }).map(([name]) => {
      const pressed = String(shown.key === name);
      const choose = () => {
        kept = name;
        apply({ range: name });
      };
      const attributes = { type: "button", "aria-pressed": pressed, click: choose };
      return h("button", attributes, t(`range.${name}`));
    });
    const own = shown.live ? t("range.own") : `${when(shown.from)} – ${when(shown.to)}`;
    const open = () => ownRange(zoom);
    const attributes = { type: "button", "aria-pressed": String(!shown.live), click: open };
    node.replaceChildren(...buttons, h("button", attributes, own));
  };
  draw();
  oldest().then((first) => {
    reach = (now() - first) / 1000;
    draw();
  });
  return { node, zoom };
}
