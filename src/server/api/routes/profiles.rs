//! What people say of hosts: a name to show, a note, tags.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::limits::{TAG_BYTES_MAX, TAGS_MAX};
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{ADMIN, Gives, Method, Route};
use crate::server::api::routes::agents::named;
use crate::server::api::routes::check_text;
use crate::server::api::schema::Shape;
use crate::server::control::profiles::{self, ProfileRow};

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[Route {
    method: Method::Put,
    access: ADMIN,
    body: Some(Shape::of::<ProfileBody>()),
    errors: &[Code::NotFound],
    ..Route::get(
        "/v1/agents/{id}",
        "Give an agent a name to show, a note and tags: what is left out stays. Rules and silences \
         take tags in `agent_pattern`: `tag:web`.",
        Gives::One(Shape::of::<Profile>()),
        update,
    )
}];

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ProfileBody {
    /// What lists call it; empty for its id.
    #[schema(max_length = 1024)]
    display_name: Option<String>,
    /// A note for people.
    #[schema(max_length = 1024)]
    note: Option<String>,
    /// Letters, digits, `-`, `_` and `.`; all of its tags.
    tags: Option<Vec<String>>,
}

/// What people say of an agent.
#[derive(Serialize, ToSchema)]
#[schema(as = AgentProfile)]
struct Profile {
    agent_id: String,
    /// Empty where it is shown by its id.
    display_name: String,
    note: String,
    tags: BTreeSet<String>,
}

impl From<ProfileRow> for Profile {
    fn from(row: ProfileRow) -> Self {
        let ProfileRow { agent_id, display_name, note, tags, .. } = row;
        Self { agent_id, display_name, note, tags }
    }
}

fn checked_tags(given: Vec<String>) -> Result<BTreeSet<String>, ApiError> {
    let tags: BTreeSet<String> = given.into_iter().collect();
    if tags.len() > TAGS_MAX {
        return Err(ApiError::bad(format!("`tags` must be at most {TAGS_MAX}")));
    }
    for tag in &tags {
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        if tag.is_empty() || tag.len() > TAG_BYTES_MAX || !tag.chars().all(fits) {
            let shown: String = tag.chars().take(64).collect();
            return Err(ApiError::bad(format!(
                "`tags`: `{shown}` must have 1 to {TAG_BYTES_MAX} bytes of letters, digits, `-`, \
                 `_` and `.`"
            )));
        }
    }
    Ok(tags)
}

fn update(call: &Call<'_>) -> Result<Reply, ApiError> {
    let body: ProfileBody = call.json()?;
    let agent_id = named(call, call.param("id"))?;
    let app = call.app;
    for (field, text) in [("display_name", &body.display_name), ("note", &body.note)] {
        check_text(field, text.as_deref().unwrap_or_default(), false)?;
    }
    let tags = body.tags.map(checked_tags).transpose()?;
    let mut row = app.control.read(profiles::all)?.remove(&agent_id).unwrap_or_default();
    let before = row.tags.clone();
    row.agent_id = agent_id;
    row.display_name = body.display_name.unwrap_or(row.display_name);
    row.note = body.note.unwrap_or(row.note);
    row.tags = tags.unwrap_or(row.tags);
    row.updated_at = call.now_ms / 1_000;
    let kept = row.clone();
    app.control.write(move |tx| -> Result<(), ApiError> { Ok(profiles::put(tx, &kept)?) })?;
    if row.tags != before {
        profiles::load_tags(&app.control)?;
        app.alerts.retag()?;
        app.notifier.look_now();
    }
    Ok(Reply::ok(&Profile::from(row)))
}
