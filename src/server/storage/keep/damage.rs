//! Damaged day files are set aside under a new name, and the server goes on without them. What
//! the head still has in memory is written into a fresh file.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::server::storage::ack::{PartialAck, Permit};
use crate::server::storage::day::head::AgentDay;
use crate::server::storage::day::{AgentCell, Day, Write, file};
use crate::server::storage::shared::Shared;
use crate::server::storage::{AgentSamples, SampleSet, StorageError, Stored};

/// Between the name of a day file and a number.
const MARK: &str = ".db.damaged-";

/// Tables that no file but a day of this program has together with its name.
const OWN_TABLES: [&str; 5] = ["agents", "series", "layouts", "samples", "chunks"];

/// Whether a file was set aside.
pub(crate) fn is_set_aside(name: &str) -> bool {
    name.contains(MARK) && !name.ends_with("-wal") && !name.ends_with("-shm")
}

/// Names of the files in `data_dir` that were set aside, sorted.
pub(crate) fn names(data_dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(data_dir) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_set_aside(name))
        .collect();
    names.sort();
    names
}

/// What an error while a file is read back says about damage; `None` when it is another error. A
/// statement that makes no sense to SQLite then means that a table is not what it was.
pub(crate) fn found_in(error: &StorageError) -> Option<String> {
    match error {
        StorageError::Damaged { what, .. } => Some(what.clone()),
        StorageError::Sqlite(inner @ rusqlite::Error::SqlInputError { .. }) => {
            Some(inner.to_string())
        }
        StorageError::Sqlite(inner) if inner.sqlite_error_code() == Some(ErrorCode::Unknown) => {
            Some(inner.to_string())
        }
        _ => None,
    }
}

/// Whether a day file may be one of this program: SQLite can't read what tables it has, or they
/// are those of a day. A file of another program is never set aside.
pub(crate) fn is_ours(path: &Path) -> bool {
    let tables = || -> rusqlite::Result<Vec<String>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(file::uri(path, "immutable=1"), flags)?;
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table'";
        connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
    };
    let own = |name: &String| OWN_TABLES.contains(&name.as_str());
    tables().map_or(true, |tables| tables.is_empty() || tables.iter().any(own))
}

/// Notes a file that was set aside.
pub(crate) fn note(shared: &Shared, name: Option<String>) {
    if let Some(name) = name {
        shared.metrics.damaged.inc();
        shared.set_aside.lock().push(name);
    }
}

/// Gives a day's file a new name, with what SQLite keeps beside it, and logs it. No connection to
/// it may be open for writing.
pub(crate) fn rename(path: &Path, why: &str) -> Option<String> {
    let target = (1..).map(|number| path.with_extension(format!("db.damaged-{number}")));
    let target = target.into_iter().find(|target| !target.exists())?;
    // The file itself goes last: a crash before that leaves its name to be found damaged again.
    let pairs = file::companions(path).into_iter().zip(file::companions(&target));
    for (from, to) in pairs {
        if let Err(error) = std::fs::rename(&from, &to)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            log::error!("cannot set {} aside: {error}", from.display());
            return None;
        }
    }
    let name = target.file_name()?.to_string_lossy().into_owned();
    log::error!("{} is damaged ({why}); it is set aside as {name}", path.display());
    Some(name)
}

/// Sets the file of a day aside while the server runs, on the thread of the day's writer, which
/// has closed it. Gives the fresh day that takes its place; `None` when the file kept its name.
pub(crate) fn set_aside(shared: &Shared, day: &Arc<Day>, why: &str) -> Option<Arc<Day>> {
    let fresh = Arc::new(Day::new(day.number, day.path.clone(), &shared.agent_count));
    day.refuse_jobs();
    // No writer of the fresh day opens the file before it has its new name, and no reader of the
    // old one takes what comes in its place for it.
    let slot = fresh.slot();
    replace(shared, day, &fresh);
    day.mark_gone();
    let name = rename(&day.path, why);
    drop(slot);
    note(shared, Some(name?));
    Some(fresh)
}

fn replace(shared: &Shared, day: &Arc<Day>, fresh: &Arc<Day>) {
    let mut days = shared.days.write();
    if days.get(&day.number).is_some_and(|there| Arc::ptr_eq(there, day)) {
        days.insert(day.number, Arc::clone(fresh));
    }
}

/// Takes what the head of an agent holds, to be written into the fresh file, and the bytes that
/// it took in memory.
pub(crate) fn salvage(cell: &AgentCell) -> (Option<Write>, usize) {
    let mut agent = cell.lock();
    let write = write_of(&agent);
    (write, agent.drop_packed(i64::MAX))
}

fn write_of(agent: &AgentDay) -> Option<Write> {
    let received_ms = Some(agent.records.last()?.received);
    let sets = agent
        .records
        .iter()
        .map(|record| SampleSet {
            timestamp_ms: record.ts,
            series: Arc::clone(&record.series_list.source),
            values: record.values(&agent.values).collect(),
        })
        .collect();
    let samples = vec![AgentSamples { agent: Arc::clone(&agent.name), sets }];
    let permit = Permit::take(&Arc::default(), 1)?;
    let ack = Box::new(|outcome: Result<Stored, _>| {
        if let Err(error) = outcome {
            log::error!("points of a damaged file could not be kept: {error}");
        }
    });
    let ack = PartialAck::split(ack, permit, 1, Stored::default()).pop()?;
    Some(Write { samples, received_ms, ack })
}
