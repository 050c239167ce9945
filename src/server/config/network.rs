//! Networks of IP addresses, as the configuration names them.

use std::net::IpAddr;

/// A network, as `192.0.2.0/24`; a single address is one of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Network {
    /// As it was written.
    pub(crate) text: String,
    base: IpAddr,
    bits: u8,
}

impl Network {
    /// The network that a text names; `None` where it names none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().ok()?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then(|| Self { text: text.to_owned(), base, bits })
    }

    /// Whether an address is one of it.
    pub(crate) fn covers(&self, address: IpAddr) -> bool {
        let same = |one: u128, other: u128, width: u8| {
            let shift = u32::from(width - self.bits.min(width));
            one.checked_shr(shift).unwrap_or(0) == other.checked_shr(shift).unwrap_or(0)
        };
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                same(base.to_bits().into(), address.to_bits().into(), 32)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => same(base.to_bits(), address.to_bits(), 128),
            _ => false,
        }
    }
}
