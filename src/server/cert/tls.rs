//! The handshake. native-tls, which the rest of the server uses, ends a handshake at the first
//! thing that is wrong with the certificate, and tells neither the protocol's version nor the
//! cipher. So this goes to OpenSSL directly, which is what stands below native-tls here: one
//! handshake, in which everything that verification finds is noted instead of ending it. A second
//! one without verification, as native-tls would need, might meet another certificate.

use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::ssl::{HandshakeError, MidHandshakeSslStream, Ssl, SslContext, SslRef, SslVerifyMode};
use openssl::x509::verify::X509CheckFlags;
use openssl::x509::{X509NameRef, X509StoreContextRef};
use parking_lot::Mutex;

use crate::base::clock::{SECOND_MS, rfc3339};
use crate::server::cert::fault::{Fault, Kind};
use crate::server::cert::link::Link;
use crate::server::cert::parse::Leaf;
use crate::server::cert::trust::Trust;

/// What an endpoint showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    /// Its certificate.
    pub leaf: Leaf,
    /// What is wrong with the certificate itself.
    pub leaf_faults: Vec<Fault>,
    /// What is wrong with the way to a trusted authority.
    pub chain_faults: Vec<Fault>,
    /// Such as `TLSv1.3`.
    pub tls_version: Option<String>,
    /// The cipher's name of the standards, such as `TLS_AES_256_GCM_SHA384`.
    pub cipher_suite: Option<String>,
    /// How many certificates it sent, its own among them.
    pub chain_depth: i64,
}

/// What verification found at one certificate of the chain, 0 being the endpoint's own.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    code: i32,
    depth: u32,
    subject: String,
    text: &'static str,
}

/// OpenSSL's codes (x509_vfy.h) that have a kind of their own; it never renumbers them.
mod code {
    pub(super) const UNABLE_TO_GET_ISSUER_CERT: i32 = 2;
    pub(super) const CERT_NOT_YET_VALID: i32 = 9;
    pub(super) const CERT_HAS_EXPIRED: i32 = 10;
    pub(super) const DEPTH_ZERO_SELF_SIGNED_CERT: i32 = 18;
    pub(super) const SELF_SIGNED_CERT_IN_CHAIN: i32 = 19;
    pub(super) const UNABLE_TO_GET_ISSUER_CERT_LOCALLY: i32 = 20;
    pub(super) const UNABLE_TO_VERIFY_LEAF_SIGNATURE: i32 = 21;
    pub(super) const CERT_UNTRUSTED: i32 = 27;
    pub(super) const HOSTNAME_MISMATCH: i32 = 62;
    pub(super) const IP_ADDRESS_MISMATCH: i32 = 64;
}

/// Speaks TLS with the endpoint of `link` as a client that asks for `host`, at `now_ms`.
///
/// # Errors
///
/// When no certificate was shown.
pub(super) fn shake(trust: &Trust, host: &str, now_ms: i64, link: Link) -> Result<Shown, Fault> {
    let broken =
        |error: ErrorStack| Fault::new(Kind::HandshakeRefused, format!("OpenSSL: {error}"));
    let found: Arc<Mutex<Vec<Finding>>> = Arc::default();
    let context = trust.context().map_err(broken)?;
    let ssl = prepare(&context, host, now_ms, &found).map_err(broken)?;
    let findings = || found.lock().clone();
    match ssl.connect(link) {
        Ok(mut stream) => {
            // A word of farewell; the endpoint's own is not waited for.
            let _ = stream.shutdown();
            shown(stream.ssl(), host, &findings())
        }
        Err(HandshakeError::SetupFailure(error)) => Err(broken(error)),
        Err(HandshakeError::Failure(middle) | HandshakeError::WouldBlock(middle)) => {
            let fault = why(&middle);
            let Ok(mut shown) = shown(middle.ssl(), host, &findings()) else { return Err(fault) };
            // One that wants a client's certificate has shown its own before it refuses; under
            // TLS 1.3 the handshake has ended by then, and nothing of it would be seen here.
            if !by_alert(&middle) {
                shown.leaf_faults.push(fault);
            }
            Ok(shown)
        }
    }
}

