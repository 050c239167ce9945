//! Secrets that a template holds as literal text: `"token": "abc123"`, `key=abc`,
//! `<password>abc</password>`.

use std::ops::Range;

use crate::server::notify::channels::url::{MASK, is_token};

/// Names whose values are secrets wherever they are part of a name.
const NAMES: [&str; 16] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "apikey",
    "accesskey",
    "privatekey",
    "authkey",
    "routingkey",
    "integrationkey",
    "servicekey",
    "credential",
    "authorization",
    "signature",
];
/// Names that end so have secrets for values, where those are long enough.
const ENDINGS: [&str; 5] = ["key", "sign", "auth", "pass", "webhook"];
/// Bytes of a secret at the least, by a name of [`NAMES`] and of [`ENDINGS`].
const SECRET_BYTES_MIN: (usize, usize) = (4, 8);

/// A secret in a template: the name before it, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Literal {
    name: String,
    at: Range<usize>,
}

/// Bytes of a value of this name from which on it is a secret; `None` where none is.
fn secret_bytes_min(name: &str) -> Option<usize> {
    let bare: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let bare = bare.to_ascii_lowercase();
    if NAMES.iter().any(|known| bare.contains(known)) {
        return Some(SECRET_BYTES_MIN.0);
    }
    ENDINGS.iter().any(|end| bare.ends_with(end)).then_some(SECRET_BYTES_MIN.1)
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// The end of a placeholder that begins at `at`.
fn placeholder(text: &str, at: usize) -> Option<usize> {
    let inner = text[at..].strip_prefix("{{")?;
    Some(inner.find("}}").map_or(text.len(), |end| at + end + 4))
}

/// Whether a literal value is looked for, by the bytes that a secret of its name has at least.
type Wanted = fn(&str, usize) -> bool;

fn is_secret(value: &str, bytes_min: usize) -> bool {
    // The scheme of an `Authorization` is public.
    let known = ["true", "false", "null", "Bearer", "Basic", MASK];
    value.len() >= bytes_min && !known.contains(&value)
}

/// The secrets of a template, in their order.
fn literals(template: &str) -> Vec<Literal> {
    scan(template, is_secret)
}

/// The masks of a template that are where secrets belong.
fn masks(template: &str) -> Vec<Literal> {
    scan(template, |value, _| value == MASK)
}

fn scan(template: &str, wanted: Wanted) -> Vec<Literal> {
    let bytes = template.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if let Some(end) = placeholder_at(template, at) {
            at = end;
        } else if is_name(bytes[at]) {
            let end = at + bytes[at..].iter().take_while(|byte| is_name(**byte)).count();
            let name = &template[at..end];
            at = end;
            let Some(least) = secret_bytes_min(name) else { continue };
            let Some(value) = value_after(bytes, end) else { continue };
            let keep = |text: &str| wanted(text, least);
            at = pieces(template, name, &keep, value, &mut found);
        } else {
            at += 1;
        }
    }
    found
}

fn placeholder_at(text: &str, at: usize) -> Option<usize> {
    (text.as_bytes()[at] == b'{').then(|| placeholder(text, at)).flatten()
}

/// Where the value that belongs to a name begins, and what ends it: a quote, a tag, or what
/// separates fields.
fn value_after(bytes: &[u8], mut at: usize) -> Option<(usize, &'static [u8])> {
    let skip = |at: &mut usize, set: &[u8]| {
        while bytes.get(*at).is_some_and(|byte| set.contains(byte)) {
            *at += 1;
        }
    };
    skip(&mut at, b"\\\"'");
    skip(&mut at, b" \t\r\n");
    let joint = *bytes.get(at)?;
    at += 1;
    if joint == b'>' {
        return Some((at, b"<"));
    }
    if joint != b':' && joint != b'=' {
        return None;
    }
    skip(&mut at, b" \t\r\n\\");
    match bytes.get(at)? {
        b'"' => Some((at + 1, b"\"")),
        b'\'' => Some((at + 1, b"'")),
        _ => Some((at, b"&,;}])<>\"' \t\r\n")),
    }
}

/// Adds what of a value is literal; gives where the value ends.
fn pieces(
    template: &str,
    name: &str,
    wanted: &dyn Fn(&str) -> bool,
    (start, ends): (usize, &[u8]),
    found: &mut Vec<Literal>,
) -> usize {
    let bytes = template.as_bytes();
    let mut add = |from: usize, to: usize| {
        let text = &template[from..to];
        let (lead, bare) = (text.len() - text.trim_start().len(), text.trim());
        // A backslash belongs to the quote.
        let bare = bare.trim_end_matches('\\');
        if wanted(bare) {
            let at = from + lead..from + lead + bare.len();
            found.push(Literal { name: name.to_owned(), at });
        }
    };
    let (mut from, mut at) = (start, start);
    while at < bytes.len() {
        if let Some(end) = placeholder_at(template, at) {
            add(from, at);
            (from, at) = (end, end);
        } else if ends.contains(&bytes[at]) {
            break;
        } else {
            at += if bytes[at] == b'\\' && ends.len() == 1 { 2 } else { 1 };
        }
    }
    let mut end = at.min(bytes.len());
    while !template.is_char_boundary(end) {
        end += 1;
    }
    add(from.min(end), end);
    end
}

