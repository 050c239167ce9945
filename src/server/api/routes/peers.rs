//! The servers of `[peers]`: for people, and what they say to each other.

use serde::Serialize;
use utoipa::ToSchema;

use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{Access, Gives, Kind, Method, Param, Route};
use crate::server::api::schema::{Shape, Time};
use crate::server::api::taken;
use crate::server::control::shared::{self, Rank};
use crate::server::ingest::auth::WhitelistError;
use crate::server::peers::change::{self, Passed};
use crate::server::peers::config::{self, Asked};
use crate::server::peers::enroll::{self, Enrol, Enrolled};
use crate::server::peers::lead::Role;
use crate::server::peers::{Peers, hello};

/// Who is home, as far as the server knows that calls.
const LEAD: [Param; 3] = [
    Param::required("name", Kind::Text, "The server that calls."),
    Param::required("epoch", Kind::Count, "The epoch that it knows."),
    Param::required("home", Kind::Text, "Whose epoch that is."),
];

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    Route::get(
        "/v1/peers",
        "This server and its sisters (`[peers]`): which is home, and how far each has its \
         configuration.",
        Gives::One(Shape::of::<Servers>()),
        servers,
    ),
    Route {
        access: Access::Peer,
        query: &LEAD,
        ..Route::get(hello::PATH, "What this server says of itself.", Gives::Peer, say_hello)
    },
    Route {
        access: Access::Peer,
        query: &[
            LEAD[0],
            LEAD[1],
            LEAD[2],
            Param::required("version", Kind::Count, "The version that it has."),
            Param::new("run", Kind::Text, "The process that gave it."),
            Param::required("wait_secs", Kind::Count, "Seconds to wait for a change."),
        ],
        ..Route::get(config::PATH, "Configuration that is new.", Gives::Peer, give)
    },
    Route {
        method: Method::Post,
        access: Access::Peer,
        ..Route::get(change::PATH, "A change that is passed on.", Gives::Peer, take_change)
    },
    Route {
        method: Method::Post,
        access: Access::Peer,
        ..Route::get(enroll::PATH, "A code that is passed on.", Gives::Peer, redeem)
    },
];

/// This server and its sisters.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = PeerServers)]
struct Servers {
    /// This server's name; null where there is one server.
    name: Option<String>,
    /// The server that is home; null where there is one server.
    home: Option<String>,
    /// Whether this one is.
    is_home: bool,
    /// The epoch of the home, which goes up with each promotion.
    epoch: i64,
    /// The version of the configuration that this server has.
    version: i64,
    /// The epoch of that configuration: lower until it comes from the home.
    config_epoch: i64,
    /// Seconds since nothing of the home's was known to be missing: 0 at the home, null before the
    /// first time.
    lag_secs: Option<u64>,
    /// Why this server takes no changes, or does not follow the home.
    error: Option<String>,
    /// The others, by name.
    sisters: Vec<Sister>,
}

/// Another server.
#[derive(Serialize, ToSchema)]
#[schema(as = PeerServer)]
struct Sister {
    /// Its name.
    name: String,
    /// Its base URL.
    url: String,
    /// Whether it answered the last time that it was asked.
    up: bool,
    /// When it last answered.
    last_seen: Option<Time>,
    /// The version of its program.
    program: Option<String>,
    /// Whether it is home, as far as it knows.
    is_home: bool,
    /// The epoch of the configuration that it has.
    config_epoch: Option<i64>,
    /// The version of the configuration that it has.
    version: Option<i64>,
    /// Changes that it lacks and this server has; null where it has those of another epoch.
    versions_behind: Option<i64>,
    /// Why it does not answer.
    error: Option<String>,
}

/// The room; the router has made sure that there is one.
fn room<'a>(call: &'a Call<'_>) -> Result<&'a Peers, ApiError> {
    let alone = || ApiError::new(Code::NotFound, "[peers] is not configured");
    call.app.peers.as_deref().ok_or_else(alone)
}

