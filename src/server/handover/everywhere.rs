//! The store as the API sees it where there are several servers: agents that report to another
//! one, or did, are read from all servers and the engine as one. Each sample comes once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::base::clock::{MINUTE_MS, SECOND_MS, rfc3339};
use crate::base::limits::RANGE_ROWS_MAX;
use crate::model::alert::{AlertEvent, AlertStatus};
use crate::model::series::{Labels, SeriesKey};
use crate::server::handover::Handover;
use crate::server::handover::mirror::Mirror;
use crate::server::handover::wire::{self, BySeries, Part, Wanted};
use crate::server::peers::client::PeerError;
use crate::server::remote::OWN_AGENT;
use crate::server::remote::reads::{self, Reads};
use crate::server::storage::{
    AgentSeen, EventFilter, KnownMetrics, LatestRow, Listing, Page, PointFilter, PointRow,
    RangeQuery, RangeSeries, Selection, Series, StorageError, Store, Summary, TakePoints,
    TakeSeries,
};

/// Time for an answer of another server.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// What is newer than this is read from the servers, milliseconds: the engine may not show it yet.
const FRESH_MS: i64 = 10 * MINUTE_MS;
/// The same while a server is away, which can't be asked.
const SHOWN_MS: i64 = 15 * SECOND_MS;
/// Samples may have arrived at a server so much after its last answer, milliseconds.
const AFTER_MS: i64 = 3 * SECOND_MS;
/// Rows of a list over all agents, the skipped ones among them.
const LIST_ROWS_MAX: usize = 10_000;

/// First and last time, Unix milliseconds.
type Times = (i64, i64);

/// See the module.
pub(crate) struct Everywhere {
    /// This server's store, with the engine behind it where there is one.
    front: Arc<dyn Store>,
    /// What is here.
    local: Arc<dyn Store>,
    handover: Arc<Handover>,
    /// A series of each metric that only another server has, so that the metrics keep their
    /// numbers.
    names: Mutex<Vec<Arc<Series>>>,
}

impl Everywhere {
    /// The store of this server and of those that `handover` knows.
    pub(crate) fn new(front: Arc<dyn Store>, handover: Arc<Handover>) -> Self {
        let local = Arc::clone(&handover.local);
        Self { front, local, handover, names: Mutex::default() }
    }

    fn engine(&self) -> Option<&Reads> {
        self.handover.reads.as_ref()
    }

    /// This server's store.
    pub(super) fn front(&self) -> &dyn Store {
        &*self.front
    }

    fn now_ms(&self) -> i64 {
        self.handover.clock.now_ms()
    }

    /// The other servers that have or had an agent; all of them where none is named.
    fn having(&self, agent: Option<&str>) -> impl Iterator<Item = &Mirror> {
        let has = move |it: &&Mirror| agent.is_none_or(|agent| it.place(agent).is_some());
        self.handover.mirrors.iter().filter(has)
    }

    /// Whether samples of an agent may be elsewhere.
    fn is_shared(&self, agent: &str) -> bool {
        self.having(Some(agent)).next().is_some()
    }

    fn get<T: DeserializeOwned>(&self, mirror: &Mirror, path: &str) -> Result<T, StorageError> {
        let answer = self.handover.get(mirror, path, ANSWER_WITHIN);
        answer.map_err(|error| {
            let why = error.to_string();
            if matches!(error, PeerError::Away { .. }) {
                mirror.failed(&why);
            }
            behind(mirror, "what it has is missing", &why)
        })
    }

    /// Reads once more where a server is found to be away meanwhile: it may not be needed.
    fn read<T>(&self, body: impl Fn() -> Result<T, StorageError>) -> Result<T, StorageError> {
        let away = || self.handover.mirrors.iter().filter(|it| it.fault().is_some()).count();
        let before = away();
        match body() {
            Err(StorageError::Behind(_)) if away() > before => body(),
            outcome => outcome,
        }
    }

