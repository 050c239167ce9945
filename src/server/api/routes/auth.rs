//! Logins, passwords, API tokens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::ids::new_id;
use crate::base::limits::API_TOKENS_MAX;
use crate::model::role::Role;
use crate::server::api::auth::cookie::{self, PAGE_HEADER};
use crate::server::api::auth::{Login, is_local, new_token, token_hash};
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{ADMIN, Access, Gives, Method, Route, VIEWER};
use crate::server::api::routes::{by_login, check_text};
use crate::server::api::schema::{Shape, Time, parse_time};
use crate::server::control::tokens::{self, TokenRow};

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::Post,
        access: Access::Public,
        body: Some(Shape::of::<LoginBody>()),
        errors: &[Code::Unauthenticated, Code::TooMany],
        ..Route::get("/v1/auth/login", "Log in.", Gives::One(Shape::of::<LoggedIn>()), login)
    },
    Route {
        method: Method::Post,
        access: Access::Public,
        body: Some(Shape::of::<LoginBody>()),
        errors: &[Code::Unauthenticated, Code::TooMany],
        ..Route::get(
            "/v1/auth/session",
            "Log in as the dashboard does: the session is in a cookie, which counts only beside \
             the header `X-Oxmon-Page`.",
            Gives::One(Shape::of::<SessionInfo>()),
            start_session,
        )
    },
    Route {
        with_default_password: true,
        ..Route::get(
            "/v1/auth/session",
            "Who is logged in.",
            Gives::One(Shape::of::<SessionInfo>()),
            session,
        )
    },
    Route {
        method: Method::Post,
        access: VIEWER,
        body: Some(Shape::of::<PasswordBody>()),
        errors: &[Code::TooMany],
        with_default_password: true,
        ..Route::get(
            "/v1/auth/password",
            "Change your own password. It ends every login of yours, and your API tokens where that \
             is asked for.",
            Gives::Nothing,
            change_password,
        )
    },
    Route {
        method: Method::Post,
        with_default_password: true,
        ..Route::get(
            "/v1/auth/logout",
            "Sign out: the login ends at the server.",
            Gives::Nothing,
            sign_out,
        )
    },
    Route::get(
        "/v1/auth/tokens",
        "Your API tokens, newest first.",
        Gives::List(Shape::of::<Token>()),
        list_tokens,
    ),
    Route {
        method: Method::Post,
        body: Some(Shape::of::<TokenBody>()),
        status: 201,
        errors: &[Code::Conflict],
        ..Route::get(
            "/v1/auth/tokens",
            "Make an API token, so that a script need not log in.",
            Gives::One(Shape::of::<NewToken>()),
            make_token,
        )
    },
    Route {
        method: Method::Delete,
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/auth/tokens/{id}",
            "Revoke an API token of yours.",
            Gives::Nothing,
            revoke_token,
        )
    },
    Route {
        access: ADMIN,
        ..Route::get(
            "/v1/tokens",
            "API tokens of all users, newest first.",
            Gives::List(Shape::of::<UserToken>()),
            list_all_tokens,
        )
    },
    Route {
        method: Method::Delete,
        access: ADMIN,
        errors: &[Code::NotFound],
        ..Route::get(
            "/v1/tokens/{id}",
            "Revoke an API token, whoever made it.",
            Gives::Nothing,
            revoke_any_token,
        )
    },
];

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LoginBody {
    /// The user's name.
    username: String,
    /// The password.
    #[schema(format = Password)]
    password: String,
}

#[derive(Serialize, ToSchema)]
struct LoggedIn {
    /// Sent as `Authorization: Bearer <token>`.
    token: String,
    /// Seconds that it is good for.
    expires_in: i64,
    /// What the user may do.
    #[schema(inline)]
    role: Role,
    /// Whether the password is still the one of the configuration, and must be changed.
    must_change: bool,
    /// Whether nothing else is served until it is changed, because the login comes from another
    /// machine: everything else is 403/1014.
    only_change: bool,
}

