//! How far each file has been brought over, kept in the table `settings` of the new `cert.db`.

use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};

use crate::server::control::{Control, users};
use crate::server::import::folder::{DayFile, Folder};
use crate::server::storage::StorageError;

/// A row up to which everything has come over, and its id and time, so that another file under the
/// same name is not taken for this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The row.
    pub rowid: i64,
    id: Option<String>,
    timestamp_ms: Option<i64>,
}

impl Mark {
    /// The mark of a row.
    pub(super) fn at(connection: &Connection, rowid: i64) -> Result<Self, StorageError> {
        let sql = "SELECT CAST(id AS TEXT), timestamp FROM metrics WHERE rowid = ?1";
        let row = connection.query_row(sql, [rowid], |row| Ok((row.get(0)?, row.get(1)?)));
        let (id, timestamp_ms) = row.optional()?.unwrap_or_default();
        Ok(Self { rowid, id, timestamp_ms })
    }
}

/// The row after which a file is to be read: 0 for one that was not begun.
pub(super) fn of(
    control: &Control,
    folder: &Folder,
    file: &DayFile,
    connection: &Connection,
) -> Result<i64, StorageError> {
    let name = name_of(folder, file);
    let kept = control.read(|db| users::setting(db, &name))?;
    let mark: Option<Mark> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(mark) = mark else { return Ok(0) };
    Ok(if Mark::at(connection, mark.rowid)? == mark { mark.rowid } else { 0 })
}

/// Keeps how far a file is.
pub(super) fn keep(
    control: &Control,
    folder: &Folder,
    file: &DayFile,
    mark: &Mark,
) -> Result<(), StorageError> {
    let name = name_of(folder, file);
    let text = serde_json::to_vec(mark)
        .map_err(|error| StorageError::Invalid(format!("the mark of {name}: {error}")))?;
    control
        .write(move |tx| -> Result<(), StorageError> { Ok(users::put_setting(tx, &name, &text)?) })
}

fn name_of(folder: &Folder, file: &DayFile) -> String {
    format!("import:{}/{}", folder.dir.display(), file.name)
}
