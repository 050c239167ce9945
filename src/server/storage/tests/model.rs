//! Any sequence of batches, with packing, reopening and reads at random times, reads the same as
//! a map from (series, time) to value.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::server::storage::{Page, PointFilter, RangeQuery, Selection, Series};

const AGENTS: [&str; 2] = ["a", "b"];
const METRICS: [&str; 3] = ["x", "y", "z"];

/// One step of a run.
#[derive(Debug, Clone)]
enum Step {
    /// Points of one agent: metric, seconds before noon, value.
    Batch(usize, Vec<(usize, i64, i32)>),
    /// The same times for all metrics, one tick after the other, as agents do it.
    Ticks(usize, i64, i64),
    /// The clock moves on, so that age packs.
    Age(i64),
    /// The engine is closed and opened.
    Reopen,
    /// Reads between two times.
    Read(i64, i64),
}

fn seconds() -> impl Strategy<Value = i64> {
    prop_oneof![-40i64..40, 43_170i64..43_230, 86_380i64..86_420]
}

fn step() -> impl Strategy<Value = Step> {
    let points = proptest::collection::vec((0..METRICS.len(), seconds(), -1_000..1_000), 1..12);
    prop_oneof![
        4 => (0..AGENTS.len(), points).prop_map(|(agent, points)| Step::Batch(agent, points)),
        4 => (0..AGENTS.len(), seconds(), 1i64..40)
            .prop_map(|(agent, from, n)| Step::Ticks(agent, from, n)),
        1 => prop_oneof![Just(601i64), Just(43_000)].prop_map(Step::Age),
        1 => Just(Step::Reopen),
        2 => (seconds(), seconds()).prop_map(|(from, to)| Step::Read(from.max(to), from.min(to))),
    ]
}

type Model = BTreeMap<(SeriesKey, i64), f64>;

fn time(seconds_before_noon: i64) -> i64 {
    NOON - seconds_before_noon * 1_000
}

fn check(engine: &Engine, model: &Model, from: i64, to: i64) {
    let inside = || model.iter().filter(|((_, ts), _)| *ts >= from && *ts <= to);
    let filter = PointFilter { from_ms: Some(from), to_ms: Some(to), ..PointFilter::default() };
    let list = engine.list(&filter, Page { limit: 1_000, offset: 0 }).unwrap();
    assert_eq!(list.total, inside().count() as u64);
    let listed: Model =
        list.items.iter().map(|row| ((row.key.clone(), row.timestamp_ms), row.value)).collect();
    assert!(list.items.is_sorted_by(|a, b| a.timestamp_ms >= b.timestamp_ms));
    assert_eq!(listed.len(), list.items.len());
    if list.total <= 1_000 {
        assert_eq!(listed, inside().map(|(key, value)| (key.clone(), *value)).collect::<Model>());
    }
    let page = engine.list(&filter, Page { limit: 7, offset: 5 }).unwrap();
    let ids = |rows: &[crate::server::storage::PointRow]| {
        rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>()
    };
    let expected: Vec<String> = ids(&list.items).into_iter().skip(5).take(7).collect();
    assert_eq!(ids(&page.items), expected);
    let all = Page { limit: 100, offset: 0 };
    let names: BTreeSet<String> = inside().map(|((key, _), _)| key.metric.to_string()).collect();
    assert_eq!(engine.names(from, to, all).unwrap().items, names.into_iter().collect::<Vec<_>>());
    let agents: BTreeSet<String> = inside().map(|((key, _), _)| key.agent.to_string()).collect();
    assert_eq!(engine.agents(from, to, all).unwrap().items, agents.into_iter().collect::<Vec<_>>());
    for agent in AGENTS {
        check_latest(engine, model, agent);
        for metric in METRICS {
            check_series(engine, model, &key(agent, metric), from, to);
        }
    }
}

fn check_latest(engine: &Engine, model: &Model, agent: &str) {
    let mut newest: BTreeMap<SeriesKey, (i64, f64)> = BTreeMap::new();
    for ((key, ts), value) in model.iter().filter(|((key, _), _)| *key.agent == *agent) {
        newest.insert(key.clone(), (*ts, *value));
    }
    let latest: BTreeMap<SeriesKey, (i64, f64)> = engine
        .latest(agent)
        .unwrap()
        .into_iter()
        .map(|row| (row.key, (row.timestamp_ms, row.value)))
        .collect();
    assert_eq!(latest, newest);
}

