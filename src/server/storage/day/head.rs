//! What a day keeps in memory of one agent: its series with their sums, and the points that are
//! not packed yet.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;

use crate::base::limits::SERIES_PER_AGENT_MAX;
use crate::server::storage::day::head_values::Values;
use crate::server::storage::{Series, SeriesList};

/// One series in one day.
#[derive(Debug)]
pub struct Entry {
    /// The series.
    pub series: Arc<Series>,
    /// Number of its metric, here so that names are found without following `series`.
    pub metric_number: u32,
    /// Its id in the day file.
    pub id: u32,
    /// Points stored, packed or not.
    pub count: u32,
    /// Time of the first point; above `last` when there is none.
    pub first: i64,
    /// Time of the newest point.
    pub last: i64,
    /// Value of the newest point.
    pub last_value: f64,
    /// Time of the newest packed point; `i64::MIN` when there is none.
    pub packed_last: i64,
}

/// The series of ticks that are alike, as the day knows them.
#[derive(Debug)]
pub struct DayLayout {
    /// The list that callers hand in.
    pub source: SeriesList,
    /// Places in [`AgentDay::entries`], in the same order, each once.
    pub entries: Box<[u32]>,
    /// Id of its row in `layouts`, once it has one.
    pub row: OnceLock<i64>,
}

impl DayLayout {
    /// Where in a tick the values of an entry stand.
    pub fn position(&self, entry: u32) -> Option<usize> {
        self.entries.iter().position(|&other| other == entry)
    }
}

/// The points of one agent at one time.
#[derive(Debug)]
pub struct Tick {
    /// Unix milliseconds.
    pub ts: i64,
    /// When it arrived, Unix milliseconds.
    pub received: i64,
    /// Id of its row in `samples`.
    pub frame: i64,
    /// Which series.
    pub layout: Arc<DayLayout>,
    /// Their values.
    pub values: Values,
}

/// Bytes that a tick takes beside its values: the struct and the allocator's header.
const TICK_BYTES: usize = size_of::<Tick>() + 16;

impl Tick {
    /// Bytes of memory that it takes.
    pub fn size_bytes(&self) -> usize {
        TICK_BYTES + self.values.size_bytes()
    }

    /// Number of its points.
    pub fn len(&self) -> usize {
        self.layout.entries.len()
    }

    /// The value at a position of its layout.
    pub fn value(&self, position: usize) -> Option<f64> {
        self.values.get(position, self.len())
    }

    /// Its values in the order of its layout.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        self.values.iter(self.len())
    }
}

/// Layouts remembered of one agent: an agent whose collectors run at different times has a few.
const LAYOUTS_KEPT: usize = 8;

/// One agent in one day. The day's writer alone changes it; readers lock it while they copy.
#[derive(Debug)]
pub struct AgentDay {
    /// Its id in the day file.
    pub id: u32,
    /// Its name.
    pub name: Arc<str>,
    /// Its series.
    pub entries: Vec<Entry>,
    by_number: HashMap<u32, u32>,
    layouts: Vec<Arc<DayLayout>>,
    /// The head: points that are committed and not packed, oldest first.
    pub ticks: Vec<Tick>,
    /// Ticks of the transaction that is under way, which nobody may read yet.
    pub pending: Vec<Tick>,
    pending_max: i64,
    /// Newest time of any point.
    pub max_ts: i64,
    /// Oldest frame in the head; `i64::MAX` when it is empty.
    pub oldest_frame: i64,
    /// Arrival of the oldest frame in the head.
    pub oldest_received: i64,
    /// Points in the head.
    pub head_points: usize,
    /// Times that chunks cover, sorted and apart from each other.
    pub spans: Vec<(i64, i64)>,
}

impl AgentDay {
    /// An agent without points.
    pub fn new(id: u32, name: Arc<str>) -> Self {
        Self {
            id,
            name,
            entries: Vec::new(),
            by_number: HashMap::new(),
            layouts: Vec::new(),
            ticks: Vec::new(),
            pending: Vec::new(),
            pending_max: i64::MIN,
            max_ts: i64::MIN,
            oldest_frame: i64::MAX,
            oldest_received: i64::MAX,
            head_points: 0,
            spans: Vec::new(),
        }
    }

    /// Adds a series that the file knows under `id`.
    pub fn add_entry(&mut self, series: Arc<Series>, id: u32) -> u32 {
        let place = self.entries.len() as u32;
        self.by_number.insert(series.number, place);
        self.entries.push(Entry {
            metric_number: series.metric_number,
            series,
            id,
            count: 0,
            first: i64::MAX,
            last: i64::MIN,
            last_value: 0.0,
            packed_last: i64::MIN,
        });
        place
    }

    /// The place of a series.
    pub fn place_of(&self, number: u32) -> Option<u32> {
        self.by_number.get(&number).copied()
    }