/// Who is logged in, and what they may do.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
struct SessionInfo {
    /// The user's name.
    username: String,
    /// What the caller may do.
    #[schema(inline)]
    role: Role,
    /// Whether an API token was shown instead of a login.
    by_token: bool,
    /// Whether the password is still the one of the configuration, and must be changed.
    must_change: bool,
    /// Whether nothing else is served until it is changed: everything else is 403/1014.
    only_change: bool,
    /// When the login expires; null for an API token.
    expires_at: Option<Time>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PasswordBody {
    /// The password as it is.
    #[schema(format = Password)]
    current_password: String,
    /// The new password.
    #[schema(format = Password, min_length = 8, max_length = 256)]
    new_password: String,
    /// Whether your API tokens end too. Default: false.
    #[serde(default)]
    end_tokens: bool,
}

#[derive(Serialize, ToSchema)]
struct Token {
    /// The id.
    id: String,
    /// What it is called.
    name: String,
    /// Whether it may only read.
    read_only: bool,
    /// When it ends; null: never.
    expires_at: Option<Time>,
    /// When it was used last, to the minute.
    last_used_at: Option<Time>,
    /// When it was made.
    created_at: Time,
}

/// Somebody's API token.
#[derive(Serialize, ToSchema)]
struct UserToken {
    #[serde(flatten)]
    token: Token,
    /// Whose it is.
    username: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TokenBody {
    /// What it is for.
    #[schema(min_length = 1, max_length = 1024)]
    name: String,
    /// Whether it may only read.
    #[serde(default)]
    read_only: bool,
    /// When it ends; without it, never.
    #[serde(default)]
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct NewToken {
    /// The id.
    id: String,
    /// What it is called.
    name: String,
    /// The token, shown only here: `Authorization: Bearer <token>`.
    token: String,
    /// Whether it may only read.
    read_only: bool,
    /// When it ends; null: never.
    expires_at: Option<Time>,
    /// When it was made.
    created_at: Time,
}

fn checked_login(call: &Call<'_>) -> Result<Login, ApiError> {
    let body: LoginBody = call.json()?;
    for (field, text) in [("username", &body.username), ("password", &body.password)] {
        if text.is_empty() {
            return Err(ApiError::bad(format!("`{field}` must not be empty")));
        }
    }
    call.app.auth.login(&body.username, &body.password, &call.client, call.now_ms)
}

fn start_session(call: &Call<'_>) -> Result<Reply, ApiError> {
    // Another site's page must not log its visitor in as somebody else either.
    let page = call.page.ok_or_else(|| {
        ApiError::bad(format!("this call needs the header `{PAGE_HEADER}`; use /v1/auth/login"))
    })?;
    let login = checked_login(call)?;
    let config = &call.app.config;
    let is_secure = page == "https" || config.tls.is_some();
    let cookie = cookie::start(config.http_port, &login.token, login.expires_in, is_secure);
    let mut reply = Reply::ok(&SessionInfo {
        username: login.user.username,
        role: login.user.role,
        by_token: false,
        must_change: login.user.must_change,
        only_change: login.user.must_change && !is_local(&call.client),
        expires_at: Some(Time::from_secs(call.now_ms / 1_000 + login.expires_in)),
    });
    reply.headers.push(("Set-Cookie", cookie));
    Ok(reply)
}

fn session(call: &Call<'_>) -> Result<Reply, ApiError> {
    let who = call.who()?;
    Ok(Reply::ok(&SessionInfo {
        username: who.username.clone(),
        role: who.role,
        by_token: who.by_token,
        must_change: who.must_change,
        only_change: who.must_change && !is_local(&call.client),
        expires_at: who.session.as_ref().map(|session| Time::from_secs(session.expires_at)),
    }))
}

/// An empty answer that has the dashboard's browser forget its session.
fn forget_session(call: &Call<'_>) -> Reply {
    let mut reply = Reply::done();
    if call.page.is_some() {
        reply.headers.push(("Set-Cookie", cookie::end(call.app.config.http_port)));
    }
    reply
}

fn login(call: &Call<'_>) -> Result<Reply, ApiError> {
    let login = checked_login(call)?;
    Ok(Reply::ok(&LoggedIn {
        token: login.token,
        expires_in: login.expires_in,
        role: login.user.role,
        must_change: login.user.must_change,
        only_change: login.user.must_change && !is_local(&call.client),
    }))
}

fn sign_out(call: &Call<'_>) -> Result<Reply, ApiError> {
    call.app.auth.sign_out(call.who()?, call.now_ms)?;
    Ok(forget_session(call))
}

fn change_password(call: &Call<'_>) -> Result<Reply, ApiError> {
    let who = by_login(call)?;
    let body: PasswordBody = call.json()?;
    let passwords = (body.current_password.as_str(), body.new_password.as_str());
    let (client, now_ms) = (&call.client, call.now_ms);
    call.app.auth.change_password(who, passwords, body.end_tokens, client, now_ms)?;
    Ok(forget_session(call))
}

fn list_tokens(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (who, page) = (call.who()?, call.page()?);
    let rows = call.app.control.read(|db| tokens::list(db, &who.user_id, page))?;
    Ok(Reply::list(&rows.map(shown)))
}

fn shown(row: TokenRow) -> Token {
    Token {
        id: row.id,
        name: row.name,
        read_only: row.read_only,
        expires_at: row.expires_at.map(Time::from_secs),
        last_used_at: row.last_used_at.map(Time::from_secs),
        created_at: Time::from_secs(row.created_at),
    }
}

fn make_token(call: &Call<'_>) -> Result<Reply, ApiError> {
    let who = by_login(call)?;
    let body: TokenBody = call.json()?;
    check_text("name", &body.name, true)?;
    let expires_at = body.expires_at.as_deref().map(|text| parse_time("expires_at", text));
    let expires_at = expires_at.transpose()?.map(|ms| ms / 1_000);
    if expires_at.is_some_and(|end| end <= call.now_ms / 1_000) {
        return Err(ApiError::bad("`expires_at` is in the past"));
    }
    let row = TokenRow {
        id: new_id(),
        user_id: who.user_id.clone(),
        name: body.name,
        read_only: body.read_only,
        expires_at,
        last_used_at: None,
        created_at: call.now_ms / 1_000,
    };
    let (token, kept) = (new_token(), row.clone());
    let hash = token_hash(&token);
    call.app.control.write(move |tx| -> Result<(), ApiError> {
        if tokens::count(tx, &kept.user_id)? >= API_TOKENS_MAX {
            let message = format!("you have {API_TOKENS_MAX} API tokens; revoke one first");
            return Err(ApiError::new(Code::Conflict, message));
        }
        Ok(tokens::insert(tx, &kept, &hash)?)
    })?;
    Ok(Reply::created(&NewToken {
        id: row.id,
        name: row.name,
        token,
        read_only: row.read_only,
        expires_at: row.expires_at.map(Time::from_secs),
        created_at: Time::from_secs(row.created_at),
    }))
}

fn revoke_token(call: &Call<'_>) -> Result<Reply, ApiError> {
    let who = by_login(call)?;
    let (user_id, id) = (who.user_id.clone(), call.param("id").to_owned());
    call.app.control.write(move |tx| -> Result<(), ApiError> {
        let gone = tokens::delete(tx, &user_id, &id)?;
        if gone { Ok(()) } else { Err(ApiError::not_found("API token", &id)) }
    })?;
    Ok(Reply::done())
}

fn list_all_tokens(call: &Call<'_>) -> Result<Reply, ApiError> {
    let page = call.page()?;
    let rows = call.app.control.read(|db| tokens::list_all(db, page))?;
    Ok(Reply::list(&rows.map(|(row, username)| UserToken { token: shown(row), username })))
}

fn revoke_any_token(call: &Call<'_>) -> Result<Reply, ApiError> {
    by_login(call)?;
    let id = call.param("id").to_owned();
    call.app.control.write(move |tx| -> Result<(), ApiError> {
        let gone = tokens::delete_any(tx, &id)?;
        if gone { Ok(()) } else { Err(ApiError::not_found("API token", &id)) }
    })?;
    Ok(Reply::done())
}
