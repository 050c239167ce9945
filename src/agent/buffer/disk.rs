//! The buffer's files: segments that are only appended to, and deleted oldest first once every
//! sample set in them is done with. A start never appends to a segment of an earlier one, so that
//! whatever its end looks like stays as it is.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::agent::buffer::codec;
use crate::agent::buffer::record::{self, Record};
use crate::base::private;

/// A segment is closed once it has grown to this.
const SEGMENT_BYTES: u64 = 256 * 1024;
/// A larger file in the folder is none of ours.
const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
const EXTENSION: &str = "oxb";
const LOCK_NAME: &str = "lock";

/// Where a sample set stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    segment: u64,
    offset: u64,
    size: u32,
}

/// A sample set that was found in the files.
pub(super) struct Found {
    pub(super) sequence: u64,
    pub(super) points: usize,
    pub(super) spot: Spot,
}

/// The open folder.
pub(super) struct Disk {
    dir: PathBuf,
    /// Held for its lock: two agents never share a folder.
    _lock: File,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// The newest segment, once this start has begun one.
    writer: Option<File>,
    /// The segment that was read last.
    reader: Option<(u64, File)>,
    next_segment: u64,
    scratch: Vec<u8>,
}

struct Segment {
    number: u64,
    size_bytes: u64,
    /// Sample sets in it that are not done with.
    waiting: usize,
}

/// What an opened folder holds.
pub(super) struct Opened {
    pub(super) disk: Disk,
    /// The sample sets that wait, in their order.
    pub(super) found: Vec<Found>,
    /// Above every sequence number in the files.
    pub(super) next_sequence: u64,
    /// Bytes that belong to no whole record.
    pub(super) skipped_bytes: usize,
}

impl Disk {
    /// Opens the folder, makes it where it is missing, and reads what is in it.
    pub(super) fn open(dir: &Path) -> io::Result<Opened> {
        fs::create_dir_all(dir)?;
        private::narrow(dir, |name| name == LOCK_NAME || name.ends_with(&format!(".{EXTENSION}")));
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(dir.join(LOCK_NAME))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another agent is using it"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let numbers = segment_numbers(dir)?;
        let mut disk = Self {
            dir: dir.to_owned(),
            _lock: lock,
            segments: VecDeque::new(),
            writer: None,
            reader: None,
            next_segment: numbers.last().map_or(1, |last| last + 1),
            scratch: Vec::new(),
        };
        let mut scan = Scan::default();
        for number in numbers {
            disk.scan(number, &mut scan)?;
        }
        let Scan { mut found, done, next_sequence, skipped_bytes } = scan;
        found.retain(|set| !done.iter().any(|(from, to)| (*from..=*to).contains(&set.sequence)));
        found.sort_by_key(|set| set.sequence);
        found.dedup_by_key(|set| set.sequence);
        for set in &found {
            disk.count(set.spot.segment, 1);
        }
        disk.prune();
        Ok(Opened { disk, found, next_sequence, skipped_bytes })
    }

    fn scan(&mut self, number: u64, scan: &mut Scan) -> io::Result<()> {
        let path = self.path(number);
        let size_bytes = fs::metadata(&path)?.len();
        if size_bytes > SEGMENT_BYTES_MAX {
            log::warn!("left {} alone: it is too large for a buffer segment", path.display());
            return Ok(());
        }
        let bytes = fs::read(&path)?;
        if is_of_another_version(&bytes) {
            log::warn!("left {} alone: another version of the agent wrote it", path.display());
            return Ok(());
        }
        scan.read(number, &bytes);
        self.segments.push_back(Segment { number, size_bytes, waiting: 0 });
        Ok(())
    }

    /// Appends an encoded sample set.
    pub(super) fn append(&mut self, sequence: u64, body: &[u8]) -> io::Result<Spot> {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        record::put_set(&mut bytes, sequence, body);
        let written = self.write(&bytes);
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.scratch = bytes;
        let (segment, offset) = written?;
        self.count(segment, 1);
        Ok(Spot { segment, offset, size })
    }

    /// Notes that the sample sets of these numbers are done with, and deletes what is not needed.
    pub(super) fn done(&mut self, from: u64, to: u64, spots: &[Spot]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(record::FRAME_BYTES + 9);
        record::put_done(&mut bytes, from, to);
        let written = self.write(&bytes);
        for spot in spots {
            self.count(spot.segment, -1);
        }
        self.prune();
        written.map(|_| ())
    }

