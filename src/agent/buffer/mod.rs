//! What could not be sent yet: a first-in, first-out queue of sample sets, in memory and, with
//! `buffer_dir`, in files that outlive the process.
//!
//! A sample set that the server stores at once never comes here. One that it does not, or that
//! comes while the server is known to be away, is written before anything else is tried, and from
//! then on it survives SIGKILL. It is not flushed to the device: what the last seconds before a
//! power cut wrote may be torn, which its checksum shows.
//!
//! - A buffer that is full gives up its oldest sample set and counts it.
//! - A folder that can't be written never stops the agent: sample sets stay in memory, each new one
//!   tries again, and what waited in memory moves to the files as soon as they take it.
//! - Sample sets have no agent id. They belong to this host, and are sent under the id that it has
//!   then.

mod codec;
mod disk;
mod record;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

pub(crate) use codec::SampleSet;
use disk::{Disk, Spot};

/// Bytes that the files may take at the most, whatever `buffer_max_size` says.
const DISK_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The queue.
pub(crate) struct Buffer {
    /// Ordered by sequence number.
    entries: VecDeque<Entry>,
    /// How many of the entries are in memory.
    in_memory: usize,
    next_sequence: u64,
    sets_max: usize,
    store: Store,
    dropped: u64,
    scratch: Vec<u8>,
}

struct Entry {
    sequence: u64,
    points: usize,
    place: Place,
}

enum Place {
    Memory(Box<[u8]>),
    Disk(Spot),
}

enum Store {
    /// No `buffer_dir`.
    Memory,
    /// The folder could not be opened, as was said once; it is tried again with each sample set.
    Closed(PathBuf),
    Open {
        disk: Box<Disk>,
        dir: PathBuf,
        failing: bool,
    },
}

/// The oldest sample sets of a buffer, read for one call.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Front {
    /// The first sequence number.
    pub from: u64,
    /// The last sequence number.
    pub to: u64,
    /// The sample sets, oldest first.
    pub sets: Vec<SampleSet>,
}

impl Buffer {
    /// A buffer of at most `sets_max` sample sets with what an earlier run left in `dir`. A folder
    /// that can't be used is logged, and the buffer is in memory until it can.
    pub(crate) fn open(dir: Option<&Path>, sets_max: usize, now_ms: i64) -> Self {
        let mut buffer = Self {
            entries: VecDeque::new(),
            in_memory: 0,
            // From the clock, so that sample sets kept in memory while the folder can't be read
            // come after those in it, and never have the number of one of them.
            next_sequence: u64::try_from(now_ms).unwrap_or(0).saturating_mul(1 << 16).max(1),
            sets_max: sets_max.max(1),
            store: dir.map_or(Store::Memory, |dir| Store::Closed(dir.to_owned())),
            dropped: 0,
            scratch: Vec::new(),
        };
        if let Err(error) = buffer.open_store() {
            buffer.say_in_memory(&error);
        }
        buffer.shrink();
        buffer
    }

    /// How many sample sets wait.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether what waits outlives the process.
    pub(crate) fn is_lasting(&self) -> bool {
        self.in_memory == 0 && matches!(self.store, Store::Open { failing: false, .. })
    }

