//! The route table's row, from which requests are served and the OpenAPI document is made.

use crate::base::limits::{PAGE_DEFAULT, PAGE_MAX};
use crate::model::role::Role;
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::schema::Shape;

/// A request's method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the methods of RFC 9110")]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
}

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Public,
    /// Whoever is logged in with at least this role.
    User(Role),
    /// Another server of `[peers]`, by the common token. Without `[peers]` there is no such path.
    Peer,
}

/// Any logged-in user.
pub const VIEWER: Access = Access::User(Role::Viewer);
/// Administrators only.
pub const ADMIN: Access = Access::User(Role::Admin);

/// What a query parameter's text must be. The router answers 1001 for anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text up to its limit.
    Text,
    /// A number of 0 or more.
    Count,
    /// A number of rows: 0 or more, and what is over the limit counts as the limit.
    Rows,
    /// `true` or `false`.
    Flag,
    /// RFC 3339.
    Time,
    /// RFC 3339 or Unix seconds.
    TimeOrSecs,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// A query parameter. One that a route does not name is a 1001.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// Its name, such as `agent_id__eq`.
    pub name: &'static str,
    /// What its text must be.
    pub kind: Kind,
    /// Whether it must be there.
    pub required: bool,
    /// What it does, for the documents.
    pub help: &'static str,
}

impl Param {
    /// A parameter that may be left out.
    pub const fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, required: false, help }
    }

    /// A parameter that must be there.
    pub const fn required(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, required: true, help }
    }
}

/// `limit` and `offset`, which every list takes.
pub const PAGE_PARAMS: [Param; 2] = [
    Param::new(
        "limit",
        Kind::Rows,
        "Rows at most. Default: 20. Over 1000 counts as 1000; 0 gives none.",
    ),
    Param::new("offset", Kind::Count, "Rows to skip."),
];

const _: () = assert!(PAGE_MAX == 1_000 && PAGE_DEFAULT == 20, "the help of `limit` names them");

/// What `data` holds.
#[derive(Debug, Clone, Copy)]
pub enum Gives {
    /// Null.
    Nothing,
    /// One object.
    One(Shape),
    /// An array, not paged.
    Many(Shape),
    /// An array with `limit`, `offset` and `X-Total-Count`: the router adds the two parameters.
    List(Shape),
    /// No envelope: this content type.
    Raw(&'static str),
    /// A file of the dashboard: no endpoint of the API, and so not in its document.
    File,
    /// Prometheus' API, which has its own forms of parameters, answers and errors, takes an API
    /// token as a Basic password too, and is not in the document either.
    Prometheus,
    /// JSON without an envelope, for another server of `[peers]`: not in the document.
    Peer,
}

/// One endpoint: a new one is one function and one row.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with `{name}` for the parts that vary.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// One line for the documents.
    pub summary: &'static str,
    /// The query parameters but for those of a list.
    pub query: &'static [Param],
    /// The body's shape, where it takes one.
    pub body: Option<Shape>,
    /// The HTTP status of success.
    pub status: u16,
    /// What it gives.
    pub gives: Gives,
    /// Error codes that it may answer besides those that every route may.
    pub errors: &'static [Code],
    /// Whether it is served while the caller has the default password and calls from another
    /// machine.
    pub with_default_password: bool,
    /// What serves it.
    pub handler: fn(&Call<'_>) -> Result<Reply, ApiError>,
}

impl Route {
    /// A route that takes nothing, to be completed with struct update syntax.
    pub const fn get(
        path: &'static str,
        summary: &'static str,
        gives: Gives,
        handler: fn(&Call<'_>) -> Result<Reply, ApiError>,
    ) -> Self {
        Self {
            method: Method::Get,
            path,
            access: VIEWER,
            summary,
            query: &[],
            body: None,
            status: 200,
            gives,
            errors: &[],
            with_default_password: false,
            handler,
        }
    }
}

impl Route {
    /// Every query parameter, those of a list included.
    pub fn params(&self) -> impl Iterator<Item = &'static Param> {
        let page: &'static [Param] =
            if matches!(self.gives, Gives::List(_)) { &PAGE_PARAMS } else { &[] };
        self.query.iter().chain(page)
    }

    /// Whether it belongs to Prometheus' API.
    pub fn is_prometheus(&self) -> bool {
        matches!(self.gives, Gives::Prometheus)
    }

    /// Whether it is an endpoint of the API, which its document holds.
    pub fn is_endpoint(&self) -> bool {
        !matches!(self.gives, Gives::File | Gives::Prometheus | Gives::Peer)
    }
}

impl Method {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    /// Whether a request with the method `name` is for it: HEAD is a GET whose body is left out.
    pub fn takes(self, name: &str) -> bool {
        name == self.name() || (self == Self::Get && name == "HEAD")
    }
}
