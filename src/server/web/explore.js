// Explore: a line of PromQL with completion, its result as a chart and a table.

import { prometheus } from "./api.js";
import { Chart } from "./chart.js";
import { complete } from "./complete.js";
import { Table, h, setText } from "./dom.js";
import { formatOf, number } from "./format.js";
import { t } from "./i18n.js";
import { current, rangeButtons } from "./range.js";
import { route, setQuery } from "./route.js";
import { nameOf, ofMatrix } from "./series.js";

const SERIES_MAX = 100;

/** Rows of an instant query's result, whichever type it has. */
function rowsOf({ resultType, result }) {
  if (resultType === "vector") return result.map((it) => [nameOf(it.metric), it.value[1]]);
  if (resultType === "matrix") return result.map((it) => [nameOf(it.metric), it.values.at(-1)[1]]);
  return [["", result[1]]];
}

class Explore {
  constructor(shell) {
    this.shell = shell;
    this.says = h("p", { role: "status" });
    this.range = rangeButtons(() => shell.refresh());
    this.input = h("input", {
      type: "text",
      id: "expression",
      spellcheck: "false",
      autocapitalize: "none",
      autocomplete: "off",
      placeholder: "avg by (agent) (oxmon_cpu_usage)",
    });
    this.input.value = route().query.get("q") ?? "";
    const run = h("button", { type: "submit", class: "main" }, t("explore.run"));
    const label = h("label", { for: "expression" }, t("explore.line"));
    const field = h("div", { class: "field" }, label, this.input);
    this.form = h("form", { class: "explore" }, field, run);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.run();
    });
    complete(this.input, field, () => this.run());
    this.chart = new Chart({
      title: t("explore.chart"),
      format: number,
      zoom: this.range.zoom,
    });
    this.table = new Table({
      caption: t("explore.table"),
      columns: [
        { title: t("explore.series"), class: "wide", value: ([name]) => name },
        {
          title: t("value"),
          class: "num",
          down: true,
          value: ([, value]) => Number(value),
          show: (cell, [, value]) => setText(cell, this.format(Number(value))),
        },
      ],
      key: ([name]) => name,
      sort: { index: 1, down: true },
      empty: t("explore.nothing"),
    });
    this.format = number;
    this.results = h("div", { hidden: true }, this.chart.node, this.table.node);
    this.node = h(
      "div",
      {},
      h("div", { class: "head" }, h("h1", { tabindex: "-1" }, t("nav.explore")), this.range.node),
      this.form,
      this.says,
      this.results,
    );
  }

  run() {
    setQuery({ q: this.input.value.trim() }, true);
    this.shell.refresh();
  }

  async load(signal) {
    const query = route().query.get("q") ?? "";
    this.results.hidden = !query;
    this.says.className = "";
    setText(this.says, query ? "" : t("explore.help"));
    if (!query) return;
    const range = current();
    const [start, end] = [range.from / 1000, range.to / 1000];
    try {
      const [matrix, instant] = await Promise.all([
        prometheus("/api/v1/query_range", { query, start, end, step: range.step }, signal),
        prometheus("/api/v1/query", { query, time: end }, signal),
      ]);
      this.show(query, matrix, instant, range);
    } catch (error) {
      if (error.name === "AbortError" || error.over) throw error;
      this.results.hidden = true;
      setText(this.says, error.message);
      this.says.className = "bad";
    }
  }

  show(query, matrix, instant, range) {
    // A query of one metric alone is written in that metric's unit.
    const plain = /^\s*[\w:]+\s*(\{[^}]*\})?\s*$/.test(query);
    const metric = query.match(/[\w:]+/)?.[0].replace("oxmon_", "").replace("_", ".");
    this.format = plain ? formatOf(metric) : number;
    this.chart.format = this.format;
    const all = ofMatrix(matrix.result, range.step);
    const shown = all.slice(0, SERIES_MAX);
    this.chart.show(shown, range.from, range.to, range.step * 1000);
    this.table.show(rowsOf(instant));
    const counts = { shown: shown.length, all: all.length };
    setText(this.says, t(shown.length < all.length ? "explore.cut" : "explore.count", counts));
  }
}

export function page(shell) {
  const explore = new Explore(shell);
  const load = (signal) => explore.load(signal);
  return { title: t("nav.explore"), node: explore.node, load, againMs: 60_000 };
}
