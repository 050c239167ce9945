//! The dashboard's session: a login's token in a cookie that no script can read (RFC 6265bis:
//! `HttpOnly`, `SameSite=Strict`).
//!
//! A browser sends a cookie with every request to the host, so a cookie alone proves nothing. It
//! counts only beside [`PAGE_HEADER`], which another site's page can't set without a preflight
//! that this server refuses, and never where `Sec-Fetch-Site` names another site.

use crate::server::api::request::Incoming;

/// The header that the dashboard sends with each call; `https` where the page itself came over
/// TLS, directly or through a proxy.
pub(crate) const PAGE_HEADER: &str = "X-Oxmon-Page";

/// The cookie's name. Cookies are shared by all ports of a host, so the port is part of it.
fn name(http_port: u16) -> String {
    format!("oxmon_session_{http_port}")
}

/// The value of `Set-Cookie` that starts a session of `expire_secs` seconds.
pub(crate) fn start(http_port: u16, token: &str, expire_secs: i64, is_secure: bool) -> String {
    let secure = if is_secure { "; Secure" } else { "" };
    let name = name(http_port);
    format!("{name}={token}; Path=/; Max-Age={expire_secs}; HttpOnly; SameSite=Strict{secure}")
}

/// The value of `Set-Cookie` that has the browser forget the session.
pub(crate) fn end(http_port: u16) -> String {
    format!("{}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict", name(http_port))
}

/// The login's token in a request of the dashboard; `None` where there is none, or where the
/// request may come from another site's page.
pub(crate) fn token(incoming: &Incoming, http_port: u16) -> Option<&str> {
    incoming.page.as_ref()?;
    if incoming.fetch_site.as_deref().is_some_and(|site| site != "same-origin") {
        return None;
    }
    let name = name(http_port);
    let mut pairs = incoming.cookie.as_deref()?.split(';').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(cookie: &str, page: Option<&str>, site: Option<&str>) -> Incoming {
        Incoming {
            cookie: Some(cookie.to_owned()),
            page: page.map(str::to_owned),
            fetch_site: site.map(str::to_owned),
            ..Incoming::default()
        }
    }

    #[test]
    fn a_cookie_counts_beside_the_pages_header_and_from_this_origin_alone() {
        let both = "theme=dark; oxmon_session_8080=abc; oxmon_session_9090=other";
        assert_eq!(token(&request(both, Some("http"), None), 8080), Some("abc"));
        assert_eq!(token(&request(both, Some("https"), Some("same-origin")), 9090), Some("other"));
        assert_eq!(token(&request(both, None, None), 8080), None);
        for site in ["cross-site", "same-site", "none"] {
            assert_eq!(token(&request(both, Some("http"), Some(site)), 8080), None, "{site}");
        }
        assert_eq!(token(&request(both, Some("http"), None), 80), None);
        assert_eq!(token(&Incoming { page: Some("http".into()), ..Incoming::default() }, 80), None);
    }

    #[test]
    fn a_session_is_for_http_alone_and_over_tls_for_tls_alone() {
        let cookie = start(8080, "abc", 60, false);
        assert_eq!(cookie, "oxmon_session_8080=abc; Path=/; Max-Age=60; HttpOnly; SameSite=Strict");
        assert!(start(8080, "abc", 60, true).ends_with("; Secure"));
        assert!(end(8080).contains("=; Path=/; Max-Age=0;"));
    }
}
