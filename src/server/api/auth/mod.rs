//! Who calls: logins, API tokens, and the first user.
//!
//! While a user has the password of the configuration, which everybody can look up, calls from
//! other machines can change that password and nothing else.

use std::net::IpAddr;

use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};

use crate::base::clock::MINUTE_MS;
use crate::base::exit::{Exit, Fatal};
use crate::base::ids::{new_id, random_hex};
use crate::base::limits::PASSWORD_BYTES_MAX;
use crate::model::role::Role;
use crate::server::api::auth::identity::{Identity, Session};
use crate::server::api::reply::{ApiError, Code};
use crate::server::config::{self, ServerConfig};
use crate::server::control::users::{self, UserRow};
use crate::server::control::{Control, tokens};

pub(crate) mod cookie;
pub(crate) mod credentials;
pub(crate) mod identity;
pub(crate) mod jwt;
pub(crate) mod names;
pub(crate) mod password;
pub(crate) mod sessions;
pub(crate) mod throttle;

/// What an API token's text starts with, so that people and secret scanners know it.
pub(crate) const TOKEN_PREFIX: &str = "oxm_";
/// The row of `settings` with the key that signs logins.
const SECRET: &str = "jwt_secret";

/// Checks who calls. One for the process.
pub struct Auth {
    control: Control,
    keys: RwLock<jwt::Keys>,
    hasher: password::Hasher,
    throttle: throttle::Throttle,
    ended: sessions::Ended,
    expire_secs: i64,
    /// The password of the configuration, which no user may choose.
    default_password: RwLock<String>,
    /// The key of the configuration, where it has one.
    configured_key: RwLock<Option<String>>,
}

/// A login that worked.
#[derive(Debug)]
pub struct Login {
    /// The token.
    pub token: String,
    /// Seconds that it is good for.
    pub expires_in: i64,
    /// The user.
    pub user: UserRow,
}

impl Auth {
    /// Reads or makes the signing key, and makes the first user when there is none.
    ///
    /// # Errors
    ///
    /// When `cert.db` can't be read or written.
    pub fn open(config: &ServerConfig, control: &Control, now_ms: i64) -> Result<Self, Fatal> {
        let fatal = |error: ApiError| {
            Fatal::new(Exit::DataDir, format!("cannot prepare logins in cert.db: {error}"))
        };
        let hasher = password::Hasher::new(config.pools.http_workers).map_err(fatal)?;
        share_key(config, control).map_err(fatal)?;
        let config = &config.auth;
        let secret = secret_of(config, control).map_err(fatal)?;
        first_user(config, control, &hasher, now_ms).map_err(fatal)?;
        Ok(Self {
            control: control.clone(),
            keys: RwLock::new(jwt::Keys::new(&secret)),
            hasher,
            throttle: throttle::Throttle::default(),
            ended: sessions::Ended::open(control, now_ms / 1_000).map_err(fatal)?,
            default_password: RwLock::new(config.default_password.clone()),
            configured_key: RwLock::new(config.jwt_secret.clone()),
            expire_secs: i64::try_from(config.token_expire_secs).unwrap_or(i64::MAX),
        })
    }

    /// Takes the secrets of the configuration again. Logins that another key signed end.
    ///
    /// # Errors
    ///
    /// When `cert.db` can't be read; the secrets stay as they were.
    pub(crate) fn reload(&self, config: &ServerConfig) -> Result<(), ApiError> {
        share_key(config, &self.control)?;
        let secret = secret_of(&config.auth, &self.control)?;
        *self.keys.write() = jwt::Keys::new(&secret);
        self.default_password.write().clone_from(&config.auth.default_password);
        self.configured_key.write().clone_from(&config.auth.jwt_secret);
        Ok(())
    }

    /// Takes the stored key as it is now, where the configuration has none. Logins that another key
    /// signed end.
    ///
    /// # Errors
    ///
    /// When `cert.db` can't be read; the key stays what it was.
    pub(crate) fn read_again(&self) -> Result<(), ApiError> {
        if self.configured_key.read().is_none() {
            let secret = stored_secret(&self.control)?;
            *self.keys.write() = jwt::Keys::new(&secret);
        }
        Ok(())
    }

    /// Takes the logins that have ended as they are stored now.
    ///
    /// # Errors
    ///
    /// When `cert.db` can't be read.
    pub(crate) fn read_ended(&self, now_ms: i64) -> Result<(), ApiError> {
        self.ended.read_again(now_ms / 1_000)
    }

    /// Logs a user in.
    ///
    /// # Errors
    ///
    /// 1002 for a wrong name or password, 1006 after too many of them.
    pub fn login(
        &self,
        username: &str,
        password: &str,
        client: &str,
        now_ms: i64,
    ) -> Result<Login, ApiError> {
        let row = self.checked(username, password, client, now_ms, || {
            self.control.read(|db| users::by_name(db, username))
        })?;
        let user = row.ok_or_else(|| {
            ApiError::new(Code::Unauthenticated, "the user name or the password is wrong")
        })?;
        self.renew_hash(&user, password)?;
        let iat = now_ms / 1_000;
        let claims = jwt::Claims {
            sub: user.id.clone(),
            epoch: user.token_epoch,
            iat,
            exp: iat.saturating_add(self.expire_secs),
            jti: new_id(),
        };
        let failed = || ApiError::new(Code::Internal, "the login can't be signed");
        let token = self.keys.read().sign(&claims).ok_or_else(failed)?;
        Ok(Login { token, expires_in: self.expire_secs, user })
    }

