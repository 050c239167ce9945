//! Channels and rules as the first release wrote them, in the shape that they have now. Shared by
//! `import`, `init-channels` and `init-rules`.

use serde_json::{Map, Value};

/// Metric that the first release's certificate rules looked at, whatever their row said.
const CERT_METRIC: &str = "certificate.days_until_expiry";
/// Agent that certificate checks report as.
const CERT_AGENT: &str = "cert-checker";

/// A channel's type and configuration as they are now. What is of no known shape stays as it is.
pub(crate) fn channel(kind: &str, config: Map<String, Value>) -> (String, Map<String, Value>) {
    let provider = config.get("provider").and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = match (kind, provider.as_str()) {
        ("sms", "aliyun") => "sms_aliyun",
        ("sms", "tencent") => "sms_tencent",
        ("sms_generic", _) | ("sms", "generic") => "sms",
        (other, _) => other,
    };
    let mut config = config;
    if kind.starts_with("sms") && ["aliyun", "tencent", "generic"].contains(&provider.as_str()) {
        config.remove("provider");
    }
    match kind {
        "sms" => generic_sms(&mut config),
        "email" => sender(&mut config),
        _ => {}
    }
    (kind.to_owned(), config)
}

/// `from` is the sender's address, whose name is the program's.
fn sender(config: &mut Map<String, Value>) {
    if let Some(from) = config.remove("from") {
        config.entry("from_email").or_insert(from);
        config.entry("from_name").or_insert_with(|| "oxmon".into());
    }
}

/// `{url, method, headers, body_template}`: the gateway's key is in a header or in the template.
fn generic_sms(config: &mut Map<String, Value>) {
    if !config.contains_key("gateway_url")
        && let Some(url) = config.remove("url")
    {
        config.insert("gateway_url".to_owned(), url);
    }
    let post = |method: &Value| method.as_str().is_some_and(|m| m.eq_ignore_ascii_case("post"));
    if config.get("method").is_some_and(post) {
        config.remove("method");
    }
    if !config.contains_key("api_key")
        && let Some(key) = config.get("headers").and_then(credential)
    {
        config.insert("api_key".to_owned(), key.into());
    }
    if let Some(Value::String(template)) = config.get_mut("body_template") {
        *template = template.replace("{{recipient}}", "{{phone}}");
    }
}

fn credential(headers: &Value) -> Option<String> {
    let header = |(name, _): &(&String, &Value)| name.eq_ignore_ascii_case("authorization");
    let (_, value) = headers.as_object()?.iter().find(header)?;
    Some(value.as_str()?.rsplit(' ').next()?.to_owned())
}

/// A rule as it is now, in place: the first release's certificate rules looked at one metric of
/// one agent whatever they named. Gives what was changed, for the person who brings it over.
pub(crate) fn rule(map: &mut Map<String, Value>) -> Option<String> {
    let kind = map.get("rule_type").or_else(|| map.get("type")).and_then(Value::as_str);
    if kind != Some("cert_expiration") {
        return None;
    }
    let named = map.get("metric").and_then(Value::as_str).unwrap_or_default();
    if named == CERT_METRIC || !matches!(named, "cert.expiration" | "") {
        return None;
    }
    map.insert("metric".to_owned(), CERT_METRIC.into());
    map.insert("agent_pattern".to_owned(), CERT_AGENT.into());
    Some(format!("looks at `{CERT_METRIC}` of `{CERT_AGENT}`, as it did"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn mapped(kind: &str, config: Value) -> (String, Value) {
        let (kind, config) = channel(kind, config.as_object().unwrap().clone());
        (kind, Value::Object(config))
    }

    #[test]
    fn sms_channels_get_the_type_of_their_provider() {
        let aliyun = json!({"provider": "aliyun", "sign_name": "s"});
        let mapped_aliyun = ("sms_aliyun".to_owned(), json!({"sign_name": "s"}));
        assert_eq!(mapped("sms", aliyun.clone()), mapped_aliyun);
        assert_eq!(mapped("sms_aliyun", aliyun), mapped_aliyun);
        assert_eq!(mapped("sms", json!({"provider": "tencent"})).0, "sms_tencent");
        let plain = json!({"gateway_url": "https://sms.example.com/", "api_key": "k"});
        assert_eq!(mapped("sms", plain.clone()), ("sms".to_owned(), plain));
    }

    #[test]
    fn the_sender_of_mails_may_be_called_from() {
        let old = json!({"smtp_host": "mx", "from": "a@example.com"});
        let new = json!({"smtp_host": "mx", "from_email": "a@example.com", "from_name": "oxmon"});
        assert_eq!(mapped("email", old), ("email".to_owned(), new));
    }

    #[test]
    fn a_generic_gateway_is_an_sms_channel() {
        let old = json!({
            "url": "https://sms.example.com/", "method": "POST",
            "headers": {"authorization": "Bearer abc"},
            "body_template": "{\"to\": \"{{recipient}}\"}",
        });
        let new = json!({
            "gateway_url": "https://sms.example.com/", "api_key": "abc",
            "headers": {"authorization": "Bearer abc"},
            "body_template": "{\"to\": \"{{phone}}\"}",
        });
        assert_eq!(mapped("sms_generic", old), ("sms".to_owned(), new));
    }

    #[test]
    fn a_certificate_rule_looks_where_it_always_did() {
        let mut map = json!({"rule_type": "cert_expiration", "metric": "cert.expiration"});
        let map = map.as_object_mut().unwrap();
        assert!(rule(map).is_some());
        assert_eq!(map["metric"], "certificate.days_until_expiry");
        assert_eq!(map["agent_pattern"], "cert-checker");
        assert!(rule(map).is_none());
    }
}
