//! One day: what is in memory of it, the connections of its readers, and its writer's queue.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Mutex, MutexGuard, RwLock};
use rusqlite::Connection;

use crate::base::clock::{DAY_MS, MINUTE_MS, SECOND_MS};
use crate::model::alert::AlertEvent;
use crate::server::storage::ack::PartialAck;
use crate::server::storage::day::count::AgentCount;
use crate::server::storage::day::head::AgentDay;
use crate::server::storage::day::ids::IdAllocator;
use crate::server::storage::{AgentSamples, StorageError};

pub(crate) mod count;
pub(crate) mod file;
pub(crate) mod head;
pub(crate) mod head_values;
pub(crate) mod ids;

/// Connections kept for a day's readers; more readers than that open one for the call.
const READERS_KEPT: usize = 4;

/// How long after a day's end its points are expected, and how long late ones wait for others.
pub(super) const GRACE_MS: i64 = 10 * MINUTE_MS;

/// An agent of a day.
pub(super) type AgentCell = Arc<Mutex<AgentDay>>;

/// What a writer is asked to do.
pub(crate) enum Job {
    /// Store samples.
    Write(Write),
    /// Store alert events, and say when they are committed.
    Events(Vec<AlertEvent>, Sender<Result<(), StorageError>>),
    /// Check whether something should be packed or compacted.
    Maintain,
    /// The file was found to be damaged: set it aside.
    SetAside(String),
    /// Delete everything of an agent, and say how many points that were.
    Forget(String, Sender<Result<u64, StorageError>>),
}

impl Job {
    /// Tells whoever waits for it that it can't be done.
    pub(crate) fn refuse(self, error: &StorageError) {
        match self {
            Self::Write(write) => write.ack.finish(Err(error.repeat())),
            Self::Events(_, reply) => {
                let _ = reply.send(Err(error.repeat()));
            }
            Self::Forget(_, reply) => {
                let _ = reply.send(Err(error.repeat()));
            }
            Self::Maintain | Self::SetAside(_) => {}
        }
    }
}

/// Samples that wait for their transaction.
pub(crate) struct Write {
    /// The samples, all of this day.
    pub samples: Vec<AgentSamples>,
    /// When they arrived, Unix milliseconds; `None` for samples that are brought over from another
    /// server: each arrived at its own time.
    pub received_ms: Option<i64>,
    /// Called once they are committed.
    pub ack: PartialAck,
}

/// A UTC day: its file, its series and the samples that are not packed yet.
pub(crate) struct Day {
    /// Days since 1970.
    pub number: i64,
    /// Its file.
    pub path: PathBuf,
    agents: RwLock<HashMap<Arc<str>, AgentCell>>,
    agent_count: Arc<AgentCount>,
    readers: (Sender<Connection>, Receiver<Connection>),
    /// What the writer must know; it is with the writer while one runs.
    pub allocator: Mutex<IdAllocator>,
    slot: Mutex<Slot>,
    /// Whether every series has one chunk and the file no free pages.
    pub compacted: AtomicBool,
    /// Whether the file has its tables.
    created: AtomicBool,
    /// Whether the file is no longer that of this day: dropped, or set aside.
    gone: RwLock<bool>,
}

/// Where the day's writer is, if one runs.
#[derive(Default)]
pub(crate) struct Slot {
    /// Its queue; `None` when it ends once it has done what was queued.
    pub sender: Option<Sender<Job>>,
    /// Its thread.
    pub thread: Option<JoinHandle<()>>,
    /// Whether no other starts.
    pub closed: bool,
}

impl Day {
    /// A day without points, whose agents are counted in `agent_count`.
    pub(crate) fn new(number: i64, path: PathBuf, agent_count: &Arc<AgentCount>) -> Self {
        Self {
            number,
            path,
            agents: RwLock::default(),
            agent_count: Arc::clone(agent_count),
            readers: bounded(READERS_KEPT),
            allocator: Mutex::new(IdAllocator::new()),
            slot: Mutex::default(),
            compacted: AtomicBool::new(false),
            created: AtomicBool::new(false),
            gone: RwLock::new(false),
        }
    }

    /// First millisecond of the day.
    pub(crate) fn start_ms(&self) -> i64 {
        self.number.saturating_mul(DAY_MS)
    }

    /// Last millisecond of the day.
    pub(crate) fn end_ms(&self) -> i64 {
        self.start_ms().saturating_add(DAY_MS - 1)
    }

    /// An agent of this day.
    pub(crate) fn agent(&self, name: &str) -> Option<AgentCell> {
        self.agents.read().get(name).cloned()
    }

    /// Every agent of this day, in no order.
    pub(crate) fn agents(&self) -> Vec<AgentCell> {
        self.agents.read().values().cloned().collect()
    }

