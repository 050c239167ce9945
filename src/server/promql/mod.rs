//! PromQL: what Prometheus 3 makes of a query, over any [`Source`] of series.
//!
//! | file | what |
//! |---|---|
//! | `lex`, `parse`, `ast` | from text to a tree, with positions in errors and a bounded depth |
//! | `matcher`, `labels` | which series, and what they are called |
//! | `value` | types of expressions |
//! | `functions` | the table of functions, and what each does |
//! | `eval` | from a tree to values, series by series |
//! | `names`, `store` | what the store's series are called, and how they are read |
//! | `elsewhere` | a query as text for an engine that has older samples |
//!
//! Floats and classic histograms; ranges are open on the left; a series is there until five
//! minutes after its last sample. There are no native histograms.

pub(crate) mod ast;
pub(crate) mod elsewhere;
pub(crate) mod error;
pub(crate) mod eval;
pub(crate) mod functions;
pub(crate) mod labels;
pub(crate) mod lex;
pub(crate) mod matcher;
pub(crate) mod names;
pub(crate) mod parse;
pub(crate) mod store;
#[cfg(test)]
mod tests;
pub(crate) mod value;

pub(crate) use error::PromError;
pub(crate) use eval::{Instant, Limits, Query};
pub(crate) use labels::LabelSet;
pub(crate) use matcher::Matcher;

/// Samples of one series, oldest first: Unix milliseconds and value.
pub(crate) type Samples<'a> = &'a [(i64, f64)];

/// Called with each series and its samples.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(LabelSet, Samples<'_>) -> Result<(), PromError>;

/// Which samples of a series are wanted. Times are inclusive Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Not before.
    pub from_ms: i64,
    /// Not after.
    pub to_ms: i64,
    /// Only the newest of them.
    pub newest_only: bool,
}

impl Span {
    /// All samples of a time.
    pub(crate) fn all(from_ms: i64, to_ms: i64) -> Self {
        Self { from_ms, to_ms, newest_only: false }
    }

    /// The newest sample of a time.
    pub(crate) fn newest(from_ms: i64, to_ms: i64) -> Self {
        Self { from_ms, to_ms, newest_only: true }
    }
}

/// Where series come from.
pub(crate) trait Source {
    /// Calls `visit` once for each series that satisfies every matcher and has a sample in the
    /// time, with those samples that are wanted. The first error ends it.
    ///
    /// # Errors
    ///
    /// That of `visit`, or what keeps the samples from being read.
    fn select(&self, matchers: &[Matcher], span: Span, visit: Visit<'_>) -> Result<(), PromError>;
}

/// A number as Go writes it with the fewest digits and no exponent.
pub(crate) fn number_text(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    number.to_string()
}
