//! `oxmon-server forward CONFIG [--from TIME] [--to TIME]`: sends stored samples to the engine by
//! hand, beside a running server: what was stored before there was an engine, or a node that was
//! replaced. What the engine has already it leaves out.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lexopt::{Arg, Parser, ValueExt as _};

use crate::base::cli::{print, usage};
use crate::base::clock::{Clock as _, DAY_MS, SystemClock, parse_rfc3339, parse_utc_day, utc_day};
use crate::base::exit::{Exit, Fatal};
use crate::base::logging;
use crate::model::series::{Labels, SeriesKey};
use crate::rt::stop::Stop;
use crate::server::config::ServerConfig;
use crate::server::remote::encode::Columns;
use crate::server::remote::http::Http;
use crate::server::remote::metrics::Metrics;
use crate::server::remote::naming::Naming;
use crate::server::remote::queue::Room;
use crate::server::remote::send::Sender;
use crate::server::remote::shard::bodies;
use crate::server::remote::target::{Target, homes};
use crate::server::storage::{Series, sql};

const PROGRAM: &str = "oxmon-server";

/// The command's arguments, as the help shows them.
pub(crate) const ARGUMENTS: &str = "CONFIG [--from TIME] [--to TIME]";

/// Series that are remembered by their names.
const KNOWN_MAX: usize = 100_000;
/// Time between two lines of progress: on a terminal, and in a file.
const EVERY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Runs the command. `help` is what `--help` prints.
///
/// # Errors
///
/// When the command line or the configuration is wrong, or the samples can't be read.
pub(crate) fn main(args: &mut Parser, help: &str) -> Result<(), Fatal> {
    let wrong = |error: lexopt::Error| usage(PROGRAM, error);
    let mut config: Option<PathBuf> = None;
    let (mut from_ms, mut to_ms) = (0, SystemClock.now_ms());
    while let Some(arg) = args.next().map_err(wrong)? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => {
                print(help);
                return Ok(());
            }
            Arg::Long("from") => {
                let text = args.value().and_then(|value| value.string()).map_err(wrong)?;
                from_ms = time(&text, 0)?;
            }
            Arg::Long("to") => {
                let text = args.value().and_then(|value| value.string()).map_err(wrong)?;
                to_ms = time(&text, DAY_MS - 1)?;
            }
            Arg::Value(path) if config.is_none() => config = Some(path.into()),
            other => return Err(wrong(other.unexpected())),
        }
    }
    let config = config.ok_or_else(|| usage(PROGRAM, format!("forward needs {ARGUMENTS}")))?;
    run(&config, (from_ms, to_ms))
}

/// A time of RFC 3339, or a day, whose time is `into_day_ms` after its start.
fn time(text: &str, into_day_ms: i64) -> Result<i64, Fatal> {
    let day = parse_utc_day(text).map(|start| start + into_day_ms);
    day.or_else(|| parse_rfc3339(text)).ok_or_else(|| {
        let form = "2026-02-09 or 2026-02-09T08:30:00Z";
        usage(PROGRAM, format!("`{text}` must be a day or a time, such as {form}"))
    })
}

fn run(path: &Path, times: (i64, i64)) -> Result<(), Fatal> {
    let config = ServerConfig::load(path)?;
    if !config.remote.is_on() {
        let message = format!("{}: remote.write_urls: names no engine", path.display());
        return Err(Fatal::new(Exit::Config, message));
    }
    logging::init(log::LevelFilter::Warn);
    let http = Http::new(&config).map_err(|why| Fatal::new(Exit::Config, why))?;
    let connection = sql::open(&config.data_dir)?;
    let failed = |error: rusqlite::Error| {
        Fatal::new(Exit::Failed, format!("failed to read the samples: {error}"))
    };
    let mut job = Job::new(&config, Arc::new(http))?;
    let query = "SELECT agent_id, metric_name, labels, timestamp, value FROM metrics
                 WHERE timestamp >= ?1 AND timestamp <= ?2";
    let mut statement = connection.prepare(query).map_err(failed)?;
    let mut rows = statement.query([times.0, times.1]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let text = |place| row.get_ref(place).and_then(|value| Ok(value.as_str()?));
        let sample = (row.get(3).map_err(failed)?, row.get(4).map_err(failed)?);
        let names = [text(0), text(1), text(2)].map(|name| name.map_err(failed));
        let [agent, metric, labels] = names;
        job.add([agent?, metric?, labels?], sample)?;
    }
    job.end()
}