fn check_series(engine: &Engine, model: &Model, key: &SeriesKey, from: i64, to: i64) {
    let points: Vec<(i64, f64)> = if from <= to {
        model.range((key.clone(), from)..=(key.clone(), to)).map(|((_, t), v)| (*t, *v)).collect()
    } else {
        Vec::new()
    };
    let summary = engine.summary(&key.agent, &key.metric, from, to).unwrap();
    assert_eq!(summary.count, points.len() as u64);
    let step = 7_000;
    let query = RangeQuery {
        agent: key.agent.to_string(),
        metric: key.metric.to_string(),
        labels: Labels::none(),
        from_ms: from,
        to_ms: to,
        step_ms: step,
    };
    let range = engine.range(&query).unwrap();
    let buckets = range.first().map(|series| series.buckets.clone()).unwrap_or_default();
    let mut expected: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for (ts, value) in &points {
        expected.entry(ts.div_euclid(step) * step).or_default().push(*value);
    }
    assert_eq!(buckets.len(), expected.len());
    for (bucket, (start, values)) in buckets.iter().zip(&expected) {
        // Whole numbers: their sums are exact in any order.
        assert_eq!((bucket.start_ms, bucket.count), (*start, values.len() as u64));
        assert_eq!(bucket.avg, values.iter().sum::<f64>() / values.len() as f64);
        assert_eq!(bucket.last, *values.last().unwrap());
        assert_eq!(bucket.min, values.iter().copied().fold(f64::INFINITY, f64::min));
        assert_eq!(bucket.max, values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    }
    let mut scanned = Vec::new();
    let wanted = |other: &SeriesKey| other == key;
    engine
        .scan(&key.metric, &wanted, from, to, &mut |_, part| {
            scanned.extend_from_slice(part);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(scanned, points);
    check_selected(engine, key, (from, to), &points);
}

fn check_selected(
    engine: &Engine,
    key: &SeriesKey,
    (from_ms, to_ms): (i64, i64),
    points: &[(i64, f64)],
) {
    let agent = |agent: &str| *agent == *key.agent;
    let series = |series: &Series| series.key == *key;
    let selection = Selection {
        agent: &agent,
        metric: &|_| true,
        series: &series,
        from_ms,
        to_ms,
        newest_only: false,
    };
    let mut selected = Vec::new();
    let mut take = |series: &Arc<Series>, points: &[(i64, f64)]| {
        selected.push((series.key.clone(), points.to_vec()));
        ControlFlow::Continue(())
    };
    engine.select(&selection, &mut take).unwrap();
    let expected = if points.is_empty() { vec![] } else { vec![(key.clone(), points.to_vec())] };
    assert_eq!(selected, expected);
    let newest = Selection { newest_only: true, ..selection };
    let mut last = None;
    let mut take = |_: &Arc<Series>, points: &[(i64, f64)]| {
        assert_eq!((last, points.len()), (None, 1));
        last = points.first().copied();
        ControlFlow::Continue(())
    };
    engine.select(&newest, &mut take).unwrap();
    assert_eq!(last, points.last().copied());
    let mut listed = 0;
    let mut count = |_: &Arc<Series>| {
        listed += 1;
        ControlFlow::Continue(())
    };
    engine.select_series(&selection, &mut count).unwrap();
    assert!(listed >= expected.len() && listed <= 1);
}

fn insert(engine: &Engine, model: &mut Model, agent: &str, points: Vec<Point>) {
    let mut new = 0;
    for point in &points {
        model.entry((key(agent, &point.metric), point.timestamp_ms)).or_insert_with(|| {
            new += 1;
            point.value
        });
    }
    let total = points.len();
    let stored = store(engine, agent, points).unwrap();
    assert_eq!(stored, Stored { new, duplicate: total - new, rejected: 0 });
}

fn run(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOON);
    let mut config = config(folder.path());
    config.storage.pack_age_secs = 600;
    let mut engine = open_at(&config, &clock);
    let mut model = Model::new();
    let mut aged = 0;
    for step in steps {
        match step {
            Step::Batch(agent, points) => {
                let point = |(metric, at, value): (usize, i64, i32)| {
                    Point::plain(METRICS[metric], time(at), f64::from(value))
                };
                let points = points.into_iter().map(point).collect();
                insert(&engine, &mut model, AGENTS[agent], points);
            }
            Step::Ticks(agent, from, count) => {
                for tick in 0..count {
                    let ts = time(from - tick);
                    let point = |metric: &&str| Point::plain(metric, ts, tick as f64);
                    insert(&engine, &mut model, AGENTS[agent], METRICS.iter().map(point).collect());
                }
            }
            Step::Age(seconds) => {
                aged = (aged + seconds).min(86_400);
                clock.set(NOON + aged * 1_000);
                engine.maintain_now();
            }
            Step::Reopen => {
                drop(engine);
                engine = open_at(&config, &clock);
            }
            Step::Read(from, to) => check(&engine, &model, time(from), time(to)),
        }
    }
    check(&engine, &model, i64::MIN, i64::MAX);
    drop(engine);
    let engine = open_at(&config, &clock);
    check(&engine, &model, i64::MIN, i64::MAX);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn reads_are_those_of_a_simple_map(steps in proptest::collection::vec(step(), 1..40)) {
        run(steps);
    }
}
