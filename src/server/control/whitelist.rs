//! Agents that may report, with the hashes of their tokens, and the one-time codes by which an
//! agent joins.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::server::storage::{Listing, Page};

/// A token is stored as the SHA-256 of its text; so is an enrolment code.
pub(crate) const SCHEMA: &str = "
CREATE TABLE agent_whitelist (
  id TEXT PRIMARY KEY,
  agent_id TEXT NOT NULL UNIQUE,
  description TEXT,
  token_hash BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
CREATE TABLE enroll_codes (
  code_hash BLOB PRIMARY KEY,
  agent_id TEXT,
  created_by TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
);
";

/// SHA-256 of the text of a token or an enrolment code.
pub(crate) type TokenHash = [u8; 32];

/// A row of `agent_whitelist`: an agent that may report. Times are Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhitelistRow {
    /// The row's id.
    pub id: String,
    /// The agent.
    pub agent_id: String,
    /// A description for people.
    pub description: Option<String>,
    /// When it was added.
    pub created_ms: i64,
    /// When its description or its token last changed.
    pub updated_ms: i64,
}

const COLUMNS: &str = "id, agent_id, description, created_at, updated_at";

fn row(row: &Row<'_>) -> rusqlite::Result<WhitelistRow> {
    Ok(WhitelistRow {
        id: row.get(0)?,
        agent_id: row.get(1)?,
        description: row.get(2)?,
        created_ms: row.get::<_, i64>(3)?.saturating_mul(1_000),
        updated_ms: row.get::<_, i64>(4)?.saturating_mul(1_000),
    })
}

/// The token hash of every agent.
pub(crate) fn hashes(db: &Connection) -> rusqlite::Result<HashMap<Box<str>, TokenHash>> {
    let mut query = db.prepare_cached("SELECT agent_id, token_hash FROM agent_whitelist")?;
    let rows = query.query_map([], |row| Ok((row.get::<_, Box<str>>(0)?, row.get(1)?)))?;
    rows.collect()
}

/// A page of the list, newest first.
pub(crate) fn list(db: &Connection, page: Page) -> rusqlite::Result<Listing<WhitelistRow>> {
    let total: i64 = db.query_row("SELECT count(*) FROM agent_whitelist", [], |row| row.get(0))?;
    let sql = format!(
        "SELECT {COLUMNS} FROM agent_whitelist ORDER BY created_at DESC, id DESC LIMIT ?1 OFFSET ?2"
    );
    let mut query = db.prepare_cached(&sql)?;
    let page = params![page.limit as i64, page.offset as i64];
    let items = query.query_map(page, row)?.collect::<Result<_, _>>()?;
    Ok(Listing { items, total: total.cast_unsigned() })
}

/// The row with this id, or else that of the agent with this id.
pub(crate) fn get(db: &Connection, id: &str) -> rusqlite::Result<Option<WhitelistRow>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM agent_whitelist WHERE id = ?1 OR agent_id = ?1
         ORDER BY id = ?1 DESC LIMIT 1"
    );
    db.prepare_cached(&sql)?.query_row([id], row).optional()
}

/// The row of the agent with this id, which is never taken for a row's id.
pub(crate) fn of_agent(db: &Connection, agent_id: &str) -> rusqlite::Result<Option<WhitelistRow>> {
    let sql = format!("SELECT {COLUMNS} FROM agent_whitelist WHERE agent_id = ?1");
    db.prepare_cached(&sql)?.query_row([agent_id], row).optional()
}

/// Adds an agent; false when it is there already.
pub(crate) fn insert(
    db: &Connection,
    id: &str,
    agent_id: &str,
    description: Option<&str>,
    token_hash: &TokenHash,
    now_ms: i64,
) -> rusqlite::Result<bool> {
    let now = now_ms.div_euclid(1_000);
    let added = db.execute(
        "INSERT INTO agent_whitelist
           (id, agent_id, description, token_hash, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5) ON CONFLICT (agent_id) DO NOTHING",
        params![id, agent_id, description, token_hash, now],
    )?;
    Ok(added == 1)
}

/// Adds an agent with an id and times of its own; false when it is there already.
pub(crate) fn insert_row(
    db: &Connection,
    row: &WhitelistRow,
    token_hash: &TokenHash,
) -> rusqlite::Result<bool> {
    let added = db.execute(
        "INSERT INTO agent_whitelist
           (id, agent_id, description, token_hash, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        params![
            row.id,
            row.agent_id,
            row.description,
            token_hash,
            row.created_ms.div_euclid(1_000),
            row.updated_ms.div_euclid(1_000)
        ],
    )?;
    Ok(added == 1)
}

/// Changes the description of the row with this id.
pub(crate) fn set_description(
    db: &Connection,
    id: &str,
    description: Option<&str>,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let sql = "UPDATE agent_whitelist SET description = ?2, updated_at = ?3 WHERE id = ?1";
    db.execute(sql, params![id, description, now_ms.div_euclid(1_000)])?;
    Ok(())
}

/// Changes the token of the row with this id.
pub(crate) fn set_hash(
    db: &Connection,
    id: &str,
    token_hash: &TokenHash,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let sql = "UPDATE agent_whitelist SET token_hash = ?2, updated_at = ?3 WHERE id = ?1";
    db.execute(sql, params![id, token_hash, now_ms.div_euclid(1_000)])?;
    Ok(())
}

/// Removes the row with this id.
pub(crate) fn delete(db: &Connection, id: &str) -> rusqlite::Result<()> {
    db.execute("DELETE FROM agent_whitelist WHERE id = ?1", [id])?;
    Ok(())
}

/// Adds an enrolment code.
pub(crate) fn insert_code(
    db: &Connection,
    code_hash: &TokenHash,
    agent_id: Option<&str>,
    created_by: &str,
    now_ms: i64,
    expires_ms: i64,
) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO enroll_codes (code_hash, agent_id, created_by, created_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            code_hash,
            agent_id,
            created_by,
            now_ms.div_euclid(1_000),
            expires_ms.div_euclid(1_000)
        ],
    )?;
    Ok(())
}

/// Removes codes that can no longer be used.
pub(crate) fn drop_old_codes(db: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    db.execute("DELETE FROM enroll_codes WHERE expires_at <= ?1", [now_ms.div_euclid(1_000)])?;
    Ok(())
}

/// A code that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Code {
    /// The agent that it is for, where it is for one alone.
    pub agent_id: Option<String>,
    /// The user who made it.
    pub created_by: String,
}

/// Removes a code that is still good, and gives what it is for.
pub(crate) fn take_code(
    db: &Connection,
    code_hash: &TokenHash,
    now_ms: i64,
) -> rusqlite::Result<Option<Code>> {
    let sql = "DELETE FROM enroll_codes WHERE code_hash = ?1 AND expires_at > ?2
               RETURNING agent_id, created_by";
    let code = |row: &Row<'_>| Ok(Code { agent_id: row.get(0)?, created_by: row.get(1)? });
    db.query_row(sql, params![code_hash, now_ms.div_euclid(1_000)], code).optional()
}
