//! What a day keeps in memory of one agent: its series with their sums, and the points that are
//! not packed yet.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;

use crate::base::limits::SERIES_PER_AGENT_MAX;
use crate::server::storage::day::count::{AgentCount, Counted};
use crate::server::storage::day::head_values::{Place, Values};
use crate::server::storage::{Series, SeriesList};

/// One series in one day.
#[derive(Debug)]
pub(crate) struct Entry {
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

/// A series list as the day knows it, shared by the records that have it.
#[derive(Debug)]
pub(crate) struct DaySeriesList {
    /// The list that callers hand in.
    pub source: SeriesList,
    /// Places in [`AgentDay::entries`], in the same order, each once.
    pub entries: Box<[u32]>,
    /// Id of its row in `layouts`, once it has one.
    pub row: OnceLock<i64>,
}

impl DaySeriesList {
    /// The position of an entry's values in a record.
    pub(crate) fn position(&self, entry: u32) -> Option<usize> {
        self.entries.iter().position(|&other| other == entry)
    }
}

/// The points of one agent at one time.
#[derive(Debug)]
pub(crate) struct HeadRecord {
    /// Unix milliseconds.
    pub ts: i64,
    /// When it arrived, Unix milliseconds.
    pub received: i64,
    /// Id of its row in `samples`.
    pub record_id: i64,
    /// Which series.
    pub series_list: Arc<DaySeriesList>,
    /// Where its values are among the agent's.
    pub place: Place,
}

impl HeadRecord {
    /// Bytes of memory that it takes with its values, which are among these.
    pub(crate) fn size_bytes(&self, values: &Values) -> usize {
        size_of::<Self>() + values.size_bytes(self.place, self.len())
    }

    /// Number of its points.
    pub(crate) fn len(&self) -> usize {
        self.series_list.entries.len()
    }

    /// The value at a position of its series list, among all of the agent.
    pub(crate) fn value(&self, values: &Values, position: usize) -> Option<f64> {
        values.get(self.place, position, self.len())
    }

    /// Its values in the order of its series list, among all of the agent.
    pub(crate) fn values(&self, values: &Values) -> impl Iterator<Item = f64> {
        values.iter(self.place, self.len())
    }
}

/// Layouts remembered of one agent: an agent whose collectors run at different times has a few.
const LISTS_MAX: usize = 8;

/// One agent in one day. The day's writer alone changes it; readers lock it while they copy.
#[derive(Debug)]
pub(crate) struct AgentDay {
    /// Its id in the day file.
    pub id: u32,
    /// Its name.
    pub name: Arc<str>,
    /// Its series.
    pub entries: Vec<Entry>,
    by_number: HashMap<u32, u32>,
    lists: Vec<Arc<DaySeriesList>>,
    /// The head: points that are committed and not packed, oldest first.
    pub records: Vec<HeadRecord>,
    /// Ticks of the transaction that is under way, which nobody may read yet.
    pub pending: Vec<HeadRecord>,
    /// The values of both.
    pub values: Values,
    pending_max: i64,
    /// Newest time of any point.
    pub max_ts: i64,
    /// When the newest of its records arrived, Unix milliseconds; `i64::MIN` without points.
    pub arrived_ms: i64,
    /// The agent was removed, and nothing of it has come since.
    pub hidden: bool,
    agent_count: Arc<AgentCount>,
    /// Counts the agent while it has points and was not removed.
    counted: Option<Counted>,
    /// Id of the oldest record in the head; `i64::MAX` when it is empty.
    pub oldest_record: i64,
    /// Arrival of the oldest record in the head, Unix milliseconds.
    pub oldest_received: i64,
    /// Points in the head.
    pub head_points: usize,
    /// Times that chunks cover, sorted and apart from each other.
    pub spans: Vec<(i64, i64)>,
}

impl AgentDay {
    /// An agent without points.
    pub(crate) fn new(id: u32, name: Arc<str>) -> Self {
        Self {
            id,
            name,
            entries: Vec::new(),
            by_number: HashMap::new(),
            lists: Vec::new(),
            records: Vec::new(),
            pending: Vec::new(),
            values: Values::default(),
            pending_max: i64::MIN,
            max_ts: i64::MIN,
            arrived_ms: i64::MIN,
            hidden: false,
            agent_count: Arc::default(),
            counted: None,
            oldest_record: i64::MAX,
            oldest_received: i64::MAX,
            head_points: 0,
            spans: Vec::new(),
        }
    }