    /// Fails when a server is away that alone may have samples of these times, of an agent or of
    /// any.
    fn check(&self, agent: Option<&str>, (from_ms, to_ms): Times) -> Result<(), StorageError> {
        for mirror in self.having(agent) {
            // Without an engine, it alone has whatever it took.
            let is_alone = self.engine().is_none();
            let has = |agent: &str| mirror.place(agent).is_some_and(|it| it.is_here || is_alone);
            let Some(unsure) = mirror.unsure().filter(|_| agent.is_none_or(has)) else { continue };
            let last_ms = unsure.to_ms + AFTER_MS;
            let late_ms = if self.now_ms() - unsure.to_ms < SHOWN_MS { SHOWN_MS } else { 0 };
            let first_ms = if is_alone { 0 } else { unsure.from_ms - late_ms };
            if from_ms <= last_ms && to_ms >= first_ms {
                let what = format!(
                    "samples from {} to {} may be there alone",
                    rfc3339(first_ms),
                    rfc3339(last_ms)
                );
                return Err(behind(mirror, &what, &unsure.why));
            }
        }
        Ok(())
    }

    /// From when on the servers are asked for samples of an agent, or of all: what is older is at
    /// the engine.
    fn cut_ms(&self, agent: Option<&str>) -> i64 {
        if self.engine().is_none() {
            return i64::MIN;
        }
        let mut cut_ms = self.now_ms() - FRESH_MS;
        let mut is_away = false;
        for mirror in self.having(agent) {
            match mirror.fault() {
                Some(_) => is_away = true,
                None => cut_ms = cut_ms.min(mirror.settled_ms().unwrap_or(i64::MAX) - MINUTE_MS),
            }
        }
        // What it had is at the engine, or is named as missing.
        if is_away { self.now_ms() - SHOWN_MS } else { cut_ms }
    }

    /// Newest samples, from all servers that answer.
    fn fresh(&self, wanted: &Wanted<'_>) -> Result<BySeries, StorageError> {
        let mut out = BySeries::new();
        wire::select(&*self.local, wanted, &mut |key, points| {
            out.insert(key.clone(), points.to_vec());
        })?;
        let path = format!("/v1/peers/points{}", wire::query(wanted));
        for mirror in self.having(wanted.agent).filter(|it| it.fault().is_none()) {
            let parts: Vec<Part> = self.get(mirror, &path)?;
            if !wire::add(parts, &mut out) {
                return Err(behind(mirror, "what it has is missing", "the answer is not a sample"));
            }
        }
        wire::settle(&mut out);
        Ok(out)
    }

    /// Every sample of an agent that is or was elsewhere.
    fn whole(
        &self,
        agent: &str,
        metric: Option<&str>,
        (from_ms, to_ms): Times,
    ) -> Result<BySeries, StorageError> {
        self.check(Some(agent), (from_ms, to_ms))?;
        let cut_ms = self.cut_ms(Some(agent)).max(from_ms);
        let times = (cut_ms, to_ms);
        let wanted = Wanted { agent: Some(agent), metric, times, newest_only: false };
        let mut out = BySeries::new();
        if let Some(engine) = self.engine().filter(|_| from_ms < cut_ms) {
            out = engine.points(Some(agent), metric, (from_ms, to_ms.min(cut_ms - 1)))?;
        }
        if cut_ms <= to_ms {
            for (key, points) in self.fresh(&wanted)? {
                out.entry(key).or_default().extend(points);
            }
        }
        Ok(out)
    }

    fn list_of(
        &self,
        agent: &str,
        filter: &PointFilter,
        page: Page,
    ) -> Result<Listing<PointRow>, StorageError> {
        let from_ms = filter.from_ms.unwrap_or(i64::MIN);
        let to_ms = filter.to_ms.unwrap_or(i64::MAX);
        self.check(Some(agent), (from_ms, to_ms))?;
        let cut_ms = self.cut_ms(Some(agent)).max(from_ms);
        let times = (cut_ms, to_ms);
        let metric = filter.metric.as_deref();
        let wanted = Wanted { agent: Some(agent), metric, times, newest_only: false };
        let fresh = if cut_ms <= to_ms { self.fresh(&wanted)? } else { BySeries::new() };
        let fresh = Listing::slice(reads::rows(fresh).into_iter(), page);
        match self.engine() {
            Some(engine) if from_ms < cut_ms => {
                engine.list_on(filter, page, fresh, (from_ms, to_ms.min(cut_ms - 1)))
            }
            _ => Ok(fresh),
        }
    }

