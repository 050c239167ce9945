//! Which names the server answers to. A page of another site can have its own name lead to this
//! server (DNS rebinding) and then reads answers as if they were its own: a request whose `Host` is
//! not this server's gets nothing, once `http.allowed_hosts` says what is.

use std::net::IpAddr;

use crate::server::api::reply::{ApiError, Code};
use crate::server::config::ServerConfig;
use crate::server::config::http::bare;

/// Whether a request for this host is answered: nothing is configured, or the host is, or it is the
/// machine's own loopback or an address that the server listens on. HTTP/1.0 has none.
///
/// # Errors
///
/// 421 (RFC 9110, section 15.5.20) otherwise.
pub(crate) fn check(config: &ServerConfig, host: Option<&str>) -> Result<(), ApiError> {
    let allowed = &config.http.allowed_hosts;
    let Some(host) = host.filter(|_| !allowed.is_empty()) else { return Ok(()) };
    let name = bare(host);
    let listed = |known: &String| is_same(name, bare(known));
    if is_loopback(name)
        || allowed.iter().any(listed)
        || config.bind.iter().any(|address| is_bound(name, address))
    {
        return Ok(());
    }
    let shown: String = name.chars().take(128).collect();
    let message = format!("`{shown}` is not a name of this server: add it to http.allowed_hosts");
    Err(ApiError::new(Code::BadRequest, message).with_status(421))
}

fn is_same(one: &str, other: &str) -> bool {
    match (one.parse::<IpAddr>(), other.parse::<IpAddr>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one.eq_ignore_ascii_case(other),
    }
}

fn is_loopback(name: &str) -> bool {
    let is_local = |address: IpAddr| address.to_canonical().is_loopback();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_local)
}

fn is_bound(name: &str, address: &str) -> bool {
    match (name.parse::<IpAddr>(), address.parse::<IpAddr>()) {
        (Ok(name), Ok(address)) => !address.is_unspecified() && name == address,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(config: &ServerConfig, host: &str) -> u16 {
        check(config, Some(host)).err().map_or(200, |error| error.http_status())
    }

    #[test]
    fn once_names_are_configured_others_are_refused() {
        let mut config = ServerConfig::default();
        assert_eq!(status(&config, "evil.example"), 200);
        config.http.allowed_hosts = vec!["Oxmon.example.".to_owned(), "[2001:db8::1]".to_owned()];
        config.bind = vec!["0.0.0.0".to_owned(), "192.0.2.7".to_owned()];
        for host in [
            "oxmon.example",
            "OXMON.example:8080",
            "oxmon.example.:80",
            "localhost:8080",
            "127.0.0.1",
            "127.8.9.1:1",
            "[::1]:8080",
            "[2001:db8:0::1]",
            "192.0.2.7:8080",
        ] {
            assert_eq!(status(&config, host), 200, "{host}");
        }
        for host in ["evil.example", "x.oxmon.example", "", "0.0.0.0", "192.0.2.8", "localhost.x"] {
            assert_eq!(status(&config, host), 421, "{host}");
        }
        assert_eq!(check(&config, None), Ok(()));
    }
}
