//! The certificate of `[tls]`, read again on request: open connections keep theirs, and new ones
//! get the new one.

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod, SslMode, SslOptions};
use openssl::x509::X509;
use parking_lot::RwLock;

use crate::server::config::Tls;
use crate::server::ingest::tls::{Pem, read};

/// Accepts TLS connections with the current certificate.
pub(crate) struct Acceptor {
    tls: Tls,
    current: RwLock<SslAcceptor>,
}

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// Names the file that can't be used.
    pub(crate) fn open(tls: &Tls) -> Result<Self, String> {
        Ok(Self { tls: tls.clone(), current: RwLock::new(load(tls)?) })
    }

    /// Reads the files again.
    ///
    /// # Errors
    ///
    /// When they can't be used now; what was read before stays in force.
    pub(crate) fn reload(&self) -> Result<(), String> {
        let fresh = load(&self.tls)?;
        *self.current.write() = fresh;
        Ok(())
    }

    /// What a new connection is to use.
    pub(crate) fn current(&self) -> SslAcceptor {
        self.current.read().clone()
    }
}

fn load(tls: &Tls) -> Result<SslAcceptor, String> {
    let pem = read(tls)?;
    build(&pem).map_err(|error| format!("cannot use {}: {error}", tls.cert_file.display()))
}

fn build(pem: &Pem) -> Result<SslAcceptor, ErrorStack> {
    // TLS 1.2 and 1.3 with the suites that Mozilla recommends for servers of any client.
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    let mut chain = X509::stack_from_pem(&pem.cert)?.into_iter();
    if let Some(leaf) = chain.next() {
        builder.set_certificate(&leaf)?;
    }
    for issuer in chain {
        builder.add_extra_chain_cert(issuer)?;
    }
    builder.set_private_key(PKey::private_key_from_pem(&pem.key)?.as_ref())?;
    builder.check_private_key()?;
    // A handshake is expensive: one a connection.
    builder.set_options(SslOptions::NO_RENEGOTIATION);
    // Writes continue where they stopped, and idle connections hold no buffers.
    builder.set_mode(
        SslMode::ENABLE_PARTIAL_WRITE
            | SslMode::ACCEPT_MOVING_WRITE_BUFFER
            | SslMode::RELEASE_BUFFERS,
    );
    Ok(builder.build())
}
