//! Reading a TOML configuration so that every mistake is shown with file, line and key.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use crate::base::exit::{Exit, Fatal};
use crate::base::limits::CONFIG_FILE_BYTES_MAX;

/// A configuration's text and where it came from.
pub struct Source {
    path: PathBuf,
    text: String,
}

/// One mistake in a configuration: `agent.toml:3: buffer_max_size: must be 1 to 100000, is 0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl From<ConfigError> for Fatal {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Config, error.0)
    }
}

impl Source {
    /// Reads a file of at most 4 MiB.
    ///
    /// # Errors
    ///
    /// When the file can't be read, is too large or is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let fail = |why: String| ConfigError(format!("cannot read {}: {why}", path.display()));
        let size = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
        if size > CONFIG_FILE_BYTES_MAX {
            return Err(fail(format!("it has {size} bytes, more than {CONFIG_FILE_BYTES_MAX}")));
        }
        let bytes = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| fail("it is not UTF-8".to_owned()))?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// A configuration that is not in a file; `name` stands in for its path in messages.
    pub fn embedded(name: &str, text: &str) -> Self {
        Self { path: PathBuf::from(name), text: text.to_owned() }
    }

    /// The text as it stands.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file's path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Parses the text into `T`, which should refuse unknown fields.
    ///
    /// # Errors
    ///
    /// Names file, line and key of the first syntax error, unknown key or wrong type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|error| {
            let line = error.span().map_or(1, |span| self.line_of(span.start));
            let key = error.span().and_then(|span| self.key_at(span.start));
            let message = one_line(error.message());
            let hint = suggestion(error.message());
            let key = key.map_or(String::new(), |key| format!("{key}: "));
            ConfigError(format!("{}:{line}: {key}{message}{hint}", self.path.display()))
        })
    }

    /// An error about the value at `key`, a dotted path such as `alert.rules.2.value` (list items
    /// by their index from 0). Where the key is missing, the line is that of its nearest parent.
    pub fn error(&self, key: &str, message: impl std::fmt::Display) -> ConfigError {
        let line = self.line_of_key(key);
        ConfigError(format!("{}:{line}: {key}: {message}", self.path.display()))
    }

    fn line_of(&self, offset: usize) -> usize {
        let end = offset.min(self.text.len());
        self.text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn line_of_key(&self, key: &str) -> usize {
        let Ok(root) = DeTable::parse(&self.text) else { return 1 };
        let mut offset = 0;
        let mut table = Some(root.get_ref());
        let mut list: Option<&toml::de::DeArray<'_>> = None;
        for part in key.split('.') {
            let value = if let Some(items) = list {
                part.parse::<usize>().ok().and_then(|index| items.get(index))
            } else {
                table.and_then(|table| {
                    let (name, value) = table.iter().find(|(name, _)| name.get_ref() == part)?;
                    offset = name.span().start;
                    Some(value)
                })
            };
            let Some(value) = value else { break };
            if list.is_some() {
                offset = value.span().start;
            }
            (table, list) = match value.get_ref() {
                DeValue::Table(inner) => (Some(inner), None),
                DeValue::Array(items) => (None, Some(items)),
                _ => (None, None),
            };
        }
        self.line_of(offset)
    }

    /// The key on the line that holds `offset`, for errors that do not name one themselves.
    fn key_at(&self, offset: usize) -> Option<String> {
        let start = self.text[..offset.min(self.text.len())].rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[start..].lines().next()?;
        let (key, _) = line.split_once('=')?;
        Some(key.trim().to_owned())
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `(did you mean ...?)` for serde's "unknown field `x`, expected one of `a`, `b`".
fn suggestion(message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    let Some(wrong) = names.next().filter(|_| message.starts_with("unknown field")) else {
        return String::new();
    };
    names
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 3)
        .map_or(String::new(), |(_, name)| format!(" (did you mean `{name}`?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[allow(dead_code, reason = "only its key and type matter here")]
        retention_days: Option<u32>,
        #[allow(dead_code, reason = "only its key and type matter here")]
        alert: Option<toml::Value>,
    }

    fn parse(text: &str) -> String {
        Source::embedded("server.toml", text).parse::<Sample>().err().map_or(String::new(), |e| e.0)
    }

    #[test]
    fn an_unknown_key_is_shown_with_line_and_the_key_that_was_meant() {
        let message = parse("# comment\nretention_day = 7\n");
        assert!(message.starts_with("server.toml:2: retention_day: unknown field"), "{message}");
        assert!(message.ends_with("(did you mean `retention_days`?)"), "{message}");
    }

    #[test]
    fn a_wrong_type_is_shown_with_line_and_key() {
        let message = parse("retention_days = \"seven\"\n");
        assert!(message.starts_with("server.toml:1: retention_days: invalid type"), "{message}");
    }

    #[test]
    fn a_syntax_error_is_shown_with_its_line() {
        let message = parse("retention_days = 7\nalert = [\n");
        assert!(message.starts_with("server.toml:"), "{message}");
    }

    #[test]
    fn a_value_out_of_range_is_found_by_its_path() {
        let text = "retention_days = 7\n\n[[alert.rules]]\nname = 'a'\n\n[[alert.rules]]\nname = 'b'\nvalue = 1\n";
        let source = Source::embedded("s.toml", text);
        assert_eq!(
            source.error("alert.rules.1.value", "is odd").0,
            "s.toml:8: alert.rules.1.value: is odd"
        );
        assert_eq!(
            source.error("alert.rules.1.metric", "is missing").0,
            "s.toml:6: alert.rules.1.metric: is missing"
        );
    }
}
