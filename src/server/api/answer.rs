//! An answer as it goes over the wire: status, headers, bytes.

use std::io::{Cursor, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde_json::value::RawValue;
use tiny_http::{Header, Response, StatusCode};

use crate::server::api::prom_error;
use crate::server::api::reply::{ApiError, Body, Code, Reply};
use crate::server::api::request::Incoming;

/// Bodies below this stay as they are: gzip gains nothing on them.
const GZIP_BYTES_MIN: usize = 1_024;
const JSON: &str = "application/json";
/// What a browser may do with a file: run and show what this server sent, and nothing else. A form
/// is never sent by the browser itself, so that a password can't end up in a URL; text never
/// becomes markup; no other site frames a page.
const FILE_HEADERS: [(&str, &str); 4] = [
    (
        "Content-Security-Policy",
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         object-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
];

/// What is written to the client.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Header names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    err_code: u16,
    err_msg: &'a str,
    trace_id: &'a str,
    data: &'a RawValue,
}

impl Answer {
    /// The answer to `incoming`.
    pub(crate) fn of(
        outcome: Result<Reply, ApiError>,
        trace_id: &str,
        incoming: &Incoming,
    ) -> Self {
        let mut answer = match outcome {
            Ok(reply) => Self::success(reply, trace_id, incoming.if_none_match.as_deref()),
            Err(error) if prom_error::is_of(&incoming.target) => {
                return Self::refusal(&error, trace_id, prom_error::error_body(&error));
            }
            Err(error) => return Self::error(&error, trace_id),
        };
        answer.compress(incoming.gzip);
        answer
    }

    /// The answer that an error becomes.
    pub(crate) fn error(error: &ApiError, trace_id: &str) -> Self {
        let body = envelope(error.code as u16, &error.message, trace_id, RawValue::NULL);
        Self::refusal(error, trace_id, body)
    }

    fn refusal(error: &ApiError, trace_id: &str, body: Vec<u8>) -> Self {
        let mut answer = Self::json(error.http_status(), trace_id, body);
        if let Some(secs) = error.retry_after_secs {
            answer.headers.push(("Retry-After", secs.to_string()));
        }
        if let Some(allow) = &error.allow {
            answer.headers.push(("Allow", allow.clone()));
        }
        if matches!(error.code, Code::Unauthenticated | Code::TokenExpired) {
            answer.headers.push(("WWW-Authenticate", "Bearer".to_owned()));
        }
        answer
    }

    fn success(reply: Reply, trace_id: &str, if_none_match: Option<&str>) -> Self {
        let (content_type, bytes, etag) = match reply.body {
            Body::Data(data) => {
                let mut answer =
                    Self::json(reply.status, trace_id, envelope(0, "success", trace_id, &data));
                if let Some(total) = reply.total {
                    answer.headers.push(("X-Total-Count", total.to_string()));
                }
                answer.headers.extend(reply.headers);
                return answer;
            }
            Body::Raw { content_type, bytes, etag } => (content_type, bytes, etag),
        };
        let mut headers = common(trace_id);
        headers.push(("Content-Type", content_type.to_owned()));
        let Some(etag) = etag else {
            headers.push(("Cache-Control", "no-store".to_owned()));
            headers.extend(reply.headers);
            return Self { status: reply.status, headers, body: bytes.into_owned() };
        };
        let etag = format!("\"{etag}\"");
        // The browser keeps the file and asks each time whether it is still the one.
        headers.push(("Cache-Control", "no-cache".to_owned()));
        headers.extend(FILE_HEADERS.map(|(name, value)| (name, value.to_owned())));
        headers.push(("ETag", etag.clone()));
        if if_none_match.is_some_and(|tags| names_tag(tags, &etag)) {
            return Self { status: 304, headers, body: Vec::new() };
        }
        Self { status: reply.status, headers, body: bytes.into_owned() }
    }

    fn json(status: u16, trace_id: &str, body: Vec<u8>) -> Self {
        let mut headers = common(trace_id);
        headers.push(("Content-Type", JSON.to_owned()));
        headers.push(("Cache-Control", "no-store".to_owned()));
        Self { status, headers, body }
    }

    /// The answer as the HTTP library writes it.
    pub(crate) fn into_response(self) -> Response<Cursor<Vec<u8>>> {
        let mut response = Response::from_data(self.body)
            .with_chunked_threshold(usize::MAX)
            .with_status_code(StatusCode(self.status));
        for (name, value) in self.headers {
            if let Ok(header) = Header::from_bytes(name, value) {
                response.add_header(header);
            }
        }
        response
    }

    fn compress(&mut self, wanted: bool) {
        if self.body.len() < GZIP_BYTES_MIN {
            return;
        }
        self.headers.push(("Vary", "Accept-Encoding".to_owned()));
        if !wanted {
            return;
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let packed = encoder.write_all(&self.body).and_then(|()| encoder.finish());
        // Writing into memory does not fail; if it did, the body goes as it is.
        if let Ok(packed) = packed {
            self.body = packed;
            self.headers.push(("Content-Encoding", "gzip".to_owned()));
        }
    }
}

fn common(trace_id: &str) -> Vec<(&'static str, String)> {
    vec![("X-Trace-Id", trace_id.to_owned()), ("X-Content-Type-Options", "nosniff".to_owned())]
}

fn envelope(err_code: u16, err_msg: &str, trace_id: &str, data: &RawValue) -> Vec<u8> {
    // Plain data always serialises.
    serde_json::to_vec(&Envelope { err_code, err_msg, trace_id, data }).unwrap_or_default()
}

fn names_tag(list: &str, etag: &str) -> bool {
    list.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

/// Whether an `Accept-Encoding` takes gzip.
pub(crate) fn takes_gzip(header: &str) -> bool {
    header.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or("");
        let refused = parts
            .any(|part| part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0));
        (name.eq_ignore_ascii_case("gzip") || name == "*") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_where_it_is_offered() {
        assert!(takes_gzip("gzip, deflate, br"));
        assert!(takes_gzip("deflate, GZIP;q=0.5"));
        assert!(takes_gzip("*"));
        assert!(!takes_gzip("gzip;q=0"));
        assert!(!takes_gzip("identity"));
        assert!(!takes_gzip(""));
    }

    #[test]
    fn a_file_that_the_client_has_is_not_sent_again() {
        let reply = || Reply {
            status: 200,
            body: Body::Raw {
                content_type: "text/css",
                bytes: vec![b'x'; 4_000].into(),
                etag: Some("abc".to_owned()),
            },
            total: None,
            headers: Vec::new(),
        };
        let ask = |tag: Option<&str>, gzip| {
            let incoming =
                Incoming { if_none_match: tag.map(str::to_owned), gzip, ..Incoming::default() };
            Answer::of(Ok(reply()), "t", &incoming)
        };
        assert_eq!(ask(None, false).body.len(), 4_000);
        assert!(ask(None, true).body.len() < 400);
        assert_eq!(ask(Some("\"abd\""), false).status, 200);
        let again = ask(Some("W/\"abc\", \"x\""), true);
        assert_eq!((again.status, again.body.len()), (304, 0));
    }
}
