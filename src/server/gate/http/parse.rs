//! The head of a request, from the first byte to the empty line: found byte by byte under the
//! limits, then read strictly. Whatever two programs could read in two ways is refused, so that
//! nothing gets through as part of something else (RFC 9112).

use super::refusal::Refusal;
use crate::base::limits::{
    HTTP_BODY_BYTES_MAX, HTTP_HEADER_BYTES_MAX, HTTP_SAMPLES_BYTES_MAX, HTTP_URL_BYTES_MAX,
    PEERS_REQUEST_BYTES_MAX,
};

/// Headers that are passed on to the workers, in lower case. All others are dropped, so that a
/// client cannot send what the gate adds.
pub(crate) const PASSED: [&str; 8] = [
    "accept-encoding",
    "authorization",
    "content-type",
    "cookie",
    "if-none-match",
    "origin",
    "sec-fetch-site",
    "x-oxmon-page",
];

/// Paths whose bodies are samples in bulk.
const LARGE: [&str; 3] = ["/api/v1/write", "/api/v1/otlp/", "/api/v1/influx/"];

/// What the paths begin with by which servers of `[peers]` speak to each other.
pub(crate) const PEERS: &str = "/v1/peers/";

/// Passed headers that must not be repeated; values of the others are joined.
const SINGLE: [&str; 6] =
    ["authorization", "content-type", "cookie", "origin", "sec-fetch-site", "x-oxmon-page"];

/// How the body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No body.
    Empty,
    /// A body of so many bytes.
    Length(usize),
    /// In chunks, each with its own length.
    Chunked,
}

/// What proxies on the way say of the client: the values of both headers, their lines joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hops {
    /// Of `X-Forwarded-For`.
    pub(crate) x_forwarded_for: String,
    /// Of `Forwarded` (RFC 7239).
    pub(crate) forwarded: String,
}

impl Hops {
    fn add(list: &mut String, value: &[u8]) {
        if !list.is_empty() {
            list.push(',');
        }
        // Whoever sends it: what is not ASCII names no address, and refuses no request.
        list.push_str(&String::from_utf8_lossy(value));
    }
}

/// A parsed head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// The method as it was sent.
    pub(crate) method: String,
    /// Path and query as they were sent.
    pub(crate) target: String,
    /// The headers of [`PASSED`] that it has.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The host that the request is for: of the target, or else of `Host`.
    pub(crate) host: Option<String>,
    /// The client's address, as proxies say it.
    pub(crate) hops: Hops,
    /// How the body is framed.
    pub(crate) framing: Framing,
    /// Bytes that the body may have.
    pub(crate) body_max: usize,
    /// Whether the version is 1.0.
    pub(crate) is_http_1_0: bool,
    /// Whether another request may follow on the connection.
    pub(crate) keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
}

impl Head {
    /// Whether the answer is sent without its body.
    pub(crate) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }
}

/// Finds the end of a head, looking at each byte once.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    at: usize,
    /// Bytes of the request line with its end, once it has arrived.
    line: Option<usize>,
    /// Where the current line began.
    line_from: usize,
}

