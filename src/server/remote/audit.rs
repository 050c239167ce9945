//! Audit instead of trust: what the engine has of each agent and minute is counted and compared
//! with what is stored here. What is short is sent again, and counted once more. An engine's 2xx
//! does not say that the samples are on its disk.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::base::clock::{DAY_MS, MINUTE_MS, parse_utc_day, utc_day};
use crate::rt::stop::Stop;
use crate::server::control::remote as table;
use crate::server::remote::Inner;
use crate::server::remote::fetch::{secs, series};
use crate::server::remote::gaps::Times;
use crate::server::remote::target::Target;
use crate::server::storage::{Page, Selection, StorageError, Store};

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_secs(2);
/// Times that are audited together, at the least, where samples are counted late.
const WINDOW_MS: i64 = 10 * MINUTE_MS;
/// How often samples that are short are sent again.
const ROUNDS: u32 = 3;

/// Why an audit did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Engine(String),
    #[error("the samples stored here can't be read: {0}")]
    Store(#[from] StorageError),
}

/// Audits every target until `stop`.
pub(super) fn run(inner: &Inner, stop: &Stop) {
    let mut logged: Option<Instant> = None;
    while !stop.wait(TICK) {
        for target in &inner.targets {
            match audit(inner, target, stop) {
                Ok(()) => {}
                Err(failed) => {
                    target.metrics.audit("failed");
                    if logged.is_none_or(|at| at.elapsed() > Duration::from_secs(60)) {
                        logged = Some(Instant::now());
                        log::warn!("failed to audit {}, retrying: {failed}", target.name);
                    }
                }
            }
        }
        if let Err(failed) = shed(inner) {
            log::warn!("failed to remove audited days, retrying: {failed}");
        }
    }
}

/// Removes days whose samples every target has from this machine, once they are old enough.
fn shed(inner: &Inner) -> Result<(), Failed> {
    if inner.hot_days == 0 || inner.room.is_crowded() {
        return Ok(());
    }
    let first_hot = inner.clock.possible_ms().0.div_euclid(DAY_MS) - inner.hot_days;
    for day in inner.store.days_with_samples().into_iter().filter(|day| *day < first_hot) {
        let times = (day * DAY_MS, (day + 1) * DAY_MS - 1);
        let is_whole = |target: &Arc<Target>| -> Result<bool, StorageError> {
            let name = table::short_day(&target.key, day);
            let is_short = inner
                .control
                .read(|db| -> Result<_, StorageError> { Ok(table::note(db, &name)?.is_some()) })?;
            let is_audited = target.audit.done_ms().is_some_and(|done| done > times.1);
            Ok(!is_short && is_audited && !target.gaps.touches(times))
        };
        let mut all = true;
        for target in &inner.targets {
            all = all && is_whole(target)?;
        }
        if !all {
            continue;
        }
        // Before the samples go: a reader in between has them from both.
        let hot_from_ms = inner.hot_from_ms().max(times.1 + 1);
        inner.control.write(move |tx| -> Result<(), StorageError> {
            Ok(table::put_note(tx, table::HOT_FROM, hot_from_ms)?)
        })?;
        inner.hot_from_ms.store(hot_from_ms, Ordering::Release);
        inner.store.shed_day(day)?;
        log::info!("{}: its samples are at the engine alone from now on", utc_day(times.0));
    }
    Ok(())
}

/// Counts what is due at one target.
fn audit(inner: &Inner, target: &Arc<Target>, stop: &Stop) -> Result<(), Failed> {
    let now_ms = inner.clock.now_ms();
    let is_behind = target.oldest_ms().is_some_and(|at| now_ms - at > MINUTE_MS);
    if is_behind || !target.audit.may_begin() {
        // What waits would be found short.
        return Ok(());
    }
    let mut due = target.audit.due();
    while let Some(one) = due.pop() {
        if target.gaps.has(&one.agent) {
            target.audit.again(one.agent, one.times, one.round);
        } else if let Err(failed) = compare(inner, target, &one.agent, one.times, one.round) {
            due.push(one);
            due.into_iter().for_each(|one| target.audit.again(one.agent, one.times, one.round));
            return Err(failed);
        }
    }
    let first = || -> Result<i64, Failed> { Ok(start_of(inner, target)?.unwrap_or(now_ms)) };
    let known = target.audit.to_ms();
    let mut from_ms = match known {
        Some(to_ms) => to_ms,
        None => first()?,
    };
    let from_of_minute = |ms: i64| ms.div_euclid(MINUTE_MS) * MINUTE_MS;
    let settled_ms = from_of_minute(now_ms - target.audit.settled_ms());
    while from_ms < settled_ms && !stop.is_stopped() {
        let day_end_ms = (from_ms.div_euclid(DAY_MS) + 1) * DAY_MS;
        let to_ms = day_end_ms.min(settled_ms);
        if to_ms < day_end_ms && to_ms - from_ms < WINDOW_MS.min(2 * target.audit.settled_ms()) {
            break;
        }
        audit_all(inner, target, (from_ms, to_ms - 1), stop)?;
        if stop.is_stopped() {
            break;
        }
        from_ms = to_ms;
        target.audit.set_to_ms(to_ms);
        note(inner, target)?;
    }
    Ok(())
}

/// Where the audit of a target begins: where the last process left it, or with the oldest day.
fn start_of(inner: &Inner, target: &Target) -> Result<Option<i64>, Failed> {
    let name = table::audited_to(&target.key);
    let noted =
        inner.control.read(|db| -> Result<_, StorageError> { Ok(table::note(db, &name)?) })?;
    if noted.is_some() {
        return Ok(noted);
    }
    let first = inner.store.report()?.partitions.into_iter().next();
    Ok(first.and_then(|day| parse_utc_day(&day.date)))
}