    /// Replaces a hash of the first release by one of today, after a login that fitted it.
    fn renew_hash(&self, user: &UserRow, password: &str) -> Result<(), ApiError> {
        if !password::is_of_first_release(&user.password_hash) {
            return Ok(());
        }
        let (id, old, new) =
            (user.id.clone(), user.password_hash.clone(), self.hasher.hash(password)?);
        let replaced = self.control.write(move |tx| -> Result<(), ApiError> {
            Ok(users::replace_hash(tx, &id, &old, &new)?)
        });
        // The home does it at a login there.
        replaced.or_else(|error| if error.code == Code::HomeAway { Ok(()) } else { Err(error) })
    }

    /// Changes the caller's own password and ends every login of theirs.
    ///
    /// # Errors
    ///
    /// 1002 when the current one is wrong, 1001 when the new one can't be one.
    pub fn change_password(
        &self,
        who: &Identity,
        (current, new): (&str, &str),
        end_tokens: bool,
        client: &str,
        now_ms: i64,
    ) -> Result<(), ApiError> {
        password::check_new("new_password", new, &who.username, &self.default_password.read())?;
        let row = self.checked(&who.username, current, client, now_ms, || {
            self.control.read(|db| users::by_id(db, &who.user_id))
        })?;
        let wrong = || ApiError::new(Code::Unauthenticated, "the current password is wrong");
        let user = row.ok_or_else(wrong)?;
        if current == new {
            return Err(ApiError::bad("`new_password` is the current one"));
        }
        let hash = self.hasher.hash(new)?;
        self.control.write(move |tx| -> Result<(), ApiError> {
            if end_tokens {
                tokens::delete_all(tx, &user.id)?;
            }
            Ok(users::set_password(tx, &user.id, &hash, now_ms / 1_000)?)
        })
    }

    /// Ends the caller's login.
    ///
    /// # Errors
    ///
    /// 1007 for an API token, which is not a login.
    pub fn sign_out(&self, who: &Identity, now_ms: i64) -> Result<(), ApiError> {
        let message = "an API token has no login to end; revoke it instead";
        let none = || ApiError::new(Code::Forbidden, message);
        let session = who.session.as_ref().ok_or_else(none)?;
        self.ended.end(&who.user_id, session, now_ms / 1_000)
    }

    /// The hash of a new password of `username`.
    ///
    /// # Errors
    ///
    /// 1001 when it can't be one, 1006 when too many are being checked.
    pub fn hash_new(
        &self,
        field: &str,
        password: &str,
        username: &str,
    ) -> Result<String, ApiError> {
        password::check_new(field, password, username, &self.default_password.read())?;
        self.hasher.hash(password)
    }

    /// The user whom a Bearer token stands for.
    ///
    /// # Errors
    ///
    /// 1002 for one that this server did not issue, 1003 for one that has expired.
    pub fn identify(&self, bearer: &str, now_ms: i64) -> Result<Identity, ApiError> {
        if bearer.starts_with(TOKEN_PREFIX) {
            return self.identify_token(bearer, now_ms);
        }
        let claims = self.keys.read().verify(bearer, now_ms).map_err(|refusal| match refusal {
            jwt::Refusal::Expired => ApiError::new(Code::TokenExpired, "the session has expired"),
            jwt::Refusal::Wrong => refused(),
        })?;
        if self.ended.contains(&claims.jti) {
            return Err(ApiError::new(Code::Unauthenticated, "signed out; log in again"));
        }
        let user = self.control.read(|db| users::by_id(db, &claims.sub))?.ok_or_else(refused)?;
        if user.token_epoch != claims.epoch {
            let message = "session ended by a new password or a sign-out; log in again";
            return Err(ApiError::new(Code::Unauthenticated, message));
        }
        let session = Session { id: claims.jti, expires_at: claims.exp };
        Ok(identity(user, false, Some(session)))
    }

    fn identify_token(&self, text: &str, now_ms: i64) -> Result<Identity, ApiError> {
        let hash = token_hash(text);
        let found = self.control.read(|db| -> rusqlite::Result<_> {
            let Some(token) = tokens::by_hash(db, &hash)? else { return Ok(None) };
            Ok(users::by_id(db, &token.user_id)?.map(|user| (token, user)))
        })?;
        let (token, user) = found.ok_or_else(refused)?;
        if token.expires_at.is_some_and(|end| end.saturating_mul(1_000) <= now_ms) {
            return Err(ApiError::new(Code::TokenExpired, "the API token has expired"));
        }
        let used_ms = token.last_used_at.unwrap_or(0).saturating_mul(1_000);
        // To the minute: a script that asks every second must not write every second.
        if now_ms.saturating_sub(used_ms) >= MINUTE_MS {
            let id = token.id.clone();
            self.control.write(move |tx| -> Result<(), ApiError> {
                Ok(tokens::touch(tx, &id, now_ms / 1_000)?)
            })?;
        }
        Ok(identity(user, token.read_only, None))
    }

