//! The certificate of the gRPC port, read again when it is asked for: connections that stand keep
//! what they have, new ones get the new one.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use grpcio::{
    CertificateRequestType, ServerCredentials, ServerCredentialsBuilder, ServerCredentialsFetcher,
};
use openssl::pkey::PKey;
use openssl::x509::X509;

use crate::base::exit::{Exit, Fatal};
use crate::server::config::Tls;

/// Where the certificate comes from, and how often it has been asked to be read again.
pub struct Certificates {
    tls: Tls,
    asked: Arc<AtomicU64>,
}

impl Certificates {
    /// Checks that the files can be used.
    ///
    /// # Errors
    ///
    /// Names the file that can't be read, or says that key and certificate do not fit.
    pub fn open(tls: &Tls) -> Result<Self, Fatal> {
        read(tls).map_err(|error| Fatal::new(Exit::Config, error))?;
        Ok(Self { tls: tls.clone(), asked: Arc::default() })
    }

    /// Has the files read again at the next connection.
    ///
    /// # Errors
    ///
    /// When they can't be used now; what was read before stays in force.
    pub fn reload(&self) -> Result<(), String> {
        read(&self.tls)?;
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Credentials for one port.
    pub(super) fn credentials(&self) -> ServerCredentials {
        let request = match self.tls.client_ca_file {
            Some(_) => CertificateRequestType::RequestAndRequireClientCertificateAndVerify,
            None => CertificateRequestType::DontRequestClientCertificate,
        };
        let fetcher = Fetcher {
            tls: self.tls.clone(),
            asked: Arc::clone(&self.asked),
            // Behind `asked`, so that the first connection reads.
            seen: AtomicU64::new(u64::MAX),
        };
        ServerCredentials::with_fetcher(Box::new(fetcher), request)
    }
}

struct Fetcher {
    tls: Tls,
    asked: Arc<AtomicU64>,
    seen: AtomicU64,
}

impl ServerCredentialsFetcher for Fetcher {
    fn fetch(&self) -> Result<Option<ServerCredentialsBuilder>, Box<dyn Error>> {
        let asked = self.asked.load(Ordering::SeqCst);
        if self.seen.swap(asked, Ordering::SeqCst) == asked {
            return Ok(None);
        }
        let pem = read(&self.tls)?;
        // The library ends the process when a fetched configuration names no authority, also where
        // no client is asked for a certificate; then it is one that nothing is compared with.
        let (authorities, request) = match pem.client_ca {
            Some(ca) => (ca, CertificateRequestType::RequestAndRequireClientCertificateAndVerify),
            None => (pem.cert.clone(), CertificateRequestType::DontRequestClientCertificate),
        };
        let builder = ServerCredentialsBuilder::new().add_cert(pem.cert, pem.key);
        Ok(Some(builder.root_cert(authorities, request)))
    }
}

/// The files' contents, which fit each other.
pub struct Pem {
    /// The certificate and its chain.
    pub cert: Vec<u8>,
    /// The private key.
    pub key: Vec<u8>,
    /// Authorities of agents' certificates.
    pub client_ca: Option<Vec<u8>>,
}

/// Reads the files of `[tls]` and checks that they can be used.
///
/// # Errors
///
/// Names the file that can't be used.
pub fn read(tls: &Tls) -> Result<Pem, String> {
    let file = |path: &Path| {
        std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let (cert, key) = (file(&tls.cert_file)?, file(&tls.key_file)?);
    // The library gives up the whole port for a bad file without saying which; this says it.
    let bad = |path: &Path, what: &str| format!("{} {what}", path.display());
    let chain = X509::stack_from_pem(&cert).unwrap_or_default();
    let leaf = chain.first().ok_or_else(|| bad(&tls.cert_file, "holds no certificate in PEM"))?;
    let private = PKey::private_key_from_pem(&key)
        .map_err(|_| bad(&tls.key_file, "holds no private key in PEM"))?;
    if !leaf.public_key().is_ok_and(|public| public.public_eq(&private)) {
        return Err(bad(&tls.key_file, "is not the key of the certificate"));
    }
    let client_ca = tls.client_ca_file.as_deref().map(file).transpose()?;
    if let (Some(path), Some(pem)) = (&tls.client_ca_file, &client_ca)
        && X509::stack_from_pem(pem).unwrap_or_default().is_empty()
    {
        return Err(bad(path, "holds no certificate in PEM"));
    }
    Ok(Pem { cert, key, client_ca })
}
