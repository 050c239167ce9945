//! The answers to what the gate refuses, in the envelope of every other answer.

use tiny_http::HTTPVersion;

use crate::base::ids::new_id;
use crate::base::limits::{HTTP_HEADER_BYTES_MAX, HTTP_REQUEST_SECS_MAX, HTTP_URL_BYTES_MAX};
use crate::base::logging;
use crate::server::api::answer::Answer;
use crate::server::api::reply::{ApiError, Code};
use crate::server::gate::http::refusal::Refusal;

/// `Retry-After` of what is refused for want of room, seconds.
const RETRY_AFTER_SECS: u64 = 1;

/// The answer's bytes and its status. `head_only` leaves the body out.
pub(crate) fn render(refusal: Refusal, client: &str, head_only: bool) -> (Vec<u8>, u16) {
    let trace_id = new_id();
    let error = error(refusal);
    let answer = Answer::error(&error, &trace_id);
    let status = answer.status;
    logging::with_context(&format!("trace={trace_id}"), || {
        log::debug!("refused a request of {client} with {status}: {error}");
    });
    let mut bytes = Vec::new();
    let version = HTTPVersion::from((1, 1));
    // Writing into memory does not fail; if it did, the connection closes without an answer.
    if answer.into_response().raw_print(&mut bytes, version, &[], head_only, None).is_err() {
        bytes.clear();
    }
    (bytes, status)
}

fn error(refusal: Refusal) -> ApiError {
    let later = |message| ApiError {
        retry_after_secs: Some(RETRY_AFTER_SECS),
        ..ApiError::new(Code::Busy, message)
    };
    let large = |what, bytes: usize, status| {
        let message = format!("{what} must not have more than {bytes} bytes");
        ApiError::new(Code::TooLarge, message).with_status(status)
    };
    match refusal {
        Refusal::Malformed(message) => ApiError::bad(message),
        Refusal::Slow => {
            let secs = HTTP_REQUEST_SECS_MAX;
            ApiError::bad(format!("the request did not arrive within {secs} s")).with_status(408)
        }
        Refusal::NoLength => {
            ApiError::new(Code::LengthRequired, "the body needs a `Content-Length`")
        }
        Refusal::LargeBody(max) => large("the body", max, 413),
        Refusal::LongUrl => large("the request line", HTTP_URL_BYTES_MAX, 414),
        Refusal::LargeHeaders => large("the headers", HTTP_HEADER_BYTES_MAX, 431),
        Refusal::Expectation => {
            ApiError::bad("`Expect` takes `100-continue` and nothing else").with_status(417)
        }
        Refusal::Coding => {
            ApiError::bad("`Transfer-Encoding` takes `chunked` and nothing else").with_status(501)
        }
        Refusal::QueueFull => later("server busy, retry later"),
        Refusal::AddressShare => later("too many requests of this address, retry later"),
        Refusal::Crowded => later("too many connections, retry later"),
        Refusal::Version => {
            ApiError::bad("only HTTP/1.0 and HTTP/1.1 are supported").with_status(505)
        }
    }
}
