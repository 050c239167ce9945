//! Exporters of this host, fetched over HTTP (`[[scrape]]`). Each target has a thread of its own
//! that fetches on request; what it got is sent with the next collection, at the time at
//! which it was asked for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::agent::collectors::{
    CollectError, Collector, Metric, Pace, Samples, Setup, Spec, promtext, round,
};
use crate::agent::config::ScrapeConfig;
use crate::agent::filters::Patterns;
use crate::agent::http::{self, Url};
use crate::base::limits::SCRAPE_SERIES_MAX;
use crate::model::point::Point;
use crate::model::series::Labels;
use crate::rt::thread;

const fn of(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, unit, labels: &["target"], help }
}

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "scrape",
    pace: Pace::Always,
    on: true,
    metrics: &[
        of(
            "scrape.success",
            "0 or 1",
            "Whether a target of `[[scrape]]` was fetched and parsed; if not, it gives no metrics.",
        ),
        of("scrape.ms", "ms", "Time that it took."),
        of("scrape.series", "series", "Series that were taken."),
    ],
    make: |setup: &Setup<'_>| {
        Box::new(Scrape(setup.config.scrape.iter().filter_map(Target::new).collect()))
    },
};

struct Scrape(Vec<Target>);

struct Target {
    name: String,
    interval: Duration,
    asked_at: Option<Instant>,
    ask: Sender<i64>,
    fetched: Arc<Mutex<Option<Fetched>>>,
}

/// What came of one fetch.
struct Fetched {
    timestamp_ms: i64,
    ms: f64,
    result: Result<promtext::Parsed, String>,
}

/// How much earlier than its interval a target may be asked: collections are never quite even.
const EARLY: Duration = Duration::from_millis(500);

impl Collector for Scrape {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let mut room = SCRAPE_SERIES_MAX;
        for target in &mut self.0 {
            let fetched = target.fetched.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(fetched) = fetched {
                push(&target.name, fetched, &mut room, out);
            }
            let due = target
                .asked_at
                .is_none_or(|asked| out.moment.at.duration_since(asked) + EARLY >= target.interval);
            // One that is still being fetched is not asked again.
            if due && target.ask.try_send(out.moment.timestamp_ms).is_ok() {
                target.asked_at = Some(out.moment.at);
            }
        }
        Ok(())
    }
}

fn push(target: &str, fetched: Fetched, room: &mut usize, out: &mut Samples) {
    let timestamp_ms = fetched.timestamp_ms;
    let own = |metric: &str, value: f64| Point {
        metric: metric.into(),
        labels: Labels::one("target", target),
        timestamp_ms,
        value,
    };
    out.point(own("scrape.success", f64::from(u8::from(fetched.result.is_ok()))));
    out.point(own("scrape.ms", round(fetched.ms, 100.0)));
    let mut parsed = match fetched.result {
        Ok(parsed) => parsed,
        Err(why) => {
            out.note(target, format!("cannot be fetched: {why}"));
            return;
        }
    };
    if parsed.samples.len() > *room {
        parsed.over += parsed.samples.len() - *room;
        parsed.samples.truncate(*room);
    }
    out.point(own("scrape.series", parsed.samples.len() as f64));
    if parsed.over > 0 {
        let over = parsed.over;
        out.note(target, format!("left out {over} series over the limit; narrow keep and drop"));
    }
    *room -= parsed.samples.len();
    for sample in parsed.samples {
        let promtext::Sample { metric, labels, value } = sample;
        out.point(Point { metric, labels, timestamp_ms, value });
    }
}

impl Target {
    /// A target with its thread; `None` when the system refuses one, or its URL was never checked.
    fn new(config: &ScrapeConfig) -> Option<Self> {
        let url = Url::parse(&config.url).ok()?;
        let fetched = Arc::new(Mutex::new(None));
        // Room for one order beside the one under way: a slow target is not asked more often.
        let (ask, asked) = bounded::<i64>(1);
        let own = Arc::clone(&fetched);
        let config = config.clone();
        let name = config.name.clone().unwrap_or_else(|| config.url.clone());
        let interval = Duration::from_secs(config.interval_secs.unwrap_or(0));
        let body = move || {
            for timestamp_ms in asked {
                let started = Instant::now();
                let result = fetch(&url, &config);
                let ms = started.elapsed().as_secs_f64() * 1_000.0;
                let fetched = Fetched { timestamp_ms, ms, result };
                *own.lock().unwrap_or_else(PoisonError::into_inner) = Some(fetched);
            }
            Ok(())
        };
        match thread::try_spawn("scrape", body) {
            Ok(_) => Some(Self { name, interval, asked_at: None, ask, fetched }),
            Err(error) => {
                log::warn!("cannot start a thread to fetch {name}: {error}");
                None
            }
        }
    }
}

fn fetch(url: &Url, config: &ScrapeConfig) -> Result<promtext::Parsed, String> {
    let text = http::get(url, Duration::from_secs(config.timeout_secs))?;
    let patterns = Patterns::new(&config.keep, &config.drop);
    let mut parsed = promtext::parse(&text, config.series_max, |name| patterns.take(name))?;
    for sample in &mut parsed.samples {
        if !config.labels.is_empty() {
            let own = sample.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
            let added = config.labels.iter().map(|(name, value)| (name.clone(), value.clone()));
            // A label of the exporter's own stays as it is.
            sample.labels = Labels::from_pairs(added.chain(own));
        }
    }
    Ok(parsed)
}
