//! From what each address shows to what is said of the domain.

use crate::server::cert::fault::Fault;
use crate::server::cert::probe::AtAddress;
use crate::server::cert::tls::Shown;
use crate::server::control::certs::checks::AddressRow;

/// What is said of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assessment {
    /// Some address serves a certificate, and every one that is served is good for the name now
    /// and trusted.
    pub is_valid: bool,
    /// Every certificate that is served leads to a trusted authority.
    pub chain_valid: bool,
    /// What is wrong with the chain.
    pub chain_fault: Option<Fault>,
    /// What is wrong, where it is not valid.
    pub fault: Option<Fault>,
    /// The worst of what is served: what is not valid goes first, then what ends first.
    pub shown: Option<Shown>,
    /// Addresses that serve exactly that.
    pub serving: Vec<String>,
    /// Every address.
    pub addresses: Vec<AddressRow>,
}

impl Assessment {
    /// Evaluates a look.
    ///
    /// An address that serves nothing is notified in `addresses`, and makes the domain invalid only
    /// when no other serves: a host without IPv6 would otherwise call every certificate bad.
    pub(super) fn of(look: Result<Vec<AtAddress>, Fault>) -> Self {
        let seen = match look {
            Ok(seen) => seen,
            Err(fault) => return Self::nothing(Some(fault), Vec::new()),
        };
        let many = seen.len() > 1;
        let addresses: Vec<AddressRow> = seen.iter().map(row).collect();
        let served: Vec<(&AtAddress, &Shown)> =
            seen.iter().filter_map(|at| Some((at, at.outcome.as_ref().ok()?))).collect();
        let worst = served
            .iter()
            .min_by_key(|(_, shown)| (faults(shown).next().is_none(), shown.leaf.not_after_ms));
        let Some((_, worst)) = worst else {
            let all: Vec<Fault> = seen
                .iter()
                .filter_map(|at| at.outcome.as_ref().err().map(|fault| at_address(at, fault, many)))
                .collect();
            return Self::nothing(Fault::together(&all), addresses);
        };
        let alike = served
            .iter()
            .all(|(_, shown)| shown.leaf.fingerprint_sha256 == worst.leaf.fingerprint_sha256);
        let located = |(at, fault): (&AtAddress, &Fault)| at_address(at, fault, !alike);
        let wrong: Vec<Fault> = served
            .iter()
            .flat_map(|(at, shown)| faults(shown).map(move |fault| (*at, fault)))
            .map(located)
            .collect();
        let chain: Vec<Fault> = served
            .iter()
            .flat_map(|(at, shown)| shown.chain_faults.iter().map(move |fault| (*at, fault)))
            .map(located)
            .collect();
        let serving = served
            .iter()
            .filter(|(_, shown)| shown.leaf.fingerprint_sha256 == worst.leaf.fingerprint_sha256)
            .map(|(at, _)| at.address.to_string())
            .collect();
        Self {
            is_valid: wrong.is_empty(),
            chain_valid: chain.is_empty(),
            chain_fault: Fault::together(&chain),
            fault: Fault::together(&wrong),
            shown: Some((*worst).clone()),
            serving,
            addresses,
        }
    }

    fn nothing(fault: Option<Fault>, addresses: Vec<AddressRow>) -> Self {
        Self {
            is_valid: false,
            chain_valid: false,
            chain_fault: None,
            fault,
            shown: None,
            serving: Vec::new(),
            addresses,
        }
    }
}

fn faults(shown: &Shown) -> impl Iterator<Item = &Fault> {
    shown.leaf_faults.iter().chain(&shown.chain_faults)
}

/// The fault with its address, unless the sentence names it, or there is but one.
fn at_address(at: &AtAddress, fault: &Fault, many: bool) -> Fault {
    let address = at.address.to_string();
    if !many || fault.sentence.contains(&address) {
        return fault.clone();
    }
    Fault::new(fault.kind, format!("at {address}: {}", fault.sentence))
}

