//! Taking a rule's fields apart, whichever of file, seed or API they came from.

use serde_json::{Map, Value};

use crate::base::limits::RULE_SECS_MAX;

/// A field that can't be what it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {message}")]
pub struct FieldError {
    /// The field's name, such as `duration_secs`.
    pub field: String,
    /// What is wrong with it and what it may be.
    pub message: String,
}

impl FieldError {
    /// An error about `field`.
    pub fn new(field: &str, message: impl Into<String>) -> Self {
        Self { field: field.to_owned(), message: message.into() }
    }
}

/// What is known of a rule type's field, for checks and for the documents.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Whether a rule without it can't work.
    pub required: bool,
    /// What it means, with its unit and its default.
    pub help: &'static str,
}

impl Field {
    /// A field that must be there.
    pub const fn required(name: &'static str, help: &'static str) -> Self {
        Self { name, required: true, help }
    }

    /// A field that may be left out.
    pub const fn optional(name: &'static str, help: &'static str) -> Self {
        Self { name, required: false, help }
    }
}

/// The fields of one rule.
pub struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// The fields in `map`, of which each must be in `known`.
    ///
    /// # Errors
    ///
    /// Names the first that is not, with the one that may have been meant, or the first that is
    /// missing.
    pub fn of(map: &'a Map<String, Value>, known: &[Field]) -> Result<Self, FieldError> {
        for name in map.keys() {
            if !known.iter().any(|field| field.name == name) {
                return Err(unknown(name, known.iter().map(|field| field.name)));
            }
        }
        let missing = known.iter().find(|field| field.required && !map.contains_key(field.name));
        match missing {
            Some(field) => Err(FieldError::new(field.name, "is missing")),
            None => Ok(Self(map)),
        }
    }

    /// The fields in `map`, which have been checked.
    pub fn all(map: &'a Map<String, Value>) -> Self {
        Self(map)
    }

    /// A finite number.
    pub fn number(&self, name: &str) -> Result<Option<f64>, FieldError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let number = value.as_f64().filter(|number| number.is_finite());
        let wrong = || FieldError::new(name, format!("must be a number, is {}", shown(value)));
        number.map(Some).ok_or_else(wrong)
    }

    /// A finite number that must be there.
    ///
    /// # Errors
    ///
    /// When it is missing or something else.
    pub fn need_number(&self, name: &str) -> Result<f64, FieldError> {
        self.number(name)?.ok_or_else(|| FieldError::new(name, "is missing"))
    }

    /// A whole number from `least` to `most`; `default` where the field is missing.
    ///
    /// # Errors
    ///
    /// When it is something else or out of its range.
    pub fn whole(
        &self,
        name: &str,
        (least, most): (u64, u64),
        default: u64,
    ) -> Result<u64, FieldError> {
        let Some(value) = self.0.get(name) else { return Ok(default) };
        let number = value.as_u64().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| {
            let range = format!("must be a whole number from {least} to {most}");
            FieldError::new(name, format!("{range}, is {}", shown(value)))
        })
    }

    /// Seconds, as milliseconds: `least` to 30 days; `default` where the field is missing.
    ///
    /// # Errors
    ///
    /// When it is something else or out of its range.
    pub fn secs_as_ms(&self, name: &str, least: u64, default: u64) -> Result<i64, FieldError> {
        let secs = self.whole(name, (least, RULE_SECS_MAX), default)?;
        Ok(i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(1_000))
    }

    /// A text of at most `most` bytes.
    ///
    /// # Errors
    ///
    /// When it is something else, or longer.
    pub fn text(&self, name: &str, most: usize) -> Result<Option<&'a str>, FieldError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        match value.as_str() {
            Some(text) if text.len() > most => {
                let message = format!("has {} bytes, more than {most}", text.len());
                Err(FieldError::new(name, message))
            }
            Some(text) => Ok(Some(text)),
            None => Err(FieldError::new(name, format!("must be text, is {}", shown(value)))),
        }
    }

    /// The field as it is.
    pub fn value(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name)
    }

    /// One of some words, with what it stands for.
    ///
    /// # Errors
    ///
    /// When it is something else; says what it may be.
    pub fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, FieldError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let found = words.iter().find(|(word, _)| value.as_str() == Some(word));
        found.map(|(_, meaning)| Some(*meaning)).ok_or_else(|| {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            FieldError::new(name, format!("must be {}, is {}", names.join(" or "), shown(value)))
        })
    }
}

/// An error about a field that nobody knows, with the name that was probably meant.
pub(crate) fn unknown<'n>(name: &str, known: impl Iterator<Item = &'n str> + Clone) -> FieldError {
    let meant = known
        .clone()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .min()
        .filter(|(distance, known)| *distance <= 1 + known.len() / 3)
        .map_or(String::new(), |(_, known)| format!(" (did you mean `{known}`?)"));
    let names: Vec<&str> = known.collect();
    FieldError::new(
        name,
        format!("is not a field of this rule type{meant}; it has {}", names.join(", ")),
    )
}

/// A value in a message, cut to what fits in a line.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 {
        return text;
    }
    let start: String = text.chars().take(60).collect();
    format!("{start}…")
}
