// Elements and tables, made from text alone: whatever an agent names itself, it is shown as text.

import { NONE } from "./format.js";
import { language, t } from "./i18n.js";

const SVG = "http://www.w3.org/2000/svg";
const collator = new Intl.Collator(language, { numeric: true });
/** Rows that a table shows at the most; a filter finds the others. */
const ROWS_MAX = 500;

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children);
  return node;
}

/** An element. A function among the attributes listens to the event of that name. */
export const h = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

/** An element of a drawing. */
export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

/** Sets a text if it is another one, so that a selection or a reader's place is kept. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
  return node;
}

/** A link that a cell keeps from one refresh to the next. */
export function setLink(cell, text, href) {
  const link = cell.querySelector("a") ?? cell.appendChild(h("a"));
  if (link.getAttribute("href") !== href) link.setAttribute("href", href);
  setText(link, text);
}

/** A figure with a bar; the bar is for the eye alone. */
export function setBar(cell, text, value) {
  if (!cell.firstChild) {
    cell.append(h("span"), h("span", { class: "bar", "aria-hidden": "true" }, h("i")));
  }
  setText(cell.firstChild, text);
  const bar = cell.lastChild;
  bar.hidden = value === null || value === undefined;
  bar.firstChild.style.width = `${Math.min(100, Math.max(0, value ?? 0))}%`;
  bar.className = `bar ${value >= 90 ? "critical" : value >= 75 ? "warning" : ""}`;
}

/** A word with a colour: `critical`, `warning`, `info` or `good`. */
export function setBadge(cell, text, level) {
  const badge = cell.firstElementChild ?? cell.appendChild(h("span"));
  badge.className = `badge ${level}`;
  setText(badge, text);
}

/**
 * A button that does what takes a while, and can't be pressed again until it is done. It keeps the
 * focus meanwhile, so that a dialog that it opens gives it back.
 */
export function button(text, work, attributes = {}) {
  const node = h("button", { type: "button", ...attributes }, text);
  node.addEventListener("click", async () => {
    if (node.hasAttribute("aria-busy")) return;
    node.setAttribute("aria-busy", "true");
    try {
      await work(node);
    } finally {
      node.removeAttribute("aria-busy");
    }
  });
  return node;
}

/** Text that is hidden from the eye, for a screen reader. */
export const unseen = (text) => h("span", { class: "unseen" }, text);

/**
 * A table whose rows keep their elements from one refresh to the next. A column has `title`,
 * `value(item)` to sort by and, where that is not the text shown, `show(cell, item)`.
 * The roles are said again, since a narrow screen lays rows out as blocks.
 */
export class Table {
  constructor({ caption, columns, key, empty, sort, sortable = true }) {
    this.columns = columns;
    this.key = key;
    this.sort = sort;
    this.items = [];
    this.rows = new Map();
    this.heads = columns.map((column, index) => this.head(column, sortable && sort, index));
    this.body = h("tbody", { role: "rowgroup" });
    this.note = h("p", { class: "empty" }, t("table.loading"));
    this.empty = empty;
    const row = h("tr", { role: "row" }, ...this.heads);
    const head = h("thead", { role: "rowgroup" }, row);
    this.table = h(
      "table",
      { role: "table", hidden: true },
      h("caption", { class: "unseen" }, caption),
      head,
      this.body,
    );
    this.node = h("div", { class: "table" }, this.table, this.note);
  }

  head(column, sortable, index) {
    const title = sortable && column.value
      ? h("button", { type: "button", click: () => this.sortBy(index) }, column.title)
      : column.title;
    const attributes = { role: "columnheader", scope: "col", class: column.class };
    return h("th", attributes, title);
  }

  sortBy(index) {
    const same = this.sort.index === index;
    this.sort.down = same ? !this.sort.down : Boolean(this.columns[index].down);
    this.sort.index = index;
    this.show(this.items);
  }

  sorted(items) {
    const { index, down } = this.sort;
    const value = this.columns[index].value;
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      // What is not known stands last, whichever way the rest is sorted.
      if (x === null || x === undefined) return y === null || y === undefined ? 0 : 1;
      if (y === null || y === undefined) return -1;
      const order = typeof x === "string" ? collator.compare(x, y) : x - y;
      return down ? -order : order;
    };
    return [...items].sort(compare);
  }

  show(items) {
    this.items = items;
    const all = this.sort ? this.sorted(items) : items;
    const shown = all.slice(0, ROWS_MAX);
    const focused = document.activeElement;
    const gone = new Set(this.rows.keys());
    shown.forEach((item, place) => {
      const key = this.key(item);
      gone.delete(key);
      if (!this.rows.has(key)) this.rows.set(key, this.row());
      const row = this.rows.get(key);
      this.columns.forEach((column, index) => {
        const cell = row.children[index];
        if (column.show) column.show(cell, item);
        else setText(cell, column.value(item) ?? NONE);
      });
      if (this.body.children[place] !== row) this.body.insertBefore(row, this.body.children[place]);
    });
    for (const key of gone) {
      this.rows.get(key).remove();
      this.rows.delete(key);
    }
    // A row that was moved lost the focus.
    if (focused !== document.activeElement && this.body.contains(focused)) focused.focus();
    this.heads.forEach((head, index) => {
      const now = this.sort?.index === index;
      if (now) head.setAttribute("aria-sort", this.sort.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const cut = all.length > ROWS_MAX ? t("table.cut", { shown: ROWS_MAX, all: all.length }) : "";
    setText(this.note, items.length === 0 ? this.empty : cut);
    this.note.hidden = this.note.textContent === "";
    this.table.hidden = items.length === 0;
  }

  row() {
    const cells = this.columns.map((column) => {
      const title = typeof column.title === "string" ? column.title : "";
      const attributes = { role: "cell", class: column.class, "data-title": title };
      return h("td", attributes);
    });
    return h("tr", { role: "row" }, ...cells);
  }
}
