//! `data/cert.db`: everything that is not a point or an event. One thread owns the connection
//! that writes, and takes jobs from a bounded queue; readers have connections of their own, so
//! that neither waits for the other (SQLite's WAL).
//!
//! Each table group has a file here with its `SCHEMA`; [`STEPS`] are the schema's versions.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::rt::pool::Pool;
use crate::server::config;
use crate::server::control::metrics::Metrics;
use crate::server::storage::StorageError;

pub(crate) mod alerts;
pub(crate) mod audit;
pub(crate) mod certs;
pub(crate) mod comments;
pub(crate) mod hosts;
mod metrics;
pub(crate) mod notify;
pub(crate) mod profiles;
pub(crate) mod remote;
pub(crate) mod removed;
pub(crate) mod shared;
pub(crate) mod tokens;
pub(crate) mod users;
pub(crate) mod whitelist;

/// One schema version each, oldest first: `PRAGMA user_version` says how many have been applied.
/// A released step is never changed; what is new gets a step of its own.
const STEPS: [&[&str]; 9] = [
    &[users::SCHEMA, whitelist::SCHEMA, certs::SCHEMA, alerts::SCHEMA, notify::SCHEMA],
    &[notify::SCHEMA_2],
    &[certs::SCHEMA_3],
    &[users::SCHEMA_ENDED_LOGINS],
    &[removed::SCHEMA],
    &[hosts::SCHEMA],
    &[comments::SCHEMA, notify::SCHEMA_SILENCES, profiles::SCHEMA],
    &[remote::SCHEMA],
    &[shared::SCHEMA],
];

/// The file's name in `data_dir`.
pub const FILE: &str = config::CONTROL_FILE;

/// Writes that wait. A caller waits for room: writes come from people and from rules, and each
/// takes about a millisecond.
const WRITE_QUEUE: usize = 256;
/// Connections kept for readers; more readers than that open one for the call.
const READERS_KEPT: usize = 8;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle on `cert.db`. Clones share one writer.
#[derive(Clone)]
pub struct Control(Arc<Inner>);

struct Inner {
    metrics: Metrics,
    writer: Pool<Job>,
    readers: (Sender<Connection>, Receiver<Connection>),
    path: PathBuf,
}

impl Control {
    /// Opens or makes `cert.db` in `data_dir` and brings its schema up to date.
    ///
    /// # Errors
    ///
    /// When the file can't be opened, or is from a newer version of the program.
    pub fn open(data_dir: &Path) -> Result<Self, StorageError> {
        let path = data_dir.join(FILE);
        let mut connection = Connection::open(&path)?;
        prepare(&connection)?;
        migrate(&mut connection)?;
        let slot = parking_lot::Mutex::new(Some(connection));
        let writer = Pool::shared("control", 1, WRITE_QUEUE, |_| {
            let connection = slot.lock().take();
            move |jobs: Receiver<Job>| {
                let mut connection = connection.ok_or("the writer starts once")?;
                for job in jobs {
                    job(&mut connection);
                }
                Ok(())
            }
        });
        let metrics = Metrics::new()
            .map_err(|error| StorageError::Invalid(format!("the metrics of cert.db: {error}")))?;
        Ok(Self(Arc::new(Inner { metrics, writer, readers: bounded(READERS_KEPT), path })))
    }

    /// Registers the figures of `cert.db`.
    pub fn register(&self, registry: &prometheus::Registry) -> Result<(), prometheus::Error> {
        self.0.metrics.register(registry)
    }

    /// Runs `body` in a write transaction on the writer's thread and waits for its result: it is
    /// committed (and on the disk) when it is `Ok`, and rolled back otherwise.
    ///
    /// # Errors
    ///
    /// What `body` or the commit gives.
    pub fn write<T, E, F>(&self, body: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + From<StorageError> + Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    {
        let (reply, answer) = bounded(1);
        let job: Job = Box::new(move |connection| {
            let outcome = transact(connection, body);
            // The caller waits for it, unless its thread has died.
            let _ = reply.send(outcome);
        });
        let metrics = &self.0.metrics;
        let _timer = metrics.write_seconds.start_timer();
        metrics.queue_depth.inc();
        self.0.writer.put(0, job);
        let outcome = answer.recv().unwrap_or_else(|_| Err(StorageError::Stopping.into()));
        metrics.queue_depth.dec();
        outcome
    }

    /// Queues `body` as a write transaction of its own and does not wait for it. `what` names it in
    /// the log, should it fail. False when the queue has no room, and then `body` never runs.
    pub(crate) fn offer<F>(&self, what: &'static str, body: F) -> bool
    where
        F: FnOnce(&Transaction<'_>) -> Result<(), StorageError> + Send + 'static,
    {
        let job: Job = Box::new(move |connection| {
            if let Err(error) = transact(connection, body) {
                log::error!("failed to write {what}: {error}");
            }
        });
        self.0.writer.offer(0, job).is_ok()
    }

    /// Runs `body` on a read-only connection, on the caller's thread.
    ///
    /// # Errors
    ///
    /// What `body` gives, or why the file could not be opened.
    pub fn read<T, E>(&self, body: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E>
    where
        E: From<rusqlite::Error>,
    {
        let connection = match self.0.readers.1.try_recv() {
            Ok(connection) => connection,
            Err(_) => open_reader(&self.0.path)?,
        };
        let outcome = body(&connection);
        // More than are kept are closed.
        let _ = self.0.readers.0.try_send(connection);
        outcome
    }
}

fn transact<T, E>(
    connection: &mut Connection,
    body: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<T, E>
where
    E: From<rusqlite::Error>,
{
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = body(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")
}

fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), StorageError> {
    let version: usize =
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize;
    if version > STEPS.len() {
        return Err(StorageError::Invalid(format!(
            "{FILE} has schema version {version}, this program knows {}: install a newer oxmon-server",
            STEPS.len()
        )));
    }
    for (index, step) in STEPS.iter().enumerate().skip(version) {
        transact(connection, |transaction| -> Result<(), rusqlite::Error> {
            for sql in *step {
                transaction.execute_batch(sql)?;
            }
            transaction.pragma_update(None, "user_version", index as u32 + 1)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn writes_are_seen_by_readers_and_errors_roll_back() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path()).unwrap();
        let insert = |id: &'static str, fail: bool| {
            control.write(move |tx| -> Result<(), StorageError> {
                tx.execute(
                    "INSERT INTO agent_whitelist (id, agent_id, token_hash, created_at, updated_at)
                     VALUES (?1, ?1, x'00', 1, 1)",
                    [id],
                )?;
                if fail { Err(StorageError::Invalid("no".into())) } else { Ok(()) }
            })
        };
        insert("a", false).unwrap();
        insert("b", true).unwrap_err();
        let ids: Vec<String> = control
            .read(|db| -> Result<_, StorageError> {
                let mut query = db.prepare("SELECT agent_id FROM agent_whitelist")?;
                let rows = query.query_map([], |row| row.get(0))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .unwrap();
        assert_eq!(ids, ["a"]);
    }

    #[test]
    fn a_file_from_the_future_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(Control::open(dir.path()).unwrap());
        let db = Connection::open(dir.path().join(FILE)).unwrap();
        db.pragma_update(None, "user_version", 999).unwrap();
        let error = Control::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("schema version 999"), "{error}");
    }
}
