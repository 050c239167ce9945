//! Calls of HTTP servers elsewhere: with time limits, without redirects, through proxies, with
//! authorities of one's own, and never at an address that is denied.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::config::Config;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::unversioned::transport::DefaultConnector;

use crate::base::cli::VERSION;
use crate::server::config::Outgoing;
use crate::server::config::outgoing::Denied;

mod guard;
mod proxy;
mod via;

use guard::Guarded;
pub(crate) use guard::Refused;
use proxy::Proxies;
use via::{Via, mask_proxy};

/// Proxies by their URL, for plain and for encrypted endpoints; or why one can't be used.
type ByProxy = HashMap<(String, bool), Result<Via, String>>;

/// How calls are made.
pub(crate) struct Settings {
    /// Time for a whole call.
    pub(crate) timeout: Duration,
    /// Authorities of certificates.
    pub(crate) roots: RootCerts,
    /// Whether certificates are verified.
    pub(crate) is_verified: bool,
    /// Connections that are kept for the next call.
    pub(crate) idle_connections: usize,
}

/// Makes calls.
pub(crate) struct Caller {
    direct: Agent,
    proxies: Proxies,
    /// How each proxy is used.
    via: ByProxy,
    denied: Denied,
}

/// How one URL is called: an agent, and the proxy that it uses.
pub(crate) struct Route<'a> {
    /// What makes the call.
    pub(crate) agent: &'a Agent,
    /// Through which proxy.
    pub(crate) proxy: Option<&'a Via>,
}

impl Caller {
    /// Calls by these settings, through proxies as `outgoing` and the environment say.
    ///
    /// # Errors
    ///
    /// When `outgoing.proxy` can't be used.
    pub(crate) fn new(settings: &Settings, outgoing: &Outgoing) -> Result<Self, String> {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::NativeTls)
            .root_certs(settings.roots.clone())
            .disable_verification(!settings.is_verified)
            .build();
        let config = |proxy| {
            Agent::config_builder()
                .proxy(proxy)
                .timeout_global(Some(settings.timeout))
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .max_idle_connections(settings.idle_connections)
                .user_agent(format!("oxmon/{VERSION}"))
                .tls_config(tls.clone())
                .build()
        };
        let denied = outgoing.denied();
        let proxies = Proxies::new(outgoing, |name| std::env::var(name).ok());
        let guarded = Guarded::new(denied.clone());
        let via = via_all(&proxies, &config, &guarded, outgoing.proxy.is_some())?;
        let direct = Agent::with_parts(config(None), DefaultConnector::default(), guarded);
        Ok(Self { direct, proxies, via, denied })
    }

    /// How a URL is called.
    ///
    /// # Errors
    ///
    /// When its address is denied, or its proxy can't be used.
    pub(crate) fn route(&self, url: &str) -> Result<Route<'_>, String> {
        let Some(proxy) = self.proxies.of(url) else {
            return Ok(Route { agent: &self.direct, proxy: None });
        };
        // Whatever a name leads to is up to the proxy; an address is known here.
        if let Some(address) = address_of(url) {
            self.denied.check(address)?;
        }
        let is_https = url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        match self.via.get(&(proxy.to_owned(), is_https)) {
            Some(Ok(via)) => Ok(Route { agent: &via.agent, proxy: Some(via) }),
            Some(Err(why)) => Err(why.clone()),
            None => Err(format!("the proxy {} can't be used", mask_proxy(proxy))),
        }
    }

    /// Addresses that must not be connected to.
    pub(crate) fn denied(&self) -> &Denied {
        &self.denied
    }
}

/// An agent for each proxy. One of the environment that can't be used fails the calls through it,
/// one of the configuration fails here.
fn via_all(
    proxies: &Proxies,
    config: &dyn Fn(Option<ureq::Proxy>) -> Config,
    guarded: &Guarded,
    is_configured: bool,
) -> Result<ByProxy, String> {
    let mut all = HashMap::new();
    for name in proxies.named() {
        for is_https in [false, true] {
            let via = Via::new(name, is_https, config, guarded);
            if let Err(why) = &via {
                if is_configured {
                    return Err(format!("outgoing.proxy: {why}"));
                }
                log::warn!("{why}");
            }
            all.insert((name.to_owned(), is_https), via);
        }
    }
    Ok(all)
}

fn address_of(url: &str) -> Option<IpAddr> {
    let uri: ureq::http::Uri = url.parse().ok()?;
    uri.host()?.trim_matches(['[', ']']).parse().ok()
}

/// Authorities to trust.
pub(crate) struct Trust {
    /// For HTTP.
    pub(crate) roots: RootCerts,
    /// Those of the file alone.
    pub(crate) authorities: Vec<native_tls::Certificate>,
}

impl Trust {
    /// The system's authorities, and those of `file`, which the configuration calls `key`.
    ///
    /// # Errors
    ///
    /// When the file can't be read or holds no certificate.
    pub(crate) fn read(key: &str, file: Option<&Path>) -> Result<Self, String> {
        let Some(path) = file else {
            return Ok(Self { roots: RootCerts::PlatformVerifier, authorities: Vec::new() });
        };
        let fail = |why: String| format!("{key}: {}: {why}", path.display());
        let pem = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
        let mut certificates = certificates(&pem);
        if certificates.is_empty() {
            return Err(fail("it holds no PEM certificate".to_owned()));
        }
        let mut authorities = Vec::new();
        for certificate in &certificates {
            let authority = native_tls::Certificate::from_der(certificate.der())
                .map_err(|error| fail(error.to_string()))?;
            authorities.push(authority);
        }
        certificates.extend(system_certificates());
        Ok(Self { roots: RootCerts::Specific(Arc::new(certificates)), authorities })
    }
}

/// The seconds of a `Retry-After`, or those until its date (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(headers: &ureq::http::HeaderMap) -> Option<Duration> {
    // Feishu and Lark have a header of their own, in seconds (open.feishu.cn, "Rate limits").
    let value = headers.get("retry-after").or_else(|| headers.get("x-ogw-ratelimit-reset"));
    let value = value?.to_str().ok()?.trim();
    if let Ok(secs) = value.parse() {
        return Some(Duration::from_secs(secs));
    }
    let at = jiff::fmt::rfc2822::parse(value).ok()?;
    let now = headers.get("date").and_then(|date| date.to_str().ok());
    let now = now.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    let now = now.map_or_else(jiff::Timestamp::now, |now| now.timestamp());
    let secs = at.timestamp().as_second().saturating_sub(now.as_second());
    Some(Duration::from_secs(u64::try_from(secs).unwrap_or(0)))
}

/// Why a call failed, in words.
pub(crate) fn explain(error: &ureq::Error, timeout: Duration) -> String {
    match error {
        ureq::Error::Timeout(phase) => {
            format!("no answer within {} s ({phase})", timeout.as_secs())
        }
        ureq::Error::HostNotFound => "the host name is not known".to_owned(),
        other => crate::rt::thread::chain(other),
    }
}

fn certificates(pem: &[u8]) -> Vec<Certificate<'static>> {
    parse_pem(pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect()
}

/// The system's bundle. ureq takes either that or given certificates, so they are put together.
fn system_certificates() -> Vec<Certificate<'static>> {
    let bundle = openssl_probe::probe().cert_file.and_then(|path| std::fs::read(path).ok());
    bundle.map_or_else(Vec::new, |pem| certificates(&pem))
}
