//! The points of day files one after the other: packed and not, each once, as one snapshot of its
//! file has them.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};

use crate::base::clock::DAY_MS;
use crate::server::storage::StorageError;
use crate::server::storage::day::Day;
use crate::server::storage::day::file;
use crate::server::storage::day::ids;
use crate::server::storage::keep::damage;
use crate::server::storage::read::chunks;
use crate::server::storage::write::wal;

/// Which points are wanted. Times are inclusive Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Want {
    /// Exactly this agent.
    pub agent: Option<String>,
    /// Exactly this metric.
    pub metric: Option<String>,
    /// Not before.
    pub from: i64,
    /// Not after.
    pub to: i64,
}

/// Who a point belongs to.
#[derive(Debug)]
pub(super) struct Owner {
    /// The series' id in its day file.
    pub id: u32,
    /// The agent.
    pub agent: Arc<str>,
    /// The metric.
    pub metric: String,
    /// The labels, a JSON object.
    pub labels: String,
}

/// A sample with what `metrics` shows of its series.
pub(super) struct PointOf {
    /// Its series.
    pub owner: Arc<Owner>,
    /// Unix milliseconds.
    pub timestamp: i64,
    /// The value.
    pub value: f64,
    /// When it arrived, Unix milliseconds: exact while it is not packed.
    pub received: i64,
}

/// The rest of a scan: days, then the series and the agents of the day that is open.
pub(super) struct Scan {
    data_dir: PathBuf,
    want: Want,
    days: VecDeque<i64>,
    open: Option<OpenDay>,
    ready: VecDeque<PointOf>,
}

struct OpenDay {
    connection: Connection,
    day: Day,
    number: i64,
    owners: HashMap<u32, Arc<Owner>>,
    /// Series lists that records name, of the wanted agents.
    layouts: HashMap<i64, Box<str>>,
    packed: VecDeque<u32>,
    /// Agents whose records are not read yet: id, and the id of the last packed record.
    agents: VecDeque<(u32, i64)>,
}

impl Scan {
    /// A scan of the days that can have a wanted point.
    pub(super) fn new(data_dir: &Path, days: &[i64], want: Want) -> Self {
        let inside = |day: &&i64| {
            let start = day.saturating_mul(DAY_MS);
            start <= want.to && start.saturating_add(DAY_MS) > want.from
        };
        let days = days.iter().filter(inside).copied().collect();
        Self { data_dir: data_dir.to_owned(), want, days, open: None, ready: VecDeque::new() }
    }

    /// The next point.
    pub(super) fn next(&mut self) -> Result<Option<PointOf>, StorageError> {
        loop {
            if let Some(point) = self.ready.pop_front() {
                return Ok(Some(point));
            }
            if let Some(open) = &mut self.open {
                let more = open.advance(&self.want, &mut self.ready);
                if more.map_err(|error| named(error, &open.day.path))? {
                    continue;
                }
                self.open = None;
            }
            let Some(day) = self.days.pop_front() else { return Ok(None) };
            let opened = OpenDay::open(&self.data_dir, day, &self.want);
            let path = file::path_of(&self.data_dir, day);
            self.open = opened.map_err(|error| named(error, &path))?;
        }
    }
}

/// An error that names the file where it means damage.
fn named(error: StorageError, path: &Path) -> StorageError {
    damage::found_in(&error).map_or(error, |what| file::damaged(path, what))
}

impl OpenDay {
    /// `None` when retention took the file meanwhile.
    fn open(data_dir: &Path, number: i64, want: &Want) -> Result<Option<Self>, StorageError> {
        let path = file::path_of(data_dir, number);
        if !path.exists() {
            return Ok(None);
        }
        let connection = file::open_reader(&path)?;
        let sql = |error| file::classify(error, &path);
        // One transaction, so that a point that is packed meanwhile is seen once.
        connection.execute_batch("BEGIN").map_err(sql)?;
        let agents = agents(&connection, &path, want)?;
        let owners = owners(&connection, &path, want, &agents)?;
        let mut layouts = HashMap::new();
        ids::series_lists(&connection, &path, |id, agent, list| {
            if agents.contains_key(&agent) {
                layouts.insert(id, list.into());
            }
            Ok(())
        })?;
        let mut packed: Vec<u32> = owners.keys().copied().collect();
        packed.sort_unstable();
        let agents = agents.into_iter().map(|(id, (_, packed))| (id, packed)).collect();
        let day = Day::new(number, path, &Arc::default());
        let packed = packed.into();
        Ok(Some(Self { connection, day, number, owners, layouts, packed, agents }))
    }

