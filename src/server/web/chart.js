// Line charts: for each series the mean as a line, and from least to greatest as a band.

import { h, setText, svg, unseen } from "./dom.js";
import { NONE, clock, clockSecs, day } from "./format.js";
import { t } from "./i18n.js";

const HEIGHT = 168;
const [LEFT, RIGHT, TOP, BOTTOM] = [64, 10, 8, 24];
/** Series that a chart has colours for; that many are drawn until a person picks others. */
const COLOURS = 8;
const HOUR_MS = 3_600_000;
const TICKS_MS = [1 / 60, 1 / 12, 1 / 6, 1 / 2, 1, 2, 3, 6, 12, 24, 48, 168, 720, 2160]
  .map((hours) => hours * HOUR_MS);
const TICK_PX = 72;
/** Pixels from which on a movement is a drag. */
const DRAG_PX = 6;
/** The shortest time that can be zoomed to. */
const ZOOM_MS = 60_000;

/** The least of 1, 2, 2.5, 5 times a power of ten that is not below `value`. */
function round(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/** Buckets without a hole between them. A hole is longer than the usual way to the next bucket. */
function runs(buckets, step) {
  const ways = buckets.slice(1).map((bucket, index) => bucket.at - buckets[index].at);
  const usual = [...ways].sort((a, b) => a - b)[Math.floor(ways.length / 2)] ?? 0;
  const hole = Math.max(usual, step) * 2.5;
  const found = [];
  buckets.forEach((bucket, index) => {
    if (index === 0 || ways[index - 1] > hole) found.push([]);
    found.at(-1).push(bucket);
  });
  return found;
}

const points = (list) => list.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");

/** Charts that share a cross-hair: where one is read, all are. */
export class Crosshair {
  charts = new Set();

  moveTo(at, source) {
    for (const chart of this.charts) chart.moveTo(at, chart === source);
  }
}

export class Chart {
  /**
   * `format` writes a value; `max` is the top of the scale where that is known beforehand, and
   * `least` what the scale reaches at the least. `zoom(from, to)` shows another time.
   */
  constructor({ title, format, max, least = 1, crosshair = new Crosshair(), ...more }) {
    // Also `zoom`, `heading`, `binary` for units of 1024, `bounds`: values with a line.
    const usual = { bounds: [], heading: "h2" };
    Object.assign(this, usual, more, { title, format, max, least, crosshair });
    Object.assign(this, { all: [], series: [], marks: [], cursor: null, width: 0 });
    this.picked = new Map();
    crosshair.charts.add(this);
    this.plot = svg("svg", { class: "plot", height: HEIGHT, role: "img", tabindex: "0" });
    this.listen();
    this.readout = h("span", { class: "readout", role: "status" });
    this.legend = h("ul", { class: "legend" });
    const head = h("figcaption", {}, h(this.heading, {}, title), this.readout);
    this.node = h("figure", { class: "card chart" }, head, this.plot, this.legend);
    new ResizeObserver(() => this.resized()).observe(this.node);
  }

  listen() {
    const on = (name, act) => this.plot.addEventListener(name, act);
    on("pointerdown", (event) => this.press(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.release(event));
    on("pointercancel", () => (this.dragFrom = undefined));
    on("pointerleave", () => this.crosshair.moveTo(null, this));
    on("blur", () => this.crosshair.moveTo(null, this));
    on("keydown", (event) => this.key(event));
  }

  /**
   * Shows series with `name` and `buckets` (`at`, `min`, `max`, `avg`, `last`), the most important
   * first, and `marks` (`from`, `to`, `level`, `text`), all times in ms.
   */
  show(series, from, to, step, marks = []) {
    Object.assign(this, { all: series, from, to, step, marks });
    if (this.cursor < from || this.cursor > to) this.cursor = null;
    this.choose();
    this.draw();
  }

  /** The series that are drawn: those that were picked, or as many as there are colours. */
  choose() {
    this.series = this.all.filter(({ name }, index) => this.picked.get(name) ?? index < COLOURS);
  }

  pick(name, shown) {
    this.picked.set(name, shown);
    this.choose();
    this.draw();
  }

  resized() {
    const width = Math.floor(this.plot.getBoundingClientRect().width);
    if (width !== this.width && width > 0) {
      this.width = width;
      this.draw();
    }
  }

  x(at) {
    const part = (at - this.from) / (this.to - this.from);
    return LEFT + Math.min(1, Math.max(0, part)) * (this.width - LEFT - RIGHT);
  }

  y(value) {
    const part = (value - this.low) / (this.high - this.low);
    return TOP + (1 - Math.min(1, Math.max(0, part))) * (HEIGHT - TOP - BOTTOM);
  }

  scale() {
    const every = this.series.flatMap((one) => one.buckets);
    const most = every.reduce((most, bucket) => Math.max(most, bucket.max), -Infinity);
    const least = every.reduce((least, bucket) => Math.min(least, bucket.min), Infinity);
    const top = Math.max(most, this.least, ...this.bounds);
    const bottom = Math.min(least, 0, ...this.bounds);
    // Ticks of bytes are whole in their binary unit.
    const unit = this.binary ? 1024 ** Math.floor(Math.log2(Math.max(1, top)) / 10) : 1;
    this.tick = this.max ? this.max / 4 : round((top - bottom) / 4 / unit) * unit;
    this.low = Math.floor(bottom / this.tick) * this.tick;
    // A value over the top that was known beforehand is shown all the same.
    this.high = Math.max(this.max ?? 0, Math.ceil((top * 0.999) / this.tick) * this.tick);
  }

  draw() {
    if (this.from === undefined || this.width === 0) return;
    this.scale();
    this.plot.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.mark = svg("g", { class: "mark" });
    const lines = this.series.map((one) => this.lines(one));
    const limits = this.bounds.map((value) => {
      const y = this.y(value);
      return svg("line", { x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y, class: "bound" });
    });
    this.plot.replaceChildren(...this.bands(), ...this.grid(), ...lines, ...limits, this.mark);
    if (this.series.length === 0) {
      const middle = { x: this.width / 2, y: HEIGHT / 2, class: "none" };
      this.plot.append(svg("text", middle, t("chart.none")));
    }
    this.plot.setAttribute("aria-label", this.summary());
    this.tell(true);
  }

  /** Alerts and silences behind the lines. */
  bands() {
    const seen = this.marks.filter(({ from, to }) => to >= this.from && from <= this.to);
    return seen.map(({ from, to, level, text }) => {
      const [x, end] = [this.x(from), this.x(to)];
      const height = HEIGHT - TOP - BOTTOM;
      const size = { x, y: TOP, width: Math.max(2, end - x), height, class: `band-${level}` };
      return svg("rect", size, svg("title", {}, text));
    });
  }

  colour(one) {
    return this.all.indexOf(one) % COLOURS;
  }

  grid() {
    const found = [];
    const right = this.width - RIGHT;
    for (let value = this.low; value <= this.high * 1.001; value += this.tick) {
      const y = this.y(value);
      found.push(svg("line", { x1: LEFT, x2: right, y1: y, y2: y, class: "grid" }));
      const label = this.format(value).replace(/\.0+(?= |$)/, "");
      found.push(svg("text", { x: LEFT - 8, y: y + 4, class: "left" }, label));
    }
    const room = Math.max(1, Math.floor((right - LEFT) / TICK_PX));
    const span = this.to - this.from;
    const tick = TICKS_MS.find((tick) => span / tick <= room) ?? TICKS_MS.at(-1);
    // Ticks are at the hours and days of the place where the page is read.
    const away = new Date(this.to).getTimezoneOffset() * 60_000;
    for (let at = Math.ceil((this.from - away) / tick) * tick + away; at <= this.to; at += tick) {
      const x = this.x(at);
      if (x < LEFT + 12 || x > right - 12) continue;
      found.push(svg("line", { x1: x, x2: x, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM + 4 }));
      const label = tick >= 24 * HOUR_MS ? day(at) : clock(at);
      found.push(svg("text", { x, y: HEIGHT - 6, class: "below" }, label));
    }
    return found;
  }

  lines(one) {
    const group = svg("g", { class: `series s${this.colour(one)}` });
    for (const run of runs(one.buckets, this.step)) {
      const at = (bucket) => this.x(bucket.at + this.step / 2);
      if (run.length === 1) {
        const [bucket] = run;
        const [y1, y2] = [this.y(bucket.max), this.y(bucket.min)];
        group.append(svg("line", { x1: at(bucket), x2: at(bucket), y1, y2, class: "line" }));
        group.append(svg("circle", { cx: at(bucket), cy: this.y(bucket.avg), r: 2.5 }));
        continue;
      }
      const up = run.map((bucket) => [at(bucket), this.y(bucket.max)]);
      const down = run.map((bucket) => [at(bucket), this.y(bucket.min)]).reverse();
      group.append(svg("polygon", { points: points([...up, ...down]), class: "band" }));
      const mean = run.map((bucket) => [at(bucket), this.y(bucket.avg)]);
      group.append(svg("polyline", { points: points(mean), class: "line" }));
    }
    return group;
  }

  summary() {
    if (this.series.length === 0) return `${this.title}: ${t("chart.none")}`;
    const parts = this.series.map((one) => {
      const least = one.buckets.reduce((a, bucket) => Math.min(a, bucket.min), Infinity);
      const most = one.buckets.reduce((a, bucket) => Math.max(a, bucket.max), -Infinity);
      const newest = this.format(one.buckets.at(-1).last);
      const values = { newest, least: this.format(least), most: this.format(most) };
      return (one.name ? `${one.name}: ` : "") + t("chart.values", values);
    });
    const marks = this.marks.map(({ text }) => ` ${text}.`).join("");
    return `${this.title}. ${parts.join("; ")}.${marks} ${t("chart.keys")}`;
  }

  /** The moment under the pointer. */
  timeAt(event) {
    const box = this.plot.getBoundingClientRect();
    const part = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    return this.from + Math.min(1, Math.max(0, part)) * (this.to - this.from);
  }

  press(event) {
    if (!this.zoom || event.button !== 0 || this.from === undefined) return;
    Object.assign(this, { dragFrom: this.timeAt(event), dragX: event.clientX });
    this.plot.setPointerCapture(event.pointerId);
  }

  move(event) {
    if (this.from === undefined) return;
    this.dragged = this.dragFrom !== undefined && Math.abs(event.clientX - this.dragX) > DRAG_PX;
    this.crosshair.moveTo(this.timeAt(event), this);
  }

  release(event) {
    const { dragFrom, dragged } = this;
    Object.assign(this, { dragFrom: undefined, dragged: false });
    if (dragFrom === undefined || !dragged) return;
    const [from, to] = [dragFrom, this.timeAt(event)].sort((a, b) => a - b);
    this.zoomTo(from, to);
  }

  zoomTo(from, to) {
    const middle = (from + to) / 2;
    const half = Math.max(ZOOM_MS, to - from) / 2;
    this.zoom?.(Math.round(middle - half), Math.round(middle + half));
  }

  key(event) {
    if (event.key === "+" || event.key === "-") {
      const middle = this.cursor ?? (this.from + this.to) / 2;
      const half = (this.to - this.from) * (event.key === "+" ? 0.25 : 1);
      event.preventDefault();
      this.zoomTo(middle - half, middle + half);
      return;
    }
    const way = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (way === undefined || this.series.length === 0) return;
    event.preventDefault();
    const last = Math.max(...this.series.map((one) => one.buckets.at(-1).at)) + this.step / 2;
    let at = Math.min(this.to, Math.max(this.from, this.cursor + way * this.step));
    if (way === -Infinity) at = this.from;
    else if (way === Infinity || this.cursor === null) at = last;
    this.crosshair.moveTo(at, this);
  }

  moveTo(at, aloud = true) {
    this.cursor = at;
    if (this.mark) this.tell(aloud);
  }

  /** The values at the cursor, or the newest ones, in the legend; a line where the cursor is. */
  tell(aloud) {
    const at = this.cursor;
    this.mark.replaceChildren();
    if (at !== null) {
      const x = this.x(at);
      if (this.dragged) {
        const [a, b] = [this.x(this.dragFrom), x].sort((one, other) => one - other);
        const size = { x: a, y: TOP, width: b - a, height: HEIGHT - TOP - BOTTOM };
        this.mark.append(svg("rect", { ...size, class: "drag" }));
      }
      this.mark.append(svg("line", { x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }));
    }
    this.tellLegend(at);
    if (at === null) {
      this.readout.replaceChildren();
      return;
    }
    const long = this.to - this.from > 24 * HOUR_MS;
    const time = long ? `${day(at)} ${clock(at)}` : clockSecs(at);
    const told = this.series.map((one) => `${one.name} ${this.valueAt(one, at)}`).join(", ");
    this.readout.replaceChildren(time, aloud ? unseen(`: ${told}`) : "");
  }

  valueAt(one, at) {
    const bucket = at === null ? one.buckets.at(-1) : this.near(one, at);
    if (!bucket) return NONE;
    if (at === null) return this.format(bucket.last);
    const value = this.format(bucket.avg);
    if (bucket.min === bucket.max) return value;
    const range = { least: this.format(bucket.min), most: this.format(bucket.max) };
    return `${value} ${t("chart.range", range)}`;
  }

  /** Keeps its elements while the series are the same, so that a button keeps the focus. */
  tellLegend(at) {
    const names = JSON.stringify([this.all.map(({ name }) => name), this.series.length]);
    if (this.legendOf !== names) {
      this.legendOf = names;
      const focused = document.activeElement?.dataset?.series;
      this.legend.replaceChildren(...this.all.map((one) => this.legendItem(one)));
      this.legend.querySelectorAll("button").forEach((node) => {
        if (focused !== undefined && node.dataset.series === focused) node.focus();
      });
    }
    this.all.forEach((one, index) => {
      const value = this.series.includes(one) ? this.valueAt(one, at) : "";
      setText(this.legend.children[index].querySelector("b"), value);
    });
  }

  legendItem(one) {
    const shown = this.series.includes(one);
    const swatch = h("i", { class: `s${this.colour(one)}`, "aria-hidden": "true" });
    const name = h("span", {}, one.name);
    if (this.all.length === 1) return h("li", {}, swatch, name, h("b"));
    const about = { type: "button", "aria-pressed": String(shown), "data-series": one.name };
    const toggle = h("button", about, swatch, name);
    toggle.addEventListener("click", () => this.pick(one.name, !shown));
    return h("li", {}, toggle, h("b"));
  }

  /** The bucket of a series that is nearest to a time, if it is near. */
  near(one, at) {
    const away = (bucket) => Math.abs(bucket.at + this.step / 2 - at);
    const nearest = one.buckets.reduce((a, b) => (away(b) < away(a) ? b : a));
    return away(nearest) <= this.step * 1.5 ? nearest : null;
  }
}
