//! The endpoint of a notification: one call, and what its answer says.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::server::config::Outgoing;
use crate::server::config::outgoing::Denied;
use crate::server::notify::channels::config::scrub;
use crate::server::notify::channels::url::mask_url;
use crate::server::notify::message::cut;
use crate::server::notify::timed::Timed;
use crate::server::outgoing::{Caller, Refused, Settings, Trust, explain, retry_after};

/// What the senders share. Making one reads the authorities' files once.
pub(crate) struct Client {
    caller: Caller,
    timeout: Duration,
    authorities: Vec<native_tls::Certificate>,
    mails: Arc<Timed>,
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
        let trust = Trust::read("notify.ca_file", ca_file)?;
        let settings = Settings {
            timeout,
            roots: trust.roots,
            is_verified: true,
            // A kept connection that the endpoint has closed would look like a failure.
            idle_connections: 0,
        };
        let caller = Caller::new(&settings, outgoing)?;
        Ok(Self { caller, timeout, authorities: trust.authorities, mails })
    }

    /// Addresses that must not be connected to.
    pub(crate) fn denied(&self) -> &Denied {
        self.caller.denied()
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
        let route = match self.caller.route(url) {
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
