//! What certificates say.

use std::fmt::Write as _;

use openssl::x509::X509;

use super::{EC, Made};
use crate::base::clock::{DAY_MS, SECOND_MS};
use crate::server::cert::parse::Leaf;

fn leaf(pem: &std::path::Path) -> Leaf {
    let pem = std::fs::read(pem).unwrap();
    Leaf::from_der(&X509::from_pem(&pem).unwrap().to_der().unwrap()).unwrap()
}

/// A list of certificate transparency time stamps (RFC 6962, section 3.3) with a made-up log and
/// signature, as an extension for openssl.
fn stamps(count: u16) -> String {
    const STAMP_BYTES: u16 = 51;
    let list_bytes = count * (STAMP_BYTES + 2);
    let mut text = "1.3.6.1.4.1.11129.2.4.2=DER:04:".to_owned();
    let _ = write!(text, "{:02x}:{:02x}:{:02x}", list_bytes + 2, list_bytes >> 8, list_bytes & 255);
    for _ in 0..count {
        // Length, version 1, log, time, no extensions, ECDSA over SHA-256, a signature of 4 bytes.
        let _ = write!(text, ":00:{STAMP_BYTES:02x}:00{}", ":11".repeat(32));
        text.push_str(":00:00:01:94:00:00:00:00:00:00:04:03:00:04:01:02:03:04");
    }
    text
}

#[test]
fn every_field_is_read() {
    let made = Made::new();
    let pem = made.certificate(
        "full",
        "rsa:2048",
        "30",
        &[
            "subjectAltName=DNS:*.example.com,DNS:example.com,IP:192.0.2.1,IP:2001:db8::1",
            "keyUsage=critical,digitalSignature,keyEncipherment",
            "extendedKeyUsage=serverAuth,clientAuth,1.2.3.4",
            "authorityInfoAccess=OCSP;URI:http://ocsp.example,caIssuers;URI:http://ca.example/c.der",
            "crlDistributionPoints=URI:http://crl.example/a.crl",
            &stamps(2),
        ],
    );
    let leaf = leaf(&pem);
    assert_eq!(leaf.issuer_cn.as_deref(), Some("full"));
    assert_eq!(leaf.issuer_o.as_deref(), Some("Test & Sons"));
    assert_eq!(leaf.issuer_ou.as_deref(), Some("Ops"));
    assert_eq!(leaf.issuer_c.as_deref(), Some("DE"));
    assert_eq!(leaf.subject_cn.as_deref(), Some("full"));
    assert_eq!(leaf.subject_o.as_deref(), Some("Test & Sons"));
    assert_eq!(leaf.subject, "C=DE, O=Test & Sons, OU=Ops, CN=full");
    let names = ["*.example.com", "example.com", "192.0.2.1", "2001:db8::1"];
    assert_eq!(leaf.subject_alt_names, names);
    assert_eq!(leaf.version, 3);
    assert_eq!(leaf.signature_algorithm, "sha256WithRSAEncryption");
    assert_eq!((leaf.public_key_algorithm.as_str(), leaf.public_key_bits), ("RSA", Some(2048)));
    assert_eq!(leaf.key_usage, ["digitalSignature", "keyEncipherment"]);
    assert_eq!(leaf.extended_key_usage, ["serverAuth", "clientAuth", "1.2.3.4"]);
    assert_eq!(leaf.ocsp_urls, ["http://ocsp.example"]);
    assert_eq!(leaf.ca_issuer_urls, ["http://ca.example/c.der"]);
    assert_eq!(leaf.crl_urls, ["http://crl.example/a.crl"]);
    assert_eq!(leaf.sct_count, 2);
    assert!(leaf.is_wildcard);
    assert_eq!(leaf.not_after_ms - leaf.not_before_ms, 30 * DAY_MS);
    // openssl itself says the same of what can be compared as a text.
    let said = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-serial", "-fingerprint", "-sha256", "-in"])
        .arg(&pem)
        .output()
        .unwrap();
    let said = String::from_utf8(said.stdout).unwrap().to_lowercase().replace(':', "");
    assert!(said.contains(leaf.fingerprint_sha256.as_str()), "{said}");
    let serial = leaf.serial_number.trim_start_matches("00");
    assert!(said.contains(serial) && serial.len() >= 30, "{said} {serial}");
}

#[test]
fn keys_of_each_kind_have_their_bits() {
    let made = Made::new();
    let cases = [
        ("p256", EC, "EC", 256, "ecdsa-with-SHA256"),
        ("p521", "ec -pkeyopt ec_paramgen_curve:P-521", "EC", 521, "ecdsa-with-SHA256"),
        ("ed25519", "ed25519", "Ed25519", 256, "ed25519"),
        ("rsa", "rsa:1024", "RSA", 1024, "sha256WithRSAEncryption"),
    ];
    for (name, key, algorithm, bits, signature) in cases {
        let leaf = leaf(&made.certificate(name, key, "1", &[]));
        assert_eq!(
            (leaf.public_key_algorithm.as_str(), leaf.public_key_bits),
            (algorithm, Some(bits))
        );
        assert_eq!(leaf.signature_algorithm, signature, "{name}");
        assert!(leaf.subject_alt_names.is_empty() && leaf.ocsp_urls.is_empty());
        assert!(leaf.is_ca && !leaf.is_wildcard, "openssl makes authorities by default");
    }
}

#[test]
fn days_are_whole_and_negative_as_soon_as_it_has_ended() {
    let ends = 1_770_625_800_000;
    let leaf = Leaf { not_after_ms: ends, ..Leaf::default() };
    let cases = [
        (ends - 10 * DAY_MS, 10),
        (ends - 10 * DAY_MS + SECOND_MS, 9),
        (ends, 0),
        (ends + SECOND_MS, -1),
        (ends + DAY_MS + SECOND_MS, -2),
        (i64::MIN, i64::MAX / DAY_MS),
    ];
    for (now_ms, days) in cases {
        assert_eq!(leaf.days_left(now_ms), days, "{now_ms}");
    }
}

#[test]
fn what_is_no_certificate_is_refused() {
    assert!(Leaf::from_der(b"").is_err());
    assert!(Leaf::from_der(b"\x30\x03\x02\x01\x01").unwrap_err().starts_with("no certificate"));
}
