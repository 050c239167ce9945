//! Rows of channels with their recipients.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::model::severity::Severity;
use crate::server::storage::{Listing, Page};

/// One channel as it is stored, secrets and all: never given out without masking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChannelRow {
    /// Unique id.
    pub id: String,
    /// Unique name.
    pub name: String,
    /// The channel type's name.
    pub channel_type: String,
    /// What people wrote about it.
    pub description: Option<String>,
    /// Alerts milder than this do not notify here.
    pub min_severity: Severity,
    /// Whether it is used.
    pub enabled: bool,
    /// The configuration, a JSON object.
    pub config_json: String,
    /// Addresses, in the order in which they were given.
    pub recipients: Vec<String>,
    /// When it was made, Unix seconds.
    pub created_at: i64,
    /// When it was last changed, Unix seconds.
    pub updated_at: i64,
}

const COLUMNS: &str = "id, name, channel_type, description, min_severity, enabled, config_json, \
                       created_at, updated_at";

fn from_row(row: &Row<'_>) -> Result<ChannelRow, rusqlite::Error> {
    let severity: String = row.get(4)?;
    Ok(ChannelRow {
        id: row.get(0)?,
        name: row.get(1)?,
        channel_type: row.get(2)?,
        description: row.get(3)?,
        // Only checked names are written; anything else gets the lowest, which lets most through.
        min_severity: severity.parse().unwrap_or(Severity::Info),
        enabled: row.get(5)?,
        config_json: row.get(6)?,
        recipients: Vec::new(),
        created_at: row.get(7)?,
        updated_at: row.get(8)?,
    })
}

/// Channels by name; all of them without a page.
pub(crate) fn list(
    db: &Connection,
    page: Option<Page>,
) -> Result<Listing<ChannelRow>, rusqlite::Error> {
    let total = count(db)?;
    let (limit, offset) = page.map_or((-1, 0), |page| (page.limit as i64, page.offset as i64));
    let sql =
        format!("SELECT {COLUMNS} FROM notification_channels ORDER BY name LIMIT ?1 OFFSET ?2");
    let mut query = db.prepare_cached(&sql)?;
    let mut items = query.query_map([limit, offset], from_row)?.collect::<Result<Vec<_>, _>>()?;
    for item in &mut items {
        item.recipients = recipients(db, &item.id)?;
    }
    Ok(Listing { items, total })
}

/// How many channels there are.
pub(crate) fn count(db: &Connection) -> Result<u64, rusqlite::Error> {
    db.query_row("SELECT COUNT(*) FROM notification_channels", [], |row| row.get(0))
        .map(i64::unsigned_abs)
}

/// Whether a channel other than `id` has the name.
pub(crate) fn name_taken(db: &Connection, name: &str, id: &str) -> Result<bool, rusqlite::Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM notification_channels WHERE name = ?1 AND id <> ?2)";
    db.query_row(sql, [name, id], |row| row.get(0))
}

/// The channel with this id or, where no id matches, this name.
pub(crate) fn find(db: &Connection, key: &str) -> Result<Option<ChannelRow>, rusqlite::Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM notification_channels WHERE id = ?1 OR name = ?1
         ORDER BY id = ?1 DESC LIMIT 1"
    );
    let found = db.prepare_cached(&sql)?.query_row([key], from_row).optional()?;
    let Some(mut channel) = found else { return Ok(None) };
    channel.recipients = recipients(db, &channel.id)?;
    Ok(Some(channel))
}

fn recipients(db: &Connection, channel_id: &str) -> Result<Vec<String>, rusqlite::Error> {
    let sql =
        "SELECT recipient FROM notification_recipients WHERE channel_id = ?1 ORDER BY position";
    let mut query = db.prepare_cached(sql)?;
    query.query_map([channel_id], |row| row.get(0))?.collect()
}

/// Writes a new channel, or the changed one with its id, and its recipients.
///
/// # Errors
///
/// When the database fails, or another channel has the name.
pub(crate) fn put(tx: &Transaction<'_>, channel: &ChannelRow) -> Result<(), rusqlite::Error> {
    tx.execute(
        "INSERT INTO notification_channels (id, name, channel_type, description, min_severity,
           enabled, config_json, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (id) DO UPDATE SET name = ?2, channel_type = ?3, description = ?4,
           min_severity = ?5, enabled = ?6, config_json = ?7, updated_at = ?9",
        params![
            channel.id,
            channel.name,
            channel.channel_type,
            channel.description,
            channel.min_severity.name(),
            channel.enabled,
            channel.config_json,
            channel.created_at,
            channel.updated_at,
        ],
    )?;
    tx.execute("DELETE FROM notification_recipients WHERE channel_id = ?1", [&channel.id])?;
    let mut insert = tx.prepare_cached(
        "INSERT INTO notification_recipients (channel_id, position, recipient) VALUES (?1, ?2, ?3)",
    )?;
    for (position, recipient) in channel.recipients.iter().enumerate() {
        insert.execute(params![channel.id, position as i64, recipient])?;
    }
    Ok(())
}

/// Removes a channel with its recipients and whatever waits for it in the outbox.
pub(crate) fn remove(tx: &Transaction<'_>, id: &str) -> Result<(), rusqlite::Error> {
    tx.execute("DELETE FROM notification_channels WHERE id = ?1", [id])?;
    Ok(())
}
