//! What the store costs by itself: `cargo bench --bench storage [-- AGENTS SECONDS]`. Prints the
//! CPU time of a point, the bytes that a point takes once its day is packed, and how long queries
//! take over some millions of points. Every batch is acknowledged after its fsync.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use oxmon::base::clock::{Clock, DAY_MS, ManualClock};
use oxmon::model::point::{Batch, Point};
use oxmon::model::series::{Labels, SeriesKey};
use oxmon::server::config::ServerConfig;
use oxmon::server::storage::engine::Engine;
use oxmon::server::storage::{Page, PointFilter, RangeQuery, ResolvedTick, SeriesList, Store};

/// Midnight of 2026-02-09 in UTC.
const MIDNIGHT: i64 = 1_770_595_200_000;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let agents = numbers.next().unwrap_or(1_000);
    let seconds = numbers.next().unwrap_or(10);
    let folder = std::env::temp_dir().join(format!("oxmon-bench-{}", std::process::id()));
    for resolved in [false, true] {
        std::fs::create_dir_all(&folder).expect("a folder for the bench");
        ingest(&folder, agents, Duration::from_secs(seconds as u64), resolved);
        std::fs::remove_dir_all(&folder).expect("the folder goes");
    }
    std::fs::create_dir_all(&folder).expect("a folder for the bench");
    a_day(&folder);
    std::fs::remove_dir_all(&folder).expect("the folder goes");
    std::fs::create_dir_all(&folder).expect("a folder for the bench");
    queries(&folder);
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// A host: 8 cores, 4 mounts, 4 interfaces, 12 others; 60 series.
struct Host {
    name: String,
    names: Vec<(String, Labels)>,
    state: Vec<f64>,
    seed: u64,
}

