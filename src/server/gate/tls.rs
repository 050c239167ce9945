//! The certificate of `[tls]`, read again on request: open connections keep theirs, and new ones
//! get the new one.

use std::path::Path;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    AlpnError, SslAcceptor, SslAcceptorBuilder, SslMethod, SslMode, SslOptions, SslVerifyMode,
    select_next_proto,
};
use openssl::x509::{X509, X509StoreContextRef};
use parking_lot::RwLock;

use crate::server::config::Tls;

/// What HTTP/2 is called in ALPN, with its length before it (RFC 7301).
const H2: &[u8] = b"\x02h2";

/// Which port an acceptor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// HTTPS: no certificate of clients.
    Http,
    /// gRPC: HTTP/2, and certificates of clients where `client_ca_file` is set.
    Grpc,
}

/// Accepts TLS connections with the current certificate.
pub(crate) struct Acceptor {
    tls: Tls,
    port: Port,
    current: RwLock<SslAcceptor>,
}

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// Names the file that can't be used.
    pub(crate) fn open(tls: &Tls, port: Port) -> Result<Self, String> {
        Ok(Self { tls: tls.clone(), port, current: RwLock::new(load(tls, port)?) })
    }

    /// Reads the files again.
    ///
    /// # Errors
    ///
    /// When they can't be used now; what was read before stays in force.
    pub(crate) fn reload(&self) -> Result<(), String> {
        let fresh = load(&self.tls, self.port)?;
        *self.current.write() = fresh;
        Ok(())
    }

    /// What a new connection is to use.
    pub(crate) fn current(&self) -> SslAcceptor {
        self.current.read().clone()
    }
}

fn load(tls: &Tls, port: Port) -> Result<SslAcceptor, String> {
    let pem = read(tls)?;
    build(&pem, port).map_err(|error| format!("cannot use {}: {error}", tls.cert_file.display()))
}

fn build(pem: &Pem, port: Port) -> Result<SslAcceptor, ErrorStack> {
    // TLS 1.2 and 1.3 with the suites that Mozilla recommends for servers of any client.
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    let mut chain = X509::stack_from_pem(&pem.cert)?.into_iter();
    let leaf = chain.next();
    if let Some(leaf) = &leaf {
        builder.set_certificate(leaf)?;
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
    if port == Port::Grpc {
        builder.set_alpn_select_callback(|_, offered| {
            select_next_proto(H2, offered).ok_or(AlpnError::ALERT_FATAL)
        });
        if let Some(authorities) = &pem.client_ca {
            require_client_certificates(&mut builder, authorities, leaf)?;
        }
    }
    Ok(builder.build())
}

/// Takes connections of clients alone whose certificate an authority has issued. The server's own
/// certificate is good as well, since nobody else has its key: by it the server asks itself whether
/// the port answers.
fn require_client_certificates(
    builder: &mut SslAcceptorBuilder,
    authorities: &[u8],
    own: Option<X509>,
) -> Result<(), ErrorStack> {
    for authority in X509::stack_from_pem(authorities)? {
        builder.add_client_ca(&authority)?;
        builder.cert_store_mut().add_cert(authority)?;
    }
    // A session that is resumed was verified by this port.
    builder.set_session_id_context(b"oxmon-grpc")?;
    let own = own.and_then(|own| own.to_der().ok());
    let verify = move |is_good: bool, context: &mut X509StoreContextRef| {
        let is_own = || {
            let leaf = context.chain().and_then(|chain| chain.get(0)).or(context.current_cert());
            let leaf = leaf.and_then(|leaf| leaf.to_der().ok());
            leaf.is_some() && leaf == own
        };
        is_good || is_own()
    };
    builder.set_verify_callback(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT, verify);
    Ok(())
}

/// The files' contents, which fit each other.
struct Pem {
    /// The certificate and its chain.
    cert: Vec<u8>,
    /// The private key.
    key: Vec<u8>,
    /// Authorities of agents' certificates.
    client_ca: Option<Vec<u8>>,
}

/// Reads the files of `[tls]` and checks that they can be used.
fn read(tls: &Tls) -> Result<Pem, String> {
    let file = |path: &Path| {
        std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let (cert, key) = (file(&tls.cert_file)?, file(&tls.key_file)?);
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
