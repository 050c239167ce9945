// What every page is made of: toasts, dialogs, forms, and lists that the server pages.

import { call, withQuery } from "./api.js";
import { Table, button, h, setText } from "./dom.js";
import { t } from "./i18n.js";
import { route, setQuery } from "./route.js";

const TOAST_MS = 6_000;
const PAGE_ROWS = 50;
/** After how long a text that is typed counts as finished. */
const TYPED_MS = 300;
let fields = 0;

/** Says something in a corner; a failure stays until it is closed. */
export function toast(text, failed = false) {
  const node = h("p", { class: failed ? "toast bad" : "toast" }, text);
  const close = h("button", { type: "button", "aria-label": t("close") }, "×");
  close.addEventListener("click", () => node.remove());
  node.append(close);
  const toasts = document.getElementById("toasts");
  // A dialog covers everything, so what it has to say is in it.
  const open = [...document.querySelectorAll("dialog[open]")].at(-1);
  (open?.querySelector(".toasts") ?? toasts).append(node);
  if (!failed) setTimeout(() => node.remove(), TOAST_MS);
}

/** Runs work of a button; says what it did, or why it failed. */
export async function attempt(shell, work, done) {
  try {
    const result = await work();
    if (done) toast(typeof done === "function" ? done(result) : done);
    return true;
  } catch (error) {
    if (error.over || error.change) shell.fail(error);
    else toast(error.message, true);
    return false;
  }
}

/** Opens a dialog. Escape and its button close it; the focus returns to where it was. */
export function dialog(title, ...content) {
  const id = `dialog-${(fields += 1)}`;
  const close = h("button", { type: "button", class: "close", "aria-label": t("close") }, "×");
  const toasts = h("div", { class: "toasts", role: "status" });
  const head = h("div", { class: "head" }, h("h2", { id }, title), close);
  const node = h("dialog", { "aria-labelledby": id }, head, ...content, toasts);
  close.addEventListener("click", () => node.close());
  node.addEventListener("close", () => node.remove());
  document.body.append(node);
  node.showModal();
  return node;
}

/** Asks before something that can't be undone. Resolves to whether it shall be done. */
export function confirmed(title, text, action) {
  return new Promise((resolve) => {
    const no = h("button", { type: "button" }, t("cancel"));
    const yes = h("button", { type: "button", class: "main danger" }, action);
    const box = dialog(title, h("p", {}, text), h("div", { class: "buttons" }, no, yes));
    box.addEventListener("close", () => resolve(box.returnValue === "yes"));
    no.addEventListener("click", () => box.close());
    yes.addEventListener("click", () => box.close("yes"));
    no.focus();
  });
}

const list = (text) => text.split(/[\n,]/).map((part) => part.trim()).filter(Boolean);

