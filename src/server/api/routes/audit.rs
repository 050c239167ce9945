//! Who changed what, from where, when.

use serde::Serialize;
use utoipa::ToSchema;

use crate::server::api::reply::{ApiError, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{ADMIN, Gives, Kind, Param, Route};
use crate::server::api::schema::{Shape, Time};
use crate::server::control::audit::{self, AuditFilter, AuditRow};

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[Route {
    access: ADMIN,
    query: &[
        Param::new("username__eq", Kind::Text, "Exactly this user."),
        Param::new("action__contains", Kind::Text, "This text in the method and path."),
        Param::new("timestamp__gte", Kind::Time, "Not before."),
        Param::new("timestamp__lte", Kind::Time, "Not after."),
    ],
    ..Route::get(
        "/v1/audit",
        "Calls that change something, newest first, those that were refused among them.",
        Gives::List(Shape::of::<AuditEntry>()),
        list,
    )
}];

#[derive(Serialize, ToSchema)]
struct AuditEntry {
    id: String,
    timestamp: Time,
    /// Who; of a login, the name that was given.
    username: String,
    /// The client's address.
    address: String,
    /// Method and path of the endpoint: `PUT /v1/users/{id}`.
    action: String,
    /// The path as it was called.
    target: String,
    /// The HTTP status of the answer.
    status: u16,
    /// The request's trace id, which stands in the server's log too.
    trace_id: String,
}

impl From<AuditRow> for AuditEntry {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            timestamp: Time(row.at_ms),
            username: row.username,
            address: row.address,
            action: row.action,
            target: row.target,
            status: row.outcome,
            trace_id: row.trace_id,
        }
    }
}

fn list(call: &Call<'_>) -> Result<Reply, ApiError> {
    let filter = AuditFilter {
        username: call.text("username__eq").map(str::to_owned),
        action: call.text("action__contains").map(str::to_owned),
        from_ms: call.time("timestamp__gte")?,
        to_ms: call.time("timestamp__lte")?,
    };
    let page = call.page()?;
    let rows = call.app.control.read(|db| audit::list(db, &filter, page))?;
    Ok(Reply::list(&rows.map(AuditEntry::from)))
}
