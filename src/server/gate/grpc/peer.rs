//! How the C core learns a client's address: it is the name of the gate's end of their connection,
//! an abstract one of unix(7), which the core gives as the peer of each call.

use std::net::IpAddr;
use std::os::fd::AsFd;

use crate::base::ids::random_hex;

/// What the core puts before an abstract name, and what ours begins with.
const PREFIX: &str = "unix-abstract:oxmon-";

/// Names a socket that is not connected yet after the client that it is for. Without abstract names
/// the core does not learn the address.
pub(super) fn name(socket: impl AsFd, client: IpAddr) {
    #[cfg(target_os = "linux")]
    if let Ok(name) = rustix::net::SocketAddrUnix::new_abstract_name(text(client).as_bytes()) {
        let _ = rustix::net::bind(socket, &name);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, text(client));
}

/// A name that no other socket has. A colon means something in the core's addresses.
fn text(client: IpAddr) -> String {
    let client = client.to_canonical().to_string().replace(':', "_");
    format!("oxmon-{}-{client}", random_hex(8))
}

/// The client's address in the peer of a call; `None` where the core did not learn it.
pub(crate) fn address(peer: &str) -> Option<IpAddr> {
    let (_, client) = peer.strip_prefix(PREFIX)?.split_once('-')?;
    client.replace('_', ":").parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_from_the_name_that_it_is_in() {
        for (client, shown) in [
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
        ] {
            let name = text(client.parse().unwrap());
            let found = address(&format!("unix-abstract:{name}"));
            assert_eq!(found.map(|it| it.to_string()).as_deref(), Some(shown), "{name}");
        }
        for peer in ["unix:", "unix:/tmp/oxmon-1/grpc", "ipv4:192.0.2.7:1", PREFIX] {
            assert_eq!(address(peer), None, "{peer}");
        }
    }
}
