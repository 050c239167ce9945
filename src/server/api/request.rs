//! A request as it came in, and what a handler is called with: path, query and body, taken apart
//! and checked.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::base::clock::parse_rfc3339;
use crate::base::limits::{PAGE_DEFAULT, PAGE_MAX};
use crate::server::api::app::App;
use crate::server::api::auth::identity::Identity;
use crate::server::api::reply::{ApiError, Code};
use crate::server::gate::http::Ticket;
use crate::server::storage::Page;

/// A request as it came in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Incoming {
    /// The method's name as it was sent: `GET`.
    pub method: String,
    /// Path and query as they were sent: `/v1/agents?limit=5`.
    pub target: String,
    /// The value of `Authorization`.
    pub authorization: Option<String>,
    /// The value of `Content-Type`.
    pub content_type: Option<String>,
    /// Whether the client takes gzip.
    pub gzip: bool,
    /// The value of `If-None-Match`.
    pub if_none_match: Option<String>,
    /// The host that it is for, with its port: of the target, or of `Host`.
    pub host: Option<String>,
    /// The value of `Origin`.
    pub origin: Option<String>,
    /// The value of `Cookie`.
    pub cookie: Option<String>,
    /// The value of `X-Oxmon-Page`, which the dashboard sends with each call.
    pub page: Option<String>,
    /// The value of `Sec-Fetch-Site`.
    pub fetch_site: Option<String>,
    /// The body.
    pub body: Vec<u8>,
    /// The client's address, without its port.
    pub client: String,
    /// Whether the client still waits.
    pub ticket: Ticket,
}

/// One request on its way through a handler.
pub struct Call<'a> {
    /// The server's parts.
    pub app: &'a App,
    /// Who calls; `None` on public routes.
    pub identity: Option<Identity>,
    /// The agent that the path names, as the server knows it that passed the call on.
    pub(crate) passed_agent: Option<String>,
    /// Values of the path's `{name}` parts, decoded.
    pub path: BTreeMap<&'static str, String>,
    /// The query's parameters, decoded. The router has checked their names and kinds.
    pub query: BTreeMap<String, String>,
    /// The query as it was sent.
    pub query_text: &'a str,
    /// The value of `Content-Type`; empty when there is none.
    pub content_type: &'a str,
    /// The value of `Authorization`.
    pub authorization: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
    /// The value of `X-Oxmon-Page`, which the dashboard sends with each call.
    pub page: Option<&'a str>,
    /// The client's address, without its port.
    pub client: String,
    /// Whether the client still waits.
    pub(crate) ticket: &'a Ticket,
    /// Unique for the request; in the answer and in every log line about it.
    pub trace_id: &'a str,
    /// The time of the request, Unix milliseconds.
    pub now_ms: i64,
}

impl Call<'_> {
    /// The value of `{name}` in the route's path; empty when the route has no such part.
    pub fn param(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    /// A query parameter as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// A query parameter that must be there.
    ///
    /// # Errors
    ///
    /// 1001 that names it.
    pub fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.text(name).ok_or_else(|| ApiError::bad(format!("missing query parameter `{name}`")))
    }

    /// A query parameter of any type that parses from text.
    ///
    /// # Errors
    ///
    /// 1001 that names it.
    pub fn parsed<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| bad_parameter(name, text))
    }

    /// A query parameter that is an RFC 3339 time, as Unix milliseconds.
    ///
    /// # Errors
    ///
    /// 1001 that names it.
    pub fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        parse_rfc3339(text).map(Some).ok_or_else(|| bad_parameter(name, text))
    }

    /// A query parameter that is an RFC 3339 time or Unix seconds, as Unix milliseconds.
    ///
    /// # Errors
    ///
    /// 1001 that names it.
    pub fn time_or_secs(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let secs = text.parse::<i64>().ok().and_then(|secs| secs.checked_mul(1_000));
        secs.or_else(|| parse_rfc3339(text)).map(Some).ok_or_else(|| bad_parameter(name, text))
    }

    /// `limit` and `offset` of a list.
    ///
    /// # Errors
    ///
    /// 1001 when either can't be taken. A `limit` over [`PAGE_MAX`] counts as that; 0 gives none.
    pub fn page(&self) -> Result<Page, ApiError> {
        // The dispatcher has seen that it consists of digits, of any number.
        let limit = self.text("limit").map(|text| text.parse().unwrap_or(PAGE_MAX));
        let limit = limit.unwrap_or(PAGE_DEFAULT).min(PAGE_MAX);
        let offset: u32 = self.parsed("offset")?.unwrap_or(0);
        Ok(Page { limit, offset: offset as usize })
    }

    /// The body as JSON of the type `T`, which should refuse unknown fields.
    ///
    /// # Errors
    ///
    /// 1001 that says where the body is wrong.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(self.body)
            .map_err(|error| ApiError::bad(format!("invalid body: {error}")))
    }

    /// Who calls, on a route that is not public.
    ///
    /// # Errors
    ///
    /// 1002 when nobody is logged in, which the router rules out.
    pub fn who(&self) -> Result<&Identity, ApiError> {
        let nobody = || ApiError::new(Code::Unauthenticated, "log in first");
        self.identity.as_ref().ok_or_else(nobody)
    }
}

fn bad_parameter(name: &str, text: &str) -> ApiError {
    let shown: String = text.chars().take(64).collect();
    ApiError::bad(format!("invalid query parameter `{name}`: `{shown}`"))
}
