//! What people wrote about an alert.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::clock::DAY_MS;
use crate::base::ids::new_id;
use crate::base::limits::{ALERT_COMMENTS_MAX, AUDIT_DAYS_MAX};
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{ADMIN, Gives, Method, Route};
use crate::server::api::routes::check_text;
use crate::server::api::schema::{Shape, Time};
use crate::server::control::comments::{self, CommentRow};

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/alerts/history/{id}/comments",
            "What people wrote about an alert, oldest first.",
            Gives::Many(Shape::of::<Comment>()),
            list,
        )
    },
    Route {
        method: Method::Post,
        access: ADMIN,
        body: Some(Shape::of::<CommentBody>()),
        status: 201,
        errors: &[Code::NotFound, Code::Conflict],
        ..Route::get(
            "/v1/alerts/history/{id}/comments",
            "Write something about an alert, for everyone who looks at it.",
            Gives::One(Shape::of::<Comment>()),
            create,
        )
    },
];

/// What somebody wrote about an alert.
#[derive(Serialize, ToSchema)]
#[schema(as = AlertComment)]
struct Comment {
    id: String,
    /// Who wrote it.
    username: String,
    text: String,
    created_at: Time,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CommentBody {
    #[schema(min_length = 1, max_length = 1024)]
    text: String,
}

impl From<CommentRow> for Comment {
    fn from(row: CommentRow) -> Self {
        Self {
            id: row.id,
            username: row.username,
            text: row.text,
            created_at: Time(row.created_at_ms),
        }
    }
}

fn list(call: &Call<'_>) -> Result<Reply, ApiError> {
    let event = call.app.alerts.event(call.param("id"))?;
    let rows = call.app.control.read(|db| comments::list(db, &event.id))?;
    Ok(Reply::ok(&rows.into_iter().map(Comment::from).collect::<Vec<_>>()))
}

fn create(call: &Call<'_>) -> Result<Reply, ApiError> {
    let body: CommentBody = call.json()?;
    check_text("text", &body.text, true)?;
    let event = call.app.alerts.event(call.param("id"))?;
    let row = CommentRow {
        id: new_id(),
        event_id: event.id,
        username: call.who()?.username.clone(),
        text: body.text,
        created_at_ms: call.now_ms,
    };
    let kept = row.clone();
    let oldest_ms = call.now_ms.saturating_sub(AUDIT_DAYS_MAX * DAY_MS);
    call.app.control.write(move |tx| -> Result<(), ApiError> {
        if comments::count(tx, &kept.event_id)? >= ALERT_COMMENTS_MAX {
            let message = format!("the alert has {ALERT_COMMENTS_MAX} comments already");
            return Err(ApiError::new(Code::Conflict, message));
        }
        Ok(comments::insert(tx, &kept, oldest_ms)?)
    })?;
    Ok(Reply::created(&Comment::from(row)))
}
