//! The SQLite engine behind [`Store`].

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use crossbeam_channel::bounded;
use parking_lot::{Mutex, RwLock};

use crate::base::clock::Clock;
use crate::model::alert::AlertEvent;
use crate::model::series::SeriesKey;
use crate::rt::stop::StopSource;
use crate::rt::thread;
use crate::server::config::ServerConfig;
use crate::server::storage::ack::{PartialAck, Permit};
use crate::server::storage::day::file;
use crate::server::storage::day::{Day, Job, Write};
use crate::server::storage::events;
use crate::server::storage::keep::damage;
use crate::server::storage::keep::open;
use crate::server::storage::keep::retention;
use crate::server::storage::keep::retention::What;
use crate::server::storage::metrics::Metrics;
use crate::server::storage::read::{arrived, index, points, range, select};
use crate::server::storage::series::SeriesCatalog;
use crate::server::storage::shared::Shared;
use crate::server::storage::write::writer::queue_of;
use crate::server::storage::{
    Ack, AgentSamples, AgentSeen, Arrived, Cleanup, EventFilter, Feed, KnownMetrics, LatestRow,
    Listing, Observer, Page, Partition, PointFilter, PointRow, RangeQuery, RangeSeries, Refused,
    RefusedWhy, Selection, Series, StorageError, StorageReport, Store, StoreHealth, Stored,
    Summary, TakePoints, TakeSeries, Tap, Visit,
};

/// How often a read is begun again when a day goes meanwhile.
const READ_TRIES: usize = 3;

/// Day files, their writers and what is in memory of them.
pub struct Engine {
    shared: Arc<Shared>,
    background: Mutex<Option<(StopSource, JoinHandle<()>)>>,
    _lock: File,
}

impl Engine {
    /// Opens `data_dir`, makes it when it is missing, and reads back what was not packed.
    ///
    /// # Errors
    ///
    /// When another server runs on the folder, or it can't be written.
    pub fn open(
        config: &ServerConfig,
        clock: Arc<dyn Clock>,
        registry: &prometheus::Registry,
    ) -> Result<Arc<Self>, StorageError> {
        let lock_file = open::lock_folder(&config.data_dir)?;
        let metrics = Metrics::register(registry)
            .map_err(|error| StorageError::Invalid(format!("the store's metrics: {error}")))?;
        let shared = Arc::new(Shared {
            data_dir: config.data_dir.clone(),
            retention_days: i64::from(config.retention_days),
            retention_max_bytes: config.retention_max_bytes,
            storage: config.storage.clone(),
            queue: config.pools.storage_queue,
            clock,
            catalog: SeriesCatalog::new(config, &metrics),
            days: RwLock::new(BTreeMap::new()),
            agent_count: Arc::default(),
            observer: OnceLock::new(),
            tap: OnceLock::new(),
            metrics,
            waiting: Arc::new(AtomicUsize::new(0)),
            stopping: AtomicBool::new(false),
            head_bytes: AtomicI64::new(0),
            disk_full: AtomicBool::new(false),
            set_aside: Mutex::new(damage::names(&config.data_dir)),
            cleaning: Mutex::new(()),
            is_history: AtomicBool::new(false),
            #[cfg(test)]
            probe: OnceLock::new(),
        });
        open::spend_reserve_if_needed(&config.data_dir);
        open::load_days(&shared)?;
        let source = StopSource::new();
        let stop = source.stop();
        let background = {
            let shared = Arc::clone(&shared);
            thread::spawn("db-maintain", move || {
                retention::run(&shared, &stop);
                Ok(())
            })
        };
        let background = Mutex::new(Some((source, background)));
        Ok(Arc::new(Self { shared, background, _lock: lock_file }))
    }

    /// Calls `probe` at each step that a crash may come after.
    #[cfg(test)]
    pub fn probe(&self, probe: crate::server::storage::shared::Probe) {
        assert!(self.shared.probe.set(probe).is_ok(), "one probe");
    }

    /// Does now what is done every few seconds.
    #[cfg(test)]
    pub fn maintain_now(&self) {
        retention::wake_writers(&self.shared);
    }

