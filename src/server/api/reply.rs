//! What a handler gives back, and the one place where errors become answers.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::server::control::shared;
use crate::server::storage::{Listing, StorageError};

/// The API's error codes (docs/api-reference.md). Each has its HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Code {
    /// A parameter or a body that can't be taken.
    BadRequest = 1001,
    /// No login, or a wrong one.
    Unauthenticated = 1002,
    /// The session has expired.
    TokenExpired = 1003,
    /// What the request names is not there.
    NotFound = 1004,
    /// It is there already, or is in a state that forbids it.
    Conflict = 1005,
    /// Too many requests.
    TooMany = 1006,
    /// The login may not do this (HTTP 403).
    Forbidden = 1007,
    /// The path has no such method (HTTP 405).
    MethodNotAllowed = 1008,
    /// The body has no length (HTTP 411).
    LengthRequired = 1009,
    /// Body, headers or URL over their limit (HTTP 413, 431 or 414).
    TooLarge = 1010,
    /// The body is not JSON (HTTP 415).
    NotJson = 1011,
    /// All workers are busy (HTTP 503).
    Busy = 1012,
    /// The endpoint of a test refused (HTTP 424: the fault is not this server's).
    Endpoint = 1013,
    /// The default password must be changed first (HTTP 403).
    ChangePassword = 1014,
    /// Changes are made at another server, which does not make this one (HTTP 503).
    HomeAway = 1015,
    /// The domain is configured already.
    DomainExists = 1101,
    /// The domain is not a host name.
    BadDomain = 1102,
    /// The port is none.
    BadPort = 1103,
    /// The batch is empty.
    EmptyBatch = 1104,
    /// The domain has not been checked yet.
    NoCheckYet = 1105,
    /// A fault of the server.
    Internal = 1500,
    /// A fault of the storage.
    Storage = 1501,
}

impl Code {
    /// Every code.
    const ALL: [Self; 22] = [
        Self::BadRequest,
        Self::Unauthenticated,
        Self::TokenExpired,
        Self::NotFound,
        Self::Conflict,
        Self::TooMany,
        Self::Forbidden,
        Self::MethodNotAllowed,
        Self::LengthRequired,
        Self::TooLarge,
        Self::NotJson,
        Self::Busy,
        Self::Endpoint,
        Self::ChangePassword,
        Self::HomeAway,
        Self::DomainExists,
        Self::BadDomain,
        Self::BadPort,
        Self::EmptyBatch,
        Self::NoCheckYet,
        Self::Internal,
        Self::Storage,
    ];

    /// The code of a number; of one that is not known here, as of another release, a fault.
    pub(crate) fn of(number: u16) -> Self {
        let found = Self::ALL.into_iter().find(|code| *code as u16 == number);
        found.unwrap_or(Self::Internal)
    }

    /// The HTTP status that goes with the code.
    pub fn http_status(self) -> u16 {
        match self {
            Self::BadRequest | Self::BadDomain | Self::BadPort | Self::EmptyBatch => 400,
            Self::Unauthenticated | Self::TokenExpired => 401,
            Self::Forbidden | Self::ChangePassword => 403,
            Self::NotFound | Self::NoCheckYet => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict | Self::DomainExists => 409,
            Self::LengthRequired => 411,
            Self::TooLarge => 413,
            Self::NotJson => 415,
            Self::Endpoint => 424,
            Self::TooMany => 429,
            Self::Internal | Self::Storage => 500,
            Self::Busy | Self::HomeAway => 503,
        }
    }
}

/// An error as the caller sees it: never a path of the server's disk, SQL, or a panic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The code.
    pub code: Code,
    /// What is wrong with what, and what to do.
    pub message: String,
    /// Seconds after which to retry, for `Retry-After`.
    pub retry_after_secs: Option<u64>,
    /// Methods that the path has, for `Allow`.
    pub allow: Option<String>,
    /// The HTTP status where it is not that of the code.
    pub status: Option<u16>,
}

impl ApiError {
    /// An error with its message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_secs: None, allow: None, status: None }
    }

    /// A parameter or a field that can't be taken.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    /// `what` (such as "rule") with the key `key` is not there.
    pub fn not_found(what: &str, key: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no {what} `{key}`"))
    }

    /// The HTTP status: that of its code, unless the limit has a status of its own.
    pub fn http_status(&self) -> u16 {
        self.status.unwrap_or_else(|| self.code.http_status())
    }

    /// The same error with another HTTP status, such as 414 for a URL over its limit.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }
}

