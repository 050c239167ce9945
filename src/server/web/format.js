// Numbers and times as people read them, in their language. What is not there is a dash.

import { language, t } from "./i18n.js";

const BYTES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
export const NONE = "–";

const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);
const written = new Map();

function plain(value, digits) {
  if (!written.has(digits)) {
    const options = { maximumFractionDigits: digits };
    written.set(digits, new Intl.NumberFormat(language, options));
  }
  return written.get(digits).format(value);
}

export function number(value) {
  if (!known(value)) return NONE;
  const size = Math.abs(value);
  return plain(value, size > 0 && size < 0.01 ? 5 : size < 10 ? 2 : size < 1000 ? 1 : 0);
}

export const percent = (value) => (known(value) ? `${value.toFixed(1)} %` : NONE);

/** Bytes in binary units: 1024 B are 1 KiB. */
export function bytes(value) {
  if (!known(value)) return NONE;
  let unit = 0;
  while (Math.abs(value) >= 1023.5 && unit < BYTES.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || Math.abs(value) >= 99.95 ? 0 : 1;
  return `${value.toFixed(digits)} ${BYTES[unit]}`;
}

export const rate = (value) => (known(value) ? `${bytes(value)}/s` : NONE);

const LENGTHS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

/** A duration in its largest unit; of a few days or hours, the next one too: `3 d 4 h`. */
export function duration(secs) {
  if (!known(secs)) return NONE;
  const first = LENGTHS.findIndex(([, length]) => secs >= length);
  if (first < 0) return `${plain(Math.max(0, secs), 2)} ${t("unit.s")}`;
  const [unit, length] = LENGTHS[first];
  const count = Math.floor(secs / length);
  const [below, shorter] = LENGTHS[first + 1] ?? [];
  const rest = length >= 3600 && count < 10 ? Math.floor((secs % length) / shorter) : 0;
  const long = `${count} ${t(`unit.${unit}`)}`;
  return rest > 0 ? `${long} ${rest} ${t(`unit.${below}`)}` : long;
}

/** How long ago a time was, from the server's clock; of one to come, in how long it is. */
export function ago(time, nowMs) {
  if (!time) return t("time.never");
  const secs = Math.round((nowMs - Date.parse(time)) / 1000);
  if (secs < -1) return t("time.in", { time: duration(-secs) });
  return secs < 2 ? t("time.now") : t("time.ago", { time: duration(secs) });
}

const dates = new Map();

/** To make a format takes much longer than to use it, and a list has hundreds of times. */
function date(time, options) {
  const key = JSON.stringify(options);
  if (!dates.has(key)) dates.set(key, new Intl.DateTimeFormat(language, options));
  return dates.get(key).format(new Date(time));
}

export const when = (time) =>
  (time ? date(time, { dateStyle: "medium", timeStyle: "short" }) : NONE);

/** To the second, with the zone. */
export const exactly = (time) =>
  (time ? date(time, { dateStyle: "medium", timeStyle: "long" }) : NONE);

export const clock = (ms) => date(ms, { hour: "2-digit", minute: "2-digit" });

export const clockSecs = (ms) => date(ms, { timeStyle: "medium" });

export const day = (ms) => date(ms, { weekday: "short", day: "numeric", month: "short" });

/** Labels in one line: `mount=/data`. */
export const labels = (map) =>
  Object.entries(map ?? {}).map(([name, value]) => `${name}=${value}`).join(", ");

const suffixed = (unit) => (value) => (known(value) ? `${number(value)} ${unit}` : NONE);

const UNITS = [
  [/percent$|^cpu\.(?!frequency)|^pressure\./, percent, "%"],
  [/^network\.bytes_|^(diskio|container)\.(read|write)_bytes|^vm\.swap_/, rate, "B/s"],
  [/^memory\.(?!huge_)|^disk\.(total|used|available)$/, bytes, "B"],
  [/\.memory(_limit)?$|_memory$|_bytes$/, bytes, "B"],
  [/uptime$|clock_skew$|\.age$|_seconds$|_secs$/, duration, "s"],
  [/_ms$|\.ms$|latency$/, suffixed("ms"), "ms"],
  [/^sensors\.temperature/, suffixed("°C"), "°C"],
  [/^cpu\.frequency/, suffixed("MHz"), "MHz"],
  [/^sensors\.fan/, suffixed("rpm"), "rpm"],
  [/^wireless\.signal/, suffixed("dBm"), "dBm"],
  [/^network\.speed/, suffixed("Mbit/s"), "Mbit/s"],
  [/^time\.(offset|error_)/, suffixed("s"), "s"],
  [/^certificate\.days_/, (value) => t("format.days", { count: number(value) }), "d"],
];

/** How a metric's values are written. */
export const formatOf = (metric) => UNITS.find(([like]) => like.test(metric))?.[1] ?? number;

/** The unit in which a metric's values are given; empty for a plain number. */
export const unitOf = (metric) => UNITS.find(([like]) => like.test(metric))?.[2] ?? "";