/** A local time as `datetime-local` takes it. */
export function localTime(ms) {
  const at = new Date(ms);
  return new Date(ms - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** How a kind of field is made, read and written. */
const KINDS = {
  text: { read: (input) => input.value, write: (input, value) => (input.value = value ?? "") },
  number: {
    read: (input) => (input.value === "" ? undefined : Number(input.value)),
    write: (input, value) => (input.value = value ?? ""),
  },
  flag: { read: (input) => input.checked, write: (input, value) => (input.checked = value) },
  list: {
    read: (input) => list(input.value),
    write: (input, value) => (input.value = (value ?? []).join("\n")),
  },
  texts: {
    read: (input) => input.value.split("\n").filter((line) => line.trim()),
    write: (input, value) => (input.value = (value ?? []).join("\n")),
  },
  time: {
    read: (input) => (input.value ? new Date(input.value).toISOString() : undefined),
    write: (input, value) => (input.value = value ? localTime(Date.parse(value)) : ""),
  },
  pairs: {
    read: (input) => Object.fromEntries(input.value.split("\n").filter((line) => line.includes("="))
      .map((line) => [line.split("=")[0].trim(), line.slice(line.indexOf("=") + 1).trim()])),
    write: (input, value) => (input.value = Object.entries(value ?? {})
      .map(([name, text]) => `${name}=${text}`).join("\n")),
  },
};

const INPUTS = {
  number: { type: "number", step: "any" },
  password: { type: "password" },
  time: { type: "datetime-local" },
  flag: { type: "checkbox" },
};

function control(field) {
  const about = { name: field.name, required: field.required, ...field.attributes };
  if (field.options) {
    const options = field.options.map(([value, text]) => h("option", { value }, text));
    return h("select", about, ...options);
  }
  if (["list", "pairs", "lines", "texts"].includes(field.kind)) {
    return h("textarea", { rows: 3, ...about });
  }
  return h("input", { type: "text", ...INPUTS[field.kind], ...about });
}

/**
 * One field of a form: `name`, `label`, `kind` (`text`, `number`, `password`, `flag`, `list`,
 * `pairs`, `lines`, `time`), and where they are wanted `options`, `offered`, `unit`, `help`,
 * `required`, `value` and `attributes`.
 */
export class Field {
  constructor(about) {
    this.about = about;
    this.name = about.name;
    this.kind = KINDS[about.kind] ?? KINDS.text;
    this.id = `field-${(fields += 1)}`;
    this.input = control(about);
    this.input.id = this.id;
    this.help = h("small", { id: `${this.id}-help` }, about.help ?? "");
    this.input.setAttribute("aria-describedby", this.help.id);
    const unit = about.unit ? h("span", { class: "unit" }, about.unit) : "";
    const label = h("label", { for: this.id }, about.label);
    const flag = about.kind === "flag";
    const row = h("span", { class: "control" }, this.input, flag ? label : unit);
    this.node = h("div", { class: "field" }, flag ? "" : label, row, this.help);
    if (about.offered) this.offer(about.offered);
    this.set(about.value);
  }

  get() {
    return this.kind.read(this.input);
  }

  set(value) {
    this.kind.write(this.input, value);
  }

  /** Offers values to choose from, of which none need be taken. */
  offer(values) {
    this.choices ??= this.node.appendChild(h("datalist", { id: `${this.id}-list` }));
    this.choices.replaceChildren(...values.map((value) => h("option", { value })));
    this.input.setAttribute("list", this.choices.id);
  }

  say(text) {
    setText(this.help, text ?? this.about.help ?? "");
    this.help.classList.toggle("bad", Boolean(text));
    if (text) this.input.setAttribute("aria-invalid", "true");
    else this.input.removeAttribute("aria-invalid");
  }
}

/**
 * A form of fields. `send(values)` does the work; what it throws is said in the form, at the field
 * that the message names.
 */
export class Form {
  constructor({ fields: abouts, submit, send, cancel, shell, extra = [] }) {
    this.fields = abouts.map((about) => new Field(about));
    this.wrong = h("p", { class: "notice bad", role: "alert", hidden: true });
    this.submit = h("button", { type: "submit", class: "main" }, submit ?? t("save"));
    const back = cancel ? button(t("cancel"), cancel) : "";
    this.body = h("div", { class: "fields" }, ...this.fields.map((field) => field.node));
    const buttons = h("div", { class: "buttons" }, ...extra, back, this.submit);
    this.node = h("form", { class: "form" }, this.body, this.wrong, buttons);
    this.node.addEventListener("submit", async (event) => {
      event.preventDefault();
      this.submit.disabled = true;
      this.fail(null);
      try {
        await send(this.values());
      } catch (error) {
        if (shell && (error.over || error.change)) shell.fail(error);
        this.fail(error.message);
      }
      this.submit.disabled = false;
    });
  }

  field(name) {
    return this.fields.find((field) => field.name === name);
  }

  values() {
    return Object.fromEntries(this.fields.map((field) => [field.name, field.get()]));
  }

  fail(message) {
    this.fields.forEach((field) => field.say(null));
    this.wrong.hidden = !message;
    setText(this.wrong, message ?? "");
    if (!message) return;
    // The field that the message names first.
    const at = ({ name }) => message.search(new RegExp(`(?<![\\w.])${name}(?![\\w])`));
    const found = this.fields.filter((field) => at(field) >= 0);
    const [named] = found.sort((one, other) => at(one) - at(other));
    named?.say(message);
    (named?.input ?? this.submit).focus();
  }
}

/** A form in a dialog, which closes when the work is done. */
export function formDialog(title, options) {
  const form = new Form({
    ...options,
    cancel: () => box.close(),
    send: async (values) => {
      await options.send(values);
      box.close();
    },
  });
  const before = options.before ?? [];
  const box = dialog(title, ...before, form.node, ...(options.after ?? []));
  (form.fields.find((field) => !field.input.disabled)?.input ?? form.submit).focus();
  return { box, form };
}

/** One filter of a list, kept in the address under its name. */
function filterInput(about, changed) {
  const field = new Field({ ...about, value: route().query.get(about.name) ?? about.value ?? "" });
  field.node.className = "filter";
  let timer = 0;
  const apply = () => {
    clearTimeout(timer);
    setQuery({ [about.name]: field.input.value, page: "" });
    changed();
  };
  field.input.addEventListener("change", apply);
  field.input.addEventListener("input", () => {
    if (field.input.tagName === "SELECT") return;
    clearTimeout(timer);
    timer = setTimeout(apply, TYPED_MS);
  });
  return field;
}

/** Filters above a list. Their values are in the address. */
export function filterBar(abouts, changed) {
  const inputs = abouts.map((about) => filterInput(about, changed));
  const node = h("div", { class: "filters" }, ...inputs.map((input) => input.node));
  const values = () => Object.fromEntries(inputs.map(({ name, input }) => [name, input.value]));
  return { node, values, inputs };
}

/**
 * A list of the server's, page by page, with filters. `path` and `query(values)` say what is asked
 * for; `rows(data)` finds the rows in the answer.
 */
export class PagedList {
  constructor(shell, { path, query = (values) => values, rows = (data) => data, ...about }) {
    Object.assign(this, { shell, path, query, rows });
    const again = () => shell.refresh();
    this.filters = filterBar(about.filters ?? [], again);
    this.table = new Table({ ...about, sort: undefined });
    this.count = h("span", { role: "status" });
    const turn = (by) => () => {
      setQuery({ page: this.page + by || "" }, true);
      again();
    };
    this.back = h("button", { type: "button", click: turn(-1) }, t("list.newer"));
    this.next = h("button", { type: "button", click: turn(1) }, t("list.older"));
    this.pager = h("div", { class: "pager" }, this.count, this.back, this.next);
    this.node = h("div", {}, this.filters.node, this.table.node, this.pager);
  }

  get page() {
    const page = Number(route().query.get("page"));
    return Number.isInteger(page) && page > 0 ? page : 0;
  }

  async load(signal) {
    const offset = this.page * PAGE_ROWS;
    const asked = { ...this.query(this.filters.values()), limit: PAGE_ROWS, offset };
    const { data, total } = await call(withQuery(this.path, asked), { signal });
    const rows = this.rows(data);
    this.table.show(rows);
    const values = { from: offset + 1, to: offset + rows.length, all: total };
    setText(this.count, total ? t("list.count", values) : "");
    this.back.disabled = this.page === 0;
    this.next.disabled = offset + rows.length >= total;
    this.pager.hidden = this.page === 0 && total <= PAGE_ROWS;
  }
}

/** Tabs of a page as links, each with its own address. */
export function tabs(label, items, current) {
  const links = items.map(([text, address, name]) => {
    const attributes = { href: address, "aria-current": name === current ? "page" : null };
    return h("a", attributes, text);
  });
  return h("nav", { class: "tabs", "aria-label": label }, ...links);
}

/** A text to copy, with a button that does. */
export function copyLine(text, label) {
  const code = h("code", { tabindex: "0" }, text);
  const copy = button(t("copy"), async (node) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without TLS a browser has no clipboard for a page: the text is selected instead.
      const range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      if (!document.execCommand("copy")) return;
    }
    setText(node, t("copied"));
  }, { "aria-label": `${t("copy")}: ${label}` });
  return h("div", { class: "copy" }, code, copy);
}
