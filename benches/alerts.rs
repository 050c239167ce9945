//! What alert evaluation costs: 1,000 agents with 60 series each, a tick every 10 s, 50 rules of
//! every type. Prints processor time for each tick and as a share of one core, and how long a
//! whole tick takes when it comes at once. `cargo bench --bench alerts`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxmon::base::clock::{Clock, ManualClock};
use oxmon::base::configfile::Source;
use oxmon::model::alert::AlertEvent;
use oxmon::model::series::{Labels, SeriesKey};
use oxmon::server::alert::Alerts;
use oxmon::server::alert::{Notify, NotifyKind};
use oxmon::server::config::ServerConfig;
use oxmon::server::control::Control;
use oxmon::server::storage::engine::Engine;
use oxmon::server::storage::{Observer, SampleSet, Series, Store};

const AGENTS: u32 = 1_000;
const TICKS: i64 = 120;
const TICK_MS: i64 = 10_000;
const START_MS: i64 = 1_770_625_800_000;

/// Counts nothing and tells nobody: what telling costs is not what is asked here.
struct Nobody;

impl Notify for Nobody {
    fn notify(
        &self,
        _tx: &rusqlite::Transaction<'_>,
        _event: &AlertEvent,
        _kind: NotifyKind,
    ) -> Result<(), rusqlite::Error> {
        Ok(())
    }
}

/// The 60 series of a host: metric, label, and how it moves.
fn series() -> Vec<(String, Labels, Motion)> {
    let mut all = vec![
        ("cpu.usage".to_owned(), Labels::none(), Motion::Walk),
        ("memory.used_percent".to_owned(), Labels::none(), Motion::Walk),
    ];
    for core in 0..8 {
        let labels = Labels::one("core", &core.to_string());
        all.push(("cpu.core_usage".to_owned(), labels, Motion::Walk));
    }
    for mount in 0..4 {
        let labels = || Labels::one("mount", &format!("/data{mount}"));
        for (metric, motion) in [
            ("disk.total", Motion::Still),
            ("disk.used", Motion::Grow),
            ("disk.available", Motion::Grow),
            ("disk.used_percent", Motion::Grow),
        ] {
            all.push((metric.to_owned(), labels(), motion));
        }
    }
    for interface in 0..6 {
        for metric in ["bytes_sent", "bytes_recv", "packets_sent", "packets_recv"] {
            let labels = Labels::one("interface", &format!("eth{interface}"));
            all.push((format!("network.{metric}"), labels, Motion::Walk));
        }
    }
    for metric in ["memory.total", "memory.used", "memory.available", "memory.swap_total"] {
        all.push((metric.to_owned(), Labels::none(), Motion::Still));
    }
    for metric in ["memory.swap_used", "load.load_1", "load.load_5", "load.load_15"] {
        all.push((metric.to_owned(), Labels::none(), Motion::Walk));
    }
    for metric in ["load.uptime", "agent.buffer.dropped"] {
        all.push((metric.to_owned(), Labels::none(), Motion::Grow));
    }
    assert_eq!(all.len(), 60);
    all
}

#[derive(Clone, Copy)]
enum Motion {
    Still,
    Walk,
    Grow,
}

/// 50 rules, of which each host meets most.
fn rules() -> String {
    let mut text = String::from("[pools]\nalert_workers = 2\n");
    let mut rule = |name: String, kind: &str, metric: &str, rest: String| {
        writeln!(
            text,
            "[[alert.rules]]\nname = \"{name}\"\ntype = \"{kind}\"\nmetric = \"{metric}\"\n{rest}"
        )
        .unwrap();
    };
    let metrics =
        ["cpu.usage", "cpu.core_usage", "memory.used_percent", "disk.used_percent", "load.load_1"];
    for step in 0..25 {
        let rest = format!(
            "operator = \"greater_than\"\nvalue = {}\nduration_secs = {}\nrecovery_value = 70\n",
            85 + step % 12,
            step % 5 * 60
        );
        rule(format!("over-{step}"), "threshold", metrics[step % 5], rest);
    }
    for step in 0..8 {
        let rest = format!(
            "operator = \"greater_than\"\nvalue = 95\nlabels = {{ mount = \"/data{}*\" }}\n",
            step % 4
        );
        rule(format!("mount-{step}"), "threshold", "disk.used_percent", rest);
    }
    for (step, metric) in metrics.iter().cycle().take(8).enumerate() {
        let rest = format!("rate_threshold = {}\nwindow_secs = 300\n", 400 + step);
        rule(format!("change-{step}"), "rate_of_change", metric, rest);
    }
    for step in 0..4 {
        let rest = "predict_threshold = 95\nhorizon_secs = 86400\n".to_owned();
        rule(format!("trend-{step}"), "trend_prediction", "disk.used_percent", rest);
    }
    for step in 0..5 {
        let metric = if step == 0 { "*" } else { "cpu.usage" };
        rule(format!("gone-{step}"), "no_data", metric, "duration_secs = 120\n".to_owned());
    }
    text
}

