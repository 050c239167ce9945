//! The points of one day file of the first release, in the order of their rows.
//!
//! Rows are read in blocks and gathered into ticks (one agent at one time), which the store takes
//! as it takes those of agents: a point that it has already is a duplicate. How far a file has
//! been brought over is kept with each block, so that a run that was ended goes on there.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Mutex, MutexGuard};
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::base::limits::BATCH_POINTS_MAX;
use crate::server::import::catalog::Catalog;
use crate::server::import::marks::Mark;
use crate::server::import::progress::Progress;
use crate::server::ingest::admit::{AcceptedTimes, Reason, Rejected};
use crate::server::storage::{AgentSamples, SampleSet, StorageError, Store};

/// Rows of a block.
const BLOCK_ROWS: usize = 128 * 1_024;
/// Writes that wait for the store; fewer than its queue takes at the least.
const WAITING_MAX: usize = 96;
/// How often it is noted how far a file is.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// What became of points.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Rows read.
    pub rows: u64,
    /// Points that are new.
    pub new: u64,
    /// Points that were there already.
    pub duplicates: u64,
    /// Points that can't be stored.
    pub rejected: Rejected,
}

impl Counts {
    /// Adds the counts of another file.
    pub(super) fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.new += other.new;
        self.duplicates += other.duplicates;
        for (reason, count) in other.rejected.counts() {
            self.rejected.add_many(reason, count as usize);
        }
    }
}

/// What the store's writers say, shared with their acknowledgements.
#[derive(Default)]
struct Answers {
    counts: Mutex<(Counts, Option<String>)>,
}

/// Brings one day file over.
pub(super) struct Importer<'a> {
    store: &'a dyn Store,
    window: AcceptedTimes,
    /// Its series.
    pub catalog: Catalog<'a>,
    turns: (Sender<()>, Receiver<()>),
}

/// A tick that is being gathered.
struct Tick {
    agent: u32,
    timestamp_ms: i64,
    series: Vec<u32>,
    values: Vec<f64>,
    highest: u32,
}

/// Ticks of a block of rows.
#[derive(Default)]
struct Block {
    ticks: Vec<Tick>,
    places: HashMap<(u32, i64), usize>,
    last_rowid: i64,
    rows: usize,
}

impl Block {
    /// Takes a point; false when the tick has its series already.
    fn take(&mut self, agent: u32, timestamp_ms: i64, series: u32, value: f64) -> bool {
        let newest = self.ticks.last();
        let same = newest.is_some_and(|t| t.agent == agent && t.timestamp_ms == timestamp_ms);
        let place = if same {
            self.ticks.len() - 1
        } else {
            *self.places.entry((agent, timestamp_ms)).or_insert(self.ticks.len())
        };
        if place == self.ticks.len() {
            let (series, values) = (Vec::new(), Vec::new());
            self.ticks.push(Tick { agent, timestamp_ms, series, values, highest: 0 });
        }
        let tick = &mut self.ticks[place];
        if !tick.series.is_empty() && series <= tick.highest && tick.series.contains(&series) {
            return false;
        }
        tick.highest = tick.highest.max(series);
        tick.series.push(series);
        tick.values.push(value);
        true
    }
}

impl<'a> Importer<'a> {
    /// An importer into `store` of what lies in `window`.
    pub(super) fn new(store: &'a dyn Store, window: AcceptedTimes) -> Self {
        let catalog = Catalog::new(store);
        Self { store, window, catalog, turns: bounded(WAITING_MAX) }
    }

    /// Brings the points of a file over from the row after `from` on. `note` is called with the
    /// last row up to which all are on the disk.
    ///
    /// # Errors
    ///
    /// When the file can't be read, or the store or `note` fails.
    pub(super) fn run(
        &mut self,
        (name, connection): (&str, &Connection),
        from: i64,
        progress: &mut Progress,
        note: &mut dyn FnMut(Mark) -> Result<(), StorageError>,
    ) -> Result<Counts, StorageError> {
        let answers = Arc::new(Answers::default());
        let mut open: VecDeque<(i64, Arc<AtomicUsize>)> = VecDeque::new();
        let mut read = Counts::default();
        let mut noted = Instant::now();
        let mut query = connection.prepare(
            "SELECT rowid, timestamp, agent_id, metric_name, value, labels FROM metrics
             WHERE rowid > ?1 ORDER BY rowid",
        )?;
        let mut rows = query.query([from])?;
        loop {
            let mut block = Block::default();
            while block.rows < BLOCK_ROWS
                && let Some(row) = rows.next()?
            {
                self.row(row, &mut block, &mut read)?;
            }
            let (count, last) = (block.rows, block.last_rowid);
            read.rows += count as u64;
            let waiting = self.submit(block, &answers)?;
            open.push_back((last, waiting));
            progress.add(name, count as u64);
            let ended = count < BLOCK_ROWS;
            if ended {
                self.wait_all();
            }
            if let Some(error) = answers.lock().1.take() {
                self.wait_all();
                return Err(StorageError::Invalid(error));
            }
            let mut done = None;
            while open.front().is_some_and(|(_, left)| left.load(Ordering::Acquire) == 0) {
                done = open.pop_front().map(|(rowid, _)| rowid).filter(|rowid| *rowid > 0);
            }
            if let Some(rowid) = done
                && (ended || noted.elapsed() >= NOTE_EVERY)
            {
                noted = Instant::now();
                note(Mark::at(connection, rowid)?)?;
            }
            if ended {
                break;
            }
        }
        self.catalog.forget_lists();
        let mut counts = answers.lock().0;
        counts.add(&read);
        Ok(counts)
    }