/// Writes how far the audit is.
fn note(inner: &Inner, target: &Target) -> Result<(), StorageError> {
    let Some(done_ms) = target.audit.done_ms() else { return Ok(()) };
    let name = table::audited_to(&target.key);
    inner
        .control
        .write(move |tx| -> Result<(), StorageError> { Ok(table::put_note(tx, &name, done_ms)?) })
}

/// Counts the samples of all agents of a target within one day.
fn audit_all(inner: &Inner, target: &Arc<Target>, times: Times, stop: &Stop) -> Result<(), Failed> {
    let everything = Page { limit: usize::MAX, offset: 0 };
    for agent in inner.store.agents(times.0, times.1, everything)?.items {
        if stop.is_stopped() {
            return Ok(());
        }
        if !inner.homes(&agent).any(|home| Arc::ptr_eq(home, target)) {
            continue;
        }
        let agent: Arc<str> = agent.into();
        if target.gaps.has(&agent) {
            target.audit.again(agent, times, 0);
        } else {
            compare(inner, target, &agent, times, 0)?;
        }
    }
    Ok(())
}

/// Compares the counts of one agent, and has sent again what is short.
fn compare(
    inner: &Inner,
    target: &Arc<Target>,
    agent: &Arc<str>,
    times: Times,
    round: u32,
) -> Result<(), Failed> {
    let stored = stored(&*inner.store, agent, times)?;
    let Some((&first, _)) = stored.first_key_value() else { return Ok(()) };
    let last = stored.last_key_value().map_or(first, |(last, _)| *last);
    let there = at_engine(inner, target, agent, (first, last)).map_err(Failed::Engine)?;
    let short = |(minute, count): (&i64, &u64)| {
        let has = there.get(minute).copied().unwrap_or(0);
        (has < *count).then(|| (*minute, *count - has))
    };
    let short: Vec<(i64, u64)> = stored.iter().filter_map(short).collect();
    let missing: u64 = short.iter().map(|(_, count)| count).sum();
    if missing == 0 {
        target.metrics.audit("whole");
        return Ok(());
    }
    target.metrics.audit("short");
    if round >= ROUNDS {
        log::warn!(
            "{} lacks {missing} samples of {agent} although they were sent {ROUNDS} times",
            target.name
        );
        target.metrics.missing.inc_by(missing);
        return Ok(lacks(inner, target, short.iter().map(|(minute, _)| *minute))?);
    }
    log::info!("{} lacks {missing} samples of {agent}; they are sent again", target.name);
    let ranges = short.chunk_by(|a, b| b.0 - a.0 == MINUTE_MS);
    for run in ranges {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let times = (first.0, last.0 + MINUTE_MS - 1);
        target.gaps.add(agent, times);
        target.audit.again(Arc::clone(agent), times, round + 1);
    }
    Ok(())
}

/// Notes the days that a target does not have whole: they stay here.
fn lacks(
    inner: &Inner,
    target: &Target,
    minutes: impl Iterator<Item = i64>,
) -> Result<(), StorageError> {
    let mut days: Vec<i64> = minutes.map(|minute| minute.div_euclid(DAY_MS)).collect();
    days.dedup();
    let names: Vec<String> = days.iter().map(|day| table::short_day(&target.key, *day)).collect();
    inner.control.write(move |tx| -> Result<(), StorageError> {
        names.iter().try_for_each(|name| Ok(table::put_note(tx, name, 1)?))
    })
}

/// Samples of an agent that are stored, by the start of their minute.
fn stored(
    store: &dyn Store,
    agent: &str,
    times: Times,
) -> Result<BTreeMap<i64, u64>, StorageError> {
    let mut counts = BTreeMap::new();
    let is_it = |name: &str| name == agent;
    let (from_ms, to_ms) = times;
    let selection = Selection { agent: &is_it, ..Selection::all(from_ms, to_ms) };
    store.select(&selection, &mut |_, points| {
        for (ms, _) in points {
            *counts.entry(ms.div_euclid(MINUTE_MS) * MINUTE_MS).or_default() += 1;
        }
        ControlFlow::Continue(())
    })?;
    Ok(counts)
}

/// Samples of an agent that the engine has in the minutes from `first` to `last`, by their start.
fn at_engine(
    inner: &Inner,
    target: &Target,
    agent: &str,
    (first, last): Times,
) -> Result<BTreeMap<i64, u64>, String> {
    let selector = inner.naming.selector(Some(agent), None);
    // A minute's samples are those of the 60 s that end a millisecond before the next.
    let query = format!("sum(count_over_time({selector}[60s]))");
    let (start, end) = (secs(first + MINUTE_MS - 1), secs(last + MINUTE_MS - 1));
    let parameters = [
        ("query", query.as_str()),
        ("start", start.as_str()),
        ("end", end.as_str()),
        ("step", "60"),
        // VictoriaMetrics would move the start to a multiple of the step.
        ("nocache", "1"),
    ];
    let mut failed = "remote.read_urls is empty".to_owned();
    for base in &target.read_urls {
        match inner.http.query(base, "/api/v1/query_range", &parameters) {
            Ok(data) => {
                let rows = series(&data)?;
                let points = rows.into_iter().flat_map(|(_, points)| points);
                let count = |(ms, count): (i64, f64)| (ms + 1 - MINUTE_MS, count as u64);
                return Ok(points.map(count).collect());
            }
            Err(why) => failed = format!("{base}: {why}"),
        }
    }
    Err(failed)
}
