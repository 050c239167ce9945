//! The endpoint: HTTP with time limits, no redirects, and authorities of one's own.

use std::collections::HashMap;
use std::io::Read as _;
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
use crate::server::notify::channels::config::scrub;
use crate::server::notify::channels::url::mask_url;
use crate::server::notify::guard::{Guarded, Refused};
use crate::server::notify::message::cut;
use crate::server::notify::proxy::Proxies;
use crate::server::notify::timed::Timed;
use crate::server::notify::via::{Via, mask_proxy};

/// Proxies by their URL, for plain and for encrypted endpoints; or why one can't be used.
type ByProxy = HashMap<(String, bool), Result<Via, String>>;

/// What the senders share. Making one reads the authorities' files once.
pub(crate) struct Client {
    direct: Agent,
    proxies: Proxies,
    /// How each proxy is used.
    via: ByProxy,
    timeout: Duration,
    authorities: Vec<native_tls::Certificate>,
    mails: Arc<Timed>,
    denied: Denied,
}

/// What one attempt at one recipient gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// Why it failed; `None` when the endpoint took the message.
    pub error: Option<String>,
    /// No answer at all came: trying the next message at once makes no sense.
    pub unreachable: bool,
    /// Trying again can't help: this recipient is given up at once.
    pub permanent: bool,
    /// The message is larger than the endpoint takes: fewer alerts may fit.
    pub too_large: bool,
    /// The answer began and was cut off.
    pub broke_off: bool,
    /// How long the endpoint asks to be left alone.
    pub retry_after: Option<Duration>,
    /// The HTTP status, where there is one.
    pub http_status: Option<u16>,
    /// What was sent.
    pub request: String,
    /// What was answered.
    pub response: String,
    /// The endpoint's or the mail's id of the message.
    pub message_id: Option<String>,
    /// The endpoint's own error code.
    pub error_code: Option<String>,
}

impl Attempt {
    /// A failure before anything was sent.
    pub(crate) fn not_sent(error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), ..Self::default() }
    }

    /// The same with every secret masked.
    pub(crate) fn masked(mut self, secrets: &[String]) -> Self {
        self.error = self.error.map(|error| scrub(&error, secrets));
        self.request = scrub(&self.request, secrets);
        self.response = scrub(&self.response, secrets);
        self.message_id = self.message_id.map(|id| scrub(&id, secrets));
        self.error_code = self.error_code.map(|code| scrub(&code, secrets));
        self
    }

    /// An endpoint that takes one alert at a time is to be sent several.
    pub(crate) fn one_at_a_time() -> Self {
        Self { too_large: true, ..Self::not_sent("the endpoint takes one alert at a time") }
    }

    /// A body that has more bytes than the channel's limit.
    pub(crate) fn too_large(bytes: usize, bytes_max: usize) -> Self {
        let error = format!("the body has {bytes} bytes, more than the limit of {bytes_max}");
        Self { too_large: true, permanent: true, ..Self::not_sent(error) }
    }
}

/// An agent, and the proxy that it uses.
struct Route<'a> {
    agent: &'a Agent,
    proxy: Option<&'a Via>,
}

