//! Notification channels of the first release, with their recipients.

use rusqlite::{Connection, Row, Transaction};
use serde_json::{Map, Value};

use crate::model::severity::Severity;
use crate::server::control::notify::channels::{self as rows, ChannelRow};
use crate::server::import::folder;
use crate::server::import::report::Report;
use crate::server::import::shapes;
use crate::server::notify::NotifyError;
use crate::server::notify::channels as types;
use crate::server::notify::manage::{self, ChannelInput};
use crate::server::storage::StorageError;

/// A channel that is to be written.
pub(super) type OldChannel = ChannelRow;

const CHANNEL: [(&str, &str); 10] = [
    ("id", "name"),
    ("name", "NULL"),
    ("channel_type", "''"),
    ("description", "NULL"),
    ("min_severity", "'info'"),
    ("enabled", "1"),
    ("config_json", "'{}'"),
    ("created_at", "0"),
    ("updated_at", "0"),
    ("system_config_id", "NULL"),
];

/// Reads channels. One whose configuration is not complete comes over disabled; one of an unknown
/// type does not.
///
/// # Errors
///
/// When the database can't be read.
pub(super) fn read(db: &Connection, report: &mut Report) -> Result<Vec<OldChannel>, StorageError> {
    let mut found = Vec::new();
    let senders = folder::rows(db, "system_configs", &[("id", "''"), ("config_json", "''")], pair)?;
    for (mut row, sender) in folder::rows(db, "notification_channels", &CHANNEL, channel)? {
        let what = format!("channel `{}` ({})", row.name, row.channel_type);
        let mut config: Map<String, Value> =
            serde_json::from_str(&row.config_json).unwrap_or_default();
        // Some releases kept the sender of many channels in one place.
        let shared = senders.iter().find(|(id, _)| Some(id) == sender.as_ref());
        let shared: Map<String, Value> =
            shared.and_then(|(_, text)| serde_json::from_str(text).ok()).unwrap_or_default();
        for (name, value) in shared {
            config.entry(name).or_insert(value);
        }
        let (kind, config) = shapes::channel(&row.channel_type, config);
        row.channel_type = kind;
        row.config_json = Value::Object(config).to_string();
        row.recipients = recipients(db, &row.id)?;
        if types::find(&row.channel_type).is_none() {
            report.skip("channels", &what, format!("no channel type of {}", types::kinds()));
            continue;
        }
        match checked(&row) {
            Ok(checked) => {
                row.config_json = checked.config_json;
                row.recipients = checked.recipients;
            }
            Err(why) => {
                row.enabled = false;
                report.notes.push(format!("{what} is disabled until it is complete: {why}"));
            }
        }
        found.push(row);
    }
    Ok(found)
}

/// The row as it would be saved today.
fn checked(row: &ChannelRow) -> Result<ChannelRow, NotifyError> {
    let input = ChannelInput {
        name: Some(row.name.clone()),
        channel_type: Some(row.channel_type.clone()),
        description: row.description.clone(),
        min_severity: Some(row.min_severity),
        enabled: Some(row.enabled),
        config_json: Some(Value::String(row.config_json.clone())),
        recipients: Some(row.recipients.clone()),
    };
    manage::new_channel(input, 0)
}

/// Writes a channel; false when its id or its name is there already.
pub(super) fn write(tx: &Transaction<'_>, row: OldChannel) -> Result<bool, NotifyError> {
    if rows::find(tx, &row.id)?.is_some() || rows::name_taken(tx, &row.name, "")? {
        return Ok(false);
    }
    manage::put(tx, &row)?;
    Ok(true)
}

fn pair(row: &Row<'_>) -> rusqlite::Result<(String, String)> {
    Ok((row.get(0)?, row.get(1)?))
}

fn channel(row: &Row<'_>) -> rusqlite::Result<(ChannelRow, Option<String>)> {
    let severity: String = row.get(4)?;
    let channel = ChannelRow {
        id: row.get(0)?,
        name: row.get(1)?,
        channel_type: row.get(2)?,
        description: row.get(3)?,
        min_severity: severity.to_lowercase().parse().unwrap_or(Severity::Info),
        enabled: row.get(5)?,
        config_json: row.get(6)?,
        recipients: Vec::new(),
        created_at: row.get(7)?,
        updated_at: row.get(8)?,
    };
    Ok((channel, row.get(9)?))
}

fn recipients(db: &Connection, channel_id: &str) -> Result<Vec<String>, StorageError> {
    let columns = [("channel_id", "''"), ("value", "''")];
    let all = folder::rows(db, "notification_recipients", &columns, pair)?;
    let own = all.into_iter().filter(|(channel, _)| channel == channel_id);
    Ok(own.map(|(_, value)| value).collect())
}