fn prepare(
    context: &SslContext,
    host: &str,
    now_ms: i64,
    found: &Arc<Mutex<Vec<Finding>>>,
) -> Result<Ssl, ErrorStack> {
    let mut ssl = Ssl::new(context)?;
    let address = host.parse::<std::net::IpAddr>();
    if address.is_err() {
        ssl.set_hostname(host)?;
    }
    let param = ssl.param_mut();
    // As browsers do (RFC 9525): a common name stands for no host.
    param.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS | X509CheckFlags::NEVER_CHECK_SUBJECT);
    match address {
        Ok(address) => param.set_ip(address)?,
        Err(_) => param.set_host(host)?,
    }
    param.set_time(now_ms.div_euclid(SECOND_MS) as _);
    let found = Arc::clone(found);
    ssl.set_verify_callback(SslVerifyMode::PEER, move |good, at| {
        if !good {
            found.lock().push(finding(at));
        }
        true
    });
    Ok(ssl)
}

fn finding(at: &X509StoreContextRef) -> Finding {
    let error = at.error();
    Finding {
        code: error.as_raw(),
        depth: at.error_depth(),
        subject: at.current_cert().map(|cert| common_name(cert.subject_name())).unwrap_or_default(),
        text: error.error_string(),
    }
}

fn common_name(name: &X509NameRef) -> String {
    let entry = name.entries().last().and_then(|entry| entry.data().to_string().ok());
    entry.unwrap_or_default()
}

fn shown(ssl: &SslRef, host: &str, findings: &[Finding]) -> Result<Shown, Fault> {
    let none = || Fault::new(Kind::HandshakeRefused, "the server shows no certificate");
    let certificate = ssl.peer_certificate().ok_or_else(none)?;
    let der = certificate.to_der().map_err(|_| none())?;
    let leaf = Leaf::from_der(&der).map_err(|error| {
        Fault::new(Kind::BadChain, format!("the certificate can't be read: {error}"))
    })?;
    let sent = ssl.peer_cert_chain().map_or(1, |chain| chain.len());
    let mut shown = Shown {
        leaf,
        leaf_faults: Vec::new(),
        chain_faults: Vec::new(),
        tls_version: Some(ssl.version_str().to_owned()),
        cipher_suite: ssl
            .current_cipher()
            .map(|cipher| cipher.standard_name().unwrap_or(cipher.name()).to_owned()),
        chain_depth: i64::try_from(sent).unwrap_or(i64::MAX),
    };
    for found in findings {
        let (fault, of_chain) = fault(found, &shown, host);
        let list = if of_chain { &mut shown.chain_faults } else { &mut shown.leaf_faults };
        // OpenSSL says of a missing issuer first that it is missing, then what follows from it.
        if !list.iter().any(|known| known.kind == fault.kind) {
            list.push(fault);
        }
    }
    Ok(shown)
}

/// A finding in words, and whether it is one about the way to an authority.
fn fault(found: &Finding, shown: &Shown, host: &str) -> (Fault, bool) {
    let leaf = &shown.leaf;
    let own = found.depth == 0;
    let whose = if own {
        "the certificate".to_owned()
    } else {
        format!("the certificate of `{}` in the chain", found.subject)
    };
    let (kind, sentence) = match found.code {
        code::CERT_HAS_EXPIRED if own => {
            (Kind::Expired, format!("{whose} expired on {}", rfc3339(leaf.not_after_ms)))
        }
        code::CERT_HAS_EXPIRED => (Kind::Expired, format!("{whose} has expired")),
        code::CERT_NOT_YET_VALID if own => (
            Kind::NotYetValid,
            format!("{whose} is not valid before {}", rfc3339(leaf.not_before_ms)),
        ),
        code::CERT_NOT_YET_VALID => (Kind::NotYetValid, format!("{whose} is not valid yet")),
        code::DEPTH_ZERO_SELF_SIGNED_CERT => (
            Kind::SelfSigned,
            "the certificate is self-signed, and not among the trusted ones".to_owned(),
        ),
        code::SELF_SIGNED_CERT_IN_CHAIN => (
            Kind::UnknownIssuer,
            format!("the chain ends in `{}`, which is not a trusted authority", found.subject),
        ),
        code::UNABLE_TO_GET_ISSUER_CERT
        | code::UNABLE_TO_GET_ISSUER_CERT_LOCALLY
        | code::UNABLE_TO_VERIFY_LEAF_SIGNATURE
        | code::CERT_UNTRUSTED => (Kind::UnknownIssuer, unknown_issuer(shown)),
        code::HOSTNAME_MISMATCH | code::IP_ADDRESS_MISMATCH => {
            (Kind::WrongName, wrong_name(leaf, host))
        }
        _ => (Kind::BadChain, format!("{whose} is refused: {}", found.text)),
    };
    let of_leaf = own && matches!(kind, Kind::Expired | Kind::NotYetValid | Kind::WrongName);
    (Fault::new(kind, sentence), !of_leaf)
}