    /// The remembered layout of a list. The usual case compares one pointer; an equal list of
    /// another origin, such as a stream that the agent has opened again, is compared in full.
    pub fn known_layout(&mut self, list: &SeriesList) -> Option<Arc<DayLayout>> {
        let is_same = |layout: &Arc<DayLayout>| Arc::ptr_eq(&layout.source, list);
        let at = self.layouts.iter().position(is_same).or_else(|| {
            self.layouts.iter().position(|layout| {
                layout.source.len() == list.len()
                    && layout.source.iter().zip(&**list).all(|(a, b)| a.number == b.number)
            })
        })?;
        self.layouts[..=at].rotate_right(1);
        self.layouts.first().cloned()
    }

    /// Remembers a layout; the one that was not used for longest goes.
    pub fn remember(&mut self, layout: &Arc<DayLayout>) {
        self.layouts.truncate(LAYOUTS_KEPT - 1);
        self.layouts.insert(0, Arc::clone(layout));
    }

    /// The oldest frame that is not packed, committed or about to be; `i64::MAX` without any.
    pub fn first_needed(&self) -> i64 {
        self.pending.first().map_or(self.oldest_frame, |tick| tick.frame.min(self.oldest_frame))
    }

    /// Memory that the samples take, without their series.
    pub fn head_bytes(&self) -> usize {
        self.ticks.iter().map(Tick::size_bytes).sum()
    }

    /// Whether it may have one more series.
    pub fn has_room(&self) -> bool {
        self.entries.len() < SERIES_PER_AGENT_MAX
    }

    /// Whether a tick at `ts` is newer than everything, so that none of it can be known.
    pub fn is_newest(&self, ts: i64) -> bool {
        ts > self.max_ts && ts > self.pending_max
    }

    /// Whether chunks cover `ts`.
    pub fn is_covered(&self, ts: i64) -> bool {
        let at = self.spans.partition_point(|&(start, _)| start <= ts);
        at.checked_sub(1).and_then(|at| self.spans.get(at)).is_some_and(|&(_, end)| ts <= end)
    }

    /// Notes that chunks cover a time.
    pub fn cover(&mut self, start: i64, end: i64) {
        if self.spans.last().is_some_and(|&(_, last)| last >= start) || self.spans.is_empty() {
            self.spans.push((start, end));
            self.spans.sort_unstable();
            self.spans.dedup_by(|next, before| {
                let joined = next.0 <= before.1;
                if joined {
                    before.1 = before.1.max(next.1);
                }
                joined
            });
        } else {
            self.spans.push((start, end));
        }
    }

    /// Which of `places` have a point at `ts` in the head or in the transaction under way.
    pub fn known_at(&self, ts: i64, places: &[u32]) -> Vec<bool> {
        let mut known = vec![false; places.len()];
        let from = self.ticks.partition_point(|tick| tick.ts < ts);
        let committed = self.ticks[from..].iter().take_while(|tick| tick.ts == ts);
        let pending = self.pending.iter().filter(|tick| tick.ts == ts);
        for tick in committed.chain(pending) {
            for (flag, &place) in known.iter_mut().zip(places) {
                *flag |= tick.layout.position(place).is_some();
            }
        }
        known
    }

    /// Adds a tick to the transaction under way.
    pub fn prepare(&mut self, tick: Tick) {
        self.pending_max = self.pending_max.max(tick.ts);
        self.pending.push(tick);
    }

    /// Forgets the transaction under way.
    pub fn roll_back(&mut self) {
        self.pending.clear();
        self.pending_max = i64::MIN;
    }

    /// Makes the transaction's ticks readable, and gives the bytes that they take.
    pub fn publish(&mut self) -> usize {
        let mut bytes = 0;
        let pending = std::mem::take(&mut self.pending);
        self.pending_max = i64::MIN;
        for tick in pending {
            bytes += tick.size_bytes();
            self.take(tick);
        }
        bytes
    }

    /// Takes a committed tick into the head.
    pub fn take(&mut self, tick: Tick) {
        for (&place, value) in tick.layout.entries.iter().zip(tick.values()) {
            let Some(entry) = self.entries.get_mut(place as usize) else { continue };
            entry.count = entry.count.saturating_add(1);
            entry.first = entry.first.min(tick.ts);
            if tick.ts >= entry.last {
                entry.last = tick.ts;
                entry.last_value = value;
            }
        }
        self.max_ts = self.max_ts.max(tick.ts);
        self.oldest_frame = self.oldest_frame.min(tick.frame);
        self.oldest_received = self.oldest_received.min(tick.received);
        self.head_points += tick.len();
        let at = self.ticks.partition_point(|other| other.ts <= tick.ts);
        self.ticks.insert(at, tick);
    }

    /// Drops the head's ticks up to a frame, which are packed now, and gives the bytes freed.
    pub fn drop_packed(&mut self, newest_frame: i64) -> usize {
        let mut bytes = 0;
        let mut points = 0;
        self.ticks.retain(|tick| {
            let keep = tick.frame > newest_frame;
            if !keep {
                bytes += tick.size_bytes();
                points += tick.len();
            }
            keep
        });
        self.ticks.shrink_to(self.ticks.len() * 2);
        self.head_points -= points;
        self.oldest_frame = self.ticks.iter().map(|tick| tick.frame).min().unwrap_or(i64::MAX);
        self.oldest_received =
            self.ticks.iter().map(|tick| tick.received).min().unwrap_or(i64::MAX);
        bytes
    }
}
