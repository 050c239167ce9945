//! The row of a table of configuration keys. Each daemon has such a table, from which its numbers
//! are checked and `docs/configuration.md` is made; defaults come from the types themselves.

use toml::Value;

use crate::base::configfile::{ConfigError, Source};

/// A key of a configuration, as the reference documents it and a start checks it.
#[derive(Debug)]
pub struct Key {
    /// Dotted path, such as `cert_check.tick_secs`.
    pub path: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Unit of a number; empty where it has none.
    pub unit: &'static str,
    /// Least and greatest value of a number.
    pub range: Option<(i64, i64)>,
}

/// A key that is not a number.
pub const fn text(path: &'static str, help: &'static str) -> Key {
    Key { path, help, unit: "", range: None }
}

/// A key that is a number within a range.
pub const fn number(
    path: &'static str,
    unit: &'static str,
    range: (i64, i64),
    help: &'static str,
) -> Key {
    Key { path, help, unit, range: Some(range) }
}

/// Holds every number of the file against its range.
///
/// # Errors
///
/// Names file, line, key, range and value of the first that is out of it.
pub fn check_ranges(source: &Source, keys: &[Key]) -> Result<(), ConfigError> {
    let root: toml::Table = source.parse()?;
    for key in keys {
        let Some((least, most)) = key.range else { continue };
        let Some(value) = lookup(&root, key.path) else { continue };
        let fits = matches!(value, Value::Integer(number) if (least..=most).contains(number));
        if !fits {
            let unit = if key.unit.is_empty() { String::new() } else { format!(" {}", key.unit) };
            let most = if most == i64::MAX { "…".to_owned() } else { most.to_string() };
            let value = match value {
                Value::Integer(number) => number.to_string(),
                other => format!("a {}", other.type_str()),
            };
            let message = format!("must be {least} to {most}{unit}, is {value}");
            return Err(source.error(key.path, message));
        }
    }
    Ok(())
}

fn lookup<'a>(root: &'a toml::Table, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let mut value = root.get(parts.next()?)?;
    for part in parts {
        value = value.as_table()?.get(part)?;
    }
    Some(value)
}
