//! A shard's thread: the agents of one target that it has, one request under way. What is new comes
//! first; a part of a gap follows each time there is room for it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::{DAY_MS, MINUTE_MS};
use crate::rt::stop::Stop;
use crate::server::remote::encode::{Body, Columns};
use crate::server::remote::gaps::Part;
use crate::server::remote::send::{Sender, Stopped};
use crate::server::remote::target::{Target, shard_of};
use crate::server::storage::{Selection, StorageError, Store};

/// How long a shard waits for samples before it looks for gaps, and for more samples to come.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(500));
/// Samples that need not wait for more.
const ENOUGH: usize = 2_000;
/// Length of the first part of a gap, the shortest and the longest, milliseconds.
const PART_MS: (i64, i64, i64) = (10 * MINUTE_MS, MINUTE_MS, DAY_MS);
/// How long an agent's gap is left alone when the store can't be read.
const REST: Duration = Duration::from_secs(60);

/// What a shard works on.
pub(super) struct Shard {
    target: Arc<Target>,
    index: usize,
    store: Arc<dyn Store>,
    sender: Sender,
    stop: Stop,
    part_ms: i64,
}

impl Shard {
    /// Shard `index` of a target.
    pub(super) fn new(
        target: Arc<Target>,
        index: usize,
        store: Arc<dyn Store>,
        sender: Sender,
        stop: Stop,
    ) -> Self {
        Self { target, index, store, sender, stop, part_ms: PART_MS.0 }
    }

    /// Sends until the server stops and nothing waits, or a request fails then.
    pub(super) fn run(mut self) {
        // What is left is noted by whoever stops the shards.
        let _ = self.work();
    }

    fn work(&mut self) -> Result<(), Stopped> {
        let target = Arc::clone(&self.target);
        let Some(queue) = target.queues.get(self.index) else { return Ok(()) };
        loop {
            let has_gap = self.send_gap()?;
            let idle = if has_gap { Duration::ZERO } else { WAIT.0 };
            queue.wait(ENOUGH, (idle, WAIT.1), &self.stop);
            let taken = queue.take(self.sender.most);
            let is_idle = taken.sets.is_empty() && taken.marks.is_empty();
            if is_idle && self.stop.is_stopped() {
                return Ok(());
            }
            if !taken.sets.is_empty() {
                self.sender.deliver(&Body::Sets(taken.sets))?;
                queue.sent();
            }
            taken.marks.into_iter().for_each(|mark| mark());
        }
    }

    /// Sends the next part of a gap; gives whether there was one.
    fn send_gap(&mut self) -> Result<bool, Stopped> {
        if self.stop.is_stopped() {
            return Ok(false);
        }
        let shards = self.target.queues.len();
        let is_mine = |agent: &str| shard_of(agent, shards) == self.index;
        let part_ms = self.part_ms;
        let Some(part) = self.target.gaps.next(is_mine, |_| part_ms) else { return Ok(false) };
        match read(&*self.store, &part) {
            Ok(columns) => self.send_part(&part, columns)?,
            Err(error) => {
                let agent = &part.agent;
                log::warn!("samples of {agent} can't be read to be sent to the engine: {error}");
                self.target.gaps.failed(&part, REST);
            }
        }
        Ok(true)
    }

    fn send_part(&mut self, part: &Part, columns: Columns) -> Result<(), Stopped> {
        let samples: usize = columns.iter().map(|(_, points)| points.len()).sum();
        let most = self.sender.most;
        if samples > most {
            self.part_ms = (self.part_ms / 2).max(PART_MS.1);
        } else if samples < most / 4 {
            self.part_ms = (self.part_ms * 2).min(PART_MS.2);
        }
        for body in bodies(columns, most) {
            if let Err(stopped) = self.sender.deliver(&body) {
                self.target.gaps.failed(part, REST);
                return Err(stopped);
            }
        }
        self.target.gaps.sent(part);
        Ok(())
    }
}

/// All samples of an agent in a part of a gap.
fn read(store: &dyn Store, part: &Part) -> Result<Columns, StorageError> {
    let (from_ms, to_ms) = part.times;
    let agent = |name: &str| *name == *part.agent;
    let selection = Selection { agent: &agent, ..Selection::all(from_ms, to_ms) };
    let mut columns = Columns::new();
    store.select(&selection, &mut |series, points| {
        columns.push((Arc::clone(series), points.to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok(columns)
}

/// Samples in requests of about `most`.
pub(super) fn bodies(columns: Columns, most: usize) -> Vec<Body> {
    let mut out = Vec::new();
    let (mut part, mut samples) = (Columns::new(), 0);
    for (series, points) in columns {
        for points in points.chunks(most.max(1)) {
            if samples > 0 && samples + points.len() > most {
                out.push(Body::Columns(std::mem::take(&mut part)));
                samples = 0;
            }
            samples += points.len();
            part.push((Arc::clone(&series), points.to_vec()));
        }
    }
    if !part.is_empty() {
        out.push(Body::Columns(part));
    }
    out
}
