//! `oxmon-server check-remote CONFIG`: writes to the engine, reads back, and says what is not set
//! up as it should be.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::cli::print;
use crate::base::clock::{Clock as _, DAY_MS, HOUR_MS, MINUTE_MS, SystemClock};
use crate::base::exit::{Exit, Fatal};
use crate::base::ids;
use crate::base::limits::{LABEL_VALUE_BYTES_MAX, LABELS_MAX};
use crate::model::series::{Labels, SeriesKey};
use crate::rt::stop::Stop;
use crate::server::config::ServerConfig;
use crate::server::remote::encode::Encoder;
use crate::server::remote::fetch;
use crate::server::remote::http::{Http, Posted};
use crate::server::remote::naming::Naming;
use crate::server::remote::send::OWN_AGENT;
use crate::server::storage::Series;

/// The metric that is written.
const METRIC: &str = "remote.check";
/// How long a new sample may take until it can be read.
const READABLE_WITHIN: Duration = Duration::from_secs(20);
/// Ages of samples that come late, in words.
const AGES: [(i64, &str); 4] = [
    (10 * MINUTE_MS, "10 minutes"),
    (HOUR_MS, "1 hour"),
    (6 * HOUR_MS, "6 hours"),
    (DAY_MS, "1 day"),
];
/// Values with as many digits as samples of hosts have: VictoriaMetrics keeps about 15.
const VALUES: [f64; 4] = [99.98, 0.000_123, -42.5, 123_456_789.123];

/// What was found.
#[derive(Default)]
struct Findings {
    text: String,
    wrong: usize,
}

impl Findings {
    fn good(&mut self, what: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "ok       {what}");
    }

    fn wrong(&mut self, what: &str) {
        self.wrong += 1;
        let _ = writeln!(self.text, "problem  {what}");
    }
}

/// One run.
struct Check {
    http: Http,
    naming: Naming,
    encoder: Encoder,
    id: String,
    now_ms: i64,
    found: Findings,
}

/// Runs the command.
///
/// # Errors
///
/// When the configuration is wrong, names no engine, or something was found.
pub(crate) fn run(path: &Path) -> Result<(), Fatal> {
    let config = ServerConfig::load(path)?;
    if !config.remote.is_on() {
        let message = format!("{}: remote.write_urls: names no engine", path.display());
        return Err(Fatal::new(Exit::Config, message));
    }
    let http = Http::new(&config).map_err(|why| Fatal::new(Exit::Config, why))?;
    let mut check = Check {
        http,
        naming: Naming::of(&config),
        encoder: Encoder::new(Naming::of(&config)),
        id: ids::new_id(),
        now_ms: SystemClock.now_ms(),
        found: Findings::default(),
    };
    let remote = &config.remote;
    for (place, url) in remote.write_urls.iter().enumerate() {
        check.id = ids::new_id();
        let _ = writeln!(check.found.text, "write {url}");
        if !check.write(url) {
            continue;
        }
        let reads = match remote.is_ring() {
            true => remote.read_urls.get(place).into_iter().collect(),
            false => remote.read_urls.iter().collect::<Vec<_>>(),
        };
        for base in reads {
            let _ = writeln!(check.found.text, "read {base}");
            check.read(base);
        }
    }
    if remote.read_urls.is_empty() {
        check
            .found
            .wrong("remote.read_urls is empty: nothing can be audited or read from the engine");
    }
    let Findings { text, wrong } = check.found;
    print(&text);
    match wrong {
        0 => Ok(()),
        1 => Err(Fatal::new(Exit::Failed, "1 problem, named above")),
        more => Err(Fatal::new(Exit::Failed, format!("{more} problems, named above"))),
    }
}

impl Check {
    fn series(&self, kind: &str, more: usize) -> Arc<Series> {
        let mut labels = BTreeMap::from([
            ("kind".to_owned(), kind.to_owned()),
            ("run".to_owned(), self.id.clone()),
        ]);
        for number in 0..more {
            labels.insert(format!("label_{number:02}"), "x".repeat(LABEL_VALUE_BYTES_MAX));
        }
        let (agent, metric) = (OWN_AGENT.into(), METRIC.into());
        let key = SeriesKey { agent, metric, labels: Labels::from_pairs(labels) };
        Arc::new(Series { number: 0, metric_number: 0, key })
    }

    fn post(&mut self, url: &str, series: &Arc<Series>, samples: &[(i64, f64)]) -> Posted {
        let singles: Vec<_> =
            samples.iter().map(|(ms, value)| (Arc::clone(series), *ms, *value)).collect();
        let packed = self.encoder.singles(&singles);
        self.http.write(url, packed)
    }

    /// The samples of the series with many values.
    fn values(&self) -> Vec<(i64, f64)> {
        let at = |place: i64| self.now_ms - MINUTE_MS + place;
        (0..).zip(VALUES).map(|(place, value)| (at(place), value)).collect()
    }

