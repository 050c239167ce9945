//! What the store costs by itself, without a network: `cargo bench --bench storage [-- PART…]`,
//! the parts being `ingest`, `day` and `queries`; without a name all of them run.
//!
//! Prints the CPU time of a point, the bytes that a point takes before and after its day is packed,
//! how long queries take over seven million points, what they leave in memory, and what they do to
//! ingest. The workload is that of `oxmon-mock bench`; every batch is acknowledged after its fsync.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use oxmon::base::clock::{Clock, DAY_MS, HOUR_MS, ManualClock};
use oxmon::mock::workload::Host;
use oxmon::model::point::{Batch, Point};
use oxmon::model::series::{Labels, SeriesKey};
use oxmon::server::config::ServerConfig;
use oxmon::server::storage::engine::Engine;
use oxmon::server::storage::{
    AgentSamples, Page, PointFilter, RangeQuery, SampleSet, SeriesList, StorageError, Store,
    Stored, submit_batch,
};

/// Midnight of 2026-02-09 in UTC.
const MIDNIGHT: i64 = 1_770_595_200_000;
/// A part of the benchmark: its name, and what it does in a folder of its own.
type Part = (&'static str, fn(&Path));

/// Series of a host.
const SERIES: usize = 60;
/// Batches under way at once, as a server's completion queues have them.
const UNDER_WAY: usize = 256;

fn main() {
    oxmon::rt::memory::set_up();
    let asked: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let parts: [Part; 3] = [("ingest", ingest), ("day", a_day), ("queries", queries)];
    for (name, part) in parts {
        if asked.is_empty() || asked.iter().any(|word| word == name) {
            let folder = std::env::temp_dir().join(format!("oxmon-bench-{}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("a folder for the bench");
            part(&folder);
            std::fs::remove_dir_all(&folder).expect("the folder goes");
        }
    }
}

/// A simulated host with the name and the series that the store knows it by.
struct Agent {
    name: String,
    host: Host,
    list: SeriesList,
}

impl Agent {
    fn new(number: usize, store: &dyn Store) -> Self {
        let name = format!("host-{number:04}");
        let host = Host::new(number as u64 + 1, SERIES);
        let series = host.series.iter().map(|series| {
            let (agent, metric) = (name.as_str().into(), series.metric.into());
            store.resolve(SeriesKey { agent, metric, labels: series.labels.clone() })
        });
        let list = series.collect::<Result<Vec<_>, _>>().expect("the series are taken").into();
        Self { name, host, list }
    }

    fn values(&mut self, step_ms: i64) -> Vec<f64> {
        let mut values = Vec::with_capacity(SERIES);
        self.host.step(step_ms, |_, value| values.push(value));
        values
    }

    fn sample_set(&mut self, timestamp_ms: i64, step_ms: i64) -> SampleSet {
        let values = self.values(step_ms);
        SampleSet { timestamp_ms, series: Arc::clone(&self.list), values }
    }

    fn samples(&self, sets: Vec<SampleSet>) -> Vec<AgentSamples> {
        vec![AgentSamples { agent: self.name.as_str().into(), sets }]
    }

    fn batch(&mut self, timestamp_ms: i64, step_ms: i64) -> Batch {
        let values = self.values(step_ms);
        let named = self.host.series.iter().zip(values);
        let points = named.map(|(series, value)| Point {
            metric: series.metric.into(),
            labels: series.labels.clone(),
            timestamp_ms,
            value,
        });
        Batch { agent_id: self.name.as_str().into(), timestamp_ms, points: points.collect() }
    }
}

fn open(folder: &Path, clock: &Arc<ManualClock>) -> Arc<Engine> {
    let config = ServerConfig { data_dir: folder.to_owned(), ..ServerConfig::default() };
    let clock: Arc<ManualClock> = Arc::clone(clock);
    Engine::open(&config, clock, &prometheus::Registry::new()).expect("the store opens")
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks =
        after.split_whitespace().skip(11).take(2).filter_map(|part| part.parse::<u64>().ok());
    ticks.sum::<u64>() as f64 / 100.0
}

fn status_mb(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|text| text.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1_024.0 / 1e6
}

/// Batches as `ReportMetrics` brings them, then ticks as `ReportPacked` does, ten a message.
fn ingest(folder: &Path) {
    for (what, ticks) in [("batches", 0), ("resolved ticks", 10)] {
        let data = folder.join(what);
        std::fs::create_dir_all(&data).expect("a folder for the bench");
        drive(&data, what, 1_000, ticks, Duration::from_secs(10));
    }
}

/// Two threads bring what 1,000 agents send, as fast as it is taken.
fn drive(folder: &Path, what: &str, agents: usize, ticks: i64, time: Duration) {
    let clock = ManualClock::at(MIDNIGHT);
    let engine = open(folder, &clock);
    let stored = Arc::new(AtomicUsize::new(0));
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let bring = |part: usize| {
        let mut agents: Vec<Agent> =
            (part..agents).step_by(2).map(|number| Agent::new(number, engine.as_ref())).collect();
        let (free, wait) = bounded(UNDER_WAY);
        (0..UNDER_WAY).for_each(|_| free.send(()).expect("there is room"));
        let mut at = MIDNIGHT;
        while started.elapsed() < time {
            at += ticks.max(1) * 1_000;
            clock.set(clock.now_ms().max(at));
            for agent in &mut agents {
                wait.recv().expect("acknowledgements come");
                let (free, stored) = (free.clone(), Arc::clone(&stored));
                let ack = Box::new(move |outcome: Result<Stored, StorageError>| {
                    stored.fetch_add(outcome.expect("it is stored").new, Ordering::Relaxed);
                    let _ = free.send(());
                });
                let taken = if ticks > 0 {
                    let ticks = (0..ticks).map(|tick| agent.sample_set(at + tick * 1_000, 1_000));
                    let ticks = ticks.collect();
                    engine.submit(agent.samples(ticks), ack)
                } else {
                    submit_batch(engine.as_ref(), agent.batch(at, 1_000), ack)
                };
                assert!(taken.is_ok(), "the queue has room");
            }
        }
        (0..UNDER_WAY).for_each(|_| wait.recv().expect("acknowledgements come"));
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(|| bring(0)), scope.spawn(|| bring(1))];
        threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
    });
    let (wall, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let points = stored.load(Ordering::Relaxed) as f64;
    let report = engine.report().expect("a report");
    println!(
        "{what}: {agents} agents, {:.0} points/s, {:.2} CPU s per million with making them, \
         peak RSS {:.0} MB, head {:.0} MB, {:.2} bytes/point so far",
        points / wall,
        cpu / points * 1e6,
        status_mb("VmHWM"),
        report.head_bytes as f64 / 1e6,
        report.partitions.iter().map(|day| day.size_bytes).sum::<u64>() as f64 / points,
    );
}

/// A day of few hosts and two hours of many, every 10 s; then the day is packed.
fn a_day(folder: &Path) {
    for (hosts, hours) in [(20, 24), (1_000, 2)] {
        let data = folder.join(hosts.to_string());
        std::fs::create_dir_all(&data).expect("a folder for the bench");
        one_day(&data, hosts, hours);
    }
}

fn one_day(folder: &Path, hosts: usize, hours: i64) {
    let clock = ManualClock::at(MIDNIGHT);
    let engine = open(folder, &clock);
    let points = fill(&engine, &clock, hosts, hours * HOUR_MS, 10_000);
    let size = || engine.report().expect("a report").partitions[0].size_bytes as f64 / points;
    println!("{hours} hours of {hosts} hosts every 10 s: {:.2} bytes/point", size());
    clock.set(MIDNIGHT + DAY_MS);
    let cpu = cpu_seconds();
    settle(&engine, &clock, folder);
    let cpu = cpu_seconds() - cpu;
    println!("packed: {:.2} bytes/point, {:.2} CPU s per million", size(), cpu / points * 1e6);
}

/// Stores `span_ms` of `hosts`, one tick every `step_ms`; gives the number of points.
fn fill(engine: &Engine, clock: &ManualClock, hosts: usize, span_ms: i64, step_ms: i64) -> f64 {
    let mut agents: Vec<Agent> = (0..hosts).map(|number| Agent::new(number, engine)).collect();
    let (free, wait) = bounded(UNDER_WAY);
    (0..UNDER_WAY).for_each(|_| free.send(()).expect("there is room"));
    let start = clock.now_ms();
    let ticks = span_ms / step_ms;
    for tick in 0..ticks {
        let at = start + tick * step_ms;
        clock.set(at);
        for agent in &mut agents {
            wait.recv().expect("acknowledgements come");
            let free = free.clone();
            let ack = Box::new(move |outcome: Result<Stored, StorageError>| {
                outcome.expect("it is stored");
                let _ = free.send(());
            });
            let tick = agent.sample_set(at, step_ms);
            assert!(engine.submit(agent.samples(vec![tick]), ack).is_ok());
        }
    }
    (0..UNDER_WAY).for_each(|_| wait.recv().expect("acknowledgements come"));
    (ticks as usize * hosts * SERIES) as f64
}

/// Moves the clock past the day and waits until every series has one chunk and the file is small.
fn settle(engine: &Engine, clock: &ManualClock, folder: &Path) {
    clock.advance(DAY_MS / 24);
    let deadline = Instant::now() + Duration::from_secs(600);
    let mut last = (0, Instant::now());
    while last.1.elapsed() < Duration::from_secs(12) {
        assert!(Instant::now() < deadline, "{} does not settle", folder.display());
        std::thread::sleep(Duration::from_millis(500));
        let report = engine.report().expect("a report");
        let merged = report.partitions.iter().all(|day| is_merged(&folder.join(&day.date)));
        if report.total_bytes != last.0 || !merged {
            last = (report.total_bytes, Instant::now());
        }
    }
}

fn is_merged(day: &Path) -> bool {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let file = rusqlite::Connection::open_with_flags(day.with_extension("db"), flags);
    let sql = "SELECT count(*) > 0 AND count(*) = count(DISTINCT series) FROM chunks";
    file.and_then(|file| file.query_row(sql, [], |row| row.get(0))).expect("the day is read")
}

/// Milliseconds: the median and the 99th of a hundred.
struct Times(f64, f64);

fn times(count: usize, mut body: impl FnMut(usize)) -> Times {
    let mut taken: Vec<f64> = (0..count)
        .map(|index| {
            let started = Instant::now();
            body(index);
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize];
    Times(at(0.5), at(0.99))
}

/// The queries that people and charts make over a store of 12 hosts.
struct Queries<'a> {
    engine: &'a Engine,
    now: i64,
    points: f64,
}

const PAGE: Page = Page { limit: 20, offset: 0 };
const METRICS: [&str; 3] = ["cpu.usage", "memory.used", "load.load_1"];

fn host(index: usize) -> String {
    format!("host-{:04}", index % 12)
}

impl Queries<'_> {
    fn summary(&self, index: usize) {
        let metric = METRICS[index % 3];
        let from = self.now - 7 * DAY_MS;
        let summary = self.engine.summary(&host(index), metric, from, self.now).expect("reads");
        assert!(summary.count > 10_000);
    }

    fn range(&self, index: usize) {
        let query = RangeQuery {
            agent: host(index),
            metric: METRICS[index % 3].into(),
            labels: Labels::none(),
            from_ms: self.now - 7 * DAY_MS,
            to_ms: self.now,
            step_ms: 7 * DAY_MS / 300,
        };
        assert!(self.engine.range(&query).expect("reads")[0].buckets.len() >= 300);
    }

    fn newest(&self, _: usize) {
        let list = self.engine.list(&PointFilter::default(), PAGE).expect("reads");
        assert!(list.items.len() == 20 && list.total as f64 >= self.points);
    }

    /// Counts all points of a day that no bound of a chunk gives.
    fn newest_of_a_day(&self, _: usize) {
        let filter = PointFilter {
            from_ms: Some(self.now - 2 * DAY_MS),
            to_ms: Some(self.now - DAY_MS),
            ..PointFilter::default()
        };
        let list = self.engine.list(&filter, PAGE).expect("reads");
        assert_eq!(list.items.len(), 20);
    }

    fn names(&self, _: usize) {
        let names = self.engine.names(self.now - DAY_MS, self.now, PAGE).expect("reads");
        assert!(names.total > 20 && names.items.len() == 20);
    }

    fn agents(&self, _: usize) {
        let agents = self.engine.agents(self.now - DAY_MS, self.now, PAGE).expect("reads");
        assert_eq!(agents.total, 12);
    }
}

type Query = for<'a, 'b> fn(&'a Queries<'b>, usize);

const ALL: [(&str, f64, Query); 6] = [
    ("summary over 7 days of one series", 5.0, |queries, index| queries.summary(index)),
    ("range of 7 days in 300 buckets", 10.0, |queries, index| queries.range(index)),
    ("newest 20 points of all", 5.0, |queries, index| queries.newest(index)),
    ("newest 20 of a day that the time cuts", 50.0, |queries, index| {
        queries.newest_of_a_day(index)
    }),
    ("names of 24 hours", 5.0, |queries, index| queries.names(index)),
    ("agents of 24 hours", 5.0, |queries, index| queries.agents(index)),
];

/// Seven days of 12 hosts every minute: 7 million points.
fn queries(folder: &Path) {
    let clock = ManualClock::at(MIDNIGHT - 6 * DAY_MS);
    let engine = open(folder, &clock);
    let points = fill(&engine, &clock, 12, 7 * DAY_MS, 60_000);
    settle(&engine, &clock, folder);
    let days = engine.report().expect("a report").partitions;
    let packed = days.iter().map(|day| day.size_bytes).sum::<u64>() as f64;
    println!("seven days of 12 hosts every 60 s: {:.2} bytes/point packed", packed / points);
    println!("queries over {:.2} million points", points / 1e6);
    let queries = Queries { engine: &engine, now: MIDNIGHT + DAY_MS, points };
    let mut heaviest = (0.0, ALL[0].2);
    for (what, aim_ms, query) in ALL {
        let Times(median, p99) = times(500, |index| query(&queries, index));
        println!("{what}: median {median:.2} ms, p99 {p99:.2} ms (aim {aim_ms} ms)");
        if median > heaviest.0 {
            heaviest = (median, query);
        }
    }
    let before = status_mb("VmRSS");
    (0..10_000).for_each(|index| ALL[index % ALL.len()].2(&queries, index));
    println!("RSS {before:.1} MB, after 10,000 queries {:.1} MB", status_mb("VmRSS"));
    beside(&queries, &clock, heaviest.1);
}

/// How long an acknowledgement takes alone, and beside a client that loops the heaviest query.
fn beside(queries: &Queries<'_>, clock: &ManualClock, heaviest: Query) {
    let engine = queries.engine;
    let mut agents: Vec<Agent> = (0..12).map(|number| Agent::new(number, engine)).collect();
    let mut at = clock.now_ms();
    let mut acknowledged = |index: usize| {
        let agent = &mut agents[index % 12];
        if index.is_multiple_of(12) {
            at += 1_000;
            clock.set(at);
        }
        let (done, wait) = bounded(1);
        let ack = Box::new(move |outcome: Result<Stored, StorageError>| {
            let _ = done.send(outcome.expect("it is stored").new);
        });
        let tick = agent.sample_set(at, 1_000);
        assert!(engine.submit(agent.samples(vec![tick]), ack).is_ok());
        assert_eq!(wait.recv(), Ok(SERIES));
    };
    let alone = times(4_000, &mut acknowledged);
    let stop = AtomicBool::new(false);
    let (with, asked) = std::thread::scope(|scope| {
        let looping = scope.spawn(|| {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                heaviest(queries, asked);
                asked += 1;
            }
            asked
        });
        let with = times(4_000, &mut acknowledged);
        stop.store(true, Ordering::Relaxed);
        (with, looping.join().expect("it ends"))
    });
    println!("ingest alone: median {:.2} ms, p99 {:.2} ms", alone.0, alone.1);
    println!(
        "ingest beside the heaviest query, asked {asked} times: median {:.2} ms, p99 {:.2} ms \
         (aim: at most twice)",
        with.0, with.1
    );
}
