//! Label matchers, with regular expressions as Prometheus takes them: RE2's syntax, anchored at
//! both ends, `.` matches every character, and `\d`, `\w`, `\s` and `\b` are ASCII.

use std::fmt;
use std::sync::Arc;

use regex_automata::meta::{Config, Regex};
use regex_automata::util::syntax;

/// Bytes that a compiled expression may take.
const PROGRAM_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the cache of states of one expression.
const CACHE_BYTES_MAX: usize = 256 * 1024;
/// Nesting of an expression.
const NEST_MAX: u32 = 100;

/// How a label's value is compared.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Matches(Arc<Regex>),
    /// `!~`
    MatchesNot(Arc<Regex>),
}

/// One matcher of a selector. A label that a series does not have counts as empty.
#[derive(Debug, Clone)]
pub(crate) struct Matcher {
    /// The label; `__name__` for the metric's name.
    pub name: String,
    /// How its value is compared.
    pub test: Test,
    /// With what.
    pub value: String,
}

impl Matcher {
    /// `name=value`.
    pub(crate) fn equal(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), test: Test::Equal, value: value.to_owned() }
    }

    /// A matcher with one of the operators `=`, `!=`, `=~`, `!~`.
    ///
    /// # Errors
    ///
    /// What is wrong with the regular expression.
    pub(crate) fn new(name: &str, operator: &str, value: &str) -> Result<Self, String> {
        let test = match operator {
            "=" => Test::Equal,
            "!=" => Test::NotEqual,
            "=~" => Test::Matches(Arc::new(anchored(value)?)),
            _ => Test::MatchesNot(Arc::new(anchored(value)?)),
        };
        Ok(Self { name: name.to_owned(), test, value: value.to_owned() })
    }

    /// Whether a label with this value is meant.
    pub(crate) fn matches(&self, value: &str) -> bool {
        match &self.test {
            Test::Equal => value == self.value,
            Test::NotEqual => value != self.value,
            Test::Matches(regex) => regex.is_match(value),
            Test::MatchesNot(regex) => !regex.is_match(value),
        }
    }

    /// The operator as it is written.
    pub(crate) fn operator(&self) -> &'static str {
        match self.test {
            Test::Equal => "=",
            Test::NotEqual => "!=",
            Test::Matches(_) => "=~",
            Test::MatchesNot(_) => "!~",
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.operator(), &self.value) == (&other.name, other.operator(), &other.value)
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = label_text(&self.name);
        write!(f, "{name}{}{}", self.operator(), quoted(&self.value))
    }
}

/// A label's name as it is written in a query: quoted where it is not a plain one.
pub(crate) fn label_text(name: &str) -> String {
    if is_plain(name, false) { name.to_owned() } else { quoted(name) }
}

/// Whether a name needs no quotes: letters, digits and underscores, for a metric colons too.
pub(crate) fn is_plain(name: &str, colons: bool) -> bool {
    let mut letters = name.chars();
    let fits = |letter: char| letter == '_' || (colons && letter == ':');
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || fits(first))
        && letters.all(|letter| letter.is_ascii_alphanumeric() || fits(letter))
}

/// A text in double quotes.
pub(crate) fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r"))
}

/// An expression that must match the whole of a text.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn anchored(pattern: &str) -> Result<Regex, String> {
    let config = Config::new()
        .nfa_size_limit(Some(PROGRAM_BYTES_MAX))
        .hybrid_cache_capacity(CACHE_BYTES_MAX)
        .onepass(false)
        .backtrack(false);
    Regex::builder()
        .configure(config)
        .syntax(syntax::Config::new().nest_limit(NEST_MAX))
        .build(&format!("^(?s:{})$", ascii_classes(pattern)))
        .map_err(|error| {
            let mut text = error.to_string();
            if let Some(inner) = error.syntax_error() {
                text = inner.to_string().lines().last().unwrap_or_default().to_owned();
            }
            format!("error parsing regexp {}: {}", quoted(pattern), text.trim())
        })
}

/// RE2's Perl classes hold ASCII alone, and are written out here.
fn ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('W') => out.push_str("[^0-9A-Za-z_]"),
            Some('s') => out.push_str("[\\t\\n\\f\\r ]"),
            Some('S') => out.push_str("[^\\t\\n\\f\\r ]"),
            Some('b') => out.push_str("(?-u:\\b)"),
            Some('B') => out.push_str("(?-u:\\B)"),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}
