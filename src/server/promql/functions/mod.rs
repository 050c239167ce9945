//! The table of functions: what each takes and gives, and what it does.

use crate::server::promql::value::{ABSENT, Type};

pub(crate) mod calendar;
pub(crate) mod over;

pub(crate) use over::Window;

/// A function of PromQL.
#[derive(Debug)]
pub(crate) struct Function {
    /// Its name.
    pub name: &'static str,
    /// Types of its arguments.
    pub takes: &'static [Type],
    /// How many of the last arguments may be left out.
    pub optional: usize,
    /// Whether the last argument may come any number of times.
    pub repeats: bool,
    /// What it gives.
    pub gives: Type,
    /// What it does.
    pub does: Does,
}

/// What a function does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Does {
    /// A value from the samples of a window, with up to two numbers as further arguments.
    Over(fn(&Window<'_>) -> Option<f64>),
    /// As `Over`, and the metric keeps its name.
    OverNamed(fn(&Window<'_>) -> Option<f64>),
    /// A value from a value, with up to two numbers as further arguments.
    Map(fn(f64, [f64; 2]) -> f64),
    /// A value from a Unix time; the step's where no vector is given.
    Calendar(fn(i64) -> f64),
    /// The step's time.
    Time,
    /// π
    Pi,
    /// A vector of one series as a number.
    Scalar,
    /// A number as a vector of one series.
    Vector,
    /// 1 where there is no series.
    Absent,
    /// 1 where there is no sample in the window.
    AbsentOverTime,
    /// The time of each sample.
    Timestamp,
    /// By value, for an instant query's answer.
    Sort(Order),
    /// By labels, for an instant query's answer.
    SortByLabel(Order),
    /// Sets a label by a regular expression.
    LabelReplace,
    /// Sets a label from others.
    LabelJoin,
    /// A quantile of a classic histogram.
    HistogramQuantile,
}

/// Which way `sort` goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Smallest first.
    Up,
    /// Largest first.
    Down,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

const M: &[Type] = &[Type::Matrix];
const V: &[Type] = &[Type::Vector];

const fn over(name: &'static str, apply: fn(&Window<'_>) -> Option<f64>) -> Function {
    call(name, M, Type::Vector, Does::Over(apply))
}

const fn map(name: &'static str, apply: fn(f64, [f64; 2]) -> f64) -> Function {
    call(name, V, Type::Vector, Does::Map(apply))
}

const fn calendar(name: &'static str, apply: fn(i64) -> f64) -> Function {
    Function { optional: 1, ..call(name, V, Type::Vector, Does::Calendar(apply)) }
}

const fn call(name: &'static str, takes: &'static [Type], gives: Type, does: Does) -> Function {
    Function { name, takes, optional: 0, repeats: false, gives, does }
}

const S_M: &[Type] = &[Type::Scalar, Type::Matrix];
const M_S: &[Type] = &[Type::Matrix, Type::Scalar];
const M_S_S: &[Type] = &[Type::Matrix, Type::Scalar, Type::Scalar];
const V_S: &[Type] = &[Type::Vector, Type::Scalar];
const V_S_S: &[Type] = &[Type::Vector, Type::Scalar, Type::Scalar];
const S_V: &[Type] = &[Type::Scalar, Type::Vector];
const V_T: &[Type] = &[Type::Vector, Type::Text];
const V_T3: &[Type] = &[Type::Vector, Type::Text, Type::Text, Type::Text];
const V_T4: &[Type] = &[Type::Vector, Type::Text, Type::Text, Type::Text, Type::Text];

/// Every function.
pub(crate) const FUNCTIONS: &[Function] = &[
    over("rate", over::rate),
    over("irate", over::irate),
    over("increase", over::increase),
    over("delta", over::delta),
    over("idelta", over::idelta),
    over("deriv", over::deriv),
    over("changes", over::changes),
    over("resets", over::resets),
    over("avg_over_time", over::avg),
    over("min_over_time", over::min),
    over("max_over_time", over::max),
    over("sum_over_time", over::sum),
    over("count_over_time", over::count),
    over("stddev_over_time", over::stddev),
    over("stdvar_over_time", over::stdvar),
    over("mad_over_time", over::mad),
    over("present_over_time", over::present),
    call("last_over_time", M, Type::Vector, Does::OverNamed(over::last)),
    call("first_over_time", M, Type::Vector, Does::OverNamed(over::first)),
    call("quantile_over_time", S_M, Type::Vector, Does::Over(over::quantile)),
    call("predict_linear", M_S, Type::Vector, Does::Over(over::predict_linear)),
    call("double_exponential_smoothing", M_S_S, Type::Vector, Does::Over(over::smooth)),
    call("holt_winters", M_S_S, Type::Vector, Does::Over(over::smooth)),
    call("absent_over_time", M, Type::Vector, Does::AbsentOverTime),
    map("abs", |v, _| v.abs()),
    map("ceil", |v, _| v.ceil()),
    map("floor", |v, _| v.floor()),
    map("exp", |v, _| v.exp()),
    map("sqrt", |v, _| v.sqrt()),
    map("ln", |v, _| v.ln()),
    map("log2", |v, _| v.log2()),
    map("log10", |v, _| v.log10()),
    map("sgn", |v, _| {
        if v > 0.0 {
            1.0
        } else if v < 0.0 {
            -1.0
        } else {
            v
        }
    }),
    map("acos", |v, _| v.acos()),
    map("acosh", |v, _| v.acosh()),
    map("asin", |v, _| v.asin()),
    map("asinh", |v, _| v.asinh()),
    map("atan", |v, _| v.atan()),
    map("atanh", |v, _| v.atanh()),
    map("cos", |v, _| v.cos()),
    map("cosh", |v, _| v.cosh()),
    map("sin", |v, _| v.sin()),
    map("sinh", |v, _| v.sinh()),
    map("tan", |v, _| v.tan()),
    map("tanh", |v, _| v.tanh()),
    map("deg", |v, _| v * 180.0 / std::f64::consts::PI),
    map("rad", |v, _| v * std::f64::consts::PI / 180.0),
    Function { optional: 1, ..call("round", V_S, Type::Vector, Does::Map(round)) },
    call("clamp", V_S_S, Type::Vector, Does::Map(clamp)),
    call("clamp_min", V_S, Type::Vector, Does::Map(|v, [low, _]| v.pick_max(low))),
    call("clamp_max", V_S, Type::Vector, Does::Map(|v, [high, _]| v.pick_min(high))),
    calendar("minute", calendar::minute),
    calendar("hour", calendar::hour),
    calendar("day_of_week", calendar::day_of_week),
    calendar("day_of_month", calendar::day_of_month),
    calendar("day_of_year", calendar::day_of_year),
    calendar("days_in_month", calendar::days_in_month),
    calendar("month", calendar::month),
    calendar("year", calendar::year),
    call("time", &[], Type::Scalar, Does::Time),
    call("pi", &[], Type::Scalar, Does::Pi),
    call("scalar", V, Type::Scalar, Does::Scalar),
    call("vector", &[Type::Scalar], Type::Vector, Does::Vector),
    call("absent", V, Type::Vector, Does::Absent),
    call("timestamp", V, Type::Vector, Does::Timestamp),
    call("sort", V, Type::Vector, Does::Sort(Order::Up)),
    call("sort_desc", V, Type::Vector, Does::Sort(Order::Down)),
    Function {
        optional: 1,
        repeats: true,
        ..call("sort_by_label", V_T, Type::Vector, Does::SortByLabel(Order::Up))
    },
    Function {
        optional: 1,
        repeats: true,
        ..call("sort_by_label_desc", V_T, Type::Vector, Does::SortByLabel(Order::Down))
    },
    call("label_replace", V_T4, Type::Vector, Does::LabelReplace),
    Function {
        optional: 1,
        repeats: true,
        ..call("label_join", V_T3, Type::Vector, Does::LabelJoin)
    },
    call("histogram_quantile", S_V, Type::Vector, Does::HistogramQuantile),
];

/// The function with this name.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// Halves go up, as in Prometheus; a number left out is 1.
fn round(value: f64, [to, _]: [f64; 2]) -> f64 {
    let inverse = 1.0 / to;
    (value * inverse + 0.5).floor() / inverse
}

/// Nothing where the bounds are the wrong way round.
fn clamp(value: f64, [low, high]: [f64; 2]) -> f64 {
    if high < low { ABSENT } else { high.pick_min(value).pick_max(low) }
}

/// Minimum and maximum of Go, in which NaN wins.
trait Pick {
    fn pick_min(self, other: f64) -> f64;
    fn pick_max(self, other: f64) -> f64;
}

impl Pick for f64 {
    fn pick_min(self, other: f64) -> f64 {
        if self.is_nan() || other.is_nan() { Self::NAN } else { self.min(other) }
    }

    fn pick_max(self, other: f64) -> f64 {
        if self.is_nan() || other.is_nan() { Self::NAN } else { self.max(other) }
    }
}