    /// Reads the next series' chunks, then the next agent's records; false when there is no more.
    fn advance(
        &mut self,
        want: &Want,
        ready: &mut VecDeque<PointOf>,
    ) -> Result<bool, StorageError> {
        if let Some(id) = self.packed.pop_front() {
            let Some(owner) = self.owners.get(&id) else { return Ok(true) };
            for stored in chunks::load(&self.connection, &self.day, id, want.from, want.to)? {
                let lag = stored.meta.lag;
                for (timestamp, value) in stored.points(&self.day)? {
                    if (want.from..=want.to).contains(&timestamp) {
                        let received = timestamp.saturating_add(lag);
                        let owner = Arc::clone(owner);
                        ready.push_back(PointOf { owner, timestamp, value, received });
                    }
                }
            }
            return Ok(true);
        }
        let Some((agent, packed)) = self.agents.pop_front() else { return Ok(false) };
        self.frames(agent, packed, want, ready)?;
        Ok(true)
    }

    fn frames(
        &self,
        agent: u32,
        packed: i64,
        want: &Want,
        ready: &mut VecDeque<PointOf>,
    ) -> Result<(), StorageError> {
        let sql = |error| file::classify(error, &self.day.path);
        let bad = || {
            let what =
                format!("a WAL record of {} is not what was written", file::date_of(self.number));
            file::damaged(&self.day.path, what)
        };
        let query = format!(
            "SELECT {} FROM samples WHERE samples.agent = ?1 AND samples.id > ?2
             AND samples.timestamp BETWEEN ?3 AND ?4 ORDER BY samples.id",
            wal::COLUMNS
        );
        let mut query = self.connection.prepare_cached(&query).map_err(sql)?;
        let mut rows = query.query(params![agent, packed, want.from, want.to]).map_err(sql)?;
        while let Some(row) = rows.next().map_err(sql)? {
            let stored = wal::WalRecord::read(row).map_err(sql)?.ok_or_else(bad)?;
            let list = match stored.series {
                ValueRef::Integer(layout) => self.layouts.get(&layout).map(|list| &**list),
                other => other.as_str().ok(),
            };
            let ids = list.and_then(wal::decode_ids).ok_or_else(bad)?;
            let wal::WalRecord { timestamp, received, .. } = stored;
            for (id, value) in ids.into_iter().zip(stored.values) {
                if let Some(owner) = self.owners.get(&id) {
                    let owner = Arc::clone(owner);
                    ready.push_back(PointOf { owner, timestamp, value, received });
                }
            }
        }
        Ok(())
    }
}

type Agents = HashMap<u32, (Arc<str>, i64)>;

fn agents(connection: &Connection, path: &Path, want: &Want) -> Result<Agents, StorageError> {
    let mut found = HashMap::new();
    ids::agents(connection, path, want.agent.as_deref(), |agent| {
        found.insert(agent.id, (agent.name.into(), agent.packed));
        Ok(())
    })?;
    Ok(found)
}

fn owners(
    connection: &Connection,
    path: &Path,
    want: &Want,
    agents: &Agents,
) -> Result<HashMap<u32, Arc<Owner>>, StorageError> {
    let mut found = HashMap::new();
    ids::series(connection, path, want.metric.as_deref(), |row| {
        if let Some((agent, _)) = agents.get(&row.agent) {
            let agent = Arc::clone(agent);
            let owner = Owner { id: row.id, agent, metric: row.metric, labels: row.labels };
            found.insert(row.id, Arc::new(owner));
        }
        Ok(())
    })?;
    Ok(found)
}
