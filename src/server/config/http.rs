//! `[http]`: the names that the server answers to, and the proxies before it.

use serde::{Deserialize, Serialize};

use crate::server::config::network::Network;

/// The HTTP port.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "keys::KEYS documents every key")]
pub struct Http {
    pub allowed_hosts: Vec<String>,
    pub trusted_proxies: Vec<String>,
    pub client_header: ClientHeader,
}

/// The header in which a proxy says whose request it passes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientHeader {
    /// Addresses, one for each hop.
    #[default]
    #[serde(rename = "X-Forwarded-For")]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

impl Http {
    /// The networks of `http.trusted_proxies`. What is not a network was refused at the start.
    pub(crate) fn proxies(&self) -> Vec<Network> {
        self.trusted_proxies.iter().filter_map(|text| Network::parse(text)).collect()
    }

    /// The first entry that can't be taken: its key, and what it must be.
    pub(super) fn wrong(&self) -> Option<(&'static str, String)> {
        if let Some(text) = self.wrong_host() {
            let must = "must be a host name or an address, such as \"oxmon.example.com\"";
            return Some(("http.allowed_hosts", format!("`{text}` {must}")));
        }
        let text = self.trusted_proxies.iter().find(|text| Network::parse(text).is_none())?;
        let message = format!("`{text}` must be an address or a network such as 10.0.0.0/8");
        Some(("http.trusted_proxies", message))
    }

    fn wrong_host(&self) -> Option<&str> {
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
        let wrong = |text: &str| {
            Http { allowed_hosts: vec![text.to_owned()], ..Http::default() }.wrong().is_some()
        };
        for text in ["", "https://a.example", "a.example/", "a.example:80", "*.example", "a b"] {
            assert!(wrong(text), "{text}");
        }
        for text in ["a.example", "a.example.", "192.0.2.1", "2001:db8::1", "[2001:db8::1]"] {
            assert!(!wrong(text), "{text}");
        }
        let of = |text: &str| Http { trusted_proxies: vec![text.to_owned()], ..Http::default() };
        assert_eq!(of("10.0.0.0/8").wrong(), None);
        let (key, message) = of("proxy.example").wrong().unwrap_or_default();
        assert_eq!(key, "http.trusted_proxies");
        assert!(message.starts_with("`proxy.example` must be an address"), "{message}");
    }
}
