//! API tokens, which act for a user without a session. Of each only the SHA-256 is kept.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::server::storage::{Listing, Page};

/// A token's row. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenRow {
    /// The id.
    pub id: String,
    /// The user that it acts for.
    pub user_id: String,
    /// What it is called.
    pub name: String,
    /// Whether it may only read.
    pub read_only: bool,
    /// When it ends.
    pub expires_at: Option<i64>,
    /// When it was used last, to the minute.
    pub last_used_at: Option<i64>,
    /// When it was made.
    pub created_at: i64,
}

const COLUMNS: &str = "id, user_id, name, read_only, expires_at, last_used_at, created_at";

fn token_of(row: &Row<'_>) -> rusqlite::Result<TokenRow> {
    Ok(TokenRow {
        id: row.get(0)?,
        user_id: row.get(1)?,
        name: row.get(2)?,
        read_only: row.get(3)?,
        expires_at: row.get(4)?,
        last_used_at: row.get(5)?,
        created_at: row.get(6)?,
    })
}

/// The token whose text has this SHA-256.
pub(crate) fn by_hash(db: &Connection, hash: &[u8]) -> rusqlite::Result<Option<TokenRow>> {
    let sql = format!("SELECT {COLUMNS} FROM api_tokens WHERE token_hash = ?1");
    db.prepare_cached(&sql)?.query_row([hash], token_of).optional()
}

/// A user's tokens, newest first.
pub(crate) fn list(
    db: &Connection,
    user_id: &str,
    page: Page,
) -> rusqlite::Result<Listing<TokenRow>> {
    let total = count(db, user_id)?;
    let sql = format!(
        "SELECT {COLUMNS} FROM api_tokens WHERE user_id = ?1 ORDER BY id DESC LIMIT ?2 OFFSET ?3"
    );
    let mut query = db.prepare_cached(&sql)?;
    let rows =
        query.query_map(params![user_id, page.limit as i64, page.offset as i64], token_of)?;
    Ok(Listing { items: rows.collect::<Result<_, _>>()?, total })
}

/// Tokens of all users, newest first, each with its user's name.
pub(crate) fn list_all(
    db: &Connection,
    page: Page,
) -> rusqlite::Result<Listing<(TokenRow, String)>> {
    let total: i64 = db.query_row("SELECT count(*) FROM api_tokens", [], |row| row.get(0))?;
    let sql = "SELECT t.id, t.user_id, t.name, t.read_only, t.expires_at, t.last_used_at,
                 t.created_at, u.username
               FROM api_tokens t JOIN users u ON u.id = t.user_id
               ORDER BY t.id DESC LIMIT ?1 OFFSET ?2";
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map(params![page.limit as i64, page.offset as i64], |row| {
        Ok((token_of(row)?, row.get(7)?))
    })?;
    Ok(Listing { items: rows.collect::<Result<_, _>>()?, total: total.max(0) as u64 })
}

/// How many tokens a user has.
pub(crate) fn count(db: &Connection, user_id: &str) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM api_tokens WHERE user_id = ?1";
    db.query_row(sql, [user_id], |row| row.get::<_, i64>(0)).map(|number| number.max(0) as u64)
}

/// Adds a token.
pub(crate) fn insert(db: &Connection, token: &TokenRow, hash: &[u8]) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO api_tokens (id, user_id, name, token_hash, read_only, expires_at, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            token.id,
            token.user_id,
            token.name,
            hash,
            token.read_only,
            token.expires_at,
            token.created_at
        ],
    )?;
    Ok(())
}

/// Notes when a token was used.
pub(crate) fn touch(db: &Connection, id: &str, now_secs: i64) -> rusqlite::Result<()> {
    db.execute("UPDATE api_tokens SET last_used_at = ?2 WHERE id = ?1", params![id, now_secs])?;
    Ok(())
}

/// Removes a user's token; false when the user has none with this id.
pub(crate) fn delete(db: &Connection, user_id: &str, id: &str) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM api_tokens WHERE id = ?1 AND user_id = ?2";
    db.execute(sql, [id, user_id]).map(|rows| rows > 0)
}

/// Removes whoever's token; false when there is none with this id.
pub(crate) fn delete_any(db: &Connection, id: &str) -> rusqlite::Result<bool> {
    db.execute("DELETE FROM api_tokens WHERE id = ?1", [id]).map(|rows| rows > 0)
}

/// Removes every token of a user.
pub(crate) fn delete_all(db: &Connection, user_id: &str) -> rusqlite::Result<()> {
    db.execute("DELETE FROM api_tokens WHERE user_id = ?1", [user_id])?;
    Ok(())
}