    /// Points of all agents: the newest of each server.
    fn list_all(
        &self,
        filter: &PointFilter,
        page: Page,
    ) -> Result<Listing<PointRow>, StorageError> {
        let times = (filter.from_ms.unwrap_or(i64::MIN), filter.to_ms.unwrap_or(i64::MAX));
        let away = self.handover.mirrors.iter().find_map(|it| Some((it, it.fault()?)));
        if let Some((mirror, why)) = away
            && times.0 <= mirror.unsure().map_or(i64::MAX, |unsure| unsure.to_ms + AFTER_MS)
        {
            return Err(behind(mirror, "points of its agents are missing", &why));
        }
        let rows = page.offset.saturating_add(page.limit);
        if rows > LIST_ROWS_MAX {
            return Err(StorageError::Invalid(format!(
                "over several servers `offset` and `limit` must be at most {LIST_ROWS_MAX} \
                 together: name an agent, or go on with `timestamp__lte`"
            )));
        }
        let first = Page { limit: rows, offset: 0 };
        let mut out = self.front.list(filter, first)?;
        let metric = filter.metric.as_deref();
        let wanted = Wanted { agent: None, metric, times, newest_only: false };
        let path = format!("/v1/peers/list{}&rows={rows}", wire::query(&wanted));
        let mut known: HashSet<String> = out.items.iter().map(|row| row.id.clone()).collect();
        for mirror in &self.handover.mirrors {
            let (total, parts): wire::Rows = self.get(mirror, &path)?;
            let mut found = BySeries::new();
            wire::add(parts, &mut found);
            out.total += total;
            let more = reads::rows(found).into_iter();
            out.items.extend(more.filter(|row| known.insert(row.id.clone())));
        }
        out.items
            .sort_by(|a, b| b.timestamp_ms.cmp(&a.timestamp_ms).then_with(|| a.key.cmp(&b.key)));
        out.items = out.items.into_iter().skip(page.offset).take(page.limit).collect();
        Ok(out)
    }

    /// Texts that this server has, and those of the others.
    fn texts(&self, path: &str, own: Listing<String>, page: Page) -> Listing<String> {
        let mut all: BTreeSet<String> = own.items.into_iter().collect();
        for mirror in self.handover.mirrors.iter().filter(|it| it.fault().is_none()) {
            match self.get::<Vec<String>>(mirror, path) {
                Ok(more) => all.extend(more),
                Err(error) => log::warn!("a list is not whole: {error}"),
            }
        }
        Listing::slice(all.into_iter(), page)
    }

    pub(super) fn all_latest(&self) -> Result<Vec<LatestRow>, StorageError> {
        let mut rows = self.front.latest_all()?;
        let mut others = HashSet::new();
        for mirror in &self.handover.mirrors {
            let places = mirror.places().into_iter();
            let here = places.filter(|(agent, _)| {
                let place = self.handover.elsewhere(agent);
                place.is_some_and(|(it, _)| it.sister.name == mirror.sister.name)
            });
            let here: HashSet<String> = here.map(|(agent, _)| agent).collect();
            if here.is_empty() || mirror.fault().is_some() {
                others.extend(here);
                continue;
            }
            let parts: Vec<Part> = self.get(mirror, "/v1/peers/latest")?;
            let more = wire::latest_rows(parts).into_iter();
            rows.retain(|row| !here.contains(&*row.key.agent));
            rows.extend(more.filter(|row| here.contains(&*row.key.agent)));
        }
        // What is here of them is old.
        rows.retain(|row| !others.contains(&*row.key.agent));
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(rows)
    }