/// An agent's name and its series.
type Host = (String, Vec<(Arc<Series>, Motion)>);

/// A value that is the same in every run.
fn value(motion: Motion, seed: u64, tick: i64) -> f64 {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (tick as u64 / 6);
    x ^= x >> 31;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^= x >> 29;
    let part = (x % 10_000) as f64 / 100.0;
    match motion {
        Motion::Still => 1e9,
        Motion::Walk => 20.0 + part * 0.7,
        Motion::Grow => 40.0 + (seed % 40) as f64 + tick as f64 * 0.01,
    }
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("data_dir = {:?}\n{}", dir.path(), rules());
    let config = ServerConfig::from_source(&Source::embedded("bench.toml", &text)).unwrap();
    assert_eq!(config.alert.rules.len(), 50);
    let clock = ManualClock::at(START_MS);
    let registry = prometheus::Registry::new();
    let store = Engine::open(&config, Arc::clone(&clock) as Arc<dyn Clock>, &registry).unwrap();
    let alerts = Alerts::start(
        Arc::clone(&store) as Arc<dyn Store>,
        Control::open(dir.path()).unwrap(),
        Arc::clone(&clock) as Arc<dyn Clock>,
        &config,
        &registry,
        Arc::new(Nobody),
    )
    .unwrap();
    let shapes = series();
    let known: Vec<Host> = (0..AGENTS)
        .map(|agent| {
            let name = format!("host-{agent:04}");
            let of_agent = shapes.iter().enumerate().map(|(index, (metric, labels, motion))| {
                let key = SeriesKey {
                    agent: name.as_str().into(),
                    metric: metric.as_str().into(),
                    labels: labels.clone(),
                };
                let number = agent * 60 + index as u32;
                (Arc::new(Series { number, metric_number: 0, key }), *motion)
            });
            let of_agent = of_agent.collect();
            (name, of_agent)
        })
        .collect();
    let (mut spent, mut slowest) = (Duration::ZERO, Duration::ZERO);
    for tick in 0..TICKS {
        let at_ms = START_MS + tick * TICK_MS;
        clock.set(at_ms);
        let batches: Vec<(&str, SampleSet)> = known
            .iter()
            .map(|(agent, series)| (agent.as_str(), tick_of(series, at_ms, tick)))
            .collect();
        let (begun, before) = (Instant::now(), processor_time());
        for (agent, tick) in batches {
            alerts.stored(agent, vec![tick]);
        }
        alerts.settle();
        // The first ticks meet every series for the first time.
        if tick >= 2 {
            spent += processor_time() - before;
            slowest = slowest.max(begun.elapsed());
        }
    }
    report(spent, slowest, alerts.active().len());
    report_lag(&registry);
    alerts.stop();
    store.stop();
}

fn tick_of(series: &[(Arc<Series>, Motion)], at_ms: i64, tick: i64) -> SampleSet {
    let of =
        |(series, motion): &(Arc<Series>, Motion)| value(*motion, u64::from(series.number), tick);
    SampleSet {
        timestamp_ms: at_ms,
        series: series.iter().map(|(series, _)| Arc::clone(series)).collect(),
        values: series.iter().map(of).collect(),
    }
}

/// How long batches waited from stored to evaluated and written, by the server's own histogram.
fn report_lag(registry: &prometheus::Registry) {
    let families = registry.gather();
    let lag = families.iter().find(|one| one.name() == "oxmon_alert_evaluation_lag_seconds");
    let lag = lag.expect("the histogram").get_metric()[0].get_histogram();
    let total = lag.get_sample_count();
    let bucket = lag.get_bucket().iter().find(|bucket| bucket.upper_bound() == 1.0);
    let within = bucket.expect("a bucket of one second").cumulative_count();
    println!("batches evaluated and written within 1 s of being stored: {within} of {total}");
}

fn report(spent: Duration, slowest: Duration, active: usize) {
    let ticks = (TICKS - 2) as f64;
    let tick_ms = spent.as_secs_f64() * 1_000.0 / ticks;
    let points = f64::from(AGENTS) * 60.0;
    println!("agents {AGENTS}, series 60 each, rules 50, ticks measured {ticks}");
    println!("processor time for a tick of all agents: {tick_ms:.1} ms");
    println!("processor time for a point: {:.0} ns", tick_ms * 1e6 / points);
    println!("share of one core at a tick every 10 s: {:.2} %", tick_ms / TICK_MS as f64 * 100.0);
    println!("slowest tick, from stored to evaluated and written: {} ms", slowest.as_millis());
    println!("alerts that fire at the end: {active}");
}