    /// Writes what is read later; false when the engine takes nothing at all.
    fn write(&mut self, url: &str) -> bool {
        let series = self.series("values", 0);
        let values = self.values();
        match self.post(url, &series, &values) {
            Posted::Taken => self.found.good("it takes samples"),
            other => {
                self.found.wrong(&format!("it does not take samples: {}", words(&other)));
                return false;
            }
        }
        match self.post(url, &series, &values) {
            Posted::Taken => self.found.good("it takes samples again that it has"),
            other => self.found.wrong(&format!(
                "it refuses samples that it has: {}. After a crash or a lost answer they are sent \
                 again; Prometheus takes them with storage.tsdb.out_of_order_time_window",
                words(&other)
            )),
        }
        self.write_late(url);
        let wide = self.series("labels", LABELS_MAX - 2);
        match self.post(url, &wide, &[(self.now_ms - MINUTE_MS, 1.0)]) {
            Posted::Taken => {}
            other => self.found.wrong(&format!(
                "it refuses a series with {LABELS_MAX} labels of {LABEL_VALUE_BYTES_MAX} bytes: {}. \
                 Raise its limits of labels (VictoriaMetrics: -maxLabelsPerTimeseries, Mimir: \
                 max_label_names_per_series, max_label_value_length)",
                words(&other)
            )),
        }
        true
    }

    /// Finds how late a sample may come.
    fn write_late(&mut self, url: &str) {
        let series = self.series("late", 0);
        let _ = self.post(url, &series, &[(self.now_ms, 1.0)]);
        let mut oldest = None;
        for (age_ms, words_of_age) in AGES {
            let ms = self.now_ms - age_ms;
            match self.post(url, &series, &[(ms, 2.0)]) {
                Posted::Taken => oldest = Some(words_of_age),
                refused => {
                    let hint = "Gaps that are filled later need it: Prometheus has \
                                storage.tsdb.out_of_order_time_window, Mimir \
                                out_of_order_time_window; set it to 1d or more";
                    let upto = oldest.map_or_else(
                        || "it takes no sample that is older than the newest of its series".into(),
                        |age| format!("it takes samples {age} late, and not {words_of_age}"),
                    );
                    return self.found.wrong(&format!("{upto}: {}. {hint}", words(&refused)));
                }
            }
        }
        self.found.good("it takes samples that come a day late");
    }

    fn read(&mut self, base: &str) {
        let selector = |check: &Self, kind: &str| {
            let own = check.naming.selector(Some(OWN_AGENT), Some(METRIC));
            format!("{},kind=\"{kind}\",run=\"{}\"}}", own.trim_end_matches('}'), check.id)
        };
        let times = (self.now_ms - 2 * MINUTE_MS, self.now_ms);
        let values = selector(self, "values");
        let deadline = Instant::now() + READABLE_WITHIN;
        let rows = loop {
            match fetch::raw(&self.http, base, &values, times) {
                Ok(rows) if rows.is_empty() && Instant::now() < deadline => {
                    Stop::never().wait(Duration::from_millis(500));
                }
                Ok(rows) => break rows,
                Err(why) => return self.found.wrong(&format!("it does not answer: {why}")),
            }
        };
        let bits = |samples: &[(i64, f64)]| -> Vec<(i64, u64)> {
            samples.iter().map(|(ms, value)| (*ms, value.to_bits())).collect()
        };
        let wanted = self.values();
        match rows.as_slice() {
            [] => {
                let secs = READABLE_WITHIN.as_secs();
                return self.found.wrong(&format!("what was written can't be read after {secs} s"));
            }
            [(labels, samples)] if bits(samples) == bits(&wanted) => {
                let key = self.naming.inside(labels.clone());
                if key == Some(self.series("values", 0).key.clone()) {
                    self.found.good("what was written is read as it was written, once");
                } else {
                    let labels = format!("{labels:?}");
                    self.found.wrong(&format!("it adds or changes labels: {labels:.300}"));
                }
            }
            [(_, samples)] if samples.len() > wanted.len() => self.found.wrong(
                "what was sent twice is counted twice: VictoriaMetrics needs \
                 -dedup.minScrapeInterval=1ms",
            ),
            other => self.found.wrong(&format!(
                "{} samples of {} series are read, not the {} of one that were written",
                other.iter().map(|(_, samples)| samples.len()).sum::<usize>(),
                other.len(),
                wanted.len(),
            )),
        }
        let labels = selector(self, "labels");
        match fetch::raw(&self.http, base, &labels, times) {
            Ok(rows) => match rows.as_slice() {
                [(labels, _)]
                    if self.naming.inside(labels.clone())
                        == Some(self.series("labels", LABELS_MAX - 2).key.clone()) =>
                {
                    self.found.good("it keeps every label");
                }
                _ => self.found.wrong(&format!(
                    "a series with {LABELS_MAX} labels of {LABEL_VALUE_BYTES_MAX} bytes does not \
                     come back whole: raise its limits of labels"
                )),
            },
            Err(why) => self.found.wrong(&format!("it does not answer: {why}")),
        }
    }
}

fn words(posted: &Posted) -> String {
    match posted {
        Posted::Taken => "it was taken".to_owned(),
        Posted::Refused(said)
        | Posted::TooLarge(said)
        | Posted::Failed(said)
        | Posted::Later(said, _)
        | Posted::Away(said)
        | Posted::Misconfigured(said) => said.clone(),
    }
}
