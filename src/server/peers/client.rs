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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use serde_json::Value;

    use super::*;
    use crate::base::configfile::Source;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    /// What a call gives where the server answers with these bytes, and then hangs or ends.
    fn call(answer: &[u8], hangs: bool) -> Result<Value, PeerError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let text = format!(
            "[peers]\nname = 'a'\nhome = 'a'\ntoken = '{TOKEN}'\nsisters = {{ b = '{url}' }}"
        );
        let config = ServerConfig::from_source(&Source::embedded("s.toml", &text)).unwrap();
        let client = PeerClient::new(&config).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 1_024];
                let read = stream.read(&mut head).unwrap();
                let head = String::from_utf8_lossy(&head[..read]).to_lowercase();
                assert!(head.contains(&format!("authorization: bearer {TOKEN}")), "{head}");
                // Whoever has read enough closes the connection.
                let _ = stream.write_all(answer);
                if hangs {
                    let _ = stream.read(&mut [0]);
                }
            });
            client.get(&Sister::new("b", &url), "/v1/peers/hello", Duration::from_secs(2))
        })
    }

    fn ok(body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    #[test]
    fn an_answer_is_taken_whole_and_small_or_not_at_all() {
        assert_eq!(call(&ok(b"{\"a\":1}"), false).unwrap()["a"], 1);
        assert!(matches!(call(&ok(b"{\"a\":"), false), Err(PeerError::Unusable(_))));
        let broken = call(&ok(b"{\"a\":1}")[..42], false).unwrap_err();
        assert!(matches!(broken, PeerError::Away { sent: true, .. }), "{broken}");
        let silent = call(b"", true).unwrap_err();
        assert!(matches!(silent, PeerError::Away { sent: true, .. }), "{silent}");
        let refusal = b"HTTP/1.1 401 X\r\nContent-Length: 18\r\n\r\n{\"err_msg\":\"no\\n\"}";
        let refused = call(refusal, false).unwrap_err();
        assert_eq!(refused.to_string(), "HTTP 401: no");
        let large = vec![b' '; PEERS_ANSWER_BYTES_MAX as usize + 9];
        let large = call(&ok(&large), false).unwrap_err();
        assert!(large.to_string().contains("has over"), "{large}");
        let endless =
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n";
        let elsewhere = call(endless, false).unwrap_err();
        assert!(matches!(elsewhere, PeerError::Refused { status: 302, .. }), "{elsewhere}");
    }

    #[test]
    fn nothing_was_sent_where_nobody_listens() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}");
        let text = format!(
            "[peers]\nname = 'a'\nhome = 'a'\ntoken = '{TOKEN}'\nsisters = {{ b = '{url}' }}"
        );
        let config = ServerConfig::from_source(&Source::embedded("s.toml", &text)).unwrap();
        let client = PeerClient::new(&config).unwrap();
        let sister = Sister::new("b", &url);
        let outcome = client.post::<Value>(&sister, "/v1/peers/change", &1, ANSWER_WITHIN);
        let error = outcome.unwrap_err();
        assert!(matches!(error, PeerError::Away { sent: false, .. }), "{error:?}");
    }
}
