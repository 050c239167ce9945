//! `body_template`: a text with `{{name}}` where the alert's values go.

use serde_json::json;

use crate::base::clock::rfc3339;
use crate::server::notify::message::{Notification, escape_html};

/// What a template may name besides `labels.NAME`.
pub(crate) const NAMES: [&str; 12] = [
    "agent_id",
    "labels",
    "metric",
    "value",
    "severity",
    "message",
    "rule_name",
    "status",
    "threshold",
    "timestamp",
    "title",
    "count",
];

/// How a value is made safe for the body that it goes into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escape {
    /// Inside a JSON string.
    Json,
    /// Inside an `application/x-www-form-urlencoded` body.
    Form,
    /// Inside XML or HTML, in text or in an attribute's value.
    Xml,
    /// As it is.
    None,
}

impl Escape {
    /// The way for a body of this content type.
    pub(crate) fn of_type(content_type: &str) -> Self {
        let kind = content_type.to_ascii_lowercase();
        if kind.contains("json") {
            Self::Json
        } else if kind.contains("x-www-form-urlencoded") {
            Self::Form
        } else if kind.contains("xml") || kind.contains("html") {
            Self::Xml
        } else {
            Self::None
        }
    }

    /// The type of a body whose channel declares none.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Form => "application/x-www-form-urlencoded",
            Self::Xml => "application/xml; charset=utf-8",
            Self::None => "text/plain; charset=utf-8",
        }
    }

    /// The value made safe.
    pub(crate) fn apply(self, value: &str) -> String {
        match self {
            Self::None => value.to_owned(),
            // XML 1.0 has no way to write most control characters.
            Self::Xml => escape_html(value)
                .chars()
                .map(|c| if is_xml(c) { c } else { char::REPLACEMENT_CHARACTER })
                .collect(),
            Self::Json => {
                let quoted = json!(value).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
            Self::Form => {
                let set = percent_encoding::NON_ALPHANUMERIC;
                percent_encoding::utf8_percent_encode(value, set).to_string()
            }
        }
    }
}

/// Whether XML 1.0 can hold the character (section 2.2).
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Whether a template without a declared type is XML.
fn looks_like_xml(template: &str) -> bool {
    let text = template.trim();
    let start = text.strip_prefix('<').and_then(|rest| rest.chars().next());
    text.ends_with('>') && start.is_some_and(|c| c.is_ascii_alphabetic() || c == '?')
}

/// Values that only some channels have, by name.
pub(crate) type Extra<'a> = &'a [(&'static str, &'a str)];

