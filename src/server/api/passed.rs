//! Calls that change what has one home (`[peers]`): a server that is not home passes them on, with
//! who asks. `taken.rs` is the home's side.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::model::role::Role;
use crate::server::api::auth::cookie;
use crate::server::api::reply::{ApiError, Body, Code, Reply};
use crate::server::api::request::{Call, Incoming};
use crate::server::api::router::{Method, Route};
use crate::server::api::routes::agents;
use crate::server::peers::Peers;
use crate::server::peers::change::{Outcome, Passed, Who};
use crate::server::peers::lead;

use Method::{Delete, Get, Post, Put};

/// Where a call is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the home; while that is away, a GET at the server that was asked.
    Home,
    /// At the home first, then at the server that was asked.
    Both,
}

/// Whether a call is one that is passed on.
pub(super) fn is_passed_on(route: &Route) -> bool {
    place_of(route).is_some()
}

fn place_of(route: &Route) -> Option<Place> {
    let is_it = |row: &&(Method, &str, Place)| row.0 == route.method && row.1 == route.path;
    ELSEWHERE.iter().find(is_it).map(|row| row.2)
}

/// Calls that are not served where they come in, or not there alone. All others are about what a
/// server has for itself. Results of certificate checks are the home's, since it makes them.
const ELSEWHERE: &[(Method, &str, Place)] = &[
    (Post, "/v1/auth/password", Place::Home),
    (Post, "/v1/auth/logout", Place::Home),
    (Post, "/v1/auth/tokens", Place::Home),
    (Delete, "/v1/auth/tokens/{id}", Place::Home),
    (Delete, "/v1/tokens/{id}", Place::Home),
    (Post, "/v1/users", Place::Home),
    (Put, "/v1/users/{id}", Place::Home),
    (Delete, "/v1/users/{id}", Place::Home),
    (Post, "/v1/users/{id}/password", Place::Home),
    (Post, "/v1/agents/whitelist", Place::Home),
    (Put, "/v1/agents/whitelist/{id}", Place::Home),
    (Delete, "/v1/agents/whitelist/{id}", Place::Home),
    (Post, "/v1/agents/whitelist/{id}/token", Place::Home),
    (Post, "/v1/agents/enroll-codes", Place::Home),
    (Put, "/v1/agents/{id}", Place::Home),
    (Delete, "/v1/agents/{id}", Place::Both),
    (Post, "/v1/alerts/rules", Place::Home),
    (Put, "/v1/alerts/rules/{id}", Place::Home),
    (Delete, "/v1/alerts/rules/{id}", Place::Home),
    (Put, "/v1/alerts/rules/{id}/enable", Place::Home),
    (Post, "/v1/notifications/channels/config", Place::Home),
    (Put, "/v1/notifications/channels/config/{id}", Place::Home),
    (Delete, "/v1/notifications/channels/config/{id}", Place::Home),
    (Put, "/v1/notifications/channels/{id}/recipients", Place::Home),
    (Post, "/v1/notifications/silence-windows", Place::Home),
    (Put, "/v1/notifications/silence-windows/{id}", Place::Home),
    (Delete, "/v1/notifications/silence-windows/{id}", Place::Home),
    (Post, "/v1/certs/domains", Place::Home),
    (Post, "/v1/certs/domains/batch", Place::Home),
    (Put, "/v1/certs/domains/{id}", Place::Home),
    (Delete, "/v1/certs/domains/{id}", Place::Home),
    (Post, "/v1/certs/domains/{id}/check", Place::Home),
    (Post, "/v1/certs/check", Place::Home),
    (Get, "/v1/certs/domains", Place::Home),
    (Get, "/v1/certs/domains/{id}", Place::Home),
    (Get, "/v1/certs/domains/{id}/history", Place::Home),
    (Get, "/v1/certs/status", Place::Home),
    (Get, "/v1/certs/status/{domain}", Place::Home),
    (Get, "/v1/certs/summary", Place::Home),
    (Get, "/v1/certificates", Place::Home),
    (Get, "/v1/certificates/{id}", Place::Home),
    (Get, "/v1/certificates/{id}/chain", Place::Home),
];

