//! Who an `Authorization` header says is calling, and whether they may do more than change their
//! password.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::server::api::auth::identity::Identity;
use crate::server::api::auth::{Auth, TOKEN_PREFIX, is_local};
use crate::server::api::reply::{ApiError, Code};

/// Whether a caller may do more than change the password: with the default one, which everybody
/// can look up, only the machine itself may.
///
/// # Errors
///
/// 1014 otherwise.
pub(crate) fn check_password_changed(identity: &Identity, client: &str) -> Result<(), ApiError> {
    if identity.must_change && !is_local(client) {
        let message = "change the default password first: POST /v1/auth/password";
        return Err(ApiError::new(Code::ChangePassword, message));
    }
    Ok(())
}

/// The user that an `Authorization` stands for: a login or an API token as Bearer, and on
/// Prometheus' API an API token as a Basic password.
///
/// # Errors
///
/// 1002 or 1003 when it stands for none.
pub(crate) fn authenticate(
    auth: &Auth,
    header: Option<&str>,
    takes_basic: bool,
    now_ms: i64,
) -> Result<Identity, ApiError> {
    let missing = || {
        let message = "log in first: POST /v1/auth/login, then `Authorization: Bearer <token>`";
        ApiError::new(Code::Unauthenticated, message)
    };
    let header = header.ok_or_else(missing)?;
    let (scheme, token) = header.trim().split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return auth.identify(token.trim(), now_ms);
    }
    // Grafana and Prometheus know user and password: the password is the API token.
    let (_, token) = basic(header).filter(|_| takes_basic).ok_or_else(missing)?;
    if !token.starts_with(TOKEN_PREFIX) {
        return Err(missing());
    }
    auth.identify(&token, now_ms)
}

/// User and password of a `Basic` credential (RFC 7617).
pub(crate) fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, credential) = header.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(credential.trim()).ok()?).ok()?;
    text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}
