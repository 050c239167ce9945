//! A channel's `config_json`: its fields, their checks, and what is masked of it.

use serde_json::{Map, Value};

use crate::base::limits::{CONFIG_JSON_BYTES_MAX, TEXT_BYTES_MAX};
use crate::server::notify::channels::url::MASK;
use crate::server::notify::channels::{address, literals, url};
use crate::server::notify::lang;
use crate::server::notify::template::Escape;

/// A channel's configuration, a JSON object.
pub(crate) type Config = Map<String, Value>;

/// One field of a configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it must be.
    pub kind: FieldKind,
    /// Whether it must be there.
    pub required: bool,
    /// Whether it says where the secrets go, or how.
    pub is_address: bool,
}

impl Field {
    /// A field that must be there.
    pub(crate) const fn required(name: &'static str, kind: FieldKind) -> Self {
        Self { name, kind, required: true, is_address: matches!(kind, FieldKind::Url) }
    }

    /// A field that may be left out.
    pub(crate) const fn optional(name: &'static str, kind: FieldKind) -> Self {
        Self { name, kind, required: false, is_address: matches!(kind, FieldKind::Url) }
    }

    /// The language of a channel's messages.
    pub(crate) const LANGUAGE: Self = Self::optional("language", FieldKind::Word(lang::NAMES));

    /// The same, saying where secrets go: when it changes they must be given again.
    pub(crate) const fn address(self) -> Self {
        Self { is_address: true, ..self }
    }
}

/// What a field must be, and what of it is masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldKind {
    /// A line of text.
    Text,
    /// A text of any lines. Its literal secrets are never shown.
    Template,
    /// A list of texts of any lines.
    Texts,
    /// A host name or address.
    Host,
    /// A recipient's id, used where the channel has no recipients.
    Id,
    /// 1 to 65535.
    Port,
    /// A whole number in a range.
    Number(u64, u64),
    /// A mail address.
    Address,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A text that is never shown.
    Secret,
    /// A URL whose query's values, and tokens in its path, are never shown.
    Url,
    /// An object of header names and values; the values are never shown.
    Headers,
}

/// Why a mask can't be taken.
const NOT_STORED: &str = "\"***\" means the stored value, and nothing is stored";

/// A field that can't be taken: its name and why.
fn wrong(field: &str, why: impl std::fmt::Display) -> String {
    format!("config_json: {field}: {why}")
}

/// Checks every field for itself.
///
/// # Errors
///
/// Names the first field that is missing, unknown or not what it must be.
pub(crate) fn check(fields: &[Field], config: &Config) -> Result<(), String> {
    if Value::Object(config.clone()).to_string().len() > CONFIG_JSON_BYTES_MAX {
        return Err(format!("config_json: must have at most {CONFIG_JSON_BYTES_MAX} bytes"));
    }
    for name in config.keys() {
        if !fields.iter().any(|field| field.name == name) {
            let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
            let shown: String = name.chars().take(64).collect();
            return Err(wrong(&shown, format!("unknown; known are {}", known.join(", "))));
        }
    }
    for field in fields {
        match config.get(field.name) {
            None | Some(Value::Null) if field.required => {
                return Err(wrong(field.name, "is missing"));
            }
            None | Some(Value::Null) => {}
            Some(value) => check_value(field, value).map_err(|why| wrong(field.name, why))?,
        }
    }
    Ok(())
}