    /// From now on samples count as having arrived at their own times: they are brought over from
    /// another server.
    pub(crate) fn take_history(&self) {
        self.shared.is_history.store(true, Ordering::Relaxed);
    }

    /// Reads, and begins again when a day went meanwhile.
    fn read<T>(
        &self,
        mut body: impl FnMut(&[Arc<Day>]) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut outcome = self.read_once(&mut body);
        for _ in 1..READ_TRIES {
            if !matches!(outcome, Err(StorageError::Moved(_))) {
                break;
            }
            outcome = self.read_once(&mut body);
        }
        outcome
    }

    fn read_once<T>(
        &self,
        mut body: impl FnMut(&[Arc<Day>]) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let _timer = self.shared.metrics.read_seconds.start_timer();
        let days = self.shared.days();
        let outcome = body(&days);
        if let Err(StorageError::Damaged { file, what }) = &outcome
            && let Some(number) = file::day_of_file(file)
            // The day that was read, which may have been set aside since: then it has no writer.
            && let Some(day) = days.iter().find(|day| day.number == number)
            && let Ok(queue) = queue_of(&self.shared, day)
        {
            // The writer alone may set it aside. A full queue means that it will find out itself.
            let _ = queue.try_send(Job::SetAside(what.clone()));
        }
        outcome
    }
}

impl Store for Engine {
    fn resolve(&self, key: SeriesKey) -> Result<Arc<Series>, StorageError> {
        Ok(self.shared.catalog.resolve(key)?)
    }

    fn admit_agent(&self, agent: &str) -> Result<(), StorageError> {
        Ok(self.shared.catalog.admit_agent(agent)?)
    }

    fn submit(&self, samples: Vec<AgentSamples>, ack: Ack) -> Result<(), Refused> {
        let shared = &self.shared;
        if shared.stopping.load(Ordering::Acquire) {
            return Err(Refused { ack, error: RefusedWhy::Stopping });
        }
        let Some(permit) = Permit::take(&shared.waiting, shared.queue) else {
            return Err(Refused { ack, error: RefusedWhy::QueueFull });
        };
        let mut stored = Stored::default();
        let days = by_day(shared, samples, &mut stored);
        if days.is_empty() {
            drop(permit);
            ack(Ok(stored));
            return Ok(());
        }
        let is_history = shared.is_history.load(Ordering::Relaxed);
        let received_ms = (!is_history).then(|| shared.clock.now_ms());
        let parts = PartialAck::split(ack, permit, days.len(), stored);
        for ((day, samples), ack) in days.into_iter().zip(parts) {
            if let Ok(queue) = queue_of(shared, &day) {
                // There is room: no more batches wait than fit. A part that is dropped unread
                // reports that the server stops.
                let _ = queue.send(Job::Write(Write { samples, received_ms, ack }));
            }
        }
        Ok(())
    }

    fn latest(&self, agent: &str) -> Result<Vec<LatestRow>, StorageError> {
        self.read(|days| Ok(index::latest(days, Some(agent), usize::MAX).0))
    }

    fn latest_all(&self) -> Result<Vec<LatestRow>, StorageError> {
        self.read(|days| Ok(index::latest(days, None, usize::MAX).0))
    }

    fn latest_of(&self, most: usize) -> Result<(Vec<LatestRow>, usize), StorageError> {
        self.read(|days| Ok(index::latest(days, None, most)))
    }

    fn list(&self, filter: &PointFilter, page: Page) -> Result<Listing<PointRow>, StorageError> {
        self.read(|days| points::list(days, filter, page))
    }

    fn range(&self, query: &RangeQuery) -> Result<Vec<RangeSeries>, StorageError> {
        self.read(|days| range::range(days, query))
    }