    pub(super) fn latest_of_agent(&self, agent: &str) -> Result<Vec<LatestRow>, StorageError> {
        let Some((mirror, _)) = self.handover.elsewhere(agent) else {
            return self.front.latest(agent);
        };
        if let Some(why) = mirror.fault() {
            return Err(behind(mirror, &format!("{agent} reported there"), &why));
        }
        let path = format!("/v1/peers/latest?agent={}", wire::escaped(agent));
        Ok(wire::latest_rows(self.get(mirror, &path)?))
    }

    pub(super) fn seen(&self) -> Result<Vec<AgentSeen>, StorageError> {
        let own = self.front.agents_seen()?.into_iter();
        let mut all: BTreeMap<String, AgentSeen> =
            own.map(|seen| (seen.agent_id.clone(), seen)).collect();
        for mirror in &self.handover.mirrors {
            for (agent_id, place) in mirror.places() {
                let new = || AgentSeen {
                    agent_id: agent_id.clone(),
                    last_seen_ms: place.seen_ms,
                    newest_ms: place.newest_ms,
                };
                let known = all.entry(agent_id.clone()).or_insert_with(new);
                known.last_seen_ms = known.last_seen_ms.max(place.seen_ms);
                known.newest_ms = known.newest_ms.max(place.newest_ms);
            }
        }
        let mut all: Vec<AgentSeen> = all.into_values().collect();
        all.sort_by(|a, b| {
            b.last_seen_ms.cmp(&a.last_seen_ms).then_with(|| a.agent_id.cmp(&b.agent_id))
        });
        Ok(all)
    }

    pub(super) fn points_list(
        &self,
        filter: &PointFilter,
        page: Page,
    ) -> Result<Listing<PointRow>, StorageError> {
        match filter.agent.as_deref() {
            Some(agent) if self.is_shared(agent) => self.read(|| self.list_of(agent, filter, page)),
            Some(_) => self.front.list(filter, page),
            None => self.list_all(filter, page),
        }
    }

    pub(super) fn chart(&self, query: &RangeQuery) -> Result<Vec<RangeSeries>, StorageError> {
        if !self.is_shared(&query.agent) {
            return self.front.range(query);
        }
        let times = (query.from_ms, query.to_ms);
        let mut found: BTreeMap<Labels, RangeSeries> = BTreeMap::new();
        let whole = self.read(|| self.whole(&query.agent, Some(&query.metric), times))?;
        for (key, points) in whole {
            let asked = query.labels.iter();
            if asked.into_iter().all(|(name, value)| key.labels.get(name) == Some(value)) {
                let buckets = reads::buckets(&points, query.step_ms.max(1));
                let (labels, buckets) = (key.labels, buckets.into_values().collect());
                found.insert(labels.clone(), RangeSeries { labels, buckets });
            }
        }
        if found.values().map(|series| series.buckets.len()).sum::<usize>() > RANGE_ROWS_MAX {
            let message = "the series of this metric have too many buckets together: take a \
                           longer step, a shorter time, or fewer series by their labels";
            return Err(StorageError::Invalid(message.to_owned()));
        }
        Ok(found.into_values().filter(|series| !series.buckets.is_empty()).collect())
    }

    pub(super) fn sums(
        &self,
        (agent, metric): (&str, &str),
        times: Times,
    ) -> Result<Summary, StorageError> {
        if !self.is_shared(agent) {
            return self.front.summary(agent, metric, times.0, times.1);
        }
        let found = self.read(|| self.whole(agent, Some(metric), times))?;
        let values: Vec<f64> = found.into_values().flatten().map(|(_, value)| value).collect();
        if values.is_empty() {
            return Ok(Summary::default());
        }
        Ok(Summary {
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            avg: values.iter().sum::<f64>() / values.len() as f64,
            count: values.len() as u64,
        })
    }