impl<'a> Route<'a> {
    fn direct(agent: &'a Agent) -> Self {
        Self { agent, proxy: None }
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

/// Bytes read of an answer before the rest is left alone.
const ANSWER_BYTES_READ: u64 = 64 * 1024;

impl Client {
    /// Calls that are given up when there is no answer within `timeout`, trusting the system's
    /// authorities and those in `ca_file`, through proxies as `outgoing` and the environment say,
    /// and never at an address that is denied. `mails` outlives a change of the configuration.
    ///
    /// # Errors
    ///
    /// When the file can't be read or holds no certificate, or `outgoing.proxy` can't be used.
    pub(crate) fn new(
        timeout: Duration,
        ca_file: Option<&Path>,
        outgoing: &Outgoing,
        mails: Arc<Timed>,
    ) -> Result<Self, String> {
        let mut roots = RootCerts::PlatformVerifier;
        let mut authorities = Vec::new();
        if let Some(path) = ca_file {
            let fail = |why: String| format!("notify.ca_file: {}: {why}", path.display());
            let pem = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
            let mut certificates = certificates(&pem);
            if certificates.is_empty() {
                return Err(fail("it holds no PEM certificate".to_owned()));
            }
            for certificate in &certificates {
                let authority = native_tls::Certificate::from_der(certificate.der())
                    .map_err(|error| fail(error.to_string()))?;
                authorities.push(authority);
            }
            certificates.extend(system_certificates());
            roots = RootCerts::Specific(Arc::new(certificates));
        }
        let tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(roots).build();
        let config = |proxy| {
            Agent::config_builder()
                .proxy(proxy)
                .timeout_global(Some(timeout))
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                // A kept connection that the endpoint has closed would look like a failure.
                .max_idle_connections(0)
                .user_agent(format!("oxmon/{VERSION}"))
                .tls_config(tls.clone())
                .build()
        };
        let denied = outgoing.denied();
        let proxies = Proxies::new(outgoing, |name| std::env::var(name).ok());
        let guarded = Guarded::new(denied.clone());
        let via = via_all(&proxies, &config, &guarded, outgoing.proxy.is_some())?;
        let direct = Agent::with_parts(config(None), DefaultConnector::default(), guarded);
        Ok(Self { direct, proxies, via, timeout, authorities, mails, denied })
    }

    /// How a URL is called.
    fn route(&self, url: &str) -> Result<Route<'_>, String> {
        let Some(proxy) = self.proxies.of(url) else { return Ok(Route::direct(&self.direct)) };
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

    /// The limit of each mail server's time.
    pub(crate) fn mails(&self) -> &Timed {
        &self.mails
    }

    /// The same, for a client of another configuration.
    pub(crate) fn shared_mails(&self) -> Arc<Timed> {
        Arc::clone(&self.mails)
    }

    /// Time for an HTTP call, or for one answer of a mail server.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Authorities to trust besides the system's, for mail.
    pub(crate) fn authorities(&self) -> &[native_tls::Certificate] {
        &self.authorities
    }

    /// POSTs a body. Any status but 2xx is a failure; a redirect is never followed, since the
    /// secrets in hand are meant for the address that was configured.
    pub(crate) fn post(&self, url: &str, headers: &[(String, String)], body: &str) -> Attempt {
        self.send("POST", url, headers, body)
    }

    /// PUTs a body; the rest is as for [`Client::post`].
    pub(crate) fn put(&self, url: &str, headers: &[(String, String)], body: &str) -> Attempt {
        self.send("PUT", url, headers, body)
    }

    fn send(&self, method: &str, url: &str, headers: &[(String, String)], body: &str) -> Attempt {
        let route = match self.route(url) {
            Ok(route) => route,
            Err(why) => return Attempt { permanent: true, ..Attempt::not_sent(why) },
        };
        let mut request =
            if method == "PUT" { route.agent.put(url) } else { route.agent.post(url) };
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(credentials) = route.proxy.and_then(|via| via.authorization.as_deref()) {
            request = request.header("Proxy-Authorization", credentials);
        }
        let mut outcome = Attempt { request: body.to_owned(), ..Attempt::default() };
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(error) => {
                if let Some(why) = Refused::of(&error) {
                    return Attempt { permanent: true, ..Attempt::not_sent(why) };
                }
                outcome.unreachable =
                    !matches!(error, ureq::Error::BadUri(_) | ureq::Error::Http(_));
                let said = explain(&error, self.timeout);
                outcome.error = Some(match route.proxy {
                    Some(via) => format!("{said} (through the proxy {})", via.name),
                    None => said,
                });
                return outcome;
            }
        };
        let status = response.status().as_u16();
        outcome.http_status = Some(status);
        outcome.retry_after = retry_after(response.headers());
        let mut bytes = Vec::new();
        let read = response.body_mut().as_reader().take(ANSWER_BYTES_READ).read_to_end(&mut bytes);
        outcome.response = String::from_utf8_lossy(&bytes).into_owned();
        outcome.permanent = is_permanent(status);
        outcome.too_large = status == 413;
        if (300..400).contains(&status) {
            let to = response.headers().get("location").and_then(|value| value.to_str().ok());
            let to = mask_url(to.unwrap_or("nowhere"));
            let to = cut(&to, 256);
            outcome.error = Some(format!(
                "the endpoint answered {status}, a redirect to {to}, which is not followed: \
                 configure the final address"
            ));
        } else if !(200..300).contains(&status) {
            outcome.error = Some(format!("the endpoint answered HTTP {status}"));
        } else if let Err(error) = read {
            // The status says that it was taken; sending it again would repeat it.
            outcome.broke_off = true;
            log::debug!("the endpoint answered {status} and broke off: {error}");
        }
        outcome
    }
}

/// Whether a status says that the same request never succeeds (RFC 9110): not so for time-outs,
/// conflicts in time, too many requests, and most faults of the server.
fn is_permanent(status: u16) -> bool {
    match status {
        408 | 421 | 423 | 425 | 429 => false,
        300..=499 | 501 | 505 | 508 | 510 => true,
        _ => false,
    }
}

/// The seconds of a `Retry-After`, or those until its date (RFC 9110, section 10.2.3).
fn retry_after(headers: &ureq::http::HeaderMap) -> Option<Duration> {
    let value = headers.get("retry-after")?.to_str().ok()?.trim();
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

fn explain(error: &ureq::Error, timeout: Duration) -> String {
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
