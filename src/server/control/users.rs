//! Users, API tokens, settings such as the JWT secret, and the audit log. Times are Unix seconds
//! where readers with `sqlite3` look at them (`created_at`), as in all tables of `cert.db`.

use std::collections::HashMap;

use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params};

use crate::model::role::Role;
use crate::server::storage::{Listing, Page};

/// `users.token_epoch` goes up when a password changes: tokens of an older epoch are refused.
pub(crate) const SCHEMA: &str = "
CREATE TABLE users (
  id TEXT PRIMARY KEY,
  username TEXT NOT NULL UNIQUE,
  password_hash TEXT NOT NULL,
  role TEXT NOT NULL DEFAULT 'admin' CHECK (role IN ('admin', 'viewer')),
  token_epoch INTEGER NOT NULL DEFAULT 0,
  must_change INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
CREATE TABLE api_tokens (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  token_hash BLOB NOT NULL UNIQUE,
  read_only INTEGER NOT NULL DEFAULT 0,
  expires_at INTEGER,
  last_used_at INTEGER,
  created_at INTEGER NOT NULL
);
CREATE TABLE settings (
  name TEXT PRIMARY KEY,
  value BLOB NOT NULL
);
CREATE TABLE audit_log (
  id TEXT PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  username TEXT NOT NULL,
  address TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  outcome INTEGER NOT NULL,
  trace_id TEXT NOT NULL
);
CREATE INDEX audit_log_at ON audit_log (at_ms);
";

/// Logins that were ended by signing out, until they would have expired.
pub(crate) const SCHEMA_ENDED_LOGINS: &str = "
CREATE TABLE ended_logins (
  id TEXT PRIMARY KEY,
  expires_at INTEGER NOT NULL
) WITHOUT ROWID;
";

/// A user's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    /// The id.
    pub id: String,
    /// The name that logs in.
    pub username: String,
    /// The password as an Argon2id PHC string.
    pub password_hash: String,
    /// What the user may do.
    pub role: Role,
    /// Sessions of an older epoch have ended.
    pub token_epoch: i64,
    /// Whether the password is still the one that came with the configuration.
    pub must_change: bool,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds.
    pub updated_at: i64,
}

impl ToSql for Role {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.name().into())
    }
}

impl FromSql for Role {
    /// Anything but `admin` is a viewer: the table's own check rules other words out.
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(if value.as_str()? == Self::Admin.name() { Self::Admin } else { Self::Viewer })
    }
}

const USER_COLUMNS: &str =
    "id, username, password_hash, role, token_epoch, must_change, created_at, updated_at";

fn user_of(row: &Row<'_>) -> rusqlite::Result<UserRow> {
    Ok(UserRow {
        id: row.get(0)?,
        username: row.get(1)?,
        password_hash: row.get(2)?,
        role: row.get(3)?,
        token_epoch: row.get(4)?,
        must_change: row.get(5)?,
        created_at: row.get(6)?,
        updated_at: row.get(7)?,
    })
}

/// The user with this id or this name.
pub(crate) fn find(db: &Connection, key: &str) -> rusqlite::Result<Option<UserRow>> {
    let sql = format!(
        "SELECT {USER_COLUMNS} FROM users WHERE id = ?1 OR username = ?1 ORDER BY id = ?1 DESC"
    );
    db.prepare_cached(&sql)?.query_row([key], user_of).optional()
}

/// The user with this name.
pub(crate) fn by_name(db: &Connection, username: &str) -> rusqlite::Result<Option<UserRow>> {
    let sql = format!("SELECT {USER_COLUMNS} FROM users WHERE username = ?1");
    db.prepare_cached(&sql)?.query_row([username], user_of).optional()
}

/// The user with this id.
pub(crate) fn by_id(db: &Connection, id: &str) -> rusqlite::Result<Option<UserRow>> {
    let sql = format!("SELECT {USER_COLUMNS} FROM users WHERE id = ?1");
    db.prepare_cached(&sql)?.query_row([id], user_of).optional()
}

/// Users by name.
pub(crate) fn list(db: &Connection, page: Page) -> rusqlite::Result<Listing<UserRow>> {
    let total = count(db, "SELECT count(*) FROM users")?;
    let sql = format!("SELECT {USER_COLUMNS} FROM users ORDER BY username LIMIT ?1 OFFSET ?2");
    let mut query = db.prepare_cached(&sql)?;
    let rows = query.query_map((page.limit as i64, page.offset as i64), user_of)?;
    Ok(Listing { items: rows.collect::<Result<_, _>>()?, total })
}