    /// The row that `find` gives when `password` is that user's; counts and slows down failures.
    fn checked(
        &self,
        username: &str,
        password: &str,
        client: &str,
        now_ms: i64,
        find: impl FnOnce() -> rusqlite::Result<Option<UserRow>>,
    ) -> Result<Option<UserRow>, ApiError> {
        // The table keeps a name as it was given, so a name beyond any user's length is cut.
        let name: String = username.chars().take(64).collect();
        let guess = self.throttle.guess(client, &name, now_ms).map_err(|secs| ApiError {
            retry_after_secs: Some(secs),
            ..ApiError::new(Code::TooMany, format!("too many failed logins; retry in {secs} s"))
        })?;
        let row = find()?;
        let hash = row.as_ref().map(|row| row.password_hash.as_str());
        let fits = password.len() <= PASSWORD_BYTES_MAX && self.hasher.verify(password, hash)?;
        if fits {
            guess.succeeded(now_ms);
            return Ok(row);
        }
        guess.failed(now_ms);
        log::warn!("failed login of `{}` from {client}", name.escape_debug());
        Ok(None)
    }
}

/// The SHA-256 of a token's text, which is what is kept of it.
pub(crate) fn token_hash(text: &str) -> Vec<u8> {
    Sha256::digest(text.as_bytes()).to_vec()
}

/// The text of a new API token: 256 random bits.
pub(crate) fn new_token() -> String {
    format!("{TOKEN_PREFIX}{}", random_hex(32))
}

fn refused() -> ApiError {
    ApiError::new(Code::Unauthenticated, "the token is not valid here; log in again")
}

fn identity(user: UserRow, read_only: bool, session: Option<Session>) -> Identity {
    Identity {
        user_id: user.id,
        username: user.username,
        role: if read_only { Role::Viewer } else { user.role },
        by_token: session.is_none(),
        must_change: user.must_change,
        session,
    }
}

/// Whether a client's address is the machine itself.
pub(crate) fn is_local(client: &str) -> bool {
    client.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// The key that signs logins: that of the configuration, or the server's own.
fn secret_of(config: &config::Auth, control: &Control) -> Result<Vec<u8>, ApiError> {
    match &config.jwt_secret {
        Some(secret) => Ok(secret.clone().into_bytes()),
        None => stored_secret(control),
    }
}

/// Stores the key of the configuration, where other servers of `[peers]` take theirs from this one.
fn share_key(config: &ServerConfig, control: &Control) -> Result<(), ApiError> {
    let Some(secret) = config.auth.jwt_secret.as_ref().filter(|_| config.peers.is_on()) else {
        return Ok(());
    };
    let secret = secret.clone().into_bytes();
    if control.read(|db| users::setting(db, SECRET))?.as_ref() == Some(&secret) {
        return Ok(());
    }
    let stored = control
        .write(move |tx| -> Result<(), ApiError> { Ok(users::put_setting(tx, SECRET, &secret)?) });
    // Where another server is home, its key is the one that is shared.
    stored.or_else(|error| if error.code == Code::HomeAway { Ok(()) } else { Err(error) })
}

fn stored_secret(control: &Control) -> Result<Vec<u8>, ApiError> {
    if let Some(secret) = control.read(|db| users::setting(db, SECRET))? {
        return Ok(secret);
    }
    let secret = random_hex(32).into_bytes();
    let kept = secret.clone();
    control
        .write(move |tx| -> Result<(), ApiError> { Ok(users::put_setting(tx, SECRET, &kept)?) })?;
    Ok(secret)
}

fn first_user(
    config: &config::Auth,
    control: &Control,
    hasher: &password::Hasher,
    now_ms: i64,
) -> Result<(), ApiError> {
    if control.read(users::users)? > 0 {
        let waiting = control.read(|db| users::by_name(db, &config.default_username))?;
        if waiting.is_some_and(|user| user.must_change) {
            warn_default(&config.default_username);
        }
        return Ok(());
    }
    let user = UserRow {
        id: new_id(),
        username: config.default_username.clone(),
        password_hash: hasher.hash(&config.default_password)?,
        role: Role::Admin,
        token_epoch: 0,
        must_change: true,
        created_at: now_ms / 1_000,
        updated_at: now_ms / 1_000,
    };
    control.write(move |tx| -> Result<(), ApiError> { Ok(users::insert(tx, &user)?) })?;
    warn_default(&config.default_username);
    Ok(())
}

fn warn_default(username: &str) {
    log::warn!(
        "user `{username}` has the default password; until it is changed, other machines can only \
         change it: POST /v1/auth/password, or set auth.default_password before the first start"
    );
}
