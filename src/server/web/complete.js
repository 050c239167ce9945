// Completion for a line of PromQL: metrics and functions, labels within braces, and their values.

import { prometheusGet } from "./api.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";

const OFFERED = 12;
const FUNCTIONS = [
  "abs", "absent", "absent_over_time", "avg", "avg_over_time", "bottomk", "ceil", "changes",
  "clamp", "clamp_max", "clamp_min", "count", "count_over_time", "count_values", "delta", "deriv",
  "floor", "group", "histogram_quantile", "idelta", "increase", "irate", "label_join",
  "label_replace", "last_over_time", "max", "max_over_time", "min", "min_over_time",
  "predict_linear", "quantile", "quantile_over_time", "rate", "resets", "round", "scalar", "sort",
  "sort_desc", "stddev", "stdvar", "sum", "sum_over_time", "time", "timestamp", "topk", "vector",
];

const asked = new Map();

/** A list of the server's, asked for once while the page is open. */
function listed(path) {
  if (!asked.has(path)) {
    const list = prometheusGet(path).catch(() => {
      asked.delete(path);
      return [];
    });
    asked.set(path, list);
  }
  return asked.get(path);
}

/** What may stand at the cursor: the word before it, and the words that could be meant. */
async function candidates(before) {
  const value = /([\w.]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)$/.exec(before);
  if (value) {
    const path = `/api/v1/label/${encodeURIComponent(value[1])}/values`;
    return { word: value[2], words: await listed(path), end: '"' };
  }
  const word = /[\w:.]*$/.exec(before)[0];
  const open = before.lastIndexOf("{") > before.lastIndexOf("}");
  const grouped = /\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*$/.test(before);
  if (open || grouped) {
    const labels = await listed("/api/v1/labels");
    const words = labels.filter((label) => label !== "__name__");
    return { word, words, end: open ? "=" : "" };
  }
  const metrics = await listed("/api/v1/label/__name__/values");
  return { word, words: [...metrics, ...FUNCTIONS], end: "" };
}

/** The words that begin with what was typed, then those that hold it. */
function fitting(word, words) {
  if (!word) return [];
  const part = word.toLowerCase();
  const at = (text) => text.toLowerCase().indexOf(part);
  const found = words.filter((text) => at(text) >= 0 && text !== word);
  return found.sort((a, b) => at(a) - at(b) || a.length - b.length).slice(0, OFFERED);
}

/** Completes what is typed into `input`; `run` is called on enter while nothing is offered. */
export function complete(input, place, run) {
  const list = h("ul", { class: "offers", role: "listbox", id: "offers", hidden: true });
  list.setAttribute("aria-label", t("explore.offers"));
  place.append(list);
  const about = { role: "combobox", "aria-autocomplete": "list", "aria-controls": "offers" };
  for (const [name, value] of Object.entries(about)) input.setAttribute(name, value);
  let offer = { word: "", end: "" };
  let marked = -1;

  const close = () => {
    list.hidden = true;
    marked = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const mark = (index) => {
    const { children } = list;
    marked = (index + children.length) % children.length;
    [...children].forEach((node, at) => {
      node.setAttribute("aria-selected", String(at === marked));
    });
    children[marked].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", children[marked].id);
  };
  const take = (text) => {
    const at = input.selectionStart;
    const start = at - offer.word.length;
    input.setRangeText(text + offer.end, start, at, "end");
    close();
    input.focus();
  };
  const show = async () => {
    const before = input.value.slice(0, input.selectionStart);
    const found = await candidates(before);
    // Another letter was typed while the server was asked.
    if (before !== input.value.slice(0, input.selectionStart)) return;
    offer = found;
    const words = fitting(found.word, found.words);
    if (words.length === 0) {
      close();
      return;
    }
    list.replaceChildren(...words.map((text, index) => {
      const attributes = { role: "option", id: `offer-${index}`, "aria-selected": "false" };
      const node = h("li", attributes, text);
      node.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        take(text);
      });
      return node;
    }));
    list.hidden = false;
    marked = -1;
    input.setAttribute("aria-expanded", "true");
  };

  input.setAttribute("aria-expanded", "false");
  input.addEventListener("input", show);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const isOpen = !list.hidden;
    const { key } = event;
    if (isOpen && key === "ArrowDown") mark(marked + 1);
    else if (isOpen && key === "ArrowUp") mark(marked < 0 ? -1 : marked - 1);
    else if (isOpen && key === "Escape") close();
    else if (isOpen && marked >= 0 && (key === "Enter" || key === "Tab")) {
      take(list.children[marked].textContent);
    } else if (key === "Enter") {
      close();
      run();
    } else return;
    event.preventDefault();
  });
}
