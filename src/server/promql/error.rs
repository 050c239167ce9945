//! Why a query has no result, in the kinds that Prometheus' HTTP API has.

use std::fmt;

use crate::server::storage::StorageError;

/// Why a query has no result.
#[derive(Debug)]
pub(crate) enum PromError {
    /// The text is not PromQL.
    Parse(ParseError),
    /// The query is PromQL, but this data or these parameters do not allow it, or it is over a
    /// limit.
    Execution(String),
    /// The query took longer than it may.
    Timeout,
    /// The client went away, or the server stops.
    Canceled,
    /// The store failed.
    Storage(StorageError),
}

/// What is wrong with a query's text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Character in that line, from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl ParseError {
    /// An error at a byte of `text`.
    pub(crate) fn at(text: &str, byte: usize, message: impl Into<String>) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: parse error: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}

impl fmt::Display for PromError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse(error) => error.fmt(f),
            Self::Execution(message) => f.write_str(message),
            Self::Timeout => f.write_str("query timed out in expression evaluation"),
            Self::Canceled => f.write_str("query was canceled in expression evaluation"),
            Self::Storage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PromError {}

impl From<ParseError> for PromError {
    fn from(error: ParseError) -> Self {
        Self::Parse(error)
    }
}

impl From<StorageError> for PromError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl PromError {
    /// An execution error with its message.
    pub(crate) fn execution(message: impl Into<String>) -> Self {
        Self::Execution(message.into())
    }
}