impl From<StorageError> for ApiError {
    /// Tells the caller what they can act on, and the log the rest.
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Invalid(message) => Self::bad(message),
            StorageError::DiskFull => Self::new(Code::Storage, "the server's disk is full"),
            StorageError::Stopping => Self::new(Code::Busy, "the server is stopping"),
            StorageError::Damaged { file, what } => {
                log::error!("{file} is damaged: {what}");
                Self::new(Code::Storage, format!("{file} is damaged; see the server's log"))
            }
            StorageError::Moved(_) | StorageError::Behind(_) => {
                Self::new(Code::Busy, error.to_string())
            }
            StorageError::NoRoom(_) => Self::bad(error.to_string()),
            StorageError::Sqlite(error) if shared::is_refused(&error) => {
                Self::new(Code::HomeAway, "changes of the configuration are made at another server")
            }
            StorageError::Sqlite(_) | StorageError::Io(_) | StorageError::Locked(_) => {
                log::error!("storage failed: {error}");
                Self::new(Code::Storage, "the storage failed; see the server's log")
            }
        }
    }
}

impl From<rusqlite::Error> for ApiError {
    fn from(error: rusqlite::Error) -> Self {
        StorageError::from(error).into()
    }
}

/// What goes out when all is well.
#[derive(Debug, Clone)]
pub struct Reply {
    /// 200 or 201.
    pub status: u16,
    /// The body.
    pub body: Body,
    /// All matches of a list, for `X-Total-Count`.
    pub total: Option<u64>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

/// The body of a reply.
#[derive(Debug, Clone)]
pub enum Body {
    /// `data` of the envelope, as the JSON text that it is sent as: a chart has many thousands of
    /// numbers, which need no tree in memory first.
    Data(Box<RawValue>),
    /// Sent as it is: documents, the dashboard's files, the exposition.
    Raw {
        /// The content type.
        content_type: &'static str,
        /// The bytes.
        bytes: std::borrow::Cow<'static, [u8]>,
        /// For `ETag`, where the content is a file that may be cached.
        etag: Option<String>,
    },
}

impl Reply {
    /// 200 with `data`.
    pub fn ok(data: &impl Serialize) -> Self {
        Self::with(200, data)
    }

    /// 201 with `data`.
    pub fn created(data: &impl Serialize) -> Self {
        Self::with(201, data)
    }

    /// 200 with `data: null`.
    pub fn done() -> Self {
        Self {
            status: 200,
            body: Body::Data(RawValue::NULL.to_owned()),
            total: None,
            headers: Vec::new(),
        }
    }

    /// 200 with an array and the number of all matches.
    pub fn list<T: Serialize>(listing: &Listing<T>) -> Self {
        Self { total: Some(listing.total), ..Self::with(200, &listing.items) }
    }

    /// 200 with bytes that are no envelope.
    pub fn raw(content_type: &'static str, bytes: Vec<u8>) -> Self {
        let body = Body::Raw { content_type, bytes: bytes.into(), etag: None };
        Self { status: 200, body, total: None, headers: Vec::new() }
    }

    /// 200 with JSON that another server of `[peers]` reads.
    pub(crate) fn peer(data: &impl Serialize) -> Self {
        // Plain data always serialises.
        Self::raw("application/json", serde_json::to_vec(data).unwrap_or_default())
    }

    /// 200 with bytes that are no envelope and are kept for the life of the process.
    pub(crate) fn raw_static(content_type: &'static str, bytes: &'static [u8]) -> Self {
        let body = Body::Raw { content_type, bytes: bytes.into(), etag: None };
        Self { status: 200, body, total: None, headers: Vec::new() }
    }

    /// 200 with a file that the binary carries.
    pub fn file(content_type: &'static str, bytes: &'static [u8], etag: String) -> Self {
        let body = Body::Raw { content_type, bytes: bytes.into(), etag: Some(etag) };
        Self { status: 200, body, total: None, headers: Vec::new() }
    }

    fn with(status: u16, data: &impl Serialize) -> Self {
        // The types that are given here are plain data, which always serialises; a number that is
        // not finite becomes null.
        let data = to_raw_value(data).unwrap_or_else(|_| RawValue::NULL.to_owned());
        Self { status, body: Body::Data(data), total: None, headers: Vec::new() }
    }
}
