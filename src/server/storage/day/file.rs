//! A day file: its name, its schema, how it is opened.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::base::clock::{DAY_MS, parse_utc_day, utc_day};
use crate::server::storage::StorageError;

/// `PRAGMA user_version` of a day file.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// No program will ever have written a higher version: the header is damaged.
const VERSION_BELIEVED_MAX: u32 = 10_000;

/// The tables and views of a day file. `wal.rs` and `codec.rs` draw `samples` and `chunks`.
pub(crate) const SCHEMA: &str = r"
CREATE TABLE agents (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    -- Frames of this agent up to this id are packed: they wait only for being deleted.
    packed INTEGER NOT NULL DEFAULT 0,
    crc INTEGER NOT NULL
);
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    agent INTEGER NOT NULL,
    metric TEXT NOT NULL,
    labels TEXT NOT NULL,
    crc INTEGER NOT NULL
);
CREATE TABLE layouts (
    id INTEGER PRIMARY KEY,
    agent INTEGER NOT NULL,
    series TEXT NOT NULL,
    crc INTEGER NOT NULL
);
CREATE TABLE samples (
    id INTEGER PRIMARY KEY,
    agent INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    received INTEGER NOT NULL,
    -- An integer names a row of layouts; a text is the list itself.
    series NOT NULL,
    data TEXT NOT NULL,
    crc INTEGER NOT NULL
);
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY,
    series INTEGER NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    count INTEGER NOT NULL,
    min REAL NOT NULL,
    max REAL NOT NULL,
    sum REAL NOT NULL,
    first REAL NOT NULL,
    last REAL NOT NULL,
    lag INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    times BLOB,
    data BLOB NOT NULL
);
CREATE INDEX chunks_by_series ON chunks (series, start, end, count, last);
CREATE TABLE alert_events (
    id TEXT PRIMARY KEY NOT NULL,
    rule_id TEXT NOT NULL,
    rule_name TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    metric_name TEXT NOT NULL,
    severity TEXT NOT NULL,
    message TEXT NOT NULL,
    labels TEXT NOT NULL,
    value REAL NOT NULL,
    threshold REAL NOT NULL,
    timestamp INTEGER NOT NULL,
    predicted_breach INTEGER,
    first_triggered_at INTEGER NOT NULL,
    status INTEGER NOT NULL,
    resolved_at INTEGER
);
CREATE INDEX alert_events_by_time ON alert_events (timestamp, id);
CREATE VIEW metrics AS
SELECT series.id || '-' || samples.timestamp AS id,
       samples.timestamp AS timestamp,
       agents.name AS agent_id,
       series.metric AS metric_name,
       CAST(json_extract(samples.data, '$[' || item.key || ']') AS REAL) AS value,
       series.labels AS labels,
       samples.received AS created_at
FROM samples
JOIN agents ON agents.id = samples.agent AND samples.id > agents.packed
LEFT JOIN layouts ON typeof(samples.series) = 'integer' AND layouts.id = samples.series
JOIN json_each(coalesce(layouts.series, samples.series)) AS item
JOIN series ON series.id = item.value;
CREATE VIEW metric_chunks AS
SELECT agents.name AS agent_id,
       series.metric AS metric_name,
       series.labels AS labels,
       chunks.start AS start_time,
       chunks.end AS end_time,
       chunks.count AS count,
       chunks.min AS min,
       chunks.max AS max,
       chunks.sum / chunks.count AS avg,
       chunks.first AS first,
       chunks.last AS last,
       length(chunks.data) + coalesce(length(chunks.times), 0) AS size_bytes
FROM chunks
JOIN series ON series.id = chunks.series
JOIN agents ON agents.id = series.agent;
";

/// Number of a time's UTC day, counted from 1970.
pub fn day_of(timestamp_ms: i64) -> i64 {
    timestamp_ms.div_euclid(DAY_MS)
}

/// `YYYY-MM-DD` of a day.
pub(crate) fn date_of(day: i64) -> String {
    utc_day(day.saturating_mul(DAY_MS))
}

/// The day of a file named `YYYY-MM-DD.db`; `None` for every other name.
pub fn day_of_file(name: &str) -> Option<i64> {
    parse_utc_day(name.strip_suffix(".db")?).map(day_of)
}

/// Path of a day's file.
pub(crate) fn path_of(data_dir: &Path, day: i64) -> PathBuf {
    data_dir.join(format!("{}.db", date_of(day)))
}

/// The file and what SQLite keeps beside it.
pub fn companions(path: &Path) -> [PathBuf; 3] {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    [beside("-wal"), beside("-shm"), path.to_owned()]
}

