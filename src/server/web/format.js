// Numbers and times as people read them. What is not there is a dash.

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];
export const NONE = "–";

const known = (value) => value !== null && value !== undefined;

export function number(value) {
  if (!known(value)) return NONE;
  const size = Math.abs(value);
  return value.toLocaleString("en", { maximumFractionDigits: size < 10 ? 2 : size < 1000 ? 1 : 0 });
}

export const percent = (value) => (known(value) ? `${value.toFixed(1)} %` : NONE);

export function bytes(value) {
  if (!known(value)) return NONE;
  let unit = 0;
  while (Math.abs(value) >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || Math.abs(value) >= 99.95 ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

export const rate = (value) => (known(value) ? `${bytes(value)}/s` : NONE);

/** A duration in its largest unit; of a few days or hours, the next one too: `3 d 4 h`. */
export function duration(secs) {
  const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = parts.findIndex(([, length]) => secs >= length);
  if (first < 0) return "0 s";
  const [unit, length] = parts[first];
  const count = Math.floor(secs / length);
  const [below, shorter] = parts[first + 1] ?? [];
  const rest = length >= 3600 && count < 10 ? Math.floor((secs % length) / shorter) : 0;
  return rest > 0 ? `${count} ${unit} ${rest} ${below}` : `${count} ${unit}`;
}

/** How long ago a time was, from the server's clock. */
export function ago(time, nowMs) {
  if (!time) return "never";
  const secs = Math.round((nowMs - Date.parse(time)) / 1000);
  return secs < 2 ? "now" : `${duration(secs)} ago`;
}

export const when = (time) =>
  time ? new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : NONE;

export const clock = (ms) =>
  new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

export const clockSecs = (ms) => new Date(ms).toLocaleTimeString([], { timeStyle: "medium" });

export const day = (ms) =>
  new Date(ms).toLocaleDateString([], { weekday: "short", day: "numeric", month: "short" });

/** Labels in one line: `mount=/data`. */
export const labels = (map) =>
  Object.entries(map).map(([name, value]) => `${name}=${value}`).join(", ");
