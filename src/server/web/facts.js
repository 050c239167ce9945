// Facts in two columns: what something is, and its value.

import { h } from "./dom.js";

/** `pairs` of a name and a text or an element; those without a value are left out. */
export function facts(pairs) {
  const rows = pairs.filter(([, value]) => value !== "" && value != null);
  return h("dl", { class: "facts" }, ...rows.flatMap(([name, value]) =>
    [h("dt", {}, name), h("dd", {}, value)]));
}