fn check_value(field: &Field, value: &Value) -> Result<(), String> {
    if field.kind == FieldKind::Port {
        let fits = value.as_u64().is_some_and(|port| (1..=65_535).contains(&port));
        return if fits { Ok(()) } else { Err(format!("must be a port, 1 to 65535, is {value}")) };
    }
    if let FieldKind::Number(least, most) = field.kind {
        let fits = value.as_u64().is_some_and(|number| (least..=most).contains(&number));
        let wrong = || format!("must be a whole number from {least} to {most}, is {value}");
        return if fits { Ok(()) } else { Err(wrong()) };
    }
    if field.kind == FieldKind::Headers {
        return check_headers(value);
    }
    if field.kind == FieldKind::Texts {
        let all_texts = value.as_array().is_some_and(|texts| texts.iter().all(Value::is_string));
        return if all_texts { Ok(()) } else { Err("must be a list of strings".to_owned()) };
    }
    let Some(text) = value.as_str() else {
        return Err("must be a string".to_owned());
    };
    if text.is_empty() && (field.required || field.kind != FieldKind::Text) {
        return Err("must not be empty".to_owned());
    }
    if field.kind == FieldKind::Template {
        return if literals::has_mask(text) { Err(NOT_STORED.to_owned()) } else { Ok(()) };
    }
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("must have at most {TEXT_BYTES_MAX} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("must not hold control characters".to_owned());
    }
    match field.kind {
        FieldKind::Host => {
            let bad = |c: char| c.is_whitespace() || matches!(c, '/' | '@' | '?');
            if text.contains(bad) { Err("must be a host name".to_owned()) } else { Ok(()) }
        }
        FieldKind::Address => address::check_address(text).map(drop),
        FieldKind::Id => address::check_id(text),
        FieldKind::Word(words) if !words.contains(&text) => {
            Err(format!("must be one of {}", words.join(", ")))
        }
        FieldKind::Secret if text == MASK => Err(NOT_STORED.to_owned()),
        FieldKind::Url => check_url(text),
        _ => Ok(()),
    }
}

fn check_headers(value: &Value) -> Result<(), String> {
    let Some(headers) = value.as_object() else {
        return Err("must be an object of header names and values".to_owned());
    };
    for (name, value) in headers {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            return Err(format!("`{name}` is not a valid header name"));
        }
        if ["host", "content-length", "transfer-encoding", "connection"]
            .contains(&name.to_ascii_lowercase().as_str())
        {
            return Err(format!("`{name}` is set by the server itself"));
        }
        match value.as_str() {
            Some(MASK) => return Err(format!("{name}: {NOT_STORED}")),
            Some(text) if text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control) => {}
            _ => return Err(format!("{name}: must be a line of text")),
        }
    }
    Ok(())
}

/// Checks a URL that is posted to.
///
/// # Errors
///
/// Says what it should look like.
pub(crate) fn check_url(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let bad = |c: char| c.is_whitespace() || c.is_control() || !c.is_ascii();
    let Some(rest) = rest.filter(|_| !text.contains(bad) && text.len() <= TEXT_BYTES_MAX) else {
        return Err(format!(
            "`{}` is not a valid URL such as https://example.com/hook",
            url::mask_url(text)
        ));
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return Err("a URL must hold no user and password: use `headers`".to_owned());
    }
    if host.is_empty() || host.starts_with(':') {
        return Err("the URL has no host".to_owned());
    }
    if url::has_mask(text) {
        return Err(format!("`{}`: {NOT_STORED} for this address", url::mask_url(text)));
    }
    Ok(())
}

fn mask_value(kind: FieldKind, value: &Value) -> Value {
    match (kind, value) {
        (FieldKind::Secret, Value::String(text)) if !text.is_empty() => MASK.into(),
        (FieldKind::Url, Value::String(text)) => url::mask_url(text).into(),
        (FieldKind::Template, Value::String(text)) => literals::mask(text).into(),
        (FieldKind::Headers, Value::Object(headers)) => {
            let masked = headers.keys().map(|name| (name.clone(), Value::from(MASK)));
            Value::Object(masked.collect())
        }
        (_, value) => value.clone(),
    }
}

/// The configuration as it is given out. Of a field that no spec knows nothing is shown.
pub(crate) fn mask(fields: &[Field], config: &Config) -> Config {
    let masked = config.iter().map(|(name, value)| {
        let field = fields.iter().find(|field| field.name == name);
        let kind = field.map_or(FieldKind::Secret, |field| field.kind);
        (name.clone(), mask_value(kind, value))
    });
    masked.collect()
}