    /// Puts an agent that the file knows into memory; the cell is for the caller to fill.
    pub(crate) fn add_agent(&self, agent: AgentDay) -> AgentCell {
        let name = Arc::clone(&agent.name);
        let agent = agent.counted_in(&self.agent_count);
        let cell: AgentCell = Arc::new(Mutex::new(agent));
        let mut agents = self.agents.write();
        agents.insert(name, Arc::clone(&cell));
        cell
    }

    /// Takes an agent out of memory.
    pub(crate) fn remove_agent(&self, name: &str) -> Option<AgentCell> {
        self.agents.write().remove(name)
    }

    /// Runs `body` on a connection of the caller's own, in one read transaction.
    ///
    /// # Errors
    ///
    /// What `body` gives, or why the file can't be read; [`StorageError::Moved`] when it is gone.
    pub(crate) fn read<T>(
        &self,
        body: impl FnOnce(&Connection) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let connection = match self.connect() {
            Err(StorageError::DiskFull) => return self.read_at_rest(body),
            opened => opened?,
        };
        let sql = |error| file::classify(error, &self.path);
        connection.execute_batch("BEGIN").map_err(sql)?;
        let outcome = body(&connection);
        connection.execute_batch("COMMIT").map_err(sql)?;
        // More than are kept are closed.
        let _ = self.readers.0.try_send(connection);
        outcome
    }

    /// A connection that is kept, or a new one.
    fn connect(&self) -> Result<Connection, StorageError> {
        // Held until the first page was read: a file that goes meanwhile would get its index again.
        // A kept connection is refused too: of a day that goes, only its file may still be whole.
        let gone = self.gone.read();
        if *gone {
            return Err(StorageError::Moved(file::date_of(self.number)));
        }
        self.readers.1.try_recv().or_else(|_| file::open_reader(&self.path))
    }

    /// Reads a file that nobody writes, where a full disk has no room for SQLite's shared index.
    /// No writer starts meanwhile.
    fn read_at_rest<T>(
        &self,
        body: impl FnOnce(&Connection) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let slot = self.slot.lock();
        let ended = slot.thread.as_ref().is_none_or(JoinHandle::is_finished);
        if slot.sender.is_some() || !ended {
            return Err(StorageError::DiskFull);
        }
        body(&file::open_at_rest(&self.path)?)
    }

    /// Whether the file is there and has its tables.
    pub(crate) fn is_created(&self) -> bool {
        self.created.load(Ordering::Acquire)
    }

    /// Notes that the file has its tables.
    pub(crate) fn mark_created(&self) {
        self.created.store(true, Ordering::Release);
    }

    /// Notes that the file is about to go, once nobody is just opening it: whoever begins to read
    /// from now on gets `Moved`.
    pub(crate) fn mark_gone(&self) {
        *self.gone.write() = true;
    }

    /// The slot of the day's writer. While it is held, no writer starts.
    pub(crate) fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock()
    }

    /// Lets the writer end once it has done what was queued. The next job starts another.
    pub(crate) fn release_writer(&self) {
        self.slot.lock().sender = None;
    }

    /// Ends the writer for good and waits for it.
    pub(crate) fn close(&self) {
        let thread = {
            let mut slot = self.slot.lock();
            slot.closed = true;
            slot.sender = None;
            slot.thread.take()
        };
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        while self.readers.1.try_recv().is_ok() {}
    }

    /// Lets no new jobs in; for the writer itself, which can't wait for its own end.
    pub(crate) fn refuse_jobs(&self) {
        let mut slot = self.slot.lock();
        slot.closed = true;
        slot.sender = None;
    }

    /// Whether age makes something due at `now`: an agent's head, or the day's last packing.
    pub(crate) fn needs_maintenance(&self, now: i64, pack_age_secs: u64) -> bool {
        let over = self.is_finished(now);
        let limit = self.head_age_ms(now, pack_age_secs);
        over && !self.compacted.load(Ordering::Relaxed)
            || self.agents().iter().any(|cell| {
                let agent = cell.lock();
                agent.head_points > 0 && now.saturating_sub(agent.oldest_received) >= limit
            })
    }

    /// Whether no more points of this day are expected.
    pub(crate) fn is_finished(&self, now: i64) -> bool {
        now > self.end_ms().saturating_add(GRACE_MS)
    }

    /// Age in milliseconds at which a head is packed, however small.
    pub(crate) fn head_age_ms(&self, now: i64, pack_age_secs: u64) -> i64 {
        let age = i64::try_from(pack_age_secs).unwrap_or(i64::MAX).saturating_mul(SECOND_MS);
        if self.is_finished(now) { age.min(GRACE_MS) } else { age }
    }

    /// Notes that something changed that packing has not seen.
    pub(crate) fn mark_changed(&self) {
        self.compacted.store(false, Ordering::Relaxed);
    }
}