impl Host {
    fn new(number: usize) -> Self {
        let mut names: Vec<(String, Labels)> = Vec::new();
        for core in 0..8 {
            names.push(("cpu.core_usage".into(), Labels::one("core", &core.to_string())));
        }
        for mount in ["/", "/home", "/var", "/srv"] {
            for metric in ["total", "used", "free", "used_percent"] {
                names.push((format!("disk.{metric}"), Labels::one("mount", mount)));
            }
        }
        for interface in ["eth0", "eth1", "wlan0", "docker0"] {
            for metric in
                ["in_bytes", "out_bytes", "in_packets", "out_packets", "in_err", "out_err"]
            {
                names.push((format!("network.{metric}"), Labels::one("interface", interface)));
            }
        }
        for metric in [
            "cpu.usage",
            "memory.total",
            "memory.used",
            "memory.used_percent",
            "memory.available",
            "memory.swap_total",
            "memory.swap_used",
            "memory.swap_percent",
            "load.load_1",
            "load.load_5",
            "load.load_15",
            "load.uptime",
        ] {
            names.push((metric.into(), Labels::none()));
        }
        let state = vec![20.0; names.len()];
        let seed = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1);
        Self { name: format!("host-{number:04}"), names, state, seed }
    }

    fn random(&mut self) -> f64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Values as hosts have them: constants, walks of percentages, rates, idle interfaces.
    fn values(&mut self, tick: usize) -> Vec<f64> {
        let mut out = Vec::with_capacity(self.names.len());
        for index in 0..self.names.len() {
            let noise = self.random() - 0.5;
            let walk = (self.state[index] + noise * 4.0).clamp(0.0, 100.0);
            out.push(match index {
                // Cores and cpu.usage: noisy percentages.
                0..8 | 48 => {
                    self.state[index] = walk;
                    (walk * 100.0).round() / 100.0
                }
                // Mounts: constant totals, slowly growing use.
                8..24 => {
                    let total = 256e9 * (1.0 + f64::from((index as u32 - 8) / 4));
                    if self.random() < 0.05 {
                        self.state[index] += 1.0;
                    }
                    let used = self.state[index] * 4096.0 * 1_000.0;
                    match (index - 8) % 4 {
                        0 => total,
                        1 => used,
                        2 => total - used,
                        _ => (used / total * 1e4).round() / 100.0,
                    }
                }
                // Two busy interfaces, two idle ones; errors are rare.
                24..48 => {
                    let (interface, kind) = ((index - 24) / 6, (index - 24) % 6);
                    if interface >= 2 || kind >= 4 {
                        0.0
                    } else {
                        self.state[index] = walk;
                        (walk * if kind < 2 { 900.0 } else { 7.0 } * 10.0).round() / 10.0
                    }
                }
                49 => 16_777_216_000.0,
                50 | 52 => {
                    self.state[index] = walk;
                    (walk * 40_000.0).round() * 4096.0
                }
                51 => {
                    self.state[index] = walk;
                    (walk * 100.0).round() / 100.0
                }
                53 => 2_147_479_552.0,
                54 | 55 => 0.0,
                56..59 => {
                    let slow = (self.state[index] + noise * 0.2).clamp(0.0, 30.0);
                    self.state[index] = slow;
                    (slow * 10.0).round() / 100.0
                }
                _ => 1_000_000.0 + tick as f64 * 10.0,
            });
        }
        out
    }

    fn batch(&mut self, tick: usize, ts: i64) -> Batch {
        let values = self.values(tick);
        let point = |((metric, labels), value): (&(String, Labels), f64)| Point {
            metric: metric.as_str().into(),
            labels: labels.clone(),
            timestamp_ms: ts,
            value,
        };
        let points = self.names.iter().zip(values).map(point).collect();
        Batch { agent_id: self.name.as_str().into(), timestamp_ms: ts, points }
    }

    fn list(&self, store: &dyn Store) -> SeriesList {
        let series = |(metric, labels): &(String, Labels)| {
            let key = SeriesKey {
                agent: self.name.as_str().into(),
                metric: metric.as_str().into(),
                labels: labels.clone(),
            };
            store.resolve(key).expect("the series is taken")
        };
        self.names.iter().map(series).collect::<Vec<_>>().into()
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
    let ticks: u64 =
        after.split_whitespace().skip(11).take(2).filter_map(|part| part.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

fn status_mb(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let kb = line.split_whitespace().nth(1).and_then(|text| text.parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1024.0
}

/// Two threads with many calls under way, as a server's completion queues have them.
fn ingest(folder: &Path, agents: usize, time: Duration, resolved: bool) {
    let clock = ManualClock::at(MIDNIGHT);
    let engine = open(folder, &clock);
    let sent = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let cpu = cpu_seconds();
    let generated = std::thread::scope(|scope| {
        let drive = |part: usize| {
            let (engine, clock, sent) = (&engine, &clock, &sent);
            move || {
                let mut hosts: Vec<Host> = (part..agents).step_by(2).map(Host::new).collect();
                let lists: Vec<SeriesList> =
                    hosts.iter().map(|host| host.list(engine.as_ref())).collect();
                let (free, wait) = bounded(256);
                (0..256).for_each(|_| free.send(()).expect("there is room"));
                // A few value sets are made ahead, so that making them is not what is measured.
                let sets: Vec<Vec<f64>> = (0..64).map(|tick| hosts[0].values(tick)).collect();
                let mut batches = 0;
                for tick in 0.. {
                    let ts = MIDNIGHT + tick as i64 * 1_000;
                    clock.set(clock.now_ms().max(ts));
                    for (index, host) in hosts.iter_mut().enumerate() {
                        wait.recv().expect("acks come");
                        let (free, sent) = (free.clone(), Arc::clone(sent));
                        let ack =
                            Box::new(move |outcome: Result<oxmon::server::storage::Stored, _>| {
                                sent.fetch_add(
                                    outcome.expect("it is stored").new,
                                    Ordering::Relaxed,
                                );
                                let _ = free.send(());
                            });
                        let values = &sets[(tick + index) % sets.len()];
                        let taken = if resolved {
                            let ticks = (0..8).map(|sub| ResolvedTick {
                                timestamp_ms: ts + sub * 125,
                                series: Arc::clone(&lists[index]),
                                values: values.clone().into(),
                            });
                            engine.submit_resolved(&host.name, ticks.collect(), ack)
                        } else {
                            engine.submit(host.batch(tick, ts), ack)
                        };
                        assert!(taken.is_ok(), "256 fit into the queue");
                        batches += 1;
                    }
                    if started.elapsed() > time {
                        break;
                    }
                }
                for _ in 0..256 {
                    wait.recv().expect("acks come");
                }
                batches
            }
        };
        let threads = [scope.spawn(drive(0)), scope.spawn(drive(1))];
        threads.into_iter().map(|thread| thread.join().expect("it ends")).sum::<usize>()
    });
    let (wall, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let points = sent.load(Ordering::Relaxed) as f64;
    let report = engine.report().expect("a report");
    println!(
        "{}: {agents} agents, {generated} batches, {:.0} points/s acknowledged, {:.2} CPU s per \
         million with making the batches, peak RSS {:.0} MB, head {:.0} MB, {:.2} bytes/point so far",
        if resolved { "resolved ticks" } else { "batches" },
        points / wall,
        cpu / points * 1e6,
        status_mb("VmHWM"),
        report.head_bytes as f64 / 1e6,
        report.total_bytes as f64 / points,
    );
}

/// A day of 20 hosts every 10 s; then the day is packed.
fn a_day(folder: &Path) {
    let clock = ManualClock::at(MIDNIGHT);
    let engine = open(folder, &clock);
    let points = fill(&engine, &clock, 20, 1, 10_000);
    let size = || engine.report().expect("a report").partitions[0].size_bytes as f64 / points;
    println!("a day of 20 hosts every 10 s: {:.2} bytes/point at its end", size());
    let started = Instant::now();
    settle(&engine, &clock, folder);
    println!("packed: {:.2} bytes/point after {:.1?}", size(), started.elapsed());
}

/// Stores `days` of `hosts`, one tick every `step_ms`; gives the number of points.
fn fill(engine: &Engine, clock: &ManualClock, hosts: usize, days: i64, step_ms: i64) -> f64 {
    let mut hosts: Vec<Host> = (0..hosts).map(Host::new).collect();
    let lists: Vec<SeriesList> = hosts.iter().map(|host| host.list(engine)).collect();
    let (free, wait) = bounded(512);
    (0..512).for_each(|_| free.send(()).expect("there is room"));
    let start = clock.now_ms();
    let ticks = days * DAY_MS / step_ms;
    for tick in 0..ticks {
        let ts = start + tick * step_ms;
        clock.set(ts);
        for (host, list) in hosts.iter_mut().zip(&lists) {
            wait.recv().expect("acks come");
            let free = free.clone();
            let values = host.values(tick as usize).into();
            let tick = ResolvedTick { timestamp_ms: ts, series: Arc::clone(list), values };
            let ack = Box::new(move |outcome: Result<_, _>| {
                outcome.expect("it is stored");
                let _ = free.send(());
            });
            assert!(engine.submit_resolved(&host.name, vec![tick], ack).is_ok());
        }
    }
    (0..512).for_each(|_| wait.recv().expect("acks come"));
    (ticks as usize * hosts.len() * 60) as f64
}

/// Moves the clock past the day and waits until every series has one chunk.
fn settle(engine: &Engine, clock: &ManualClock, folder: &Path) {
    clock.advance(DAY_MS / 24);
    let deadline = Instant::now() + Duration::from_secs(600);
    let mut last = (0, Instant::now());
    while last.1.elapsed() < Duration::from_secs(12) {
        assert!(Instant::now() < deadline, "{} does not settle", folder.display());
        let size = engine.report().expect("a report").total_bytes;
        if size != last.0 {
            last = (size, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn timed(what: &str, aim_ms: f64, times: usize, mut body: impl FnMut(usize)) {
    let mut taken: Vec<f64> = (0..times)
        .map(|index| {
            let started = Instant::now();
            body(index);
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize];
    println!("{what}: median {:.2} ms, p99 {:.2} ms (aim {aim_ms} ms)", at(0.5), at(0.99));
}

/// Seven days of 12 hosts every minute: 7 million points.
fn queries(folder: &Path) {
    let clock = ManualClock::at(MIDNIGHT - 6 * DAY_MS);
    let engine = open(folder, &clock);
    let points = fill(&engine, &clock, 12, 7, 60_000);
    println!("queries over {:.2} million points", points / 1e6);
    let now = clock.now_ms();
    let host = |index: usize| format!("host-{:04}", index % 12);
    let all = Page { limit: 1_000, offset: 0 };
    let metrics = ["cpu.usage", "memory.used", "load.load_1"];
    let rss = status_mb("VmRSS");
    timed("summary over 7 days of one series", 5.0, 500, |index| {
        let summary =
            engine.summary(&host(index), metrics[index % 3], now - 7 * DAY_MS, now).expect("reads");
        assert!(summary.count > 10_000);
    });
    timed("range of 7 days in 300 buckets", 10.0, 500, |index| {
        let query = RangeQuery {
            agent: host(index),
            metric: metrics[index % 3].into(),
            labels: Labels::none(),
            from_ms: now - 7 * DAY_MS,
            to_ms: now,
            step_ms: 7 * DAY_MS / 300,
        };
        assert!(engine.range(&query).expect("reads")[0].buckets.len() >= 300);
    });
    timed("newest 20 points of all", 5.0, 500, |_| {
        let page = Page { limit: 20, offset: 0 };
        let list = engine.list(&PointFilter::default(), page).expect("reads");
        assert_eq!((list.items.len(), list.total as f64), (20, points));
    });
    timed("newest 20 points of the 24 hours before", 5.0, 100, |_| {
        let filter = PointFilter {
            from_ms: Some(now - 2 * DAY_MS),
            to_ms: Some(now - DAY_MS),
            ..PointFilter::default()
        };
        let page = Page { limit: 20, offset: 0 };
        assert_eq!(engine.list(&filter, page).expect("reads").items.len(), 20);
    });
    timed("names of 24 hours", 5.0, 500, |_| {
        assert_eq!(engine.names(now - DAY_MS, now, all).expect("reads").total, 23);
    });
    timed("agents of 24 hours", 5.0, 500, |_| {
        assert_eq!(engine.agents(now - DAY_MS, now, all).expect("reads").total, 12);
    });
    timed("latest of one agent", 5.0, 10_000, |index| {
        assert_eq!(engine.latest(&host(index)).expect("reads").len(), 60);
    });
    println!("RSS {rss:.0} MB before the queries, {:.0} MB after", status_mb("VmRSS"));
}
