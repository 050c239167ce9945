//! The thread that owns one day file. It takes whatever waits, writes it in one transaction with
//! what is due for packing, makes it readable, and acknowledges: many agents, one fsync.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rusqlite::Connection;

use crate::model::alert::AlertEvent;
use crate::server::storage::StorageError;
use crate::server::storage::chunks::codec;
use crate::server::storage::chunks::compact;
use crate::server::storage::chunks::pack::{self, Packed};
use crate::server::storage::day::file;
use crate::server::storage::day::ids::{self, IdAllocator};
use crate::server::storage::day::{AgentCell, Day, Job, Write};
use crate::server::storage::events;
use crate::server::storage::keep::damage;
use crate::server::storage::shared::Shared;
use crate::server::storage::write::group::ChunkTimes;
use crate::server::storage::write::group::Group;

/// A writer with nothing to do for so long closes its file.
const IDLE: Duration = Duration::from_secs(60);
/// Jobs other than batches that fit into a writer's queue. Who brings one waits for room.
const JOBS_EXTRA: usize = 64;
/// Points packed along with one transaction. While the heads exceed their bound it is twice
/// what the transaction brings, if that is more, so that they come down however much comes in.
const PACK_POINTS_MAX: usize = 30_000;
/// Packed records deleted along with one transaction.
const DELETE_RECORDS_MAX: i64 = 2_000;
/// Packed agents after which the first record that is still needed is looked for again.
const FLOOR_EVERY: usize = 16;

/// The writer's own state.
pub(crate) struct Writer<'a> {
    shared: &'a Arc<Shared>,
    day: &'a Arc<Day>,
    connection: Option<Connection>,
    allocator: IdAllocator,
    known: ChunkTimes,
    /// Agents to pack.
    due: VecDeque<AgentCell>,
    /// Id of the first record that some head still needs.
    wal_floor: i64,
    packed_since_floor: usize,
    compaction: Option<compact::Compaction>,
    lost: bool,
}

/// The queue of a day's writer, which is started when none runs.
///
/// # Errors
///
/// [`StorageError::Stopping`] when the day is being dropped or the server stops.
pub(crate) fn queue_of(shared: &Arc<Shared>, day: &Arc<Day>) -> Result<Sender<Job>, StorageError> {
    let mut slot = day.slot();
    if slot.closed {
        return Err(StorageError::Stopping);
    }
    if let Some(sender) = &slot.sender {
        return Ok(sender.clone());
    }
    // At most `queue` batches wait over all writers, so that a batch always finds room.
    let (sender, jobs) = bounded(shared.queue + JOBS_EXTRA);
    let before = slot.thread.take();
    let name = format!("db-{}", file::date_of(day.number));
    let (day, shared) = (Arc::clone(day), Arc::clone(shared));
    slot.thread = Some(crate::rt::thread::spawn(&name, move || {
        if let Some(before) = before {
            // A file has one writer: the one before ends, since its queue is closed.
            let _ = before.join();
        }
        run(&shared, &day, &jobs);
        Ok(())
    }));
    slot.sender = Some(sender.clone());
    Ok(sender)
}

