//! Who may log in, and as what.

use rusqlite::Transaction;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::ids::new_id;
use crate::base::limits::USERS_MAX;
use crate::model::role::Role;
use crate::server::api::auth::names::{check_name, skeleton};
use crate::server::api::reply::{ApiError, Code, Reply};
use crate::server::api::request::Call;
use crate::server::api::router::{ADMIN, Gives, Method, Route};
use crate::server::api::routes::by_login;
use crate::server::api::schema::{Shape, Time};
use crate::server::control::tokens;
use crate::server::control::users::{self, UserRow};

/// The endpoints.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        access: ADMIN,
        ..Route::get("/v1/users", "Users by name.", Gives::List(Shape::of::<User>()), list)
    },
    Route {
        method: Method::Post,
        access: ADMIN,
        body: Some(Shape::of::<NewUser>()),
        status: 201,
        errors: &[Code::Conflict, Code::TooMany],
        ..Route::get("/v1/users", "Make a user.", Gives::One(Shape::of::<User>()), create)
    },
    Route {
        access: ADMIN,
        ..Route::get(
            "/v1/users/{id}",
            "One user, by id or name.",
            Gives::One(Shape::of::<User>()),
            get,
        )
    },
    Route {
        method: Method::Put,
        access: ADMIN,
        body: Some(Shape::of::<RoleBody>()),
        errors: &[Code::Conflict],
        ..Route::get(
            "/v1/users/{id}",
            "Change a user's role, at once. The last administrator stays one.",
            Gives::One(Shape::of::<User>()),
            set_role,
        )
    },
    Route {
        method: Method::Delete,
        access: ADMIN,
        errors: &[Code::Conflict],
        ..Route::get(
            "/v1/users/{id}",
            "Remove a user with all logins and API tokens. The last administrator stays.",
            Gives::Nothing,
            remove,
        )
    },
    Route {
        method: Method::Post,
        access: ADMIN,
        body: Some(Shape::of::<ResetBody>()),
        errors: &[Code::TooMany],
        ..Route::get(
            "/v1/users/{id}/password",
            "Set a user's password. It ends every login of that user, and the user's API tokens \
             where that is asked for.",
            Gives::Nothing,
            set_password,
        )
    },
];

#[derive(Serialize, ToSchema)]
struct User {
    id: String,
    username: String,
    /// What the user may do.
    #[schema(inline)]
    role: Role,
    /// Whether the password is still the one of the configuration, and must be changed.
    must_change: bool,
    created_at: Time,
    updated_at: Time,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            role: row.role,
            id: row.id,
            username: row.username,
            must_change: row.must_change,
            created_at: Time::from_secs(row.created_at),
            updated_at: Time::from_secs(row.updated_at),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewUser {
    /// The name that logs in. Unique.
    #[schema(min_length = 1, max_length = 64)]
    username: String,
    /// The first password.
    #[schema(format = Password, min_length = 8, max_length = 256)]
    password: String,
    /// What the user may do. Default: `viewer`.
    #[serde(default)]
    #[schema(inline)]
    role: Option<Role>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RoleBody {
    /// What the user may do from now on.
    #[schema(inline)]
    role: Role,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ResetBody {
    /// The new password.
    #[schema(format = Password, min_length = 8, max_length = 256)]
    new_password: String,
    /// Whether the user's API tokens end too. Default: false.
    #[serde(default)]
    end_tokens: bool,
}

fn list(call: &Call<'_>) -> Result<Reply, ApiError> {
    let page = call.page()?;
    let rows = call.app.control.read(|db| users::list(db, page))?;
    Ok(Reply::list(&rows.map(User::from)))
}

fn get(call: &Call<'_>) -> Result<Reply, ApiError> {
    let row = call.app.control.read(|db| users::find(db, call.param("id")))?;
    let row = row.ok_or_else(|| ApiError::not_found("user", call.param("id")))?;
    Ok(Reply::ok(&User::from(row)))
}

fn create(call: &Call<'_>) -> Result<Reply, ApiError> {
    by_login(call)?;
    let body: NewUser = call.json()?;
    check_name(&body.username)?;
    let now_secs = call.now_ms / 1_000;
    let row = UserRow {
        id: new_id(),
        password_hash: call.app.auth.hash_new("password", &body.password, &body.username)?,
        username: body.username,
        role: body.role.unwrap_or(Role::Viewer),
        token_epoch: 0,
        must_change: false,
        created_at: now_secs,
        updated_at: now_secs,
    };
    let kept = row.clone();
    call.app.control.write(move |tx| -> Result<(), ApiError> {
        let wanted = skeleton(&kept.username);
        if let Some(known) = users::names(tx)?.into_iter().find(|it| skeleton(it) == wanted) {
            let message =
                format!("there is a user `{known}` already, which is the same or looks so");
            return Err(ApiError::new(Code::Conflict, message));
        }
        if users::users(tx)? >= USERS_MAX {
            let message = format!("there are {USERS_MAX} users; remove one first");
            return Err(ApiError::new(Code::Conflict, message));
        }
        Ok(users::insert(tx, &kept)?)
    })?;
    Ok(Reply::created(&User::from(row)))
}

fn set_role(call: &Call<'_>) -> Result<Reply, ApiError> {
    by_login(call)?;
    let body: RoleBody = call.json()?;
    let now_secs = call.now_ms / 1_000;
    let row = change(call, move |tx, row| {
        if body.role != Role::Admin {
            check_not_last(tx, row)?;
        }
        Ok(users::set_role(tx, &row.id, body.role, now_secs)?)
    })?;
    Ok(Reply::ok(&User::from(row)))
}

fn remove(call: &Call<'_>) -> Result<Reply, ApiError> {
    by_login(call)?;
    change(call, |tx, row| {
        check_not_last(tx, row)?;
        Ok(users::delete(tx, &row.id)?)
    })?;
    Ok(Reply::done())
}

fn set_password(call: &Call<'_>) -> Result<Reply, ApiError> {
    by_login(call)?;
    let body: ResetBody = call.json()?;
    let row = call.app.control.read(|db| users::find(db, call.param("id")))?;
    let name = row.map(|row| row.username).unwrap_or_default();
    let hash = call.app.auth.hash_new("new_password", &body.new_password, &name)?;
    let now_secs = call.now_ms / 1_000;
    change(call, move |tx, row| {
        if body.end_tokens {
            tokens::delete_all(tx, &row.id)?;
        }
        Ok(users::set_password(tx, &row.id, &hash, now_secs)?)
    })?;
    Ok(Reply::done())
}

/// Changes the user of the path in one transaction, and gives the row as it is then; of a user who
/// is gone, as it was.
fn change(
    call: &Call<'_>,
    body: impl FnOnce(&Transaction<'_>, &UserRow) -> Result<(), ApiError> + Send + 'static,
) -> Result<UserRow, ApiError> {
    let key = call.param("id").to_owned();
    call.app.control.write(move |tx| -> Result<UserRow, ApiError> {
        let row = users::find(tx, &key)?.ok_or_else(|| ApiError::not_found("user", &key))?;
        body(tx, &row)?;
        Ok(users::by_id(tx, &row.id)?.unwrap_or(row))
    })
}

/// Somebody must be left who can let others in.
fn check_not_last(tx: &Transaction<'_>, row: &UserRow) -> Result<(), ApiError> {
    if row.role == Role::Admin && users::admins(tx)? <= 1 {
        let message =
            format!("`{}` is the last administrator; make another one first", row.username);
        return Err(ApiError::new(Code::Conflict, message));
    }
    Ok(())
}
