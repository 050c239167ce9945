//! Calls of the other servers of `[peers]`: JSON over their HTTP port, with the common token,
//! a deadline, and a bound on the answer.

use std::io::Read as _;
use std::time::Duration;

use parking_lot::RwLock;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::limits::PEERS_ANSWER_BYTES_MAX;
use crate::server::config::{Outgoing, ServerConfig};
use crate::server::outgoing::{Caller, Refused, Settings, Trust, explain};
use crate::server::peers::Sister;

/// Time for a call that names none of its own.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Connections kept for the next call, for each server.
const IDLE_PER_SISTER: usize = 4;
/// Characters of a refusal that are shown.
const SHOWN_CHARS: usize = 300;

/// Why another server gave no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerError {
    /// It did not take the request, or gave no answer. Where `sent` is set, it may have done what
    /// it was asked.
    #[error("{why}")]
    Away {
        /// Why, in words.
        why: String,
        /// Whether the request may have arrived.
        sent: bool,
    },
    /// It answered with an error.
    #[error("HTTP {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its own sentence, cut to a line.
        message: String,
    },
    /// Its answer is too large, or not what was expected.
    #[error("{0}")]
    Unusable(String),
}

/// Makes the calls. One for the process.
pub(crate) struct PeerClient {
    caller: Caller,
    token: RwLock<String>,
}

impl PeerClient {
    /// As `[peers]` and `outgoing.deny` say; never through a proxy.
    ///
    /// # Errors
    ///
    /// When the file of authorities can't be used.
    pub(super) fn new(config: &ServerConfig) -> Result<Self, String> {
        let peers = &config.peers;
        let settings = Settings {
            timeout: ANSWER_WITHIN,
            roots: Trust::read("peers.ca_file", peers.ca_file.as_deref())?.roots,
            is_verified: true,
            idle_connections: peers.sisters.len() * IDLE_PER_SISTER,
        };
        // Sisters are reached directly: a proxy would see every secret.
        let outgoing = Outgoing { proxy: Some("none".to_owned()), ..config.outgoing.clone() };
        let caller = Caller::new(&settings, &outgoing)?;
        let token = RwLock::new(peers.token.clone().unwrap_or_default());
        Ok(Self { caller, token })
    }

    /// Uses the token of a configuration that was read again.
    pub(super) fn reload(&self, token: &str) {
        token.clone_into(&mut self.token.write());
    }

    /// Gets `path`, which begins with `/v1/peers/`, within `within` from the first byte sent to
    /// the last one read.
    ///
    /// # Errors
    ///
    /// When the server is away, refuses, or its answer is not of the type `T`.
    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        sister: &Sister,
        path: &str,
        within: Duration,
    ) -> Result<T, PeerError> {
        let url = sister.url(path);
        let route = self.caller.route(&url).map_err(unreachable)?;
        let request = route.agent.get(&url).header("Authorization", self.bearer());
        let request = request.config().timeout_global(Some(within)).build();
        parse(answer(request.call(), within, PEERS_ANSWER_BYTES_MAX)?)
    }

    /// Posts `body` as JSON to `path`, which begins with `/v1/peers/`.
    ///
    /// # Errors
    ///
    /// When the server is away, refuses, or its answer is not of the type `T`.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        sister: &Sister,
        path: &str,
        body: &impl Serialize,
        within: Duration,
    ) -> Result<T, PeerError> {
        let url = sister.url(path);
        let route = self.caller.route(&url).map_err(unreachable)?;
        let text = serde_json::to_vec(body)
            .map_err(|error| PeerError::Unusable(format!("the request can't be sent: {error}")))?;
        let request = route.agent.post(&url).header("Authorization", self.bearer());
        let request = request.header("Content-Type", "application/json");
        let request = request.config().timeout_global(Some(within)).build();
        parse(answer(request.send(&text), within, PEERS_ANSWER_BYTES_MAX)?)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token.read())
    }
}

fn unreachable(why: String) -> PeerError {
    PeerError::Away { why, sent: false }
}

/// The body of a 200, or what went wrong.
fn answer(
    outcome: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    within: Duration,
    bytes_max: u64,
) -> Result<Vec<u8>, PeerError> {
    let mut response = outcome.map_err(|error| {
        let why = Refused::of(&error).unwrap_or_else(|| explain(&error, within));
        PeerError::Away { why, sent: !is_before_sending(&error) }
    })?;
    let status = response.status().as_u16();
    let most = if status == 200 { bytes_max } else { bytes_max.min(64 * 1024) };
    let mut bytes = Vec::new();
    let read = response.body_mut().as_reader().take(most + 1).read_to_end(&mut bytes);
    if bytes.len() as u64 > most {
        return Err(PeerError::Unusable(format!("the answer has over {most} bytes")));
    }
    if status == 200 {
        let broke_off =
            |error| PeerError::Away { why: format!("the answer broke off: {error}"), sent: true };
        return read.map(|_| bytes).map_err(broke_off);
    }
    Err(PeerError::Refused { status, message: message_of(&bytes) })
}

/// Whether the server can't have seen the request.
fn is_before_sending(error: &ureq::Error) -> bool {
    use ureq::{Error, Timeout};
    match error {
        Error::HostNotFound | Error::ConnectionFailed | Error::Tls(_) | Error::BadUri(_) => true,
        Error::Timeout(at) => matches!(at, Timeout::Resolve | Timeout::Connect),
        Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        error => Refused::of(error).is_some(),
    }
}

/// The sentence of a refusal, printable and cut.
fn message_of(bytes: &[u8]) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    let said = value.as_ref().and_then(|value| value.get("err_msg")?.as_str());
    let text = said.map_or_else(|| String::from_utf8_lossy(bytes).into_owned(), str::to_owned);
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect()
}

fn parse<T: DeserializeOwned>(bytes: Vec<u8>) -> Result<T, PeerError> {
    serde_json::from_slice(&bytes)
        .map_err(|error| PeerError::Unusable(format!("the answer can't be used: {error}")))
}