impl Scanner {
    /// The length of the head when `input` holds all of it.
    ///
    /// # Errors
    ///
    /// When a part is over its limit, or no head can have such a byte.
    pub(crate) fn scan(&mut self, input: &[u8]) -> Result<Option<usize>, Refusal> {
        while let Some(&byte) = input.get(self.at) {
            let after_cr = self.at > 0 && input.get(self.at - 1) == Some(&b'\r');
            match byte {
                b'\n' if after_cr => {
                    let empty = self.at - self.line_from == 1;
                    self.at += 1;
                    self.line_from = self.at;
                    if empty {
                        return Ok(Some(self.at));
                    }
                    self.line.get_or_insert(self.at);
                    continue;
                }
                b'\n' => return Err(Refusal::Malformed("a line must end with CR and LF")),
                _ if after_cr => return Err(Refusal::Malformed("a CR must be followed by an LF")),
                b'\r' | b'\t' | b' '..=b'~' | 0x80.. => {}
                _ => return Err(Refusal::Malformed("a head must not hold control bytes")),
            }
            self.at += 1;
            match self.line {
                None if self.at > HTTP_URL_BYTES_MAX => return Err(Refusal::LongUrl),
                Some(line) if self.at - line > HTTP_HEADER_BYTES_MAX => {
                    return Err(Refusal::LargeHeaders);
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// Headers that the gate itself acts on.
#[derive(Default)]
struct GateHeaders {
    host: Option<String>,
    hops: Hops,
    length: Option<String>,
    coding: Option<String>,
    close: bool,
    keep_alive: bool,
    expect: Option<String>,
}

/// Parses a head whose end [`Scanner`] found.
///
/// # Errors
///
/// When it breaks the protocol, or asks for what is not served.
pub(crate) fn parse(head: &[u8]) -> Result<Head, Refusal> {
    let mut lines =
        head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (method, (target, authority), minor) = request_line(lines.next().unwrap_or_default())?;
    let mut headers: Vec<(&'static str, String)> = Vec::new();
    let mut gate = GateHeaders::default();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = header(line)?;
        let passed = PASSED.iter().find(|known| name.eq_ignore_ascii_case(known));
        match passed {
            Some(known) => pass(&mut headers, known, value)?,
            None => note(&mut gate, &name, value)?,
        }
    }
    let is_http_1_0 = minor == 0;
    if gate.host.is_none() && !is_http_1_0 {
        return Err(Refusal::Malformed("the header `Host` is missing"));
    }
    let has_type = headers.iter().any(|(name, _)| *name == "content-type");
    let body_max = body_max(&target);
    let framing = framing(&method, &gate, is_http_1_0, has_type, body_max)?;
    let expects_continue = match gate.expect.as_deref() {
        Some(value) if value.eq_ignore_ascii_case("100-continue") => !is_http_1_0,
        Some(_) => return Err(Refusal::Expectation),
        None => false,
    };
    let keep_alive = !gate.close && (!is_http_1_0 || gate.keep_alive);
    let host = authority.or(gate.host);
    Ok(Head {
        method,
        target,
        headers,
        host,
        hops: gate.hops,
        framing,
        body_max,
        is_http_1_0,
        keep_alive,
        expects_continue,
    })
}

/// Path and query, and the host of a target that is a whole URL.
type Target = (String, Option<String>);

fn request_line(line: &[u8]) -> Result<(String, Target, u8), Refusal> {
    let malformed = Refusal::Malformed("the first line must be `METHOD /path HTTP/1.1`");
    let line = std::str::from_utf8(line).ok().filter(|line| line.is_ascii());
    let line = line.ok_or(Refusal::Malformed("the URL must be percent-encoded"))?;
    let mut parts = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed);
    };
    let Some(version) = version.strip_prefix("HTTP/") else { return Err(malformed) };
    let minor = match version.as_bytes() {
        b"1.0" => 0,
        b"1.1" => 1,
        [b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(Refusal::Version),
        _ => return Err(malformed),
    };
    if !is_token(method.as_bytes()) || target.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(malformed);
    }
    Ok((method.to_owned(), origin_form(method, target).ok_or(malformed)?, minor))
}

/// Path and query of a target: proxies' clients send the whole URL, whose host goes before `Host`
/// (RFC 9112, section 3.2.2).
fn origin_form(method: &str, target: &str) -> Option<Target> {
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Some((target.to_owned(), None));
    }
    let scheme = target.find("://").filter(|at| {
        let scheme = &target[..*at];
        scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
    })?;
    let rest = &target[scheme + 3..];
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let path = &rest[authority..];
    if authority == 0 {
        return None;
    }
    let host = rest[..authority].to_owned();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Some((path, Some(host)))
}

fn header(line: &[u8]) -> Result<(String, &[u8]), Refusal> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::Malformed("a header must be on one line"));
    }
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = line.split_at(colon.unwrap_or(0));
    if !is_token(name) {
        return Err(Refusal::Malformed("a header must be `Name: value`"));
    }
    let value = value[1..].trim_ascii();
    Ok((String::from_utf8_lossy(name).into_owned(), value))
}