    /// The encoded sample set at `spot`.
    pub(super) fn read(&mut self, sequence: u64, spot: Spot) -> io::Result<Vec<u8>> {
        if self.reader.as_ref().is_none_or(|(number, _)| *number != spot.segment) {
            self.reader = Some((spot.segment, File::open(self.path(spot.segment))?));
        }
        let mut bytes = vec![0; spot.size as usize];
        if let Some((_, file)) = &self.reader {
            file.read_exact_at(&mut bytes, spot.offset)?;
        }
        match record::parse(&bytes) {
            Some((Record::SampleSet { sequence: found, body }, _)) if found == sequence => {
                Ok(body.to_vec())
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the record is damaged")),
        }
    }

    /// Bytes of all segments.
    pub(super) fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size_bytes).sum()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<(u64, u64)> {
        let full = self.segments.back().is_none_or(|last| last.size_bytes >= SEGMENT_BYTES);
        if full || self.writer.is_none() {
            self.begin()?;
        }
        let (Some(file), Some(last)) = (self.writer.as_mut(), self.segments.back_mut()) else {
            return Err(io::Error::other("no segment is open"));
        };
        if let Err(error) = file.write_all(bytes) {
            // What was written of the record must not stand in the way of the next one. Where it
            // can't be cut off, readers step over it, and a new segment is begun.
            if file.set_len(last.size_bytes).is_err() {
                self.writer = None;
            }
            return Err(error);
        }
        let offset = last.size_bytes;
        last.size_bytes += bytes.len() as u64;
        Ok((last.number, offset))
    }

    fn begin(&mut self) -> io::Result<()> {
        self.writer = None;
        let number = self.next_segment;
        let path = self.path(number);
        let mut file = OpenOptions::new().append(true).create_new(true).open(&path)?;
        if let Err(error) = file.write_all(&record::HEADER) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.next_segment += 1;
        self.writer = Some(file);
        let size_bytes = record::HEADER.len() as u64;
        self.segments.push_back(Segment { number, size_bytes, waiting: 0 });
        Ok(())
    }

    fn count(&mut self, number: u64, by: isize) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == number) {
            segment.waiting = segment.waiting.saturating_add_signed(by);
        }
    }

    /// Deletes segments from the oldest on while nothing waits in them. Only in that order: a
    /// segment's notes of what is done are about itself and older ones.
    fn prune(&mut self) {
        while let Some(oldest) = self.segments.front().filter(|oldest| oldest.waiting == 0) {
            let number = oldest.number;
            if self.reader.as_ref().is_some_and(|(open, _)| *open == number) {
                self.reader = None;
            }
            if let Err(error) = fs::remove_file(self.path(number))
                && error.kind() != io::ErrorKind::NotFound
            {
                log::debug!("cannot delete {}: {error}", self.path(number).display());
                return;
            }
            self.segments.pop_front();
            if self.segments.is_empty() {
                self.writer = None;
            }
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:016x}.{EXTENSION}"))
    }
}

struct Scan {
    found: Vec<Found>,
    done: BTreeSet<(u64, u64)>,
    next_sequence: u64,
    skipped_bytes: usize,
}

impl Default for Scan {
    fn default() -> Self {
        Self { found: Vec::new(), done: BTreeSet::new(), next_sequence: 1, skipped_bytes: 0 }
    }
}

impl Scan {
    fn read(&mut self, segment: u64, bytes: &[u8]) {
        let skipped = record::scan(bytes, |offset, size, record| match record {
            Record::SampleSet { sequence, body } => {
                self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
                if let Some(points) = codec::count(body) {
                    let size = u32::try_from(size).unwrap_or(u32::MAX);
                    let spot = Spot { segment, offset, size };
                    self.found.push(Found { sequence, points, spot });
                }
            }
            Record::Done { from, to } => {
                self.next_sequence = self.next_sequence.max(to.saturating_add(1));
                self.done.insert((from, to));
            }
        });
        self.skipped_bytes += skipped;
    }
}

fn is_of_another_version(bytes: &[u8]) -> bool {
    bytes.len() >= record::HEADER.len()
        && bytes[..6] == record::HEADER[..6]
        && bytes[..8] != record::HEADER
}

fn segment_numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            numbers.extend(u64::from_str_radix(name, 16).ok().filter(|_| name.len() == 16));
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}