    /// Adds a series that has `id` in the file, and gives its place in `entries`.
    pub(crate) fn add_entry(&mut self, series: Arc<Series>, id: u32) -> u32 {
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
    pub(crate) fn place_of(&self, number: u32) -> Option<u32> {
        self.by_number.get(&number).copied()
    }

    /// The remembered list that equals this one; `None` when there is none. The usual case compares
    /// one pointer; an equal list of another origin, such as a stream that the agent has opened
    /// again, is compared in full.
    pub(crate) fn known_list(&mut self, list: &SeriesList) -> Option<Arc<DaySeriesList>> {
        let is_same = |series_list: &Arc<DaySeriesList>| Arc::ptr_eq(&series_list.source, list);
        let at = self.lists.iter().position(is_same).or_else(|| {
            self.lists.iter().position(|series_list| {
                series_list.source.len() == list.len()
                    && series_list
                        .source
                        .iter()
                        .zip(&**list)
                        .all(|(a, b)| Arc::ptr_eq(a, b) || a.number == b.number)
            })
        })?;
        self.lists[..=at].rotate_right(1);
        self.lists.first().cloned()
    }

    /// Remembers a list; the one that was not used for longest goes.
    pub(crate) fn remember(&mut self, series_list: &Arc<DaySeriesList>) {
        self.lists.truncate(LISTS_MAX - 1);
        self.lists.insert(0, Arc::clone(series_list));
    }

    /// Id of the oldest record that is not packed, committed or pending; `i64::MAX` without any.
    pub(crate) fn first_needed(&self) -> i64 {
        self.pending
            .first()
            .map_or(self.oldest_record, |record| record.record_id.min(self.oldest_record))
    }

    /// Memory that the samples take, without their series.
    pub(crate) fn head_bytes(&self) -> usize {
        self.records.iter().map(|record| record.size_bytes(&self.values)).sum()
    }

    /// Whether it may have one more series.
    pub(crate) fn has_room(&self) -> bool {
        self.entries.len() < SERIES_PER_AGENT_MAX
    }

    /// Whether a record at `ts` is newer than all, so that no point of it can be a duplicate.
    pub(crate) fn is_newest(&self, ts: i64) -> bool {
        ts > self.max_ts && ts > self.pending_max
    }

    /// Whether chunks cover `ts`.
    pub(crate) fn is_covered(&self, ts: i64) -> bool {
        self.is_span_covered(ts, ts)
    }

    /// Whether one span that chunks cover holds all from `from` to `to`. Two that hold an end each
    /// leave a gap between them.
    pub(crate) fn is_span_covered(&self, from: i64, to: i64) -> bool {
        let at = self.spans.partition_point(|&(start, _)| start <= from);
        at.checked_sub(1).and_then(|at| self.spans.get(at)).is_some_and(|&(_, end)| to <= end)
    }

    /// Notes that chunks cover a time.
    pub(crate) fn cover(&mut self, start: i64, end: i64) {
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
    pub(crate) fn duplicates_at(&self, ts: i64, places: &[u32]) -> Vec<bool> {
        let mut known = vec![false; places.len()];
        let from = self.records.partition_point(|record| record.ts < ts);
        let committed = self.records[from..].iter().take_while(|record| record.ts == ts);
        let pending = self.pending.iter().filter(|record| record.ts == ts);
        for record in committed.chain(pending) {
            for (flag, &place) in known.iter_mut().zip(places) {
                *flag |= record.series_list.position(place).is_some();
            }
        }
        known
    }

    /// Adds a record to the transaction under way.
    pub(crate) fn prepare(&mut self, record: HeadRecord) {
        self.pending_max = self.pending_max.max(record.ts);
        self.pending.push(record);
    }

    /// Forgets the transaction under way.
    pub(crate) fn roll_back(&mut self) {
        self.pending.drain(..).for_each(|record| self.values.remove(record.place));
        self.pending_max = i64::MIN;
    }

    /// Makes the transaction's records readable, and gives the bytes that they take.
    pub(crate) fn publish(&mut self) -> usize {
        let mut bytes = 0;
        let pending = std::mem::take(&mut self.pending);
        self.pending_max = i64::MIN;
        for record in pending {
            bytes += record.size_bytes(&self.values);
            self.take(record);
        }
        bytes
    }

    /// The same agent, counted in `count` once it has points.
    pub(crate) fn counted_in(self, count: &Arc<AgentCount>) -> Self {
        Self { agent_count: Arc::clone(count), ..self }
    }

    /// Notes that it has points and is in lists.
    pub(crate) fn appear(&mut self) {
        self.hidden = false;
        if self.counted.is_none() {
            self.counted = Some(Counted::new(&self.agent_count, &self.name));
        }
    }

    /// Leaves it out of lists until points of it come.
    pub(crate) fn hide(&mut self) {
        self.hidden = true;
        self.counted = None;
    }

    /// Takes a committed record into the head.
    pub(crate) fn take(&mut self, record: HeadRecord) {
        for (&place, value) in record.series_list.entries.iter().zip(record.values(&self.values)) {
            let Some(entry) = self.entries.get_mut(place as usize) else { continue };
            entry.count = entry.count.saturating_add(1);
            entry.first = entry.first.min(record.ts);
            if record.ts >= entry.last {
                entry.last = record.ts;
                entry.last_value = value;
            }
        }
        self.max_ts = self.max_ts.max(record.ts);
        self.arrived_ms = self.arrived_ms.max(record.received);
        self.appear();
        self.oldest_record = self.oldest_record.min(record.record_id);
        self.oldest_received = self.oldest_received.min(record.received);
        self.head_points += record.len();
        let at = self.records.partition_point(|other| other.ts <= record.ts);
        self.records.insert(at, record);
    }

    /// Drops the head's records up to an id, which are packed now, and gives the bytes freed.
    pub(crate) fn drop_packed(&mut self, newest_record: i64) -> usize {
        let mut bytes = 0;
        let mut points = 0;
        let values = &mut self.values;
        self.records.retain(|record| {
            let keep = record.record_id > newest_record;
            if !keep {
                bytes += record.size_bytes(values);
                points += record.len();
                values.remove(record.place);
            }
            keep
        });
        self.records.shrink_to(self.records.len() * 2);
        debug_assert!(points <= self.head_points, "points are counted once");
        self.head_points -= points;
        self.oldest_record =
            self.records.iter().map(|record| record.record_id).min().unwrap_or(i64::MAX);
        self.oldest_received =
            self.records.iter().map(|record| record.received).min().unwrap_or(i64::MAX);
        bytes
    }
}