fn unknown_issuer(shown: &Shown) -> String {
    let issuer = &shown.leaf.issuer;
    if shown.chain_depth == 1 {
        return format!(
            "the issuer `{issuer}` is unknown: it is not a trusted authority, and no intermediate \
             certificate is sent along"
        );
    }
    format!("the {} certificates sent do not lead to a trusted authority", shown.chain_depth)
}

/// Names that a sentence lists of a certificate.
const NAMES_SHOWN: usize = 5;

fn wrong_name(leaf: &Leaf, host: &str) -> String {
    if leaf.subject_alt_names.is_empty() {
        let name = leaf.subject_cn.as_deref().unwrap_or("nothing");
        return format!(
            "the certificate has no subject alternative name: clients ignore its common name \
             `{name}`"
        );
    }
    let mut names = leaf.subject_alt_names.clone();
    if names.is_empty() {
        names.extend(leaf.subject_cn.clone());
    }
    let more = names.len().saturating_sub(NAMES_SHOWN);
    names.truncate(NAMES_SHOWN);
    let mut list = names.join(", ");
    if more > 0 {
        list.push_str(&format!(" and {more} more"));
    }
    format!("the certificate is for other names than `{host}`: {list}")
}

/// Why a handshake ended. What came over the wire says it more plainly than OpenSSL does.
fn why(middle: &MidHandshakeSslStream<Link>) -> Fault {
    use std::io::ErrorKind;
    let link = middle.get_ref();
    if let Some(fault) = not_tls(link.first()) {
        return fault;
    }
    let closed =
        || Fault::new(Kind::Closed, "the server closed the connection during the handshake");
    match middle.error().io_error().map(std::io::Error::kind) {
        Some(ErrorKind::TimedOut) if link.first().is_empty() => {
            let sentence = "the server accepts the connection and then sends nothing";
            return Fault::new(Kind::Timeout, sentence);
        }
        Some(ErrorKind::TimedOut) => {
            return Fault::new(Kind::Timeout, "the handshake took too long");
        }
        Some(_) => return closed(),
        None => {}
    }
    let stack = middle.error().ssl_error().map(ErrorStack::errors).unwrap_or_default();
    match stack.first().and_then(|error| error.reason()) {
        Some(reason) if !link.ended() => {
            Fault::new(Kind::HandshakeRefused, format!("the handshake failed: {reason}"))
        }
        _ => closed(),
    }
}

/// Whether the endpoint said no, rather than this side.
fn by_alert(middle: &MidHandshakeSslStream<Link>) -> bool {
    let stack = middle.error().ssl_error().map(ErrorStack::errors).unwrap_or_default();
    stack.iter().filter_map(openssl::error::Error::reason).any(|reason| reason.contains("alert"))
}

/// The first byte of a TLS record that a server may send: a handshake, or an alert.
const RECORDS: [u8; 2] = [22, 21];

fn not_tls(first: &[u8]) -> Option<Fault> {
    let start = first.first()?;
    if RECORDS.contains(start) && first.get(1).is_none_or(|major| *major == 3) {
        return None;
    }
    let sentence = if first.starts_with(b"HTTP/") {
        "the port answers with plain HTTP, not with TLS".to_owned()
    } else {
        let line = first.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let line: String =
            String::from_utf8_lossy(line).chars().filter(|sign| !sign.is_control()).collect();
        format!("the port does not speak TLS; it says `{line}`")
    };
    Some(Fault::new(Kind::NotTls, sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_tls_is_known_by_its_first_bytes() {
        let say = |bytes: &[u8]| not_tls(bytes).map(|fault| fault.sentence);
        assert_eq!(say(&[]), None);
        assert_eq!(say(&[22, 3, 3]), None);
        assert_eq!(say(&[21, 3]), None);
        assert!(say(b"HTTP/1.1 400 Bad Request\r\n").is_some_and(|s| s.contains("plain HTTP")));
        let ssh = say(b"SSH-2.0-OpenSSH_9.2\r\n\x00");
        assert!(ssh.is_some_and(|s| s.ends_with("it says `SSH-2.0-OpenSSH_9.2`")));
    }
}
