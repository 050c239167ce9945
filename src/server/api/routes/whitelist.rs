//! Agents that may report, their tokens, and the codes by which an agent fetches its own.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{ADMIN, Gives, Method, Route};
use crate::server::api::routes::agents::{AgentStatus, known_agents};
use crate::server::api::schema::{Shape, Time};
use crate::server::control::whitelist::WhitelistRow as Row;
use crate::server::ingest::auth::WhitelistError;
use crate::server::storage::Listing;

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    Route::get(
        "/v1/agents/whitelist",
        "Agents that may report, newest first.",
        Gives::List(Shape::of::<Whitelisted>()),
        list,
    ),
    Route {
        method: Method::Post,
        access: ADMIN,
        body: Some(Shape::of::<AgentInput>()),
        errors: &[Code::Conflict],
        ..Route::get(
            "/v1/agents/whitelist",
            "Put an agent on the whitelist. Its token is shown here and nowhere else.",
            Gives::One(Shape::of::<NewAgent>()),
            create,
        )
    },
    Route {
        method: Method::Put,
        access: ADMIN,
        body: Some(Shape::of::<AgentChange>()),
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/agents/whitelist/{id}",
            "Describe an agent, by id or agent id.",
            Gives::One(Shape::of::<Whitelisted>()),
            update,
        )
    },
    Route {
        method: Method::Delete,
        access: ADMIN,
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/agents/whitelist/{id}",
            "Take an agent off the whitelist, by id or agent id. Its token ends at once; its \
             points stay.",
            Gives::Nothing,
            remove,
        )
    },
    Route {
        method: Method::Post,
        access: ADMIN,
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/agents/whitelist/{id}/token",
            "Give an agent a new token, by id or agent id. The old one ends at once; the new one \
             is shown here and nowhere else.",
            Gives::One(Shape::of::<NewToken>()),
            regenerate,
        )
    },
    Route {
        method: Method::Post,
        access: ADMIN,
        body: Some(Shape::of::<CodeInput>()),
        status: 201,
        ..Route::get(
            "/v1/agents/enroll-codes",
            "Make a code with which `oxmon-agent enroll` fetches an agent's token: good once, for \
             ten minutes.",
            Gives::One(Shape::of::<EnrollCode>()),
            create_code,
        )
    },
];

/// An agent that may report.
#[derive(Serialize, ToSchema)]
struct Whitelisted {
    id: String,
    agent_id: String,
    description: Option<String>,
    /// Always null: a token is shown only where it is made.
    token: Option<String>,
    /// When its last report arrived.
    last_seen: Option<Time>,
    #[schema(inline)]
    status: AgentStatus,
    created_at: Time,
    /// When its description or its token last changed.
    updated_at: Time,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AgentInput {
    /// Unique; no control characters.
    #[schema(min_length = 1, max_length = 128)]
    agent_id: String,
    #[schema(max_length = 1024)]
    description: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AgentChange {
    /// Null for none.
    // Named on its own, so that a body without it is refused rather than read as null.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required, max_length = 1024)]
    description: Option<String>,
}

/// An agent that was put on the whitelist.
#[derive(Serialize, ToSchema)]
struct NewAgent {
    id: String,
    agent_id: String,
    /// For the agent's `auth_token`; shown only here.
    token: String,
    created_at: Time,
}

/// An agent's new token.
#[derive(Serialize, ToSchema)]
#[schema(as = AgentToken)]
struct NewToken {
    agent_id: String,
    /// For the agent's `auth_token`; shown only here.
    token: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CodeInput {
    /// The one agent that may use the code. Default: any.
    #[schema(min_length = 1, max_length = 128)]
    agent_id: Option<String>,
}

/// A code that is good once.
#[derive(Serialize, ToSchema)]
struct EnrollCode {
    /// For `oxmon-agent enroll --code`; shown only here.
    code: String,
    /// The one agent that may use it; null for any.
    agent_id: Option<String>,
    expires_at: Time,
}

impl Whitelisted {
    fn new(row: Row, last_seen_ms: Option<i64>, now_ms: i64) -> Self {
        Self {
            id: row.id,
            agent_id: row.agent_id,
            description: row.description,
            token: None,
            last_seen: last_seen_ms.map(Time),
            status: AgentStatus::at(now_ms, last_seen_ms),
            created_at: Time(row.created_ms),
            updated_at: Time(row.updated_ms),
        }
    }
}

impl From<WhitelistError> for ApiError {
    fn from(error: WhitelistError) -> Self {
        match error {
            WhitelistError::NotFound(_) => Self::new(Code::NotFound, error.to_string()),
            WhitelistError::Exists(_) => Self::new(Code::Conflict, error.to_string()),
            WhitelistError::Invalid(message) => Self::bad(message),
            WhitelistError::BadCode | WhitelistError::Bound(_) => Self::bad(error.to_string()),
            WhitelistError::Away(why) => Self::new(Code::HomeAway, why),
            WhitelistError::Storage(error) => error.into(),
        }
    }
}

/// The rows with what the store knows of their agents.
fn shown(call: &Call<'_>, rows: Vec<Row>) -> Result<Vec<Whitelisted>, ApiError> {
    let known = known_agents(call.app)?;
    let seen: HashMap<&str, Option<i64>> =
        known.iter().map(|agent| (agent.agent_id.as_str(), agent.last_seen_ms)).collect();
    let show = |row: Row| {
        let last_seen_ms = seen.get(row.agent_id.as_str()).copied().flatten();
        Whitelisted::new(row, last_seen_ms, call.now_ms)
    };
    Ok(rows.into_iter().map(show).collect())
}

fn list(call: &Call<'_>) -> Result<Reply, ApiError> {
    let Listing { items, total } = call.app.whitelist.list(call.page()?)?;
    let items = shown(call, items)?;
    Ok(Reply::list(&Listing { items, total }))
}

fn create(call: &Call<'_>) -> Result<Reply, ApiError> {
    let body: AgentInput = call.json()?;
    let (row, token) = call.app.whitelist.create(&body.agent_id, body.description.as_deref())?;
    Ok(Reply::ok(&NewAgent {
        id: row.id,
        agent_id: row.agent_id,
        token,
        created_at: Time(row.created_ms),
    }))
}

fn update(call: &Call<'_>) -> Result<Reply, ApiError> {
    let body: AgentChange = call.json()?;
    let row = call.app.whitelist.set_description(call.param("id"), body.description.as_deref())?;
    let shown = shown(call, vec![row])?;
    Ok(Reply::ok(&shown.first()))
}

fn remove(call: &Call<'_>) -> Result<Reply, ApiError> {
    call.app.whitelist.delete(call.param("id"))?;
    Ok(Reply::done())
}

fn regenerate(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (agent_id, token) = call.app.whitelist.regenerate(call.param("id"))?;
    Ok(Reply::ok(&NewToken { agent_id, token }))
}

fn create_code(call: &Call<'_>) -> Result<Reply, ApiError> {
    let CodeInput { agent_id } = call.json()?;
    let who = &call.who()?.username;
    let (code, expires_ms) = call.app.whitelist.create_code(agent_id.as_deref(), who)?;
    Ok(Reply::created(&EnrollCode { code, agent_id, expires_at: Time(expires_ms) }))
}
