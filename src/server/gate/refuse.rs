//! What the gate does not let in, and the answer that says why.

use tiny_http::{HTTPVersion, Header, Response, StatusCode};

use crate::base::ids::new_id;
use crate::base::limits::{
    HTTP_BODY_BYTES_MAX, HTTP_HEADER_BYTES_MAX, HTTP_REQUEST_SECS_MAX, HTTP_URL_BYTES_MAX,
};
use crate::base::logging;
use crate::server::api::answer::Answer;
use crate::server::api::reply::{ApiError, Code};

/// Seconds after which one that was turned away for want of room may come again.
const RETRY_AFTER_SECS: u64 = 1;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It breaks the protocol (400).
    Malformed(&'static str),
    /// It did not come in time (408).
    Slow,
    /// It has a body without a length (411).
    NoLength,
    /// Its body is over the limit (413).
    LargeBody,
    /// Its request line is over the limit (414).
    LongUrl,
    /// It expects what is not `100-continue` (417).
    Expectation,
    /// Its headers are over the limit (431).
    LargeHeaders,
    /// Its body comes in a coding that is not `chunked` (501).
    Coding,
    /// The queue for the workers is full (503).
    QueueFull,
    /// There are as many connections as there may be (503).
    Crowded,
    /// Its version is neither 1.0 nor 1.1 (505).
    Version,
}

impl Refusal {
    /// The value of the metrics' label `reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Expectation | Self::Coding | Self::Version => "malformed",
            Self::Slow => "slow",
            Self::NoLength => "no_length",
            Self::LargeBody | Self::LongUrl | Self::LargeHeaders => "too_large",
            Self::QueueFull => "queue_full",
            Self::Crowded => "connections",
        }
    }

    fn error(self) -> ApiError {
        let later = |message| ApiError {
            retry_after_secs: Some(RETRY_AFTER_SECS),
            ..ApiError::new(Code::Busy, message)
        };
        let large = |what, bytes: usize, status| {
            let message = format!("{what} must not have more than {bytes} bytes");
            ApiError::new(Code::TooLarge, message).with_status(status)
        };
        match self {
            Self::Malformed(message) => ApiError::bad(message),
            Self::Slow => {
                let secs = HTTP_REQUEST_SECS_MAX;
                ApiError::bad(format!("the request did not come within {secs} s")).with_status(408)
            }
            Self::NoLength => {
                ApiError::new(Code::LengthRequired, "the body needs a `Content-Length`")
            }
            Self::LargeBody => large("the body", HTTP_BODY_BYTES_MAX, 413),
            Self::LongUrl => large("the request line", HTTP_URL_BYTES_MAX, 414),
            Self::LargeHeaders => large("the headers", HTTP_HEADER_BYTES_MAX, 431),
            Self::Expectation => {
                ApiError::bad("`Expect` takes `100-continue` and nothing else").with_status(417)
            }
            Self::Coding => ApiError::bad("`Transfer-Encoding` takes `chunked` and nothing else")
                .with_status(501),
            Self::QueueFull => later("all workers are busy; come again"),
            Self::Crowded => later("there are too many connections; come again"),
            Self::Version => {
                ApiError::bad("HTTP/1.1 and HTTP/1.0 are spoken here").with_status(505)
            }
        }
    }

    /// The answer's bytes, which close the connection, and its status. `head_only` leaves the body
    /// out.
    pub fn render(self, client: &str, head_only: bool) -> (Vec<u8>, u16) {
        let trace_id = new_id();
        let answer = Answer::error(&self.error(), &trace_id);
        let status = answer.status;
        logging::with_context(&format!("trace={trace_id}"), || {
            log::debug!("refused a request of {client} with {status}: {}", self.error());
        });
        let mut bytes = Vec::new();
        let version = HTTPVersion::from((1, 1));
        // Writing into memory does not fail; if it did, the connection closes without an answer.
        if response(answer).raw_print(&mut bytes, version, &[], head_only, None).is_err() {
            bytes.clear();
        }
        (bytes, status)
    }
}

/// An answer as the HTTP library writes it.
pub fn response(answer: Answer) -> Response<std::io::Cursor<Vec<u8>>> {
    let mut response = Response::from_data(answer.body)
        .with_chunked_threshold(usize::MAX)
        .with_status_code(StatusCode(answer.status));
    for (name, value) in answer.headers {
        if let Ok(header) = Header::from_bytes(name, value) {
            response.add_header(header);
        }
    }
    response
}
