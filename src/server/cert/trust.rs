//! Whom certificate checks trust: the system's authorities and those of `cert_check.ca_file`.
//!
//! The system's take 2.7 MB of memory on a Debian. They are read when the first endpoint is spoken
//! with, so that a server without a domain to check does not hold them.

use std::path::Path;

use openssl::error::ErrorStack;
use openssl::ssl::{SslContext, SslContextBuilder, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::verify::X509VerifyFlags;
use parking_lot::Mutex;

/// See the module.
pub(super) struct Trust(Mutex<Authorities>);

struct Authorities {
    /// Those of `cert_check.ca_file`.
    own: Vec<X509>,
    /// With them and the system's, once it was asked for.
    context: Option<SslContext>,
}

impl Trust {
    /// Trusts the authorities of `ca_file` beside the system's.
    ///
    /// # Errors
    ///
    /// When the file can't be read or holds no certificate.
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        Ok(Self(Mutex::new(Authorities::read(ca_file)?)))
    }

    /// Reads the system's authorities, at the next use, and those of `ca_file` again.
    ///
    /// # Errors
    ///
    /// As [`Self::new`]; it goes on with what it had.
    pub(super) fn reload(&self, ca_file: Option<&Path>) -> Result<(), String> {
        *self.0.lock() = Authorities::read(ca_file)?;
        Ok(())
    }

    /// A context that trusts them. Who comes while another one reads the system's waits for it.
    ///
    /// # Errors
    ///
    /// When OpenSSL can't be set up.
    pub(super) fn context(&self) -> Result<SslContext, ErrorStack> {
        let mut authorities = self.0.lock();
        if let Some(context) = &authorities.context {
            return Ok(context.clone());
        }
        let context = build(&authorities.own)?;
        authorities.context = Some(context.clone());
        Ok(context)
    }
}

impl Authorities {
    fn read(ca_file: Option<&Path>) -> Result<Self, String> {
        let Some(path) = ca_file else { return Ok(Self { own: Vec::new(), context: None }) };
        let fail = |why: String| format!("cert_check.ca_file: {}: {why}", path.display());
        let pem = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
        let own = X509::stack_from_pem(&pem).map_err(|error| fail(error.to_string()))?;
        if own.is_empty() {
            return Err(fail("it holds no PEM certificate".to_owned()));
        }
        Ok(Self { own, context: None })
    }
}

fn build(own: &[X509]) -> Result<SslContext, ErrorStack> {
    let mut builder = SslContext::builder(SslMethod::tls_client())?;
    builder.set_verify(SslVerifyMode::PEER);
    trust_system(&mut builder);
    for authority in own {
        builder.cert_store_mut().add_cert(authority.clone())?;
    }
    // A certificate that is trusted itself ends the chain, though its own issuer be unknown.
    builder.cert_store_mut().set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    Ok(builder.build())
}

fn trust_system(builder: &mut SslContextBuilder) {
    if let Err(error) = builder.set_default_verify_paths() {
        log::warn!("certificate checks: OpenSSL's own authorities can't be used: {error}");
    }
    // An OpenSSL that the program carries itself does not know where this system has them.
    let found = openssl_probe::probe();
    let places = found.cert_file.iter().map(|file| (Some(file.as_path()), None));
    let places = places.chain(found.cert_dir.iter().map(|dir| (None, Some(dir.as_path()))));
    for (file, dir) in places {
        // OpenSSL takes such paths alone.
        if file.or(dir).and_then(Path::to_str).is_none() {
            continue;
        }
        if let Err(error) = builder.load_verify_locations(file, dir) {
            let place = file.or(dir).unwrap_or(Path::new("")).display();
            log::warn!("certificate checks: the authorities of {place} can't be used: {error}");
        }
    }
}