/// Bytes of a day's file and its log; 0 where there is none.
pub(crate) fn size_of(path: &Path) -> u64 {
    let length = |path: &PathBuf| std::fs::metadata(path).map(|meta| meta.len()).unwrap_or(0);
    companions(path).iter().filter(|path| !path.ends_with("-shm")).map(length).sum()
}

/// Opens a day file for its writer, making it when it is not there.
///
/// # Errors
///
/// When it can't be opened or made, or comes from a newer program.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, StorageError> {
    let connection = Connection::open(path).map_err(|error| classify(error, path))?;
    prepare(&connection).map_err(|error| classify(error, path))?;
    let version: u32 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| classify(error, path))?;
    if version > VERSION_BELIEVED_MAX {
        return Err(damaged(path, format!("it claims schema version {version}")));
    }
    if version > SCHEMA_VERSION {
        return Err(StorageError::Invalid(format!(
            "{} has schema version {version}, this program knows {SCHEMA_VERSION}: \
             install a newer oxmon-server",
            name_of(path)
        )));
    }
    if version == 0 {
        let make =
            format!("BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;");
        if let Err(error) = connection.execute_batch(&make) {
            // The connection goes with the error, and with it the open transaction.
            return Err(classify(error, path));
        }
    }
    Ok(connection)
}

/// Pages of SQLite's WAL after which it is checkpointed: 16 MB.
const WAL_PAGES: u32 = 4_096;
/// The log is cut back to this after it has grown larger.
const WAL_BYTES_KEPT: u32 = 32 << 20;

fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY)?;
    // Space of packed records is given back in small steps, not by rewriting the file.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
    connection.pragma_update(None, "cache_size", -2_000)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// How long a writer waits for somebody who holds a lock on its file.
const BUSY: Duration = Duration::from_secs(10);

/// Checkpoints SQLite's WAL and truncates it, unless a reader still needs it: a writer does not
/// wait for who reads.
pub(crate) fn checkpoint(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(Duration::ZERO)?;
    let outcome = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    connection.busy_timeout(BUSY)?;
    outcome
}

/// Opens a day file for reading, and reads its first page.
///
/// # Errors
///
/// When it can't be opened.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StorageError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> Result<Connection, rusqlite::Error> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        // Many days may be open at once: each keeps little.
        connection.pragma_update(None, "cache_size", -256)?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    };
    open().map_err(|error| classify(error, path))
}

/// Opens a day file that nobody writes while it is open, without its shared index.
///
/// # Errors
///
/// [`StorageError::DiskFull`] when SQLite's WAL is not empty: it can't be read without.
pub(crate) fn open_at_rest(path: &Path) -> Result<Connection, StorageError> {
    let [log, ..] = companions(path);
    if std::fs::metadata(log).is_ok_and(|log| log.len() > 0) {
        return Err(StorageError::DiskFull);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri(path, "immutable=1"), flags)
        .map_err(|error| classify(error, path))
}

/// A file as a URI that SQLite opens in a special way (sqlite.org/uri.html).
pub fn uri(path: &Path, how: &str) -> String {
    let mut text = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02x}"));
        }
    }
    format!("{text}?{how}")
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// SQLite's error as a [`StorageError`]: a full disk and a damaged file have their own variants.
pub(crate) fn classify(error: rusqlite::Error, path: &Path) -> StorageError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StorageError::DiskFull,
        // A shared index that can't grow, a file that can't be made.
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if is_full(path) => {
            StorageError::DiskFull
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StorageError::Damaged { file: name_of(path), what: error.to_string() }
        }
        _ => match error {
            // A value of the wrong kind, or a table that is not there: not what was written.
            rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::QueryReturnedNoRows
            | rusqlite::Error::Utf8Error(..) => {
                StorageError::Damaged { file: name_of(path), what: error.to_string() }
            }
            error => StorageError::Sqlite(error),
        },
    }
}

/// Bytes that SQLite needs for the first page of a log and of its index.
const ROOM_BYTES: u64 = 64 << 10;

/// Whether the file system of a file has no room.
fn is_full(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    room(folder.unwrap_or(Path::new("."))).is_some_and(|room| room < ROOM_BYTES)
}

/// Bytes that the file system of a folder has left: none when it can't make a file more. `None`
/// when it does not say.
pub(crate) fn room(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let no_inode = disk.f_files > 0 && disk.f_favail == 0;
    Some(if no_inode { 0 } else { disk.f_bavail.saturating_mul(disk.f_frsize) })
}

/// The error of a file whose content makes no sense.
pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> StorageError {
    StorageError::Damaged { file: name_of(path), what: what.into() }
}
