//! What agents say of their hosts: kept in memory until the writer of `cert.db` takes all of it at
//! once, so that a fleet that connects again costs few transactions, and no call waits for one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::clock::Clock;
use crate::model::host::{HostFacts, HostReport, ProcessSnapshot};
use crate::server::control::{Control, hosts as table};
use crate::server::storage::StorageError;

/// Whether the server wants to know which processes are at work on an agent's host. What it says
/// once it does not say again for the same alert.
pub(crate) type Wanted = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Agents whose facts or snapshots wait for the writer; what comes while there are more is dropped.
const WAITING_MAX: usize = 10_000;

/// See the module.
pub(crate) struct Hosts {
    control: Control,
    clock: Arc<dyn Clock>,
    wanted: Wanted,
    /// Agents that were asked for a snapshot and have not sent it.
    asked: Mutex<HashSet<Box<str>>>,
    // Shared with the job, which must not hold the handle of the database that runs it.
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    facts: HashMap<String, HostFacts>,
    snapshots: HashMap<String, ProcessSnapshot>,
    /// Whether a job that writes them is queued.
    queued: bool,
}

impl Hosts {
    /// Nothing is known of any host yet but what `cert.db` holds.
    pub(crate) fn new(control: Control, clock: Arc<dyn Clock>, wanted: Wanted) -> Self {
        Self { control, clock, wanted, asked: Mutex::default(), waiting: Arc::default() }
    }

    /// Whether the answer to this agent should ask for a snapshot.
    pub(crate) fn asks(&self, agent: &str) -> bool {
        let asks = (self.wanted)(agent);
        if asks {
            self.asked.lock().insert(agent.into());
        }
        asks
    }

    /// Takes what an agent says of its host; a snapshot that nobody asked for is dropped.
    pub(crate) fn put(&self, agent: &str, report: HostReport) {
        let HostReport { facts, mut snapshot } = report;
        if snapshot.is_some() && !self.asked.lock().remove(agent) {
            log::debug!("dropped a snapshot of `{agent}` that was not asked for");
            snapshot = None;
        }
        let mut waiting = self.waiting.lock();
        let full = waiting.facts.len().max(waiting.snapshots.len()) >= WAITING_MAX;
        if full || (facts.is_none() && snapshot.is_none()) {
            return;
        }
        if let Some(facts) = facts {
            waiting.facts.insert(agent.to_owned(), facts);
        }
        if let Some(snapshot) = snapshot {
            waiting.snapshots.insert(agent.to_owned(), snapshot);
        }
        if !waiting.queued {
            waiting.queued = true;
            drop(waiting);
            self.write();
        }
    }

    /// Queues the job that writes what waits. Where the writer's queue is full, the next report
    /// tries again.
    fn write(&self) {
        let queued = Queued(Arc::clone(&self.waiting));
        let now_ms = self.clock.now_ms();
        let taken = self.control.offer("the facts of hosts", move |tx| {
            let Waiting { facts, snapshots, .. } = std::mem::take(&mut *queued.0.lock());
            for (agent, facts) in &facts {
                table::put_facts(tx, agent, facts, now_ms)?;
            }
            for (agent, snapshot) in &snapshots {
                table::put_snapshot(tx, agent, snapshot)?;
            }
            Ok(())
        });
        if !taken {
            log::debug!("facts of hosts wait: the queue of cert.db is full");
        }
    }

    /// Removes what is stored of hosts whose agents are not `known` any more.
    pub(crate) fn forget_others(&self, known: HashSet<String>) {
        self.asked.lock().retain(|agent| known.contains(&**agent));
        // A full queue: the next time does it.
        self.control.offer("removing hosts", move |tx| -> Result<(), StorageError> {
            Ok(table::remove_unknown(tx, &known)?)
        });
    }
}

/// A job that is queued. When it goes, however it went, the next report queues another.
struct Queued(Arc<Mutex<Waiting>>);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.lock().queued = false;
    }
}