/// The answer of the home to a call that is served there; `None` where it is served here.
pub(super) fn on(
    call: &Call<'_>,
    route: &Route,
    incoming: &Incoming,
) -> Option<Result<Reply, ApiError>> {
    let room = call.app.peers.as_deref()?;
    let place = place_of(route)?;
    if room.role() == lead::Role::Behind && route.method != Get {
        let message = "a sister has newer configuration than this home; run `oxmon-server promote` \
                       for that one. Nothing was changed";
        return Some(Err(ApiError::new(Code::HomeAway, message)));
    }
    let home = room.home()?;
    let passed = match passed_of(room, call, route, incoming) {
        Ok(passed) => passed,
        Err(error) => return Some(Err(error)),
    };
    match (room.pass(&home, &passed), place) {
        // What is here is better than nothing.
        (Err(_), _) if route.method == Get => None,
        (Err(why), _) => Some(Err(ApiError::new(Code::HomeAway, why))),
        (Ok(outcome), Place::Home) => Some(reply_of(call, outcome)),
        (Ok(outcome), Place::Both) => match reply_of(call, outcome) {
            // The home may not know it.
            Ok(_) => None,
            Err(error) if error.code == Code::NotFound => None,
            Err(error) => Some(Err(error)),
        },
    }
}

/// Whether the home has recorded a call, so that it is not recorded here too.
pub(super) fn is_recorded(outcome: &Result<Reply, ApiError>) -> bool {
    !matches!(outcome, Err(error) if error.code == Code::HomeAway)
}

fn passed_of(
    room: &Peers,
    call: &Call<'_>,
    route: &Route,
    incoming: &Incoming,
) -> Result<Passed, ApiError> {
    let who = call.who()?;
    let names_agent = route.path == "/v1/agents/{id}";
    Ok(Passed {
        through: room.name().to_owned(),
        method: incoming.method.clone(),
        target: incoming.target.clone(),
        content_type: incoming.content_type.clone(),
        body: BASE64_STANDARD.encode(&incoming.body),
        page: incoming.page.clone(),
        client: incoming.client.clone(),
        trace_id: call.trace_id.to_owned(),
        agent: names_agent.then(|| agents::named(call, call.param("id")).ok()).flatten(),
        who: Who {
            user_id: who.user_id.clone(),
            username: who.username.clone(),
            is_admin: who.role >= Role::Admin,
            by_token: who.by_token,
            session: who.session.as_ref().map(|it| (it.id.clone(), it.expires_at)),
        },
    })
}

fn reply_of(call: &Call<'_>, outcome: Outcome) -> Result<Reply, ApiError> {
    match outcome {
        Outcome::Done { status, data, total, ends_session } => {
            let mut reply = Reply { status, body: Body::Data(data), total, headers: Vec::new() };
            if ends_session {
                // The cookie's name is that of this server's port.
                let cookie = cookie::end(call.app.config.http_port);
                reply.headers.push(("Set-Cookie", cookie));
            }
            Ok(reply)
        }
        Outcome::Refused { code, message, retry_after_secs, status } => {
            Err(ApiError { retry_after_secs, status, ..ApiError::new(Code::of(code), message) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::api::routes;

    /// Calls that change what a server has for itself.
    const HERE: [(Method, &str); 8] = [
        (Post, "/v1/auth/login"),
        (Post, "/v1/auth/session"),
        (Post, "/v1/notifications/channels/{id}/test"),
        (Post, "/v1/alerts/rules/test"),
        (Post, "/v1/alerts/history/{id}/acknowledge"),
        (Post, "/v1/alerts/history/{id}/resolve"),
        (Post, "/v1/alerts/history/{id}/comments"),
        (Post, "/v1/system/storage/cleanup"),
    ];

    #[test]
    fn of_every_call_it_is_known_where_it_is_served() {
        let there = |(method, path): (Method, &str)| {
            ELSEWHERE.iter().any(|row| (row.0, row.1) == (method, path))
        };
        for route in routes::all().filter(|route| route.is_endpoint()) {
            let call = (route.method, route.path);
            let is_about_certificates = route.path.starts_with("/v1/cert");
            if route.method == Get {
                assert_eq!(there(call), is_about_certificates, "{call:?}");
            } else {
                assert!(there(call) != HERE.contains(&call), "{call:?}");
            }
        }
        for (method, path, _) in ELSEWHERE {
            let found = routes::all().any(|route| (route.method, route.path) == (*method, *path));
            assert!(found, "there is no {method:?} {path}");
        }
    }
}