    /// How many sample sets were given up since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Keeps a sample set and returns its sequence number.
    pub(crate) fn push(&mut self, set: &SampleSet) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let mut body = std::mem::take(&mut self.scratch);
        body.clear();
        codec::encode(set, &mut body);
        let place = Place::Memory(body.as_slice().into());
        self.in_memory += 1;
        self.entries.push_back(Entry { sequence, points: set.points.len(), place });
        self.scratch = body;
        self.settle();
        self.shrink();
        sequence
    }

    /// The oldest sample sets with at most `points_max` points together, but at least one sample
    /// set; `None` when the buffer is empty. They stay until [`Buffer::done`].
    pub(crate) fn front(&mut self, points_max: usize) -> Option<Front> {
        let mut front = Front::default();
        let mut points = 0;
        let mut at = 0;
        while let Some(entry) = self.entries.get(at) {
            if !front.sets.is_empty() && points + entry.points > points_max {
                break;
            }
            let sequence = entry.sequence;
            let count = entry.points;
            match self.read(at) {
                Some(set) => {
                    if front.sets.is_empty() {
                        front.from = sequence;
                    }
                    front.to = sequence;
                    front.sets.push(set);
                    points += count;
                    at += 1;
                }
                None => self.give_up(at),
            }
        }
        (!front.sets.is_empty()).then_some(front)
    }

    /// The newest sample set with its sequence number.
    pub(crate) fn newest(&mut self) -> Option<(u64, SampleSet)> {
        while let Some(at) = self.entries.len().checked_sub(1) {
            let sequence = self.entries.get(at)?.sequence;
            match self.read(at) {
                Some(set) => return Some((sequence, set)),
                None => self.give_up(at),
            }
        }
        None
    }

    /// The sample sets `from` to `to` are with the server, or refused by it: they are not needed
    /// again.
    pub(crate) fn done(&mut self, from: u64, to: u64) {
        let start = self.entries.partition_point(|entry| entry.sequence < from);
        let end = self.entries.partition_point(|entry| entry.sequence <= to);
        let mut spots = Vec::new();
        for entry in self.entries.drain(start..end) {
            match entry.place {
                Place::Memory(_) => self.in_memory -= 1,
                Place::Disk(spot) => spots.push(spot),
            }
        }
        if spots.is_empty() {
            return;
        }
        if let Store::Open { disk, .. } = &mut self.store
            && let Err(error) = disk.done(from, to, &spots)
        {
            // The server knows a batch that comes twice, so this costs traffic and nothing else.
            log::debug!("cannot note what was sent in the buffer folder: {error}");
        }
    }

    /// Counts a sample set that never got here as given up.
    pub(crate) fn count_dropped(&mut self, sets: u64) {
        self.dropped += sets;
    }

    /// Takes a new size and folder; what waits comes along.
    pub(crate) fn reconfigure(&mut self, dir: Option<&Path>, sets_max: usize) {
        self.sets_max = sets_max.max(1);
        if self.dir() != dir {
            let sets: Vec<SampleSet> =
                (0..self.entries.len()).filter_map(|at| self.read(at)).collect();
            if let (Some(first), Some(last)) = (self.entries.front(), self.entries.back()) {
                self.done(first.sequence, last.sequence);
            }
            self.store = dir.map_or(Store::Memory, |dir| Store::Closed(dir.to_owned()));
            if let Err(error) = self.open_store() {
                self.say_in_memory(&error);
            }
            for set in sets {
                self.push(&set);
            }
        }
        self.shrink();
    }

    fn dir(&self) -> Option<&Path> {
        match &self.store {
            Store::Memory => None,
            Store::Closed(dir) | Store::Open { dir, .. } => Some(dir),
        }
    }

    fn read(&mut self, at: usize) -> Option<SampleSet> {
        let entry = self.entries.get(at)?;
        match (&entry.place, &mut self.store) {
            (Place::Memory(body), _) => codec::decode(body),
            (Place::Disk(spot), Store::Open { disk, .. }) => {
                match disk.read(entry.sequence, *spot) {
                    Ok(body) => codec::decode(&body),
                    Err(error) => {
                        log::warn!("a buffered batch can't be read back and is lost: {error}");
                        None
                    }
                }
            }
            (Place::Disk(_), _) => None,
        }
    }

    fn give_up(&mut self, at: usize) {
        if let Some(entry) = self.entries.get(at) {
            let sequence = entry.sequence;
            self.dropped += 1;
            self.done(sequence, sequence);
        }
    }

    fn shrink(&mut self) {
        while self.entries.len() > self.sets_max
            || (self.disk_bytes() > DISK_BYTES_MAX && self.entries.len() > 1)
        {
            self.give_up(0);
        }
    }

    fn disk_bytes(&self) -> u64 {
        match &self.store {
            Store::Open { disk, .. } => disk.size_bytes(),
            _ => 0,
        }
    }

    /// Moves what waits in memory into the files, oldest first, opening the folder where it could
    /// not be opened before. A change from working to failing, or back, is logged once.
    fn settle(&mut self) {
        if matches!(self.store, Store::Closed(_)) {
            if self.open_store().is_err() {
                return;
            }
            log::info!("the buffer folder can be used again");
        }
        let Store::Open { disk, failing, dir } = &mut self.store else { return };
        // All in memory are newer than all in the files, but for those of a folder that could
        // only be opened later.
        if self.in_memory == 0 {
            return;
        }
        let mut failed = None;
        for entry in &mut self.entries {
            let Place::Memory(body) = &entry.place else { continue };
            match disk.append(entry.sequence, body) {
                Ok(spot) => {
                    entry.place = Place::Disk(spot);
                    self.in_memory -= 1;
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        match failed {
            Some(error) if !*failing => self.say_in_memory(&error),
            None if std::mem::take(failing) => log::info!("buffering in {} again", dir.display()),
            _ => {}
        }
    }

    fn open_store(&mut self) -> std::io::Result<()> {
        let Store::Closed(dir) = &self.store else { return Ok(()) };
        let opened = Disk::open(dir)?;
        let dir = dir.clone();
        if opened.skipped_bytes > 0 {
            let bytes = opened.skipped_bytes;
            log::warn!("left out {bytes} bytes in {} that are no whole batch", dir.display());
        }
        if !opened.found.is_empty() {
            log::info!(
                "{} batches of an earlier run wait in {}",
                opened.found.len(),
                dir.display()
            );
        }
        self.next_sequence = self.next_sequence.max(opened.next_sequence);
        self.entries.extend(opened.found.into_iter().map(|found| Entry {
            sequence: found.sequence,
            points: found.points,
            place: Place::Disk(found.spot),
        }));
        self.entries.make_contiguous().sort_by_key(|entry| entry.sequence);
        self.store = Store::Open { disk: Box::new(opened.disk), dir, failing: false };
        Ok(())
    }

    fn say_in_memory(&mut self, error: &std::io::Error) {
        let dir = match &mut self.store {
            Store::Memory => return,
            Store::Closed(dir) => dir,
            Store::Open { dir, failing, .. } => {
                *failing = true;
                dir
            }
        };
        log::warn!(
            "cannot write to the buffer folder {}: {error}; up to {} batches stay in memory until \
             it can be written",
            dir.display(),
            self.sets_max
        );
    }
}