/// Puts the stored secrets back where `config` holds what [`mask`] made of them, and gives the
/// fields that keep one.
///
/// # Errors
///
/// Names a field whose secret must be given again: the address that it goes to has changed.
pub(crate) fn unmask(
    fields: &[Field],
    config: &mut Config,
    stored: &Config,
) -> Result<Vec<&'static str>, String> {
    restore_urls(fields, config, stored);
    let moved = fields.iter().find(|field| field.is_address && is_moved(field, config, stored));
    let mut kept = Vec::new();
    for field in fields {
        let (Some(value), Some(old)) = (config.get_mut(field.name), stored.get(field.name)) else {
            continue;
        };
        if !restore(field.kind, value, old) {
            continue;
        }
        if let Some(moved) = moved {
            let why = format!("must be given again, because {} changes", moved.name);
            return Err(wrong(field.name, why));
        }
        kept.push(field.name);
    }
    Ok(kept)
}

/// The fields of a configuration that hold secrets besides those of a URL.
pub(crate) fn secret_fields(fields: &[Field], config: &Config) -> Vec<&'static str> {
    let has_secret = |field: &&Field| {
        let value = config.get(field.name);
        field.kind != FieldKind::Url
            && value.is_some_and(|value| *value != mask_value(field.kind, value))
    };
    fields.iter().filter(has_secret).map(|field| field.name).collect()
}

/// A masked URL that can't be restored stays as it is: its check refuses it.
fn restore_urls(fields: &[Field], config: &mut Config, stored: &Config) {
    for field in fields.iter().filter(|field| field.kind == FieldKind::Url) {
        let (given, old) = (some_text(config, field.name), some_text(stored, field.name));
        if let (Some(given), Some(old)) = (given, old)
            && url::has_mask(given)
            && let Some(whole) = url::restored(given, old)
        {
            config.insert(field.name.to_owned(), whole.into());
        }
    }
}

fn is_moved(field: &Field, config: &Config, stored: &Config) -> bool {
    let place = |config: &Config| match (field.kind, config.get(field.name)) {
        (FieldKind::Url, Some(Value::String(text))) => Some(url::address(text).into()),
        (_, value) => value.cloned(),
    };
    let new = place(config);
    new.is_some() && new != place(stored)
}

/// Puts one field's secrets back; whether there were any.
fn restore(kind: FieldKind, value: &mut Value, old: &Value) -> bool {
    if let (FieldKind::Headers, Some(headers), Some(old)) =
        (kind, value.as_object_mut(), old.as_object())
    {
        let mut any = false;
        for (name, value) in headers {
            if let (Some(MASK), Some(old)) = (value.as_str(), old.get(name)) {
                *value = old.clone();
                any = true;
            }
        }
        return any;
    }
    let (Some(given), Some(stored)) = (value.as_str(), old.as_str()) else { return false };
    let whole = match kind {
        FieldKind::Secret if given == MASK => Some(stored.to_owned()),
        FieldKind::Template if literals::has_mask(given) => literals::restored(given, stored),
        _ => None,
    };
    let any = whole.is_some();
    if let Some(whole) = whole {
        *value = whole.into();
    }
    any
}

/// Every text that must not stand in a log: each secret as it is, and as it looks inside JSON, in
/// a form, and behind the scheme of an `Authorization` header. The longest come first, so that
/// none leaves a part of another behind.
pub(crate) fn secrets(fields: &[Field], config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    for secret in plain_secrets(fields, config) {
        let last_word = secret.rsplit(' ').next().filter(|word| word.len() >= 8).map(str::to_owned);
        let forms = [Escape::Json, Escape::Form].map(|escape| escape.apply(&secret));
        found.extend(forms.into_iter().chain(last_word));
        found.push(secret);
    }
    by_length(found)
}

/// The longest first, each once.
pub(crate) fn by_length(mut secrets: Vec<String>) -> Vec<String> {
    secrets.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    secrets.dedup();
    secrets
}

