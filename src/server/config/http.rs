//! `[http]`: the names that the server answers to.

use serde::{Deserialize, Serialize};

/// The HTTP port.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "keys::KEYS documents every key")]
pub struct Http {
    pub allowed_hosts: Vec<String>,
}

impl Http {
    /// The first entry that is not a host name or an address.
    pub(super) fn wrong(&self) -> Option<&str> {
        let fits = |text: &str| {
            let host = bare(text);
            let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            host == text.trim_end_matches('.').trim_matches(['[', ']'])
                && !host.is_empty()
                && (host.chars().all(is_name) || host.parse::<std::net::Ipv6Addr>().is_ok())
        };
        self.allowed_hosts.iter().map(String::as_str).find(|text| !fits(text))
    }
}

/// The host of a `Host` header: without its port, the brackets of an IPv6 address and the dot that
/// ends a full name.
pub(crate) fn bare(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    let name = match host.rsplit_once(':') {
        // An IPv6 address without brackets has more than one colon.
        Some((name, _)) if !name.contains(':') => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_bare_of_its_port() {
        for (host, name) in [
            ("a.example:8080", "a.example"),
            ("a.example.", "a.example"),
            ("a.example.:80", "a.example"),
            ("[::1]:8080", "::1"),
            ("[::1]", "::1"),
            ("::1", "::1"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("", ""),
        ] {
            assert_eq!(bare(host), name, "{host}");
        }
    }

    #[test]
    fn what_is_not_a_host_is_named() {
        let wrong = |text: &str| Http { allowed_hosts: vec![text.to_owned()] }.wrong().is_some();
        for text in ["", "https://a.example", "a.example/", "a.example:80", "*.example", "a b"] {
            assert!(wrong(text), "{text}");
        }
        for text in ["a.example", "a.example.", "192.0.2.1", "2001:db8::1", "[2001:db8::1]"] {
            assert!(!wrong(text), "{text}");
        }
    }
}