/// What is sent to one target.
struct Part {
    target: Arc<Target>,
    sender: Sender,
    waiting: Columns,
    samples: usize,
}

/// One run.
struct Job {
    parts: Vec<Part>,
    replicas: usize,
    known: HashMap<[String; 3], Arc<Series>>,
    last: Option<([String; 3], Arc<Series>)>,
    read: u64,
    at_ms: i64,
    started: Instant,
    shown: Instant,
    is_watched: bool,
}

impl Job {
    fn new(config: &ServerConfig, http: Arc<Http>) -> Result<Self, Fatal> {
        let metrics = Metrics::register(&prometheus::Registry::new())?;
        let targets = Target::all(&config.remote, &Arc::new(Room::default()), &metrics);
        let part = |target: Target| {
            let target = Arc::new(target);
            let sender = Sender::new(
                Arc::clone(&http),
                Arc::clone(&target),
                Naming::of(config),
                Arc::new(SystemClock),
                Stop::never(),
            );
            Part { target, sender, waiting: Vec::new(), samples: 0 }
        };
        Ok(Self {
            parts: targets.into_iter().map(part).collect(),
            replicas: config.remote.replicas,
            known: HashMap::new(),
            last: None,
            read: 0,
            at_ms: 0,
            started: Instant::now(),
            shown: Instant::now(),
            is_watched: std::io::stderr().is_terminal(),
        })
    }

    /// The series of these names: agent, metric, labels as JSON.
    fn series(&mut self, names: [&str; 3]) -> Arc<Series> {
        if let Some((known, series)) = &self.last
            && known.each_ref().map(String::as_str) == names
        {
            return Arc::clone(series);
        }
        let owned = names.map(str::to_owned);
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        let make = || {
            let [agent, metric, labels] = names;
            let labels = Labels::from_json(labels).unwrap_or_default();
            let key = SeriesKey { agent: agent.into(), metric: metric.into(), labels };
            Arc::new(Series { number: 0, metric_number: 0, key })
        };
        let series = Arc::clone(self.known.entry(owned.clone()).or_insert_with(make));
        self.last = Some((owned, Arc::clone(&series)));
        series
    }

    fn add(&mut self, names: [&str; 3], sample: (i64, f64)) -> Result<(), Fatal> {
        let series = self.series(names);
        (self.read, self.at_ms) = (self.read + 1, sample.0);
        let keys = self.parts.iter().map(|part| part.target.key.as_str()).collect::<Vec<_>>();
        for place in homes(keys.into_iter(), &series.key.agent, self.replicas) {
            let Some(part) = self.parts.get_mut(place) else { continue };
            match part.waiting.last_mut() {
                Some((last, samples)) if Arc::ptr_eq(last, &series) => samples.push(sample),
                _ => part.waiting.push((Arc::clone(&series), vec![sample])),
            }
            part.samples += 1;
            if part.samples >= part.sender.most {
                part.flush();
            }
        }
        if self.read.is_multiple_of(1_000) {
            self.show();
        }
        Ok(())
    }

    fn show(&mut self) {
        let every = if self.is_watched { EVERY.0 } else { EVERY.1 };
        if self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        let line = format!("{}: {}", utc_day(self.at_ms), self.counts());
        if self.is_watched { eprint!("\r\x1b[K{line}") } else { eprintln!("{line}") }
    }

    fn counts(&self) -> String {
        let refused: u64 = self.parts.iter().map(|part| part.target.metrics.refused_total()).sum();
        let rate = self.read as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        format!("{} samples read, {rate:.0}/s, {refused} refused by the engine", self.read)
    }

    fn end(mut self) -> Result<(), Fatal> {
        self.parts.iter_mut().for_each(Part::flush);
        if self.is_watched {
            eprint!("\r\x1b[K");
        }
        print(&format!("{}\n", self.counts()));
        let refused: u64 = self.parts.iter().map(|part| part.target.metrics.refused_total()).sum();
        if refused > 0 {
            let message = format!("the engine refused {refused} samples; see `check-remote`");
            return Err(Fatal::new(Exit::Failed, message));
        }
        Ok(())
    }
}

impl Part {
    /// Sends what waits.
    fn flush(&mut self) {
        self.samples = 0;
        for body in bodies(std::mem::take(&mut self.waiting), self.sender.most) {
            // It ends once all of it is taken or refused: nobody stops it.
            let _ = self.sender.deliver(&body);
        }
    }
}
