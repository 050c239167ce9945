//! The engine over HTTP: one write, one read, and what the answer means.

use std::io::Read as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::base::limits::REMOTE_ANSWER_BYTES_MAX;
use crate::server::config::ServerConfig;
use crate::server::outgoing::{Caller, Refused, Route, Settings, Trust, explain, retry_after};

/// Bytes of a refusal that are read.
const REFUSAL_BYTES_MAX: u64 = 4 * 1024;

/// Makes the calls of one engine, or of all nodes of a ring.
pub(crate) struct Http {
    caller: Caller,
    headers: Vec<(String, String)>,
    timeout: Duration,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Posted {
    /// All of it was taken.
    Taken,
    /// It was refused, and would be again: something in it is wrong.
    Refused(String),
    /// It is larger than the engine takes.
    TooLarge(String),
    /// The engine failed, maybe over something in it.
    Failed(String),
    /// Not now: too many requests, or it is about to be back.
    Later(String, Option<Duration>),
    /// No answer came.
    Away(String),
    /// The engine refuses whoever asks: the configuration is wrong, not the samples.
    Misconfigured(String),
}

impl Http {
    /// As `[remote]` and `[outgoing]` say.
    ///
    /// # Errors
    ///
    /// When a file of authorities or a proxy can't be used.
    pub(crate) fn new(config: &ServerConfig) -> Result<Self, String> {
        let remote = &config.remote;
        let trust = Trust::read("remote.ca_file", remote.ca_file.as_deref())?;
        let timeout = Duration::from_secs(remote.timeout_secs);
        let settings = Settings {
            timeout,
            roots: trust.roots,
            is_verified: !remote.insecure_tls,
            // One request under way for each shard, and some reads beside them.
            idle_connections: (remote.shards + 2) * remote.write_urls.len().max(1),
        };
        let caller = Caller::new(&settings, &config.outgoing)?;
        let mut headers: Vec<(String, String)> =
            remote.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        if let Some(token) = &remote.bearer_token {
            headers.push(("Authorization".to_owned(), format!("Bearer {token}")));
        } else if let (Some(user), Some(password)) = (&remote.username, &remote.password) {
            let pair = STANDARD.encode(format!("{user}:{password}"));
            headers.push(("Authorization".to_owned(), format!("Basic {pair}")));
        }
        Ok(Self { caller, headers, timeout })
    }

    fn with_headers<B>(
        &self,
        mut request: ureq::RequestBuilder<B>,
        route: &Route<'_>,
    ) -> ureq::RequestBuilder<B> {
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(credentials) = route.proxy.and_then(|via| via.authorization.as_deref()) {
            request = request.header("Proxy-Authorization", credentials);
        }
        request
    }

    /// Why a call gave no answer, with the proxy where it went through one.
    fn why(&self, error: &ureq::Error, route: &Route<'_>) -> String {
        let said = explain(error, self.timeout);
        match route.proxy {
            Some(via) => format!("{said} (through the proxy {})", via.name),
            None => said,
        }
    }

    /// Sends a remote write 1.0 request.
    pub(crate) fn write(&self, url: &str, packed: &[u8]) -> Posted {
        let route = match self.caller.route(url) {
            Ok(route) => route,
            Err(why) => return Posted::Misconfigured(why),
        };
        let request = self
            .with_headers(route.agent.post(url), &route)
            .header("Content-Type", "application/x-protobuf")
            .header("Content-Encoding", "snappy")
            .header("X-Prometheus-Remote-Write-Version", "0.1.0");
        let mut response = match request.send(packed) {
            Ok(response) => response,
            Err(error) => {
                return match Refused::of(&error) {
                    Some(why) => Posted::Misconfigured(why),
                    None => Posted::Away(self.why(&error, &route)),
                };
            }
        };
        let status = response.status().as_u16();
        let wait = retry_after(response.headers());
        let mut bytes = Vec::new();
        // Reading to the end lets the connection be used again.
        let body = response.body_mut().as_reader();
        let read = body.take(REFUSAL_BYTES_MAX).read_to_end(&mut bytes);
        if (200..300).contains(&status) {
            // An answer that breaks off was given all the same.
            drop(read);
            return Posted::Taken;
        }
        let said = String::from_utf8_lossy(&bytes);
        let said: String = said.trim().chars().take(300).collect();
        posted(status, format!("HTTP {status}: {said}"), wait)
    }

    /// The `data` of a query of Prometheus' HTTP API: `base` is the URL before `/api/v1/…`.
    ///
    /// # Errors
    ///
    /// Why there is no answer, in words.
    pub(crate) fn query(
        &self,
        base: &str,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Value, String> {
        let url = format!("{}{path}", base.trim_end_matches('/'));
        let route = self.caller.route(&url)?;
        let request = self.with_headers(route.agent.post(&url), &route);
        let mut response = request
            .send_form(parameters.iter().copied())
            .map_err(|error| Refused::of(&error).unwrap_or_else(|| self.why(&error, &route)))?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        let body = response.body_mut().as_reader();
        let read = body.take(REMOTE_ANSWER_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| format!("the answer broke off: {error}"))?;
        if bytes.len() as u64 > REMOTE_ANSWER_BYTES_MAX {
            return Err(format!("the answer has over {REMOTE_ANSWER_BYTES_MAX} bytes"));
        }
        let answer: Option<Value> = serde_json::from_slice(&bytes).ok();
        let said = |answer: &Value| answer["error"].as_str().unwrap_or_default().to_owned();
        match answer {
            Some(mut answer) if status == 200 && answer["status"] == "success" => {
                if answer["isPartial"] == true {
                    return Err("the answer is partial: a node of the engine is away".to_owned());
                }
                Ok(answer["data"].take())
            }
            Some(answer) => Err(format!("HTTP {status}: {:.300}", said(&answer))),
            None => Err(format!("HTTP {status}, and the answer is not JSON")),
        }
    }
}

fn posted(status: u16, said: String, wait: Option<Duration>) -> Posted {
    match status {
        400 | 406 | 409 | 422 => Posted::Refused(said),
        413 => Posted::TooLarge(said),
        408 | 425 | 429 | 502 | 503 | 504 => Posted::Later(said, wait),
        300..=499 | 501 | 505 => Posted::Misconfigured(said),
        _ => Posted::Failed(said),
    }
}