/// The template with its secrets masked.
pub(crate) fn mask(template: &str) -> String {
    let mut out = template.to_owned();
    for literal in literals(template).into_iter().rev() {
        out.replace_range(literal.at, MASK);
    }
    out
}

/// Whether a template has a mask where a secret belongs.
pub(crate) fn has_mask(template: &str) -> bool {
    !masks(template).is_empty()
}

/// The template with the stored one's secrets in place of masks, by their names; `None` where the
/// stored one has none of that name.
pub(crate) fn restored(given: &str, stored: &str) -> Option<String> {
    let kept = literals(stored);
    let mut out = given.to_owned();
    let masks = masks(given);
    for (index, mask) in masks.iter().enumerate().rev() {
        let turn = masks[..index].iter().filter(|other| other.name == mask.name).count();
        let old = kept.iter().filter(|old| old.name == mask.name).nth(turn)?;
        out.replace_range(mask.at.clone(), &stored[old.at.clone()]);
    }
    Some(out)
}

/// What of a template must not stand in a log: its secrets, and words that look like tokens.
pub(crate) fn secrets(template: &str) -> Vec<String> {
    let named = literals(template).into_iter().map(|literal| template[literal.at].to_owned());
    let split = |c: char| c.is_whitespace() || "\"'<>&,;{}[]()\\/".contains(c);
    let words = template.split(split).flat_map(|word| {
        // `name=token`, and a token that ends in `=` itself.
        let value = word.split_once('=').map(|(_, value)| value).filter(|value| !value.is_empty());
        std::iter::once(word).chain(value)
    });
    let tokens = words.filter(|word| is_token(word)).map(str::to_owned);
    named.chain(tokens).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATES: [(&str, &str); 8] = [
        (
            r#"{"token": "abc1 23", "text": "{{message}}"}"#,
            r#"{"token": "***", "text": "{{message}}"}"#,
        ),
        ("key=abc123456&to={{phone}}&text={{text}}", "key=***&to={{phone}}&text={{text}}"),
        (
            "<r><password>s3cr</password><m>{{message}}</m></r>",
            "<r><password>***</password><m>{{message}}</m></r>",
        ),
        ("<r apiKey='k-1234567'>{{message}}</r>", "<r apiKey='***'>{{message}}</r>"),
        (
            r#"{"Authorization": "Bearer {{api_key}}"}"#,
            r#"{"Authorization": "Bearer {{api_key}}"}"#,
        ),
        (
            r#"{"routing_key": "R0UT\"ING", "dedup_key": "{{agent_id}}"}"#,
            r#"{"routing_key": "***", "dedup_key": "{{agent_id}}"}"#,
        ),
        (
            r#"{"token_type": null, "key": 1, "text": "the key is here"}"#,
            r#"{"token_type": null, "key": 1, "text": "the key is here"}"#,
        ),
        ("secret=ab{{x}}cdef é", "secret=ab{{x}}*** é"),
    ];

    #[test]
    fn secrets_are_masked_and_come_back_by_their_names() {
        for (template, masked) in TEMPLATES {
            assert_eq!(mask(template), masked);
            assert_eq!(has_mask(masked), template != masked, "{masked}");
            assert_eq!(restored(masked, template).as_deref(), Some(template));
        }
        let stored = r#"{"token": "one1", "a": {"token": "two2"}, "t": "x"}"#;
        let given = r#"{"t": "other", "token": "***", "b": {"token": "***"}}"#;
        assert_eq!(
            restored(given, stored).as_deref(),
            Some(r#"{"t": "other", "token": "one1", "b": {"token": "two2"}}"#)
        );
        assert_eq!(restored(r#"{"secret": "***"}"#, stored), None);
        assert_eq!(restored("three stars: ***", stored).as_deref(), Some("three stars: ***"));
    }

    #[test]
    fn a_log_shows_neither_named_secrets_nor_tokens() {
        let template =
            r#"{"x": "xoxb-1234567890-abcdef", "pwd": "pass", "t": "{{message}} of it"}"#;
        assert_eq!(secrets(template), ["pass", "xoxb-1234567890-abcdef"]);
        assert_eq!(secrets("u=https://a/b?t=abcdefghij0123456789=="), ["abcdefghij0123456789=="]);
    }

    #[test]
    fn any_text_is_taken() {
        for text in
            ["{{", "token=", "token:\"", "token='\\", "token=\\é", "{{}}key=é\u{1F600}ééé\\"]
        {
            let masked = mask(text);
            assert!(restored(&masked, text).is_some(), "{text}");
        }
    }
}
