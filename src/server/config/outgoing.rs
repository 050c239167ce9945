//! `[outgoing]`: addresses that the server connects to for nobody, however a name or a URL says
//! them. A channel and a certificate check lead where an administrator of oxmon sends them, and the
//! metadata service of a cloud gives out credentials to whoever calls from the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize, Serializer};

use crate::server::config::network::Network;

/// Where connections go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "keys::KEYS documents every key")]
pub struct Outgoing {
    pub deny: Vec<String>,
    #[serde(serialize_with = "without_password")]
    pub proxy: Option<String>,
    pub no_proxy: Option<Vec<String>>,
}

/// A proxy's URL as the API shows it.
fn without_password<S: Serializer>(proxy: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
    let shown = proxy.as_ref().map(|url| match url.split_once('@') {
        Some((_, place)) => format!("http://***@{place}"),
        None => url.clone(),
    });
    shown.serialize(to)
}

impl Default for Outgoing {
    fn default() -> Self {
        // Link-local addresses, the metadata services of clouds among them.
        let deny = ["169.254.0.0/16", "fe80::/10", "fd00:ec2::254"];
        Self { deny: deny.map(str::to_owned).to_vec(), proxy: None, no_proxy: None }
    }
}

impl Outgoing {
    /// The networks of `outgoing.deny`. What is not a network was refused at the start.
    pub(crate) fn denied(&self) -> Denied {
        Denied(self.deny.iter().filter_map(|text| Network::parse(text)).collect())
    }

    /// The first entry that is not an address or a network.
    pub(super) fn wrong(&self) -> Option<&str> {
        self.deny.iter().map(String::as_str).find(|text| Network::parse(text).is_none())
    }
}

/// Networks that must not be connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Denied(Vec<Network>);

impl Denied {
    /// Whether an address may be connected to.
    ///
    /// # Errors
    ///
    /// The sentence that says why not.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), String> {
        let forms = forms(address);
        let found = self.0.iter().find(|net| forms.iter().any(|form| net.covers(*form)));
        match found {
            None => Ok(()),
            Some(net) => {
                let by = format!("`{}` is in outgoing.deny", net.text);
                Err(format!("connecting to {address} is not allowed: {by}"))
            }
        }
    }
}

/// The address, and the IPv4 address that it leads to: mapped (RFC 4291), by NAT64 (RFC 6052) or by
/// 6to4 (RFC 3056).
fn forms(address: IpAddr) -> Vec<IpAddr> {
    let mut forms = vec![address];
    if let IpAddr::V6(six) = address {
        forms.extend(within(six).map(IpAddr::V4));
    }
    forms
}

fn within(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    let last = Ipv4Addr::from_bits((bits & 0xffff_ffff) as u32);
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(last),
        // The compatible form of old, but for `::` and `::1`.
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => Some(last),
        [0x2002, high, low, ..] => {
            Some(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_default_denies_metadata_services_in_every_form() {
        let denied = Outgoing::default().denied();
        let check = |text: &str| denied.check(text.parse().unwrap());
        for address in [
            "169.254.169.254",
            "169.254.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::169.254.169.254",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
        ] {
            let said = check(address).unwrap_err();
            assert!(said.contains("is not allowed: `"), "{address}: {said}");
        }
        for address in ["127.0.0.1", "::1", "::", "169.253.1.1", "10.0.0.1", "fec0::1", "fd00::1"] {
            assert_eq!(check(address), Ok(()), "{address}");
        }
    }

    #[test]
    fn networks_are_read_with_their_bits() {
        let of = |text: &str| Outgoing { deny: vec![text.to_owned()], ..Outgoing::default() };
        let all = of("0.0.0.0/0").denied();
        assert!(all.check("203.0.113.9".parse().unwrap()).is_err());
        assert!(all.check("2001:db8::1".parse().unwrap()).is_ok());
        assert!(of("::/0").denied().check("2001:db8::1".parse().unwrap()).is_err());
        assert!(of("10.1.2.3").denied().check("10.1.2.4".parse().unwrap()).is_ok());
        for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0", "example.com", "10.0.0.0/x", "1/2/3"] {
            assert_eq!(of(wrong).wrong(), Some(wrong));
        }
        assert_eq!(Outgoing::default().wrong(), None);
    }
}