    pub(super) fn metric_names(
        &self,
        times: Times,
        page: Page,
    ) -> Result<Listing<String>, StorageError> {
        let all = Page { limit: usize::MAX, offset: 0 };
        let own = self.front.names(times.0, times.1, all)?;
        let path = format!("/v1/peers/names?from_ms={}&to_ms={}", times.0.max(0), times.1);
        Ok(self.texts(&path, own, page))
    }

    pub(super) fn agent_names(
        &self,
        times: Times,
        page: Page,
    ) -> Result<Listing<String>, StorageError> {
        let all = Page { limit: usize::MAX, offset: 0 };
        let own = self.front.agents(times.0, times.1, all)?;
        let mut names: BTreeSet<String> = own.items.into_iter().collect();
        for mirror in &self.handover.mirrors {
            let places = mirror.places().into_iter();
            let within = places.filter(|(_, place)| place.newest_ms >= times.0);
            names.extend(within.map(|(agent, _)| agent));
        }
        Ok(Listing::slice(names.into_iter(), page))
    }

    pub(super) fn known_metrics(&self) -> KnownMetrics {
        let (mut all, mut missing) = self.front.metrics();
        let known: BTreeSet<Arc<str>> = all.iter().map(|(name, _)| Arc::clone(name)).collect();
        let path = format!("/v1/peers/names?from_ms=0&to_ms={}", i64::MAX);
        let mut names: BTreeSet<String> = BTreeSet::new();
        for mirror in &self.handover.mirrors {
            match self.get::<Vec<String>>(mirror, &path) {
                Ok(more) => names.extend(more),
                Err(error) => missing = missing.or(Some(error)),
            }
        }
        let mut held = self.names.lock();
        for name in names {
            if known.contains(name.as_str())
                || held.iter().any(|series| *series.key.metric == *name)
            {
                continue;
            }
            let (agent, metric) = (OWN_AGENT.into(), name.into());
            let key = SeriesKey { agent, metric, labels: Labels::none() };
            held.extend(self.local.resolve(key));
        }
        let new = held.iter().filter(|series| !known.contains(&series.key.metric));
        all.extend(new.map(|series| (Arc::clone(&series.key.metric), series.metric_number)));
        (all, missing)
    }

