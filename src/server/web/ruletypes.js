// What each rule type's form asks for. A new type is one row here.

import { t } from "./i18n.js";

const secs = (name, required = false) => ({ name, kind: "number", unit: "s", required, least: 0 });
const figure = (name, unit, required = false) => ({ name, kind: "number", unit, required });
const words = (name, list, required = false) => ({ name, options: list, required });

/** Stands for the unit of the rule's metric. */
export const OWN_UNIT = "metric";

/** Fields of each type by its name; `metric: false` where the rule names no metric. */
export const TYPES = {
  threshold: {
    fields: [
      words("operator", ["greater_than", "greater_equal", "less_than", "less_equal"], true),
      figure("value", OWN_UNIT, true),
      secs("duration_secs"),
      figure("recovery_value", OWN_UNIT),
    ],
  },
  rate_of_change: {
    fields: [
      figure("rate_threshold", "%", true),
      secs("window_secs", true),
      words("direction", ["any", "up", "down"]),
      figure("recovery_value", "%"),
    ],
  },
  trend_prediction: {
    fields: [
      figure("predict_threshold", OWN_UNIT, true),
      secs("horizon_secs", true),
      secs("window_secs"),
      figure("min_data_points", ""),
      figure("min_fit", "R²"),
      words("direction", ["auto", "rising", "falling"]),
    ],
  },
  cert_expiration: {
    metrics: ["certificate.days_until_expiry"],
    fields: [figure("warning_days", "d"), figure("critical_days", "d")],
  },
  no_data: { anyMetric: true, fields: [secs("duration_secs", true)] },
  promql: {
    metric: false,
    fields: [
      { name: "expr", kind: "lines", required: true },
      secs("duration_secs"),
      secs("interval_secs"),
      { name: "message" },
      { name: "alert_labels", kind: "pairs" },
    ],
  },
};

/** Fields that every type has in its configuration besides. */
const COMMON = [
  secs("keep_firing_secs"),
  secs("stale_secs"),
  secs("refire_secs"),
  { name: "labels", kind: "pairs" },
];

function field(about, metric, unitOf, config) {
  const { name } = about;
  const options = about.options?.map((word) => [word, t(`rule.word.${word}`)]);
  if (options && !about.required) options.unshift(["", t("rule.default")]);
  return {
    ...about,
    options,
    label: t(`rule.${name}`),
    help: t(`rule.${name}.help`),
    unit: about.unit === OWN_UNIT ? unitOf(metric) : about.unit,
    value: config[name],
    attributes: about.least === undefined ? {} : { min: about.least },
  };
}

/** The fields of a type's form. */
export function fieldsOf(type, metric, unitOf, config) {
  const own = TYPES[type]?.fields ?? [];
  const common = type === "promql" ? [] : COMMON;
  return {
    own: own.map((about) => field(about, metric, unitOf, config)),
    common: common.map((about) => field(about, metric, unitOf, config)),
  };
}

/** A configuration with what the form holds; what the form does not know stays. */
export function configOf(type, values, before = {}) {
  const known = [...(TYPES[type]?.fields ?? []), ...COMMON];
  const config = { ...before };
  for (const { name } of known) {
    const value = values[name];
    const isEmpty = value === undefined || value === "" ||
      (typeof value === "object" && Object.keys(value).length === 0);
    if (isEmpty) delete config[name];
    else config[name] = value;
  }
  return config;
}

function length(secs) {
  if (secs % 86_400 === 0) return `${secs / 86_400} ${t("unit.d")}`;
  if (secs % 3_600 === 0) return `${secs / 3_600} ${t("unit.h")}`;
  return secs % 60 === 0 ? `${secs / 60} ${t("unit.min")}` : `${secs} ${t("unit.s")}`;
}

const SIGNS = { greater_than: ">", greater_equal: "≥", less_than: "<", less_equal: "≤" };

/** What a rule looks for, in one line. */
export function inWords(rule, config, format) {
  const span = (name) => (config[name] ? length(config[name]) : "");
  switch (rule.rule_type) {
    case "threshold": {
      const sign = SIGNS[config.operator] ?? config.operator;
      const limit = `${rule.metric} ${sign} ${format(config.value)}`;
      const lasting = { limit, time: span("duration_secs") };
      return config.duration_secs ? t("rule.says.for", lasting) : limit;
    }
    case "rate_of_change": {
      const values = { metric: rule.metric, rate: config.rate_threshold };
      return t("rule.says.rate", { ...values, time: span("window_secs") });
    }
    case "trend_prediction": {
      const values = { metric: rule.metric, value: format(config.predict_threshold) };
      return t("rule.says.trend", { ...values, time: span("horizon_secs") });
    }
    case "cert_expiration":
      return t("rule.says.cert", { days: config.warning_days ?? 30 });
    case "no_data": {
      const what = rule.metric === "*" ? t("rule.says.anything") : rule.metric;
      return t("rule.says.absent", { metric: what, time: span("duration_secs") });
    }
    case "promql":
      return config.expr ?? "";
    default:
      return rule.metric;
  }
}
