//! What can be wrong with a domain: a fixed word for machines, a sentence for people.

use serde::{Deserialize, Serialize};

/// What kind of thing is wrong. The order is that of weight: of several, the first is the one that
/// a check is filed under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// The certificate, or one of its chain, has ended.
    Expired,
    /// The certificate, or one of its chain, does not hold yet.
    NotYetValid,
    /// The certificate vouches for itself, and is not trusted.
    SelfSigned,
    /// The chain does not lead to a trusted authority.
    UnknownIssuer,
    /// The certificate is for other names.
    WrongName,
    /// The chain breaks another rule, such as a key that is too short.
    BadChain,
    /// The endpoint ended the handshake with an alert, or speaks no TLS that is taken here.
    HandshakeRefused,
    /// Something answers on the port, but not with TLS.
    NotTls,
    /// The endpoint does not offer the protocol's STARTTLS.
    NoStarttls,
    /// The endpoint closed the connection before the handshake was over.
    Closed,
    /// Nothing listens on the port.
    ConnectionRefused,
    /// No way leads to the address.
    Unreachable,
    /// Nothing came within `cert_check.connect_timeout_secs`.
    Timeout,
    /// The name has no address.
    NoSuchName,
    /// The name server did not answer as it should: the name may well exist.
    LookupFailed,
    /// `outgoing.deny` has the address.
    Denied,
}

impl Kind {
    /// The word on the wire and in the database.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::SelfSigned => "self_signed",
            Self::UnknownIssuer => "unknown_issuer",
            Self::WrongName => "wrong_name",
            Self::BadChain => "bad_chain",
            Self::HandshakeRefused => "handshake_refused",
            Self::NotTls => "not_tls",
            Self::NoStarttls => "no_starttls",
            Self::Closed => "closed",
            Self::ConnectionRefused => "connection_refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::NoSuchName => "no_such_name",
            Self::LookupFailed => "lookup_failed",
            Self::Denied => "denied",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub(super) struct Fault {
    /// The fixed word.
    pub kind: Kind,
    /// What is wrong with what.
    pub sentence: String,
}

impl Fault {
    /// A fault with its sentence.
    pub(super) fn new(kind: Kind, sentence: impl Into<String>) -> Self {
        Self { kind, sentence: sentence.into() }
    }

    /// Several faults as one: the kind of the weightiest, and all sentences.
    pub(super) fn together(faults: &[Self]) -> Option<Self> {
        let kind = faults.iter().map(|fault| fault.kind).min()?;
        let mut sentences: Vec<&str> = Vec::new();
        for fault in faults {
            if !sentences.contains(&fault.sentence.as_str()) {
                sentences.push(&fault.sentence);
            }
        }
        Some(Self::new(kind, sentences.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ALL: [Kind; 16] = [
        Kind::Expired,
        Kind::NotYetValid,
        Kind::SelfSigned,
        Kind::UnknownIssuer,
        Kind::WrongName,
        Kind::BadChain,
        Kind::HandshakeRefused,
        Kind::NotTls,
        Kind::NoStarttls,
        Kind::Closed,
        Kind::ConnectionRefused,
        Kind::Unreachable,
        Kind::Timeout,
        Kind::NoSuchName,
        Kind::LookupFailed,
        Kind::Denied,
    ];

    #[test]
    fn names_are_those_of_the_json_and_stand_in_the_documents() {
        let guide = include_str!("../../../docs/certificates.md");
        for kind in ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert!(guide.contains(&format!("| `{}` |", kind.name())), "{kind:?}");
        }
        assert!(ALL.is_sorted());
    }

    #[test]
    fn the_weightiest_kind_stands_for_all_and_every_sentence_once() {
        let wrong = Fault::new(Kind::WrongName, "it is for another name");
        let ended = Fault::new(Kind::Expired, "it has ended");
        let both = Fault::together(&[wrong.clone(), ended, wrong]).unwrap();
        assert_eq!(both, Fault::new(Kind::Expired, "it is for another name; it has ended"));
        assert_eq!(Fault::together(&[]), None);
    }
}
