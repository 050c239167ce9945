//! Which proxy a URL is called through: `outgoing.proxy`, or the variables of the environment, by
//! curl's rules (curl(1), "Proxy environment variables").

use std::net::IpAddr;

use crate::server::config::Outgoing;

/// The settings of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Proxies {
    http: Option<String>,
    https: Option<String>,
    direct: Vec<String>,
}

impl Proxies {
    /// Those of the configuration; where it names none, those of the environment, in which `env`
    /// looks a variable up.
    pub(crate) fn new(config: &Outgoing, env: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| {
            let mut values = names.iter().filter_map(|name| env(name));
            values.find(|value| !value.trim().is_empty()).map(|value| value.trim().to_owned())
        };
        let direct = match &config.no_proxy {
            Some(entries) => entries.clone(),
            None => {
                let listed = first(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
                let entries = listed.split([',', ' ']).map(str::trim);
                entries.filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
            }
        };
        if let Some(proxy) = &config.proxy {
            let proxy = (proxy != "none").then(|| proxy.clone());
            return Self { http: proxy.clone(), https: proxy, direct };
        }
        // HTTP_PROXY in capitals may be set by whoever calls a CGI program: `Proxy:` is a header.
        let any = ["all_proxy", "ALL_PROXY"];
        Self {
            http: first(&["http_proxy"]).or_else(|| first(&any)),
            https: first(&["https_proxy", "HTTPS_PROXY"]).or_else(|| first(&any)),
            direct,
        }
    }

    /// The proxy of a URL; `None`: it is called directly.
    pub(crate) fn of(&self, url: &str) -> Option<&str> {
        let (scheme, rest) = url.split_once("://")?;
        let is_https = scheme.eq_ignore_ascii_case("https");
        let proxy = if is_https { &self.https } else { &self.http }.as_deref()?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (host, port) = split(authority);
        let port = port.unwrap_or(if is_https { 443 } else { 80 });
        let direct = self.direct.iter().any(|entry| covers(entry, host, port));
        (!direct).then_some(proxy)
    }

    /// Every proxy that is named.
    pub(crate) fn named(&self) -> impl Iterator<Item = &str> {
        self.http.iter().chain(&self.https).map(String::as_str)
    }
}

/// Host and port of an authority; an IPv6 address without its brackets.
fn split(authority: &str) -> (&str, Option<u16>) {
    if let Some(inner) = authority.strip_prefix('[') {
        let (host, after) = inner.split_once(']').unwrap_or((inner, ""));
        return (host, after.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match authority.split_once(':') {
        // More than one colon: an IPv6 address in a list, which needs no brackets there.
        Some((_, port)) if port.contains(':') => (authority, None),
        Some((host, port)) => (host, port.parse().ok()),
        None => (authority, None),
    }
}

/// Whether an entry of `no_proxy` is about this host: `*`, a domain with what is under it, an
/// address, or a network; one with a port is about that port alone.
fn covers(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    let host = host.trim_end_matches('.');
    if let Ok(address) = host.parse::<IpAddr>() {
        if let Some((base, bits)) = entry.split_once('/') {
            return is_in(address, base.trim_matches(['[', ']']), bits);
        }
        let (named, only) = split(entry);
        let same = named.parse::<IpAddr>().is_ok_and(|named| named == address);
        return same && only.is_none_or(|only| only == port);
    }
    let (named, only) = split(entry);
    let named = named.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase();
    let host = host.to_ascii_lowercase();
    let under = || host.strip_suffix(&named).is_some_and(|start| start.ends_with('.'));
    !named.is_empty() && (host == named || under()) && only.is_none_or(|only| only == port)
}

fn is_in(address: IpAddr, base: &str, bits: &str) -> bool {
    let (Ok(base), Ok(bits)) = (base.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let (one, other, width) = match (address, base) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (u128::from(one.to_bits()), u128::from(other.to_bits()), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
        _ => return false,
    };
    let shift = |bits_of: u128| bits_of.checked_shr(width - bits).unwrap_or(0);
    bits <= width && shift(one) == shift(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(variables: &[(&str, &str)]) -> Proxies {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Proxies::new(&Outgoing::default(), find)
    }

    #[test]
    fn variables_are_read_as_curl_reads_them() {
        let proxies = env(&[("HTTP_PROXY", "http://p:1"), ("HTTPS_PROXY", "http://s:2")]);
        assert_eq!(proxies.of("http://a.example/"), None, "capitals are not for http");
        assert_eq!(proxies.of("https://a.example/"), Some("http://s:2"));
        let proxies = env(&[("http_proxy", "http://p:1"), ("ALL_PROXY", "http://all:3")]);
        assert_eq!(proxies.of("http://a.example/x"), Some("http://p:1"));
        assert_eq!(proxies.of("https://a.example/x"), Some("http://all:3"));
        let proxies = env(&[("https_proxy", "http://l:1"), ("HTTPS_PROXY", "http://u:2")]);
        assert_eq!(proxies.of("https://a.example/x"), Some("http://l:1"));
        assert_eq!(env(&[("http_proxy", " ")]).of("http://a.example/"), None);
    }

    #[test]
    fn no_proxy_takes_names_domains_networks_ports_and_all() {
        let direct = |list: &str, url: &str| {
            env(&[("all_proxy", "http://p:1"), ("NO_PROXY", list)]).of(url).is_none()
        };
        for (list, url) in [
            ("*", "https://a.example/"),
            ("b.example, a.example", "https://a.example/"),
            ("example", "https://a.EXAMPLE/"),
            (".a.example", "https://a.example/"),
            (".example", "https://x.a.example./"),
            ("*.a.example", "http://x.a.example/"),
            ("a.example:8443", "https://a.example:8443/"),
            ("a.example:443", "https://a.example/"),
            ("127.0.0.1", "http://127.0.0.1:9000/"),
            ("10.0.0.0/8", "http://10.1.2.3/"),
            ("::1", "http://[::1]:80/"),
            ("[::1]:80", "http://[::1]/"),
            ("fd00::/8", "http://[fd12::1]/"),
            ("0.0.0.0/0", "http://192.0.2.1/"),
        ] {
            assert!(direct(list, url), "{list} {url}");
        }
        for (list, url) in [
            ("a.example", "https://ba.example/"),
            ("a.example:8443", "https://a.example/"),
            ("10.0.0.0/8", "http://11.1.2.3/"),
            ("10.0.0.0/8", "http://10.example/"),
            ("127.0.0.1:80", "http://127.0.0.1:9000/"),
            (".", "https://a.example/"),
            ("10.0.0.0/99", "http://10.0.0.1/"),
            ("", "https://a.example/"),
        ] {
            assert!(!direct(list, url), "{list} {url}");
        }
    }

    #[test]
    fn the_configuration_comes_before_the_environment() {
        let find = |name: &str| match name {
            "http_proxy" => Some("http://p:1".to_owned()),
            "no_proxy" => Some("a.example".to_owned()),
            _ => None,
        };
        let of = |proxy: &str, no_proxy: Option<&str>, url| {
            let no_proxy = no_proxy.map(|entry| vec![entry.to_owned()]);
            let config =
                Outgoing { proxy: Some(proxy.to_owned()), no_proxy, ..Outgoing::default() };
            Proxies::new(&config, find).of(url).map(str::to_owned)
        };
        assert_eq!(of("http://c:9", None, "http://b.example/").as_deref(), Some("http://c:9"));
        assert_eq!(of("http://c:9", None, "http://a.example/"), None, "no_proxy still holds");
        let both = of("http://c:9", Some("b.example"), "http://a.example/");
        assert_eq!(both.as_deref(), Some("http://c:9"));
        assert_eq!(of("none", None, "http://b.example/"), None);
    }
}
