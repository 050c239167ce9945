//! A certificate taken apart into the fields that the API shows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use openssl::pkey::PKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_parser::der_parser::asn1_rs::Oid;
use x509_parser::extensions::{
    DistributionPointName, ExtendedKeyUsage, GeneralName, KeyUsage, ParsedExtension,
};
use x509_parser::objects::{oid_registry, oid2sn};
use x509_parser::oid_registry::{
    OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS, OID_PKIX_ACCESS_DESCRIPTOR_OCSP,
};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::base::clock::{DAY_MS, SECOND_MS};
use crate::base::ids::hex;

/// What a certificate says. Times are Unix milliseconds; lists are empty where the certificate
/// says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the contract's Certificate documents the fields")]
pub(crate) struct Leaf {
    pub not_before_ms: i64,
    pub not_after_ms: i64,
    /// The whole name, such as `C=US, O=Example, CN=Example CA`.
    pub issuer: String,
    pub issuer_cn: Option<String>,
    pub issuer_o: Option<String>,
    pub issuer_ou: Option<String>,
    pub issuer_c: Option<String>,
    /// The whole name.
    pub subject: String,
    pub subject_cn: Option<String>,
    pub subject_o: Option<String>,
    pub subject_alt_names: Vec<String>,
    /// Lower-case hexadecimal.
    pub serial_number: String,
    /// Lower-case hexadecimal.
    pub fingerprint_sha256: String,
    /// 3 for all but the oldest.
    pub version: i64,
    pub signature_algorithm: String,
    pub public_key_algorithm: String,
    pub public_key_bits: Option<i64>,
    pub key_usage: Vec<String>,
    pub extended_key_usage: Vec<String>,
    pub is_ca: bool,
    pub is_wildcard: bool,
    pub ocsp_urls: Vec<String>,
    pub crl_urls: Vec<String>,
    pub ca_issuer_urls: Vec<String>,
    /// Certificate transparency time stamps inside the certificate.
    pub sct_count: i64,
}

impl Leaf {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| format!("no certificate: {error}"))?;
        let (issuer, subject) = (certificate.issuer(), certificate.subject());
        let mut leaf = Self {
            not_before_ms: millis(certificate.validity().not_before.timestamp()),
            not_after_ms: millis(certificate.validity().not_after.timestamp()),
            issuer: issuer.to_string(),
            issuer_cn: first(issuer.iter_common_name()),
            issuer_o: first(issuer.iter_organization()),
            issuer_ou: first(issuer.iter_organizational_unit()),
            issuer_c: first(issuer.iter_country()),
            subject: subject.to_string(),
            subject_cn: first(subject.iter_common_name()),
            subject_o: first(subject.iter_organization()),
            serial_number: hex(certificate.raw_serial()),
            fingerprint_sha256: hex(&Sha256::digest(der)),
            // The field counts from 0.
            version: i64::from(certificate.version().0).saturating_add(1),
            signature_algorithm: named(&certificate.signature_algorithm.algorithm),
            public_key_algorithm: key_algorithm(&certificate.public_key().algorithm.algorithm),
            public_key_bits: key_bits(certificate.public_key().raw),
            ..Self::default()
        };
        for extension in certificate.extensions() {
            leaf.take(extension.parsed_extension());
        }
        leaf.is_wildcard = leaf.subject_alt_names.iter().any(|name| name.starts_with("*."))
            || is_wildcard_subject(&leaf, subject);
        Ok(leaf)
    }

    fn take(&mut self, extension: &ParsedExtension<'_>) {
        match extension {
            ParsedExtension::SubjectAlternativeName(names) => {
                self.subject_alt_names = names.general_names.iter().filter_map(shown).collect();
            }
            ParsedExtension::KeyUsage(usage) => self.key_usage = key_usage(*usage),
            ParsedExtension::ExtendedKeyUsage(usage) => {
                self.extended_key_usage = extended_key_usage(usage);
            }
            ParsedExtension::BasicConstraints(constraints) => self.is_ca = constraints.ca,
            ParsedExtension::AuthorityInfoAccess(access) => {
                for description in &access.accessdescs {
                    let GeneralName::URI(url) = &description.access_location else { continue };
                    if description.access_method == OID_PKIX_ACCESS_DESCRIPTOR_OCSP {
                        self.ocsp_urls.push((*url).to_owned());
                    } else if description.access_method == OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS {
                        self.ca_issuer_urls.push((*url).to_owned());
                    }
                }
            }
            ParsedExtension::CRLDistributionPoints(points) => {
                for point in &points.points {
                    let Some(DistributionPointName::FullName(names)) = &point.distribution_point
                    else {
                        continue;
                    };
                    for name in names {
                        if let GeneralName::URI(url) = name {
                            self.crl_urls.push((*url).to_owned());
                        }
                    }
                }
            }
            ParsedExtension::SCT(stamps) => {
                self.sct_count = i64::try_from(stamps.len()).unwrap_or(i64::MAX);
            }
            _ => {}
        }
    }

    /// Whole days until it ends at `now_ms`, rounded down: negative as soon as it has ended.
    pub(crate) fn days_left(&self, now_ms: i64) -> i64 {
        self.not_after_ms.saturating_sub(now_ms).div_euclid(DAY_MS)
    }
}