    fn row(
        &mut self,
        row: &rusqlite::Row<'_>,
        block: &mut Block,
        counts: &mut Counts,
    ) -> Result<(), StorageError> {
        block.last_rowid = row.get(0)?;
        block.rows += 1;
        let text = |index: usize| row.get_ref(index).map(|value| value.as_str().unwrap_or(""));
        let timestamp_ms = row.get_ref(1)?.as_i64().unwrap_or(i64::MIN);
        let value = match row.get_ref(4)? {
            ValueRef::Real(value) => value,
            ValueRef::Integer(value) => value as f64,
            _ => f64::NAN,
        };
        let (agent, metric, labels) = (text(2)?, text(3)?, text(5)?);
        let found = match self.window.check(timestamp_ms, value) {
            Ok(()) => self.catalog.find(agent, metric, labels)?,
            Err(reason) => Err(reason),
        };
        match found {
            Ok(known) if block.take(known.agent, timestamp_ms, known.series, value) => {}
            Ok(_) => counts.duplicates += 1,
            Err(reason) => counts.rejected.add(reason),
        }
        Ok(())
    }

    /// Hands a block to the store; gives the number of writes that are not answered yet.
    fn submit(
        &mut self,
        mut block: Block,
        answers: &Arc<Answers>,
    ) -> Result<Arc<AtomicUsize>, StorageError> {
        let waiting = Arc::new(AtomicUsize::new(0));
        block.ticks.sort_by_key(|tick| (tick.agent, tick.timestamp_ms));
        let mut sets: Vec<SampleSet> = Vec::new();
        let mut points = 0;
        let mut agent = None;
        for tick in block.ticks {
            let full = points + tick.values.len() > BATCH_POINTS_MAX;
            if !sets.is_empty() && (full || agent != Some(tick.agent)) {
                self.send(agent, std::mem::take(&mut sets), &waiting, answers)?;
                points = 0;
            }
            agent = Some(tick.agent);
            points += tick.values.len();
            sets.push(SampleSet {
                timestamp_ms: tick.timestamp_ms,
                series: self.catalog.list(&tick.series),
                values: tick.values,
            });
        }
        if !sets.is_empty() {
            self.send(agent, sets, &waiting, answers)?;
        }
        Ok(waiting)
    }

    fn send(
        &self,
        agent: Option<u32>,
        sets: Vec<SampleSet>,
        waiting: &Arc<AtomicUsize>,
        answers: &Arc<Answers>,
    ) -> Result<(), StorageError> {
        let Some(agent) = agent.map(|number| self.catalog.agent(number)) else { return Ok(()) };
        // No more writes wait than the store takes, so none is refused for want of room.
        let _ = self.turns.0.send(());
        waiting.fetch_add(1, Ordering::AcqRel);
        let (turns, left, answers) =
            (self.turns.1.clone(), Arc::clone(waiting), Arc::clone(answers));
        let ack = Box::new(move |outcome| {
            answers.note(outcome);
            left.fetch_sub(1, Ordering::AcqRel);
            let _ = turns.try_recv();
        });
        self.store
            .submit(vec![AgentSamples { agent: (&*agent).into(), sets }], ack)
            .map_err(|refused| StorageError::Invalid(format!("refused: {:?}", refused.error)))
    }

    /// Waits until no write waits for the store.
    fn wait_all(&self) {
        for _ in 0..WAITING_MAX {
            let _ = self.turns.0.send(());
        }
        while self.turns.1.try_recv().is_ok() {}
    }
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, (Counts, Option<String>)> {
        self.counts.lock()
    }

    fn note(&self, outcome: Result<crate::server::storage::Stored, StorageError>) {
        let mut answers = self.lock();
        match outcome {
            Ok(stored) => {
                answers.0.new += stored.new as u64;
                answers.0.duplicates += stored.duplicate as u64;
                answers.0.rejected.add_many(Reason::NoRoom, stored.rejected);
            }
            Err(error) => answers.1 = Some(error.to_string()),
        }
    }
}