fn pass(
    headers: &mut Vec<(&'static str, String)>,
    name: &'static str,
    value: &[u8],
) -> Result<(), Refusal> {
    let value = ascii(value)?;
    match headers.iter_mut().find(|(known, _)| *known == name) {
        None => headers.push((name, value)),
        Some(_) if SINGLE.contains(&name) => return Err(twice()),
        Some((_, first)) => *first = format!("{first}, {value}"),
    }
    Ok(())
}

fn note(gate: &mut GateHeaders, name: &str, value: &[u8]) -> Result<(), Refusal> {
    let once = |slot: &mut Option<String>| {
        let before = slot.replace(ascii(value)?);
        if before.is_some() { Err(twice()) } else { Ok(()) }
    };
    match name.to_ascii_lowercase().as_str() {
        "host" => once(&mut gate.host),
        "content-length" => once(&mut gate.length),
        "transfer-encoding" => once(&mut gate.coding),
        "expect" => once(&mut gate.expect),
        "x-forwarded-for" => {
            Hops::add(&mut gate.hops.x_forwarded_for, value);
            Ok(())
        }
        "forwarded" => {
            Hops::add(&mut gate.hops.forwarded, value);
            Ok(())
        }
        "connection" => {
            for option in ascii(value)?.split(',').map(str::trim) {
                gate.close |= option.eq_ignore_ascii_case("close");
                gate.keep_alive |= option.eq_ignore_ascii_case("keep-alive");
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Bytes that a body may have: those with samples have more than others.
fn body_max(target: &str) -> usize {
    let path = target.split('?').next().unwrap_or_default();
    let is_large = LARGE.iter().any(|large| path.starts_with(large));
    if path.starts_with(PEERS) {
        PEERS_REQUEST_BYTES_MAX
    } else if is_large {
        HTTP_SAMPLES_BYTES_MAX
    } else {
        HTTP_BODY_BYTES_MAX
    }
}

fn framing(
    method: &str,
    gate: &GateHeaders,
    is_http_1_0: bool,
    has_type: bool,
    body_max: usize,
) -> Result<Framing, Refusal> {
    match (&gate.length, &gate.coding) {
        (Some(_), Some(_)) => {
            Err(Refusal::Malformed("the body must have one length, not two kinds of it"))
        }
        (None, Some(_)) if is_http_1_0 => {
            Err(Refusal::Malformed("HTTP/1.0 has no `Transfer-Encoding`"))
        }
        (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (None, Some(_)) => Err(Refusal::Coding),
        (Some(length), None) => {
            if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(Refusal::Malformed("`Content-Length` must be one number"));
            }
            match length.parse() {
                Ok(0) => Ok(Framing::Empty),
                Ok(length) if length <= body_max => Ok(Framing::Length(length)),
                _ => Err(Refusal::LargeBody(body_max)),
            }
        }
        // A request with a content type has a body, and its end is unknown.
        (None, None) if has_type && matches!(method, "POST" | "PUT" | "PATCH") => {
            Err(Refusal::NoLength)
        }
        (None, None) => Ok(Framing::Empty),
    }
}

fn ascii(value: &[u8]) -> Result<String, Refusal> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.is_ascii());
    let text = text.ok_or(Refusal::Malformed("a header that is read here must be ASCII"))?;
    Ok(text.to_owned())
}

fn twice() -> Refusal {
    Refusal::Malformed("duplicate header that may be sent only once")
}

/// Whether `bytes` is a token of RFC 9110, section 5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    let is_char = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_char)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