fn servers(call: &Call<'_>) -> Result<Reply, ApiError> {
    let Some(room) = call.app.peers.as_deref() else {
        let version = call.app.control.read(shared::version)?;
        return Ok(Reply::ok(&Servers { is_home: true, version, ..Servers::default() }));
    };
    let (state, role, following) = (room.state(), room.role(), room.following());
    let sisters = room.sisters().iter().map(|sister| {
        let seen = sister.seen();
        let hello = seen.hello.as_ref();
        let same = hello.filter(|hello| hello.of == state.of);
        Sister {
            name: sister.name.clone(),
            url: sister.base().to_owned(),
            up: seen.is_up(),
            last_seen: seen.at_ms.map(Time),
            program: hello.map(|hello| hello.program.clone()),
            is_home: hello.is_some_and(|hello| hello.lead.home == sister.name),
            config_epoch: hello.map(|hello| hello.of.epoch),
            version: hello.map(|hello| hello.version),
            versions_behind: same.map(|hello| (state.version - hello.version).max(0)),
            error: seen.fault,
        }
    });
    let is_home = role == Role::Home;
    let lag = following.at.map(|at| at.elapsed().as_secs());
    let error = match role {
        Role::Home => None,
        Role::Follower(_) => following.fault,
        Role::Behind => Some("a sister has newer configuration of this home".to_owned()),
    };
    Ok(Reply::ok(&Servers {
        name: Some(room.name().to_owned()),
        home: Some(state.lead.home),
        is_home,
        epoch: state.lead.epoch,
        version: state.version,
        config_epoch: state.of.epoch,
        lag_secs: if is_home { Some(0) } else { lag },
        error,
        sisters: sisters.collect(),
    }))
}

/// Who calls and whose rows it has, or who it takes for home.
fn rank(call: &Call<'_>) -> Result<(String, Rank), ApiError> {
    let epoch = call.parsed("epoch")?.unwrap_or_default();
    let home = call.required("home")?.to_owned();
    Ok((call.required("name")?.to_owned(), Rank { epoch, home }))
}

fn say_hello(call: &Call<'_>) -> Result<Reply, ApiError> {
    let room = room(call)?;
    let (name, lead) = rank(call)?;
    room.heard(&name, &lead, &Rank::default(), 0);
    Ok(Reply::peer(&room.hello()))
}

fn give(call: &Call<'_>) -> Result<Reply, ApiError> {
    let room = room(call)?;
    let (name, of) = rank(call)?;
    let version = call.parsed("version")?.unwrap_or_default();
    // Rows of a later epoch, or newer ones of this one, say that this server is not home.
    room.heard(&name, &of, &of, version);
    let run = call.text("run").unwrap_or_default().to_owned();
    let wait_secs = call.parsed("wait_secs")?.unwrap_or_default();
    let asked = Asked { name, of, version, run, wait_secs };
    Ok(Reply::peer(&room.give(&asked, &|| call.ticket.is_gone())?))
}

fn take_change(call: &Call<'_>) -> Result<Reply, ApiError> {
    let room = room(call)?;
    let passed: Passed = call.json()?;
    Ok(Reply::peer(&taken::carry_out_passed(call.app, room, passed)?))
}

fn redeem(call: &Call<'_>) -> Result<Reply, ApiError> {
    let room = room(call)?;
    let asked: Enrol = call.json()?;
    if room.role() != Role::Home {
        let message = "this server is not home of the configuration, or not any more";
        return Err(ApiError::new(Code::HomeAway, message));
    }
    let outcome = call.app.whitelist.redeem(&asked.code, &asked.agent_id, asked.address);
    let now = call.app.control.read(shared::state)?;
    let outcome = match outcome {
        Ok(token) => Ok(token),
        Err(WhitelistError::Storage(error)) => return Err(error.into()),
        Err(WhitelistError::Invalid(why)) => Err((enroll::INVALID, why)),
        Err(WhitelistError::Bound(agent)) => Err((enroll::BOUND, agent)),
        Err(_) => Err((enroll::BAD_CODE, String::new())),
    };
    Ok(Reply::peer(&Enrolled { of: now.of, version: now.version, outcome }))
}