    fn summary(
        &self,
        agent: &str,
        metric: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Summary, StorageError> {
        self.read(|days| range::summary(days, agent, metric, (from_ms, to_ms)))
    }

    fn names(&self, from_ms: i64, to_ms: i64, page: Page) -> Result<Listing<String>, StorageError> {
        let numbers = self.shared.catalog.metric_numbers();
        let found = self.read(|days| index::metrics(days, numbers, (from_ms, to_ms)))?;
        Ok(index::page(found, page))
    }

    fn agents(
        &self,
        from_ms: i64,
        to_ms: i64,
        page: Page,
    ) -> Result<Listing<String>, StorageError> {
        let found = self.read(|days| index::agents(days, (from_ms, to_ms)))?;
        Ok(index::page(found, page))
    }

    fn agents_seen(&self) -> Result<Vec<AgentSeen>, StorageError> {
        self.read(|days| Ok(index::agents_seen(days)))
    }

    fn scan(
        &self,
        metric: &str,
        wanted: &dyn Fn(&SeriesKey) -> bool,
        from_ms: i64,
        to_ms: i64,
        visit: Visit<'_>,
    ) -> Result<(), StorageError> {
        self.read_once(|days| range::scan(days, metric, wanted, (from_ms, to_ms), visit))
    }

    fn select(&self, selection: &Selection<'_>, take: TakePoints<'_>) -> Result<(), StorageError> {
        self.read_once(|days| select::select(days, selection, take))
    }

    fn select_series(
        &self,
        selection: &Selection<'_>,
        take: TakeSeries<'_>,
    ) -> Result<(), StorageError> {
        select::series(&self.shared.days(), selection, take);
        Ok(())
    }

    fn metrics(&self) -> KnownMetrics {
        (self.shared.catalog.metrics(), None)
    }

    fn put_event(&self, event: &AlertEvent) -> Result<(), StorageError> {
        self.put_events(std::slice::from_ref(event))
    }

    fn put_events(&self, events: &[AlertEvent]) -> Result<(), StorageError> {
        let mut by_day: BTreeMap<i64, Vec<AlertEvent>> = BTreeMap::new();
        for event in events {
            by_day.entry(file::day_of(event.timestamp_ms)).or_default().push(event.clone());
        }
        let mut answers = Vec::new();
        for (number, events) in by_day {
            let day = self.shared.day(number).ok_or_else(|| {
                let date = file::date_of(number);
                StorageError::Invalid(format!("{date} is not one of the days that are kept"))
            })?;
            let (reply, answer) = bounded(1);
            let job = Job::Events(events, reply);
            queue_of(&self.shared, &day)?.send(job).map_err(|_| StorageError::Stopping)?;
            answers.push(answer);
        }
        answers
            .into_iter()
            .try_for_each(|answer| answer.recv().unwrap_or(Err(StorageError::Stopping)))
    }

    fn event(&self, id: &str) -> Result<Option<AlertEvent>, StorageError> {
        self.read(|days| events::find(days, id))
    }

    fn events(
        &self,
        filter: &EventFilter,
        page: Page,
    ) -> Result<Listing<AlertEvent>, StorageError> {
        self.read(|days| events::list(days, filter, page))
    }

    fn health(&self) -> StoreHealth {
        StoreHealth {
            agents: self.shared.agent_count.get(),
            disk_full: self.shared.disk_full.load(Ordering::Relaxed),
            is_damaged: !self.shared.set_aside.lock().is_empty(),
        }
    }

    fn report(&self) -> Result<StorageReport, StorageError> {
        let shared = &self.shared;
        let mut series = 0;
        let mut partitions = Vec::new();
        for day in shared.days() {
            let has_head =
                |agent: &crate::server::storage::day::head::AgentDay| agent.head_points > 0;
            let cells = day.agents();
            let agents = cells.iter().map(|cell| cell.lock());
            series += agents.filter(|a| has_head(a)).map(|a| a.entries.len()).sum::<usize>();
            if day.is_created() {
                let date = file::date_of(day.number);
                partitions.push(Partition { date, size_bytes: file::size_of(&day.path) });
            }
        }
        Ok(StorageReport {
            partitions,
            total_bytes: open::folder_bytes(&shared.data_dir)?,
            damaged: shared.set_aside.lock().clone(),
            disk_full: shared.disk_full.load(Ordering::Relaxed),
            head_bytes: u64::try_from(shared.head_bytes.load(Ordering::Relaxed)).unwrap_or(0),
            head_series: series as u64,
        })
    }

    fn cleanup(&self) -> Result<Cleanup, StorageError> {
        retention::clean_up(&self.shared, What::All)
    }

    fn hide_agent(&self, agent: &str) {
        for day in self.shared.days() {
            if let Some(cell) = day.agent(agent) {
                cell.lock().hide();
            }
        }
    }

    fn forget_agent(&self, agent: &str) -> Result<u64, StorageError> {
        let mut answers = Vec::new();
        for day in self.shared.days() {
            if day.agent(agent).is_none() {
                continue;
            }
            let (reply, answer) = bounded(1);
            match queue_of(&self.shared, &day) {
                Ok(queue) => drop(queue.send(Job::Forget(agent.to_owned(), reply))),
                // The day is being dropped, with all that is in it.
                Err(StorageError::Stopping) => continue,
                Err(error) => return Err(error),
            }
            answers.push(answer);
        }
        let mut points = 0;
        for answer in answers {
            points += answer.recv().unwrap_or(Err(StorageError::Stopping))?;
        }
        self.shared.catalog.sweep();
        Ok(points)
    }

    fn observe(&self, observer: Arc<dyn Observer>) {
        if self.shared.observer.set(observer).is_err() {
            log::error!("the store has an observer already; the second one is ignored");
        }
    }

    fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        if let Some((source, thread)) = self.background.lock().take() {
            drop(source);
            let _ = thread.join();
        }
        self.shared.days().iter().for_each(|day| day.close());
    }
}