/// Puts the notification's values into the template. Those of a single event are the first one's;
/// `message` speaks of all of them.
///
/// # Errors
///
/// Names the variable that there is not, or the place where a `{{` does not end.
pub(crate) fn render(
    template: &str,
    escape: Escape,
    notification: &Notification,
    extra: Extra<'_>,
) -> Result<String, String> {
    let mut out = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some(start) = rest.find("{{") {
        out.push_str(&rest[..start]);
        let inner = &rest[start + 2..];
        let end = inner.find("}}").ok_or_else(|| {
            let shown: String = rest[start..].chars().take(24).collect();
            format!("`{shown}` has no `}}}}`")
        })?;
        let name = inner[..end].trim();
        let value = value(name, notification, extra)
            .ok_or_else(|| format!("`{{{{{name}}}}}` is not one of {}", known(extra)))?;
        // Without quotes around it, the object itself is meant.
        let bare = name == "labels" && !out.trim_end().ends_with('"');
        let escape = if bare && escape == Escape::Json { Escape::None } else { escape };
        out.push_str(&escape.apply(&value));
        rest = &inner[end + 2..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Fills in a template whose way of escaping is `declared`, or follows from what the filled
/// template is: a JSON object or array, XML, or any text. Gives the body and the way.
pub(crate) fn fill(
    template: &str,
    declared: Option<Escape>,
    notification: &Notification,
    extra: Extra<'_>,
) -> Result<(String, Escape), String> {
    if let Some(escape) = declared {
        return Ok((render(template, escape, notification, extra)?, escape));
    }
    let body = render(template, Escape::Json, notification, extra)?;
    let value = serde_json::from_str::<serde_json::Value>(&body);
    if value.is_ok_and(|value| value.is_object() || value.is_array()) {
        return Ok((body, Escape::Json));
    }
    let escape = if looks_like_xml(template) { Escape::Xml } else { Escape::None };
    Ok((render(template, escape, notification, extra)?, escape))
}

fn known(extra: Extra<'_>) -> String {
    let extra = extra.iter().map(|(name, _)| *name);
    let mut names: Vec<&str> = NAMES.iter().copied().chain(extra).collect();
    names.push("labels.NAME");
    names.join(", ")
}

fn value(name: &str, notification: &Notification, extra: Extra<'_>) -> Option<String> {
    if let Some((_, value)) = extra.iter().find(|(known, _)| *known == name) {
        return Some((*value).to_owned());
    }
    let item = notification.items.first()?;
    if let Some(label) = name.strip_prefix("labels.") {
        return Some(item.labels.get(label).unwrap_or_default().to_owned());
    }
    Some(match name {
        "agent_id" => item.agent_id.clone(),
        "metric" => item.metric_name.clone(),
        "value" => number(item.value),
        "severity" => notification.severity.name().to_owned(),
        "message" => notification.summary(),
        "rule_name" => notification.rule_name.clone(),
        "status" => notification.kind.name().to_owned(),
        "threshold" => number(item.threshold),
        "timestamp" => rfc3339(item.timestamp_ms),
        "title" => notification.title(),
        "labels" => item.labels.to_json(),
        "count" => notification.items.len().to_string(),
        _ => return None,
    })
}

/// A number that is good JSON too, where it stands without quotes.
fn number(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { "null".to_owned() }
}

/// Checks a template by filling it in.
///
/// # Errors
///
/// What [`render`] says, or that the body would be no JSON although its content type is.
pub(crate) fn check(
    template: &str,
    declared: Option<Escape>,
    extra: Extra<'_>,
) -> Result<(), String> {
    let (body, escape) = fill(template, declared, &Notification::test(0, "\"check\""), extra)?;
    if escape == Escape::Json
        && let Err(error) = serde_json::from_str::<serde_json::Value>(&body)
    {
        return Err(format!("with the values filled in, it is not valid JSON: {error}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::server::notify::message::tests::{item, notification};

    #[test]
    fn values_are_escaped_for_their_body() {
        let notification = notification(vec![item("web \"1\"", "line\nnext & <more>")]);
        let template = r#"{"a":"{{agent_id}}","m":"{{ message }}","v":{{value}},"l":"{{labels.mount}}{{labels.none}}"}"#;
        let body = render(template, Escape::Json, &notification, &[]).unwrap();
        let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            parsed,
            json!({"a": "web \"1\"", "m": "line\nnext & <more>", "v": 96.5, "l": "/"})
        );
        let body =
            render("a={{agent_id}}&m={{message}}", Escape::Form, &notification, &[]).unwrap();
        assert_eq!(body, "a=web%20%221%22&m=line%0Anext%20%26%20%3Cmore%3E");
        let xml = "<m a='{{agent_id}}'>{{message}}</m>";
        let body = render(xml, Escape::Xml, &notification, &[]).unwrap();
        assert_eq!(body, "<m a='web &quot;1&quot;'>line\nnext &amp; &lt;more&gt;</m>");
        assert_eq!(Escape::Xml.apply("a\u{1b}b\u{ffff}c"), "a\u{fffd}b\u{fffd}c");
        for kind in
            ["application/xml", "text/xml; charset=utf-8", "application/soap+xml", "text/html"]
        {
            assert_eq!(Escape::of_type(kind), Escape::Xml, "{kind}");
        }
        let all = "{{metric}} {{severity}} {{rule_name}} {{status}} {{threshold}} {{timestamp}}";
        assert_eq!(
            render(all, Escape::None, &notification, &[]).unwrap(),
            "disk.used_percent critical Disk full firing 90 2026-02-09T08:30:00Z"
        );
    }

    #[test]
    fn a_template_that_can_not_work_is_refused_by_what_is_wrong() {
        let json = Some(Escape::Json);
        assert!(check("{{agent}}", json, &[]).unwrap_err().contains("`{{agent}}` is not one of"));
        assert!(check("{\"a\": \"{{agent_id\"}", json, &[]).unwrap_err().contains("has no `}}`"));
        assert!(check("{\"a\": {{agent_id}}}", json, &[]).unwrap_err().contains("not valid JSON"));
        assert_eq!(check("{\"a\": \"{{phone}}\"}", json, &[("phone", "1")]), Ok(()));
        assert_eq!(check("[{{severity}}] {{agent_id}}", None, &[]), Ok(()), "it is plain text");
    }

    #[test]
    fn without_a_declared_type_the_filled_template_decides() {
        let notification = notification(vec![item("web \"1\"", "m")]);
        let fill = |template, declared| fill(template, declared, &notification, &[]).unwrap();
        let plain = fill("{{agent_id}}: {{labels}}", None);
        assert_eq!(plain, ("web \"1\": {\"mount\":\"/\"}".to_owned(), Escape::None));
        assert_eq!(fill("[{{severity}}] x", None).1, Escape::None);
        let (body, escape) =
            fill("{\"a\":\"{{agent_id}}\",\"l\":{{labels}},\"t\":\"{{labels}}\"}", None);
        assert_eq!(escape, Escape::Json);
        let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
        let text = "{\"mount\":\"/\"}";
        assert_eq!(parsed, json!({"a": "web \"1\"", "l": {"mount": "/"}, "t": text}));
        assert_eq!(fill("{\"a\": 1}", Some(Escape::None)).1, Escape::None);
        assert_eq!(fill("<?xml version='1.0'?><a>{{agent_id}}</a>", None).1, Escape::Xml);
        assert_eq!(fill("<{{severity}}> {{agent_id}}", None).1, Escape::None);
    }
}
