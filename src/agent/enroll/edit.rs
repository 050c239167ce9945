//! Changes to a configuration's text that leave every other line, and every comment, as it is.

use toml::de::{DeArray, DeTable, DeValue};

/// Sets the top-level `key` to the string `value`.
///
/// # Errors
///
/// When the text is not TOML.
pub(super) fn set_string(text: &str, key: &str, value: &str) -> Result<String, toml::de::Error> {
    set_raw(text, key, &quote(value))
}

/// Turns TLS on where it is off.
pub(super) fn enable_tls(text: &str) -> Result<String, toml::de::Error> {
    let root = DeTable::parse(text)?;
    match root.get_ref().get("tls").map(toml::Spanned::get_ref) {
        Some(DeValue::Table(_)) => Ok(text.to_owned()),
        _ => set_raw(text, "tls", "true"),
    }
}

/// Turns TLS on with the authorities of a file.
pub(super) fn set_ca_file(text: &str, path: &str) -> Result<String, toml::de::Error> {
    let root = DeTable::parse(text)?;
    let value = quote(path);
    let Some((name, tls)) = root.get_ref().iter().find(|(name, _)| name.get_ref() == "tls") else {
        let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        return Ok(format!("{text}{gap}\n[tls]\nca_file = {value}\n"));
    };
    let DeValue::Table(table) = tls.get_ref() else {
        return Ok(replace(text, tls.span(), &format!("{{ ca_file = {value} }}")));
    };
    if let Some(old) = table.get("ca_file") {
        return Ok(replace(text, old.span(), &value));
    }
    let inline = text.get(tls.span()).is_some_and(|body| body.starts_with('{'));
    Ok(if inline {
        let at = tls.span().start + 1;
        let comma = if table.is_empty() { "" } else { "," };
        replace(text, at..at, &format!(" ca_file = {value}{comma}"))
    } else {
        let at = end_of_line(text, name.span().end);
        replace(text, at..at, &format!("\nca_file = {value}"))
    })
}

/// The string at the top-level `key`.
pub(super) fn string(text: &str, key: &str) -> Option<String> {
    let root = DeTable::parse(text).ok()?;
    match root.get_ref().get(key)?.get_ref() {
        DeValue::String(value) => Some(value.to_string()),
        _ => None,
    }
}

fn set_raw(text: &str, key: &str, value: &str) -> Result<String, toml::de::Error> {
    let root = DeTable::parse(text)?;
    if let Some(old) = root.get_ref().get(key) {
        return Ok(replace(text, old.span(), value));
    }
    // After the last top-level value: further down it would belong to a table.
    let last = root.get_ref().values().filter(|value| !is_table(value.get_ref()));
    Ok(match last.map(|value| value.span().end).max() {
        Some(end) => {
            let at = end_of_line(text, end);
            replace(text, at..at, &format!("\n{key} = {value}"))
        }
        None if text.trim().is_empty() => format!("{key} = {value}\n"),
        None => format!("{key} = {value}\n{text}"),
    })
}

fn is_table(value: &DeValue<'_>) -> bool {
    let is_list_of_tables =
        |items: &DeArray<'_>| items.iter().any(|item| matches!(item.get_ref(), DeValue::Table(_)));
    match value {
        DeValue::Table(_) => true,
        DeValue::Array(items) => is_list_of_tables(items),
        _ => false,
    }
}

fn replace(text: &str, at: std::ops::Range<usize>, with: &str) -> String {
    let before = text.get(..at.start).unwrap_or_default();
    let after = text.get(at.end..).unwrap_or_default();
    format!("{before}{with}{after}")
}

fn end_of_line(text: &str, from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let end = rest.find('\n').unwrap_or(rest.len());
    from + rest[..end].trim_end_matches('\r').len()
}

/// A basic string (TOML 1.0, "String").
fn quote(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const TEXT: &str = "# my host\nagent_id = \"web-01\" # the name\n# auth_token = \"x\"\n\
                        interval = 10\n\n# filters\n[disk]\nexclude = [\"/snap*\"]\n";

    #[test]
    fn a_value_is_replaced_and_all_else_stays() {
        let text = set_string(TEXT, "agent_id", "we\"b\\2").unwrap();
        assert_eq!(text, TEXT.replace("\"web-01\"", "\"we\\\"b\\\\2\""));
        assert_eq!(string(&text, "agent_id").as_deref(), Some("we\"b\\2"));
    }

    #[test]
    fn a_new_key_goes_before_the_first_table() {
        let text = set_string(TEXT, "auth_token", "abc").unwrap();
        assert_eq!(text, TEXT.replace("interval = 10", "interval = 10\nauth_token = \"abc\""));
        assert_eq!(set_string("", "a", "b").unwrap(), "a = \"b\"\n");
        let text = set_string("# c\n[disk]\nx = 1", "a", "b").unwrap();
        assert_eq!(text, "a = \"b\"\n# c\n[disk]\nx = 1");
    }

    #[test]
    fn tls_is_turned_on_in_each_way_that_it_can_be_written() {
        for (before, after) in [
            ("a = 1\n", "a = 1\n\n[tls]\nca_file = \"/ca\"\n"),
            ("tls = false\n", "tls = { ca_file = \"/ca\" }\n"),
            ("tls = { ca_file = '/x' }\n", "tls = { ca_file = \"/ca\" }\n"),
            ("tls = { server_name = 'x' }", "tls = { ca_file = \"/ca\", server_name = 'x' }"),
            ("[tls] # why\ncert_file = 'c'\n", "[tls] # why\nca_file = \"/ca\"\ncert_file = 'c'\n"),
            ("[tls]\nca_file = 'c'\n", "[tls]\nca_file = \"/ca\"\n"),
        ] {
            assert_eq!(set_ca_file(before, "/ca").unwrap(), after);
        }
        assert_eq!(enable_tls("a = 1\n").unwrap(), "a = 1\ntls = true\n");
        assert_eq!(enable_tls("tls = false # no\n").unwrap(), "tls = true # no\n");
        assert_eq!(enable_tls("[tls]\nca_file = 'c'\n").unwrap(), "[tls]\nca_file = 'c'\n");
    }
}