/// How many users have the role `admin`.
pub(crate) fn admins(db: &Connection) -> rusqlite::Result<u64> {
    count(db, "SELECT count(*) FROM users WHERE role = 'admin'")
}

/// How many users there are.
pub(crate) fn users(db: &Connection) -> rusqlite::Result<u64> {
    count(db, "SELECT count(*) FROM users")
}

fn count(db: &Connection, sql: &str) -> rusqlite::Result<u64> {
    db.query_row(sql, [], |row| row.get::<_, i64>(0)).map(|number| number.max(0) as u64)
}

/// Adds a user.
///
/// # Errors
///
/// What SQLite says, such as that the name is taken.
pub(crate) fn insert(db: &Connection, user: &UserRow) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO users (id, username, password_hash, role, token_epoch, must_change,
           created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            user.id,
            user.username,
            user.password_hash,
            user.role,
            user.token_epoch,
            user.must_change,
            user.created_at,
            user.updated_at
        ],
    )?;
    Ok(())
}

/// Sets a password, which ends every login of the user.
pub(crate) fn set_password(
    db: &Connection,
    id: &str,
    hash: &str,
    now_secs: i64,
) -> rusqlite::Result<()> {
    db.execute(
        "UPDATE users SET password_hash = ?2, token_epoch = token_epoch + 1, must_change = 0,
           updated_at = ?3 WHERE id = ?1",
        params![id, hash, now_secs],
    )?;
    Ok(())
}

/// Replaces the hash of a password that stays the same; no login ends.
pub(crate) fn replace_hash(
    db: &Connection,
    id: &str,
    old: &str,
    new: &str,
) -> rusqlite::Result<()> {
    db.execute(
        "UPDATE users SET password_hash = ?3 WHERE id = ?1 AND password_hash = ?2",
        params![id, old, new],
    )?;
    Ok(())
}

/// Ends every login of a user.
pub(crate) fn end_logins(db: &Connection, id: &str) -> rusqlite::Result<()> {
    db.execute("UPDATE users SET token_epoch = token_epoch + 1 WHERE id = ?1", [id])?;
    Ok(())
}

/// Ends the login with this id, and forgets those that have expired.
pub(crate) fn end_login(
    db: &Connection,
    id: &str,
    expires_at: i64,
    now_secs: i64,
) -> rusqlite::Result<()> {
    db.execute("DELETE FROM ended_logins WHERE expires_at <= ?1", [now_secs])?;
    let sql = "INSERT OR IGNORE INTO ended_logins (id, expires_at) VALUES (?1, ?2)";
    db.execute(sql, params![id, expires_at])?;
    Ok(())
}

/// Ids of logins that were ended, with when they expire, Unix seconds.
pub(crate) fn ended_logins(
    db: &Connection,
    now_secs: i64,
) -> rusqlite::Result<HashMap<String, i64>> {
    let mut query = db.prepare("SELECT id, expires_at FROM ended_logins WHERE expires_at > ?1")?;
    let rows = query.query_map([now_secs], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Names of all users.
pub(crate) fn names(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut query = db.prepare_cached("SELECT username FROM users")?;
    let rows = query.query_map([], |row| row.get(0))?;
    rows.collect()
}

/// Gives a user another role; a user that does not exist stays so.
pub(crate) fn set_role(
    db: &Connection,
    id: &str,
    role: Role,
    now_secs: i64,
) -> rusqlite::Result<()> {
    db.execute(
        "UPDATE users SET role = ?2, updated_at = ?3 WHERE id = ?1",
        params![id, role, now_secs],
    )?;
    Ok(())
}

/// Removes a user with the API tokens of that user.
pub(crate) fn delete(db: &Connection, id: &str) -> rusqlite::Result<()> {
    db.execute("DELETE FROM users WHERE id = ?1", [id])?;
    Ok(())
}

/// A value of the table `settings`, such as the key that signs logins.
pub(crate) fn setting(db: &Connection, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    db.query_row("SELECT value FROM settings WHERE name = ?1", [name], |row| row.get(0)).optional()
}

/// Keeps a value in the table `settings`.
pub(crate) fn put_setting(db: &Connection, name: &str, value: &[u8]) -> rusqlite::Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO settings (name, value) VALUES (?1, ?2)",
        params![name, value],
    )?;
    Ok(())
}