fn millis(secs: i64) -> i64 {
    secs.saturating_mul(SECOND_MS)
}

fn first<'a>(mut parts: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> Option<String> {
    parts.next().and_then(|part| part.as_str().ok()).map(str::to_owned)
}

/// The registry's short name, or the number.
fn named(oid: &Oid<'_>) -> String {
    oid2sn(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), str::to_owned)
}

fn key_algorithm(oid: &Oid<'_>) -> String {
    match named(oid).as_str() {
        "rsaEncryption" => "RSA".to_owned(),
        "id-ecPublicKey" => "EC".to_owned(),
        "ed25519" => "Ed25519".to_owned(),
        "ed448" => "Ed448".to_owned(),
        "dsa" | "id-dsa" => "DSA".to_owned(),
        other => other.to_owned(),
    }
}

/// Bits of a public key. x509-parser counts those of an elliptic curve's point, which are not
/// those of its order, and none of newer kinds; OpenSSL knows them all.
fn key_bits(public_key_info: &[u8]) -> Option<i64> {
    PKey::public_key_from_der(public_key_info).ok().map(|key| i64::from(key.bits()))
}

/// A certificate without alternative names is for its common name.
fn is_wildcard_subject(leaf: &Leaf, subject: &X509Name<'_>) -> bool {
    let names_none = leaf.subject_alt_names.is_empty();
    names_none && first(subject.iter_common_name()).is_some_and(|name| name.starts_with("*."))
}

fn shown(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
            Some((*text).to_owned())
        }
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(|b| IpAddr::from(Ipv4Addr::from(b)));
            let address =
                four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(|b| Ipv6Addr::from(b).into()));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

/// The names that RFC 5280 gives the bits.
fn key_usage(usage: KeyUsage) -> Vec<String> {
    let flags = [
        (usage.digital_signature(), "digitalSignature"),
        (usage.non_repudiation(), "nonRepudiation"),
        (usage.key_encipherment(), "keyEncipherment"),
        (usage.data_encipherment(), "dataEncipherment"),
        (usage.key_agreement(), "keyAgreement"),
        (usage.key_cert_sign(), "keyCertSign"),
        (usage.crl_sign(), "cRLSign"),
        (usage.encipher_only(), "encipherOnly"),
        (usage.decipher_only(), "decipherOnly"),
    ];
    flags.iter().filter(|(set, _)| *set).map(|(_, name)| (*name).to_owned()).collect()
}

/// The names that RFC 5280 gives the purposes, and the numbers of others.
fn extended_key_usage(usage: &ExtendedKeyUsage<'_>) -> Vec<String> {
    let flags = [
        (usage.any, "anyExtendedKeyUsage"),
        (usage.server_auth, "serverAuth"),
        (usage.client_auth, "clientAuth"),
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ];
    let known = flags.iter().filter(|(set, _)| *set).map(|(_, name)| (*name).to_owned());
    known.chain(usage.other.iter().map(Oid::to_id_string)).collect()
}