/// Runs a day's writer until its queue is closed and empty.
fn run(shared: &Arc<Shared>, day: &Arc<Day>, jobs: &Receiver<Job>) {
    let allocator = std::mem::take(&mut *day.allocator.lock());
    let wal_floor = allocator.wal_first;
    let mut writer = Writer {
        shared,
        day,
        connection: None,
        allocator,
        known: ChunkTimes::default(),
        due: VecDeque::new(),
        wal_floor,
        packed_since_floor: 0,
        compaction: None,
        lost: false,
    };
    loop {
        let wait = if writer.is_busy() { Duration::ZERO } else { IDLE };
        match jobs.recv_timeout(wait) {
            Ok(job) => {
                writer.work(job, jobs);
                // A finished day has few batches left: they don't keep it from being compacted.
                writer.compact_step();
            }
            Err(RecvTimeoutError::Timeout) if writer.is_busy() => writer.go_on(),
            Err(RecvTimeoutError::Timeout) => day.release_writer(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if let Some(connection) = writer.connection.take() {
        // Best effort: what stays in SQLite's WAL is read from there.
        let _ = file::checkpoint(&connection);
    }
    *day.allocator.lock() = writer.allocator;
}

impl Writer<'_> {
    /// Does a job, together with those that wait behind it.
    fn work(&mut self, first: Job, jobs: &Receiver<Job>) {
        if let Err(error) = self.open() {
            first.refuse(&error);
            if matches!(error, StorageError::Damaged { .. }) {
                self.give_up(&error);
            }
            self.shared.found_room(!matches!(error, StorageError::DiskFull));
            return;
        }
        let mut group = Group::new(self.shared.is_observed());
        let mut pending_events = Vec::new();
        let mut forget = None;
        let mut next = Some(first);
        let max_bytes = usize::try_from(self.shared.storage.commit_max_bytes).unwrap_or(usize::MAX);
        let max_time = Duration::from_millis(self.shared.storage.commit_max_ms.max(1));
        let mut failed = None;
        while let Some(job) = next.take() {
            match job {
                Job::Write(write) => failed = self.add(&mut group, write).err(),
                Job::Events(events, reply) => pending_events.push((events, reply)),
                Job::Maintain => self.maintain(),
                Job::SetAside(what) => failed = Some(file::damaged(&self.day.path, what)),
                Job::Forget(agent, reply) => forget = Some((agent, reply)),
            }
            if failed.is_some()
                || forget.is_some()
                || group.size_bytes() >= max_bytes
                || group.started().elapsed() >= max_time
            {
                break;
            }
            next = jobs.try_recv().ok();
        }
        match failed {
            Some(error) => self.fail(group, pending_events, &error),
            None => self.commit(group, pending_events),
        }
        if let Some((agent, reply)) = forget {
            // After the commit of what came before: that goes as well.
            let _ = reply.send(self.forget(&agent));
        }
    }

    /// Deletes everything of an agent; gives the number of its points.
    fn forget(&mut self, agent: &str) -> Result<u64, StorageError> {
        self.open()?;
        let Some(cell) = self.day.agent(agent) else { return Ok(0) };
        let Some(connection) = &mut self.connection else { return Err(StorageError::Stopping) };
        let id = cell.lock().id;
        ids::delete_agent(connection, id).map_err(|error| file::classify(error, &self.day.path))?;
        self.allocator.unsaved.retain(|row| !row.is_of(id));
        self.due.retain(|other| !Arc::ptr_eq(other, &cell));
        // Ids of chunks may be given again.
        self.known.clear();
        self.day.remove_agent(agent);
        let (points, bytes) = {
            let mut gone = cell.lock();
            let points = gone.entries.iter().map(|entry| u64::from(entry.count)).sum();
            gone.entries.clear();
            (points, gone.drop_packed(i64::MAX))
        };
        self.shared.head_changed(-i64::try_from(bytes).unwrap_or(i64::MAX));
        self.mark_changed();
        self.find_wal_floor();
        Ok(points)
    }

    /// Whether there is work that waits for no job.
    fn is_busy(&self) -> bool {
        !self.due.is_empty() || self.compaction.is_some()
    }

    /// Packs what is still due, then goes on with the compaction.
    fn go_on(&mut self) {
        if self.due.is_empty() {
            self.compact_step();
        } else if self.open().is_ok() {
            self.commit(Group::new(self.shared.is_observed()), Vec::new());
        } else {
            // It is found due again when the file can be opened.
            self.due.clear();
        }
    }

    fn open(&mut self) -> Result<(), StorageError> {
        if self.lost {
            return Err(file::damaged(&self.day.path, "it was set aside"));
        }
        if self.connection.is_none() {
            self.connection = Some(file::open_writer(&self.day.path)?);
            self.day.mark_created();
        }
        Ok(())
    }

    fn add(&mut self, group: &mut Group, write: Write) -> Result<(), StorageError> {
        let Some(connection) = &self.connection else { return Err(StorageError::Stopping) };
        group.add(self.day, &mut self.allocator, connection, &mut self.known, write)
    }

    fn commit(&mut self, group: Group, events: Vec<(Vec<AlertEvent>, Sender<EventsResult>)>) {
        let started = Instant::now();
        let packed = self.pack_due(group.points());
        let outcome = self.transact(&group, &packed, &events);
        self.shared.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        match outcome {
            Ok(deleted_to) => {
                self.shared.at("committed");
                self.shared.metrics.commits.inc();
                self.shared.found_room(true);
                self.allocator.unsaved.clear();
                self.allocator.wal_first = deleted_to;
                self.apply_packed(packed);
                self.shared.at("packed");
                self.publish(group);
                for (_, reply) in events {
                    let _ = reply.send(Ok(()));
                }
            }
            Err(error) => self.fail(group, events, &error),
        }
    }

    /// Everything of one commit: rows that ids need, records, chunks, deletions, events. Gives the
    /// id of the first record that may still be there.
    fn transact(
        &mut self,
        group: &Group,
        packed: &[Packed],
        events: &[(Vec<AlertEvent>, Sender<EventsResult>)],
    ) -> Result<i64, StorageError> {
        let Some(connection) = &mut self.connection else { return Err(StorageError::Stopping) };
        let first = self.allocator.wal_first;
        let delete_to = self.wal_floor.min(first.saturating_add(DELETE_RECORDS_MAX)).max(first);
        let idle = group.is_empty() && packed.is_empty() && events.is_empty();
        if idle && self.allocator.unsaved.is_empty() && delete_to == first {
            return Ok(first);
        }
        let write = |connection: &mut Connection| -> Result<(), rusqlite::Error> {
            let transaction = connection.transaction()?;
            for row in &self.allocator.unsaved {
                row.save(&transaction)?;
            }
            group.write(&transaction)?;
            for one in packed {
                one.write(&transaction)?;
            }
            if delete_to > first {
                let mut delete = transaction.prepare_cached("DELETE FROM samples WHERE id < ?1")?;
                delete.execute([delete_to])?;
            }
            for (events, _) in events {
                for event in events {
                    events::put(&transaction, event)?;
                }
            }
            self.shared.at("written");
            transaction.commit()
        };
        write(connection).map_err(|error| file::classify(error, &self.day.path))?;
        Ok(delete_to)
    }

    fn publish(&mut self, group: Group) {
        let shared = self.shared;
        let published = group.publish();
        shared.head_changed(i64::try_from(published.bytes).unwrap_or(i64::MAX));
        if published.bytes > 0 {
            self.mark_changed();
        }
        for cell in published.touched {
            let agent = cell.lock();
            let points = pack::threshold(&agent.name, shared.storage.pack_points);
            if agent.records.len() >= points {
                drop(agent);
                self.due.push_back(cell);
            }
        }
        if let Some(tap) = shared.tap.get() {
            published.observed.iter().for_each(|(agent, sets)| tap.committed(agent, sets));
        }
        for (ack, stored) in published.acks {
            shared.metrics.batches.inc();
            shared.metrics.points.inc_by(stored.new as u64);
            shared.metrics.duplicates.inc_by(stored.duplicate as u64);
            ack.finish(Ok(stored));
        }
        if let Some(observer) = shared.observer.get() {
            for (agent, sets) in published.observed {
                observer.stored(&agent, sets);
            }
        }
        shared.metrics.queue_depth.set(shared.waiting.load(Ordering::Relaxed) as i64);
        if shared.head_excess() > 0 && self.due.is_empty() {
            self.pack_largest();
        }
    }

    /// Packs the agents that are due, as many as one transaction should carry.
    fn pack_due(&mut self, brought: usize) -> Vec<Packed> {
        let mut out: Vec<Packed> = Vec::new();
        let mut points = 0;
        let excess = self.shared.head_excess() > 0;
        let most = if excess { PACK_POINTS_MAX.max(2 * brought) } else { PACK_POINTS_MAX };
        while points < most {
            let Some(cell) = self.due.pop_front() else { break };
            // Due twice is packed once: the head is the same until the commit.
            if out.iter().any(|one| one.is_of(&cell)) {
                continue;
            }
            if let Some(packed) = pack::pack(&cell, codec::Effort::Quick) {
                points += packed.points();
                out.push(packed);
            }
        }
        out
    }

    fn apply_packed(&mut self, packed: Vec<Packed>) {
        let mut bytes = 0;
        for one in packed {
            self.shared.metrics.chunks.inc_by(one.len() as u64);
            self.shared.metrics.packed_points.inc_by(one.points() as u64);
            bytes += one.apply();
            self.packed_since_floor += 1;
        }
        if bytes > 0 {
            self.mark_changed();
            self.shared.head_changed(-i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        if self.packed_since_floor >= FLOOR_EVERY {
            self.find_wal_floor();
        }
    }

    fn find_wal_floor(&mut self) {
        self.packed_since_floor = 0;
        let agents = self.day.agents();
        let oldest = agents.iter().map(|cell| cell.lock().first_needed()).min();
        self.wal_floor = oldest.unwrap_or(i64::MAX).min(self.allocator.next_record);
    }

    /// Packs the largest heads early, so that all of them together stay within their bound.
    fn pack_largest(&mut self) {
        let sized = |cell: AgentCell| {
            let bytes = cell.lock().head_bytes();
            (bytes, cell)
        };
        let mut agents: Vec<(usize, AgentCell)> =
            self.day.agents().into_iter().map(sized).collect();
        agents.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let max = i64::try_from(self.shared.storage.head_max_bytes).unwrap_or(i64::MAX);
        let mut goal = self.shared.head_excess() + max / 8;
        for (bytes, cell) in agents {
            if goal <= 0 || bytes == 0 {
                break;
            }
            goal -= i64::try_from(bytes).unwrap_or(i64::MAX);
            self.due.push_back(cell);
        }
    }

    /// Looks for what age makes due, and starts the compaction of a finished day.
    fn maintain(&mut self) {
        let now = self.shared.clock.now_ms();
        let limit = self.day.head_age_ms(now, self.shared.storage.pack_age_secs);
        // While some are due still, age waits: it would find the same ones again.
        let agents = if self.due.is_empty() { self.day.agents() } else { Vec::new() };
        for cell in agents {
            let agent = cell.lock();
            if agent.head_points > 0 && now.saturating_sub(agent.oldest_received) >= limit {
                drop(agent);
                self.due.push_back(cell);
            }
        }
        self.find_wal_floor();
        if self.day.is_finished(now)
            && self.due.is_empty()
            && !self.day.compacted.load(Ordering::Relaxed)
        {
            self.compaction.get_or_insert_default();
        }
    }

    fn mark_changed(&mut self) {
        self.day.mark_changed();
        if let Some(compaction) = &mut self.compaction {
            compaction.outdated = true;
        }
    }

    /// Does the next step of the compaction.
    fn compact_step(&mut self) {
        let Some(mut compaction) = self.compaction.take() else { return };
        if self.open().is_err() {
            return;
        }
        let Some(connection) = &mut self.connection else { return };
        self.known.clear();
        let outcome = compaction.step(self.day, connection, self.wal_floor);
        self.shared.at("compaction");
        match outcome {
            Ok(compact::Progress::More) => self.compaction = Some(compaction),
            // What came meanwhile is for the next maintenance to see.
            Ok(compact::Progress::Done) if compaction.outdated => {}
            Ok(compact::Progress::Done) => self.day.compacted.store(true, Ordering::Relaxed),
            Err(error) => {
                log::error!("packing {}: {error}", self.day.path.display());
                self.shared.found_room(!matches!(error, StorageError::DiskFull));
                if matches!(error, StorageError::Damaged { .. }) {
                    self.give_up(&error);
                }
            }
        }
    }

    fn fail(
        &mut self,
        group: Group,
        events: Vec<(Vec<AlertEvent>, Sender<EventsResult>)>,
        error: &StorageError,
    ) {
        self.shared.metrics.commit_failures.inc();
        if matches!(error, StorageError::DiskFull) {
            self.shared.found_room(false);
        } else {
            log::error!("{}: {error}", self.day.path.display());
        }
        for ack in group.roll_back() {
            ack.finish(Err(error.repeat()));
        }
        for (_, reply) in events {
            let _ = reply.send(Err(error.repeat()));
        }
        if matches!(error, StorageError::Damaged { .. }) {
            self.give_up(error);
        }
    }

    /// Sets the damaged file aside. Callers of jobs that still come meet the fresh file later.
    fn give_up(&mut self, error: &StorageError) {
        self.connection = None;
        self.compaction = None;
        self.due.clear();
        if std::mem::replace(&mut self.lost, true) {
            return;
        }
        // A file that keeps its name comes here again at the next attempt to write it.
        let Some(fresh) = damage::set_aside(self.shared, self.day, &error.to_string()) else {
            return;
        };
        for cell in self.day.agents() {
            let (write, bytes) = damage::salvage(&cell);
            self.shared.head_changed(-i64::try_from(bytes).unwrap_or(i64::MAX));
            if let (Some(write), Ok(queue)) = (write, queue_of(self.shared, &fresh)) {
                // The fresh day's own writer empties this queue.
                let _ = queue.send(Job::Write(write));
            }
        }
    }
}

/// What became of events.
pub(crate) type EventsResult = Result<(), StorageError>;
