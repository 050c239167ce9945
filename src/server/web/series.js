// Series from the server in the form that charts take.

import { call, prometheus, withQuery } from "./api.js";
import { stepFor } from "./range.js";

/** Series of a PromQL expression that a chart takes; the others are too many to tell apart. */
const SERIES_MAX = 100;

const iso = (ms) => new Date(ms).toISOString();

/** Stored series of a host's metric between two times in ms; `labels` narrows them. */
export async function stored({ agent, metric, from, to, labels = "" }, signal) {
  const step = stepFor(to - from);
  const { data } = await call(withQuery("/v1/metrics/range", {
    agent_id: agent,
    metric_name: metric,
    timestamp__gte: iso(from),
    timestamp__lte: iso(to),
    step,
    labels,
  }), { signal });
  const series = data.map((one) => ({
    name: Object.values(one.labels).join(" ") || metric,
    buckets: one.buckets.map((bucket) => ({ ...bucket, at: Date.parse(bucket.start) })),
  }));
  return { series: series.filter((one) => one.buckets.length), step };
}

/** A series' name as PromQL writes it: `cpu_usage{agent="web-01"}`. */
export function nameOf({ __name__: name = "", ...labels }) {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return pairs.length ? `${name}{${pairs.join(", ")}}` : name || "{}";
}

const finite = ([, value]) => Number.isFinite(Number(value));

/** The series of a range query's matrix. */
export function ofMatrix(result, step) {
  return result.map(({ metric, values }) => ({
    name: nameOf(metric),
    buckets: values.filter(finite).map(([at, text]) => {
      const value = Number(text);
      const start = at * 1000 - (step * 1000) / 2;
      return { at: start, min: value, max: value, avg: value, last: value };
    }),
  })).filter((one) => one.buckets.length);
}

/**
 * What an expression compares, and with which number: `{ left, bound, down }`; `bound` is undefined
 * where it does not end in such a comparison, and `left` is all of it then.
 */
export function comparison(expr) {
  const found = /^([\s\S]*\S)\s*(>=|<=|>|<)\s*(-?[\d.]+(?:e[+-]?\d+)?)\s*$/i.exec(expr);
  const whole = { left: expr, bound: undefined, down: false };
  if (!found) return whole;
  const [, left, sign, number] = found;
  const open = left.split("(").length - left.split(")").length;
  // `and`, `or` and `unless` bind less than a comparison, which is about their right side alone.
  if (open !== 0 || /\b(and|or|unless)\b/i.test(left)) return whole;
  return { left, bound: Number(number), down: sign.startsWith("<") };
}

/** What a rule's expression compares, over time, the series that are furthest beyond first. */
export async function ofExpression(expr, from, to, signal) {
  const { left, bound, down } = comparison(expr);
  const step = stepFor(to - from);
  const query = { query: left, start: from / 1000, end: to / 1000, step };
  const { result } = await prometheus("/api/v1/query_range", query, signal);
  const most = (one) => Math.max(...one.buckets.map(({ max }) => (down ? -max : max)));
  const all = ofMatrix(result, step).map((one) => [most(one), one]);
  const series = all.sort(([a], [b]) => b - a).slice(0, SERIES_MAX).map(([, one]) => one);
  return { title: left, series, step, bounds: bound === undefined ? [] : [bound] };
}
