// Line charts: for each series the mean as a line, and from least to greatest as a band.

import { h, setText, svg } from "./dom.js";
import { NONE, clock, clockSecs, day } from "./format.js";

const HEIGHT = 168;
const [LEFT, RIGHT, TOP, BOTTOM] = [58, 10, 8, 24];
/** Series that a chart has colours for. */
const SERIES_MAX = 8;
const HOUR_MS = 3_600_000;
const TICKS_MS = [1 / 12, 1 / 6, 1 / 2, 1, 2, 3, 6, 12, 24, 48].map((hours) => hours * HOUR_MS);
const TICK_PX = 72;

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

export class Chart {
  /**
   * `format` writes a value; `max` is the top of the scale where that is known beforehand, and
   * `least` what the scale reaches at the least.
   */
  constructor({ title, format, max, least = 1 }) {
    Object.assign(this, { title, format, max, least, series: [], cursor: null, width: 0 });
    this.plot = svg("svg", { class: "plot", height: HEIGHT, role: "img", tabindex: "0" });
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerleave", () => this.moveTo(null));
    this.plot.addEventListener("blur", () => this.moveTo(null));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.readout = h("span", { class: "readout", role: "status" });
    this.legend = h("ul", { class: "legend" });
    const head = h("figcaption", {}, h("h3", {}, title), this.readout);
    this.node = h("figure", { class: "card chart" }, head, this.plot, this.legend);
    new ResizeObserver(() => this.resized()).observe(this.node);
  }

  /** Shows series with `name` and `buckets` (`at`, `min`, `max`, `avg`), all times in ms. */
  show(series, from, to, step) {
    this.all = series.length;
    this.series = series.slice(0, SERIES_MAX);
    Object.assign(this, { from, to, step });
    if (this.cursor < from || this.cursor > to) this.cursor = null;
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
    const top = Math.max(most, this.least);
    const bottom = Math.min(least, 0);
    this.tick = this.max ? this.max / 4 : round((top - bottom) / 4);
    this.low = Math.floor(bottom / this.tick) * this.tick;
    // A value over the top that was known beforehand is shown all the same.
    this.high = Math.max(this.max ?? 0, Math.ceil((top * 0.999) / this.tick) * this.tick);
  }

  draw() {
    if (this.from === undefined || this.width === 0) return;
    this.scale();
    this.plot.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.mark = svg("g", { class: "mark" });
    const lines = this.series.map((one, index) => this.lines(one, index));
    this.plot.replaceChildren(...this.grid(), ...lines, this.mark);
    if (this.series.length === 0) {
      const middle = { x: this.width / 2, y: HEIGHT / 2, class: "none" };
      this.plot.append(svg("text", middle, "No data in this time"));
    }
    this.plot.setAttribute("aria-label", this.summary());
    this.tell();
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
    // Ticks stand on the hours and days of the place where the page is read.
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

  lines(one, index) {
    const group = svg("g", { class: `series s${index}` });
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
    if (this.series.length === 0) return `${this.title}: no data in this time`;
    const parts = this.series.map((one) => {
      const least = Math.min(...one.buckets.map((bucket) => bucket.min));
      const most = Math.max(...one.buckets.map((bucket) => bucket.max));
      const name = one.name ? `${one.name}: ` : "";
      const newest = this.format(one.buckets.at(-1).last);
      return `${name}newest ${newest}, least ${this.format(least)}, most ${this.format(most)}`;
    });
    return `${this.title}. ${parts.join("; ")}. Arrow keys read the values.`;
  }

  point(event) {
    const box = this.plot.getBoundingClientRect();
    const part = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    this.moveTo(this.from + Math.min(1, Math.max(0, part)) * (this.to - this.from));
  }

  key(event) {
    const way = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (way === undefined || this.series.length === 0) return;
    event.preventDefault();
    const last = Math.max(...this.series.map((one) => one.buckets.at(-1).at)) + this.step / 2;
    if (way === -Infinity) this.moveTo(this.from);
    else if (way === Infinity || this.cursor === null) this.moveTo(last);
    else this.moveTo(Math.min(this.to, Math.max(this.from, this.cursor + way * this.step)));
  }

  moveTo(at) {
    this.cursor = at;
    if (this.mark) this.tell();
  }

  /** The values at the cursor, or the newest ones, in the legend; a line where the cursor is. */
  tell() {
    const at = this.cursor;
    this.mark.replaceChildren();
    if (at !== null) {
      const x = this.x(at);
      this.mark.append(svg("line", { x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }));
    }
    const items = this.series.map((one, index) => {
      const bucket = at === null ? one.buckets.at(-1) : this.near(one, at);
      const value = bucket ? this.format(at === null ? bucket.last : bucket.avg) : NONE;
      const range = bucket && bucket.min !== bucket.max
        ? ` (${this.format(bucket.min)} to ${this.format(bucket.max)})`
        : "";
      const text = h("span", {}, one.name);
      const swatch = h("i", { class: `s${index}`, "aria-hidden": "true" });
      return h("li", {}, swatch, text, h("b", {}, value), at === null ? "" : range);
    });
    if (this.all > SERIES_MAX) items.push(h("li", {}, `${SERIES_MAX} of ${this.all} are drawn`));
    this.legend.replaceChildren(...items);
    const told = items.map((item) => item.textContent).join(", ");
    const long = this.to - this.from > 24 * HOUR_MS;
    const time = long ? `${day(at)} ${clock(at)}` : clockSecs(at);
    const unseen = h("span", { class: "unseen" }, `: ${told}`);
    if (at === null) this.readout.replaceChildren();
    else this.readout.replaceChildren(time, unseen);
  }

  /** The bucket of a series that is nearest to a time, if it is near. */
  near(one, at) {
    const away = (bucket) => Math.abs(bucket.at + this.step / 2 - at);
    const nearest = one.buckets.reduce((a, b) => (away(b) < away(a) ? b : a));
    return away(nearest) <= this.step * 1.5 ? nearest : null;
  }
}