impl Feed for Engine {
    fn tap(&self, tap: Arc<dyn Tap>) {
        if self.shared.tap.set(tap).is_err() {
            log::error!("the store has a tap already; the second one is ignored");
        }
    }

    fn arrived_since(&self, since_ms: i64) -> Result<Vec<Arrived>, StorageError> {
        self.read(|days| arrived::since(days, since_ms))
    }

    fn days_with_samples(&self) -> Vec<i64> {
        let days = self.shared.days();
        days.iter().filter(|day| !day.agents().is_empty()).map(|day| day.number).collect()
    }

    fn shed_day(&self, day: i64) -> Result<(), StorageError> {
        let Some(day) = self.shared.known_day(day) else { return Ok(()) };
        if !day.is_created() || !day.read(|connection| events::any(connection, &day.path))? {
            retention::drop_one(&self.shared, &day)?;
        } else {
            for cell in day.agents() {
                let agent = cell.lock().name.to_string();
                let (reply, answer) = bounded(1);
                let job = Job::Forget(agent, reply);
                queue_of(&self.shared, &day)?.send(job).map_err(|_| StorageError::Stopping)?;
                answer.recv().unwrap_or(Err(StorageError::Stopping))?;
            }
        }
        self.shared.catalog.sweep();
        Ok(())
    }
}

/// Splits samples by their days, in the order in which the days come. What belongs to no day that
/// is kept is counted as rejected.
fn by_day(
    shared: &Shared,
    samples: Vec<AgentSamples>,
    stored: &mut Stored,
) -> Vec<(Arc<Day>, Vec<AgentSamples>)> {
    let mut days: Vec<(Arc<Day>, Vec<AgentSamples>)> = Vec::new();
    for AgentSamples { agent, sets } in samples {
        for set in sets {
            let number = file::day_of(set.timestamp_ms);
            let at = match days.iter().position(|(day, _)| day.number == number) {
                Some(at) => at,
                None => match shared.day(number) {
                    Some(day) => {
                        days.push((day, Vec::new()));
                        days.len() - 1
                    }
                    None => {
                        stored.rejected += set.values.len();
                        continue;
                    }
                },
            };
            let parts = &mut days[at].1;
            match parts.last_mut().filter(|part| part.agent == agent) {
                Some(part) => part.sets.push(set),
                None => parts.push(AgentSamples { agent: Arc::clone(&agent), sets: vec![set] }),
            }
        }
    }
    days
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}
