//! Calls that another server passes on to the home (`[peers]`): the home looks again whether the
//! user may, and does them as if they had come in here.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::base::limits::{HTTP_BODY_BYTES_MAX, TEXT_BYTES_MAX};
use crate::server::api::app::App;
use crate::server::api::auth::credentials::check_password_changed;
use crate::server::api::auth::identity::{Identity, Session};
use crate::server::api::dispatch::{Caller, carry_out, find_target};
use crate::server::api::passed;
use crate::server::api::reply::{ApiError, Body, Code, Reply};
use crate::server::api::request::Incoming;
use crate::server::api::router::Access;
use crate::server::config::peers::is_name;
use crate::server::control::{shared, users};
use crate::server::peers::Peers;
use crate::server::peers::change::{Answered, Outcome, Passed, Who};
use crate::server::peers::lead;

/// At the home: does what was passed on.
///
/// # Errors
///
/// When this server is not home, or the call is not one that is passed on.
pub(crate) fn carry_out_passed(
    app: &App,
    room: &Peers,
    change: Passed,
) -> Result<Answered, ApiError> {
    if room.role() != lead::Role::Home {
        let message = "this server is not home of the configuration, or not any more";
        return Err(ApiError::new(Code::HomeAway, message));
    }
    let outcome = match done(app, change) {
        Ok(Reply { status, body: Body::Data(data), total, headers }) => {
            let ends_session = headers.iter().any(|(name, _)| *name == "Set-Cookie");
            Outcome::Done { status, data, total, ends_session }
        }
        Ok(_) => return Err(ApiError::bad("this call has an answer that is not passed on")),
        Err(error) => Outcome::Refused {
            code: error.code as u16,
            message: error.message,
            retry_after_secs: error.retry_after_secs,
            status: error.status,
        },
    };
    let now = app.control.read(shared::state)?;
    Ok(Answered { of: now.of, version: now.version, outcome })
}

fn done(app: &App, change: Passed) -> Result<Reply, ApiError> {
    let (route, parts) = find_target(&change.method, &change.target)?;
    let Access::User(_) = route.access else { return Err(not_passed()) };
    if !passed::is_passed_on(route) {
        return Err(not_passed());
    }
    let body = BASE64_STANDARD.decode(&change.body);
    let body = body.map_err(|_| ApiError::bad("the body that was passed on is not Base64"))?;
    let texts = [&change.client, &change.trace_id, &change.who.user_id, &change.who.username];
    if body.len() > HTTP_BODY_BYTES_MAX
        || !is_name(&change.through)
        || texts.iter().any(|text| text.len() > TEXT_BYTES_MAX)
    {
        return Err(ApiError::bad("what was passed on is too large"));
    }
    let identity = identity_of(app, &change.who)?;
    if !route.with_default_password {
        check_password_changed(&identity, &change.client)?;
    }
    let incoming = Incoming {
        method: change.method,
        target: change.target,
        content_type: change.content_type,
        page: change.page,
        body,
        client: change.client,
        ..Incoming::default()
    };
    let caller =
        Caller { identity: Some(identity), through: Some(change.through), agent: change.agent };
    carry_out(app, &incoming, (route, parts), caller, &change.trace_id)
}

fn not_passed() -> ApiError {
    ApiError::bad("this call is not one that is passed on")
}

/// The user as the home knows them, with no more rights than here and there.
fn identity_of(app: &App, who: &Who) -> Result<Identity, ApiError> {
    let unknown = || {
        let message = "the home does not know this user; log in again";
        ApiError::new(Code::Unauthenticated, message)
    };
    let user = app.control.read(|db| users::by_id(db, &who.user_id))?.ok_or_else(unknown)?;
    if user.username != who.username {
        return Err(unknown());
    }
    let session = who.session.clone().map(|(id, expires_at)| Session { id, expires_at });
    Ok(Identity {
        user_id: user.id,
        username: user.username,
        role: user.role.min(who.role()),
        by_token: who.by_token,
        must_change: user.must_change,
        session,
    })
}
