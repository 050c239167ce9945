//! Whose request a reverse proxy passes on. Every hop appends the address that it saw to a header,
//! so the list is read from its end: as far as trusted proxies wrote it, and no further. What a
//! client itself sends stands before that, and counts for nothing.
//!
//! ```text
//! X-Forwarded-For: 203.0.113.9, 198.51.100.7, 10.0.0.2      from 10.0.0.1
//!                  └ sent by the client       └ trusted     └ trusted
//!                               └ the client
//! ```

use std::net::{IpAddr, SocketAddr};

use super::parse::Head;
use crate::server::config::Http;
use crate::server::config::http::ClientHeader;
use crate::server::config::network::Network;

/// The proxies before the server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies {
    trusted: Vec<Network>,
    header: ClientHeader,
}

impl Proxies {
    /// Those of `[http]`.
    pub(crate) fn new(http: &Http) -> Self {
        Self { trusted: http.proxies(), header: http.client_header }
    }

    /// The client's address: of the last hop that is not a trusted proxy, as the one after it says;
    /// the peer's own where that is not trusted or says nothing.
    pub(crate) fn client(&self, peer: IpAddr, head: &Head) -> IpAddr {
        let mut client = peer.to_canonical();
        let hops = match self.header {
            ClientHeader::XForwardedFor => &head.hops.x_forwarded_for,
            ClientHeader::Forwarded => &head.hops.forwarded,
        };
        for hop in hops.rsplit(',') {
            if !self.trusts(client) {
                break;
            }
            let named = match self.header {
                ClientHeader::XForwardedFor => Some(hop),
                ClientHeader::Forwarded => for_of(hop),
            };
            // `unknown`, or a name of the proxy's own: whoever comes before it is not known either.
            let Some(address) = named.and_then(address) else { break };
            client = address;
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.covers(address))
    }
}

/// `for` of an element of `Forwarded`: `for="[2001:db8::1]:4711";proto=https`.
fn for_of(element: &str) -> Option<&str> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let mut named = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    named.next().map(|(_, value)| value.trim().trim_matches('"'))
}

/// An address with or without its port, IPv6 in brackets or not.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let alone = bare.parse::<IpAddr>().ok();
    let address = alone.or_else(|| hop.parse::<SocketAddr>().ok().map(|it| it.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::server::gate::http::parse;

    fn client(header: ClientHeader, peer: &str, headers: &str) -> String {
        let trusted_proxies = ["127.0.0.1", "10.0.0.0/8", "fd00::/8"].map(str::to_owned).to_vec();
        let http = Http { trusted_proxies, client_header: header, ..Http::default() };
        let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let head = parse::parse(text.as_bytes()).unwrap();
        Proxies::new(&http).client(peer.parse().unwrap(), &head).to_string()
    }

    #[test]
    fn the_last_hop_that_is_not_trusted_is_the_client() {
        let of = |peer: &str, list: &str| {
            client(ClientHeader::XForwardedFor, peer, &format!("X-Forwarded-For: {list}\r\n"))
        };
        for (peer, list, expected) in [
            ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
            ("127.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
            ("127.0.0.1", "198.51.100.1, 203.0.113.9, 10.1.1.1,10.2.2.2", "203.0.113.9"),
            ("127.0.0.1", "10.1.1.1", "10.1.1.1"),
            ("127.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
            ("127.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
            ("127.0.0.1", "2001:db8::1", "2001:db8::1"),
            ("::ffff:127.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
            ("fd00::1", "203.0.113.9", "203.0.113.9"),
            // What can't be read ends the list.
            ("127.0.0.1", "unknown", "127.0.0.1"),
            ("127.0.0.1", "203.0.113.9, nonsense, 10.0.0.5", "10.0.0.5"),
            ("127.0.0.1", "", "127.0.0.1"),
            // Nobody else is believed.
            ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
            ("::ffff:192.0.2.1", "203.0.113.9", "192.0.2.1"),
        ] {
            assert_eq!(of(peer, list), expected, "{peer} {list}");
        }
        let two = "X-Forwarded-For: 198.51.100.1\r\nx-forwarded-for: 203.0.113.9\r\n";
        assert_eq!(client(ClientHeader::XForwardedFor, "127.0.0.1", two), "203.0.113.9");
        assert_eq!(client(ClientHeader::XForwardedFor, "127.0.0.1", ""), "127.0.0.1");
    }

    #[test]
    fn the_configured_header_alone_is_read() {
        let both = "X-Forwarded-For: 198.51.100.1\r\nForwarded: for=203.0.113.9\r\n";
        assert_eq!(client(ClientHeader::XForwardedFor, "127.0.0.1", both), "198.51.100.1");
        assert_eq!(client(ClientHeader::Forwarded, "127.0.0.1", both), "203.0.113.9");
        for (list, expected) in [
            ("for=192.0.2.43, for=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("proto=https; For=198.51.100.17;by=203.0.113.43", "198.51.100.17"),
            ("for=203.0.113.9, for=10.0.0.5;proto=http", "203.0.113.9"),
            ("for=\"203.0.113.9, for=10.0.0.5", "203.0.113.9"),
            ("for=203.0.113.9, for=_hidden", "127.0.0.1"),
            ("proto=https", "127.0.0.1"),
        ] {
            let header = format!("Forwarded: {list}\r\n");
            assert_eq!(client(ClientHeader::Forwarded, "127.0.0.1", &header), expected, "{list}");
        }
    }
}