fn row(at: &AtAddress) -> AddressRow {
    let shown = at.outcome.as_ref().ok();
    let fault = match &at.outcome {
        Ok(shown) => Fault::together(&faults(shown).cloned().collect::<Vec<_>>()),
        Err(fault) => Some(fault.clone()),
    };
    AddressRow {
        address: at.address.to_string(),
        is_valid: fault.is_none(),
        error_kind: fault.as_ref().map(|fault| fault.kind.name().to_owned()),
        error: fault.map(|fault| fault.sentence),
        not_after_ms: shown.map(|shown| shown.leaf.not_after_ms),
        fingerprint_sha256: shown.map(|shown| shown.leaf.fingerprint_sha256.clone()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::server::cert::fault::Kind;
    use crate::server::cert::parse::Leaf;

    fn shows(address: &str, print: &str, ends: i64, leaf: &[Kind], chain: &[Kind]) -> AtAddress {
        let faults = |kinds: &[Kind]| -> Vec<Fault> {
            kinds.iter().map(|kind| Fault::new(*kind, format!("it is {}", kind.name()))).collect()
        };
        let shown = Shown {
            leaf: Leaf {
                fingerprint_sha256: print.to_owned(),
                not_after_ms: ends,
                ..Leaf::default()
            },
            leaf_faults: faults(leaf),
            chain_faults: faults(chain),
            tls_version: None,
            cipher_suite: None,
            chain_depth: 1,
        };
        AtAddress { address: address.parse().unwrap(), outcome: Ok(shown) }
    }

    fn fails(address: &str, kind: Kind) -> AtAddress {
        let outcome = Err(Fault::new(kind, format!("it is {}", kind.name())));
        AtAddress { address: address.parse().unwrap(), outcome }
    }

    #[test]
    fn one_good_address_is_enough_where_the_others_are_silent() {
        let look =
            vec![fails("2001:db8::1", Kind::Unreachable), shows("192.0.2.1", "a", 9, &[], &[])];
        let assessment = Assessment::of(Ok(look));
        assert!(assessment.is_valid && assessment.chain_valid && assessment.fault.is_none());
        assert_eq!(assessment.serving, ["192.0.2.1"]);
        assert_eq!(assessment.addresses[0].error_kind.as_deref(), Some("unreachable"));
        assert!(!assessment.addresses[0].is_valid && assessment.addresses[1].is_valid);
    }

    #[test]
    fn one_bad_certificate_spoils_the_domain_and_is_the_one_that_is_kept() {
        let look = vec![
            shows("192.0.2.1", "good", 5, &[], &[]),
            shows("192.0.2.2", "old", 9, &[Kind::WrongName, Kind::Expired], &[]),
        ];
        let assessment = Assessment::of(Ok(look));
        assert_eq!((assessment.is_valid, assessment.chain_valid), (false, true));
        let fault = assessment.fault.unwrap();
        assert_eq!(fault.kind, Kind::Expired);
        assert_eq!(fault.sentence, "at 192.0.2.2: it is wrong_name; at 192.0.2.2: it is expired");
        assert_eq!(assessment.shown.unwrap().leaf.fingerprint_sha256, "old");
        assert_eq!(assessment.serving, ["192.0.2.2"]);
    }

    #[test]
    fn of_two_good_ones_the_one_that_ends_first_is_kept() {
        let look = vec![shows("192.0.2.1", "b", 9, &[], &[]), shows("192.0.2.2", "a", 5, &[], &[])];
        let assessment = Assessment::of(Ok(look));
        assert!(assessment.is_valid);
        assert_eq!(assessment.shown.unwrap().leaf.fingerprint_sha256, "a");
    }

    #[test]
    fn the_same_fault_everywhere_is_said_once() {
        let bad = |address| shows(address, "a", 5, &[], &[Kind::SelfSigned]);
        let assessment = Assessment::of(Ok(vec![bad("192.0.2.1"), bad("192.0.2.2")]));
        assert_eq!((assessment.is_valid, assessment.chain_valid), (false, false));
        assert_eq!(assessment.chain_fault.unwrap().sentence, "it is self_signed");
        assert_eq!(assessment.serving, ["192.0.2.1", "192.0.2.2"]);
    }

    #[test]
    fn where_nothing_is_served_every_address_says_why() {
        let look =
            vec![fails("192.0.2.1", Kind::Timeout), fails("192.0.2.2", Kind::ConnectionRefused)];
        let assessment = Assessment::of(Ok(look));
        assert!(assessment.shown.is_none() && !assessment.chain_valid);
        let fault = assessment.fault.unwrap();
        assert_eq!(fault.kind, Kind::ConnectionRefused);
        let said = "at 192.0.2.1: it is timeout; at 192.0.2.2: it is connection_refused";
        assert_eq!(fault.sentence, said);
        let unknown = Assessment::of(Err(Fault::new(Kind::NoSuchName, "no")));
        assert_eq!(unknown.fault.unwrap().kind, Kind::NoSuchName);
    }
}