fn plain_secrets(fields: &[Field], config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    for field in fields {
        match (field.kind, config.get(field.name)) {
            (FieldKind::Secret, Some(Value::String(text))) => found.push(text.clone()),
            (FieldKind::Url, Some(Value::String(text))) => found.extend(url::secrets(text)),
            (FieldKind::Template, Some(Value::String(text))) => {
                found.extend(literals::secrets(text));
            }
            (FieldKind::Headers, Some(Value::Object(headers))) => {
                found.extend(headers.values().filter_map(Value::as_str).map(str::to_owned));
            }
            _ => {}
        }
    }
    found
}

/// The text with every secret masked. Secrets of less than four bytes hide nothing.
pub(crate) fn scrub(text: &str, secrets: &[String]) -> String {
    let mut out = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
        out = out.replace(secret.as_str(), MASK);
    }
    out
}

/// A field's text; empty when it is not there.
pub(crate) fn text<'a>(config: &'a Config, name: &str) -> &'a str {
    config.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A field's text, where it is there and not empty.
pub(crate) fn some_text<'a>(config: &'a Config, name: &str) -> Option<&'a str> {
    Some(text(config, name)).filter(|text| !text.is_empty())
}

/// The pairs of a field of headers.
pub(crate) fn headers(config: &Config) -> Vec<(String, String)> {
    let pairs = config.get("headers").and_then(Value::as_object);
    let pairs = pairs.into_iter().flatten();
    pairs.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FIELDS: &[Field] = &[
        Field::required("url", FieldKind::Url),
        Field::required("port", FieldKind::Port),
        Field::optional("secret", FieldKind::Secret),
        Field::optional("headers", FieldKind::Headers),
        Field::optional("tls", FieldKind::Word(&["none", "tls"])),
    ];

    fn config(json: &str) -> Config {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_wrong_field_is_named() {
        let refuse = |json: &str| check(FIELDS, &config(json)).unwrap_err();
        assert_eq!(refuse("{\"port\": 1}"), "config_json: url: is missing");
        let url = "\"url\": \"https://a.example/x\"";
        assert!(refuse(&format!("{{{url}, \"port\": \"25\"}}")).starts_with("config_json: port: "));
        assert!(refuse(&format!("{{{url}, \"port\": 0}}")).contains("1 to 65535"));
        assert!(
            refuse(&format!("{{{url}, \"prot\": 1}}")).contains("prot: unknown; known are url")
        );
        assert!(
            refuse(&format!("{{{url}, \"port\": 1, \"tls\": \"ssl\"}}")).contains("one of none")
        );
        assert!(refuse(&format!("{{{url}, \"port\": 1, \"secret\": \"***\"}}")).contains("stored"));
        assert!(refuse("{\"url\": \"https://u:p@a/\", \"port\": 1}").contains("no user"));
        let header = format!("{{{url}, \"port\": 1, \"headers\": {{\"X\": \"a\\nb\"}}}}");
        assert!(refuse(&header).contains("headers: X: must be a line"));
        assert_eq!(check(FIELDS, &config(&format!("{{{url}, \"port\": 1}}"))), Ok(()));
    }

    #[test]
    fn secrets_go_out_masked_and_come_back() {
        let stored = config(
            r#"{"url": "https://a.example/send?access_token=tok123&x=", "port": 1,
                "secret": "SEC", "headers": {"Authorization": "Bearer abcdef"}}"#,
        );
        let shown = mask(FIELDS, &stored);
        assert_eq!(
            Value::Object(shown.clone()),
            serde_json::json!({"url": "https://a.example/send?access_token=***&x=", "port": 1,
                "secret": "***", "headers": {"Authorization": "***"}})
        );
        let mut back = shown;
        assert_eq!(unmask(FIELDS, &mut back, &stored), Ok(vec!["secret", "headers"]));
        assert_eq!(back, stored);
        let secrets = secrets(FIELDS, &stored);
        assert_eq!(scrub("tok123 Bearer abcdef", &secrets), "*** ***");
    }
}