    pub(super) fn selected(
        &self,
        selection: &Selection<'_>,
        take: TakePoints<'_>,
    ) -> Result<(), StorageError> {
        let mut ended = false;
        let alone = |agent: &str| (selection.agent)(agent) && !self.is_shared(agent);
        let own = Selection { agent: &alone, ..*selection };
        self.front.select(&own, &mut |series, points| {
            let flow = take(series, points);
            ended = flow.is_break();
            flow
        })?;
        if ended {
            return Ok(());
        }
        let mut found = self.read(|| self.shared_points(selection))?;
        for (key, points) in &mut found {
            let series = self.local.resolve(key.clone())?;
            let from = if selection.newest_only { points.len().saturating_sub(1) } else { 0 };
            let points = points.get(from..).unwrap_or_default();
            let is_wanted = !points.is_empty() && (selection.series)(&series);
            if is_wanted && take(&series, points).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Samples of a selection of the agents that are or were elsewhere.
    fn shared_points(&self, selection: &Selection<'_>) -> Result<BySeries, StorageError> {
        let places = self.handover.mirrors.iter().flat_map(Mirror::places);
        let agents: BTreeSet<String> =
            places.map(|(agent, _)| agent).filter(|agent| (selection.agent)(agent)).collect();
        let mut out = BySeries::new();
        if agents.is_empty() {
            return Ok(out);
        }
        let (from_ms, to_ms) = (selection.from_ms, selection.to_ms);
        for agent in &agents {
            self.check(Some(agent), (from_ms, to_ms))?;
        }
        let cut_ms = self.cut_ms(None).max(from_ms);
        for (name, number) in self.known_metrics().0 {
            if !(selection.metric)(number) {
                continue;
            }
            let metric = Some(&*name);
            if cut_ms <= to_ms {
                let times = (cut_ms, to_ms);
                let newest_only = selection.newest_only;
                let fresh = self.fresh(&Wanted { agent: None, metric, times, newest_only })?;
                out.extend(fresh.into_iter().filter(|(key, _)| agents.contains(&*key.agent)));
            }
            let Some(engine) = self.engine().filter(|_| from_ms < cut_ms) else { continue };
            let older = engine.points(None, metric, (from_ms, to_ms.min(cut_ms - 1)))?;
            for (key, points) in older {
                if agents.contains(&*key.agent) {
                    out.entry(key).or_default().splice(0..0, points);
                }
            }
        }
        Ok(out)
    }

    pub(super) fn selected_series(
        &self,
        selection: &Selection<'_>,
        take: TakeSeries<'_>,
    ) -> Result<(), StorageError> {
        let mut all: BTreeMap<SeriesKey, Arc<Series>> = BTreeMap::new();
        self.front.select_series(selection, &mut |series| {
            all.insert(series.key.clone(), Arc::clone(series));
            ControlFlow::Continue(())
        })?;
        let newest = Selection { newest_only: true, ..*selection };
        for key in self.read(|| self.shared_points(&newest))?.into_keys() {
            let series = self.local.resolve(key.clone())?;
            if (selection.series)(&series) {
                all.insert(key, series);
            }
        }
        for series in all.values() {
            if take(series).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Alert events of all servers that answer. One that went from server to server is at each;
    /// the one that lasts longest is the newest.
    pub(super) fn all_events(
        &self,
        filter: &EventFilter,
        page: Page,
    ) -> Result<Listing<AlertEvent>, StorageError> {
        let rows = page.offset.saturating_add(page.limit);
        let first = Page { limit: rows, offset: 0 };
        let own = self.front.events(filter, first)?;
        let mut total = own.total;
        let mut all: HashMap<String, AlertEvent> =
            own.items.into_iter().map(|event| (event.id.clone(), event)).collect();
        let filter = serde_json::to_string(filter).unwrap_or_default();
        let path = format!("/v1/peers/events?rows={rows}&filter={}", wire::escaped(&filter));
        for mirror in self.handover.mirrors.iter().filter(|it| it.fault().is_none()) {
            let (count, events): (u64, Vec<AlertEvent>) = match self.get(mirror, &path) {
                Ok(found) => found,
                Err(error) => {
                    log::warn!("alert events of another server are missing: {error}");
                    continue;
                }
            };
            total += count;
            for event in events {
                let lasts = |event: &AlertEvent| event.resolved_at_ms.unwrap_or(i64::MAX);
                let known = all.get(&event.id).map(lasts);
                total -= u64::from(known.is_some());
                if known.is_none_or(|known| known < lasts(&event)) {
                    all.insert(event.id.clone(), event);
                }
            }
        }
        let mut items: Vec<AlertEvent> = all.into_values().collect();
        items.sort_by(|a, b| b.timestamp_ms.cmp(&a.timestamp_ms).then_with(|| a.id.cmp(&b.id)));
        let items = items.into_iter().skip(page.offset).take(page.limit).collect();
        Ok(Listing { items, total })
    }

    /// The event with an id, of whichever server has it.
    pub(super) fn any_event(&self, id: &str) -> Result<Option<AlertEvent>, StorageError> {
        let own = self.front.event(id)?;
        if own.as_ref().is_some_and(|event| event.status != AlertStatus::Resolved) {
            return Ok(own);
        }
        let path = format!("/v1/peers/event?id={}", wire::escaped(id));
        for mirror in self.handover.mirrors.iter().filter(|it| it.fault().is_none()) {
            match self.get::<Option<AlertEvent>>(mirror, &path) {
                Ok(Some(event)) if own.is_none() => return Ok(Some(event)),
                Ok(_) => {}
                Err(error) => log::warn!("alert events of another server are missing: {error}"),
            }
        }
        Ok(own)
    }
}

fn behind(mirror: &Mirror, what: &str, why: &str) -> StorageError {
    let name = &mirror.sister.name;
    StorageError::Behind(format!("the server `{name}` does not answer, {what}: {why}"))
}
