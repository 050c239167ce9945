//! What outlives the process: gaps, and until when everything was sent. After a crash, whatever
//! arrived later is a gap.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::base::clock::{MINUTE_MS, SECOND_MS};
use crate::model::point::{Batch, Point};
use crate::rt::stop::Stop;
use crate::server::control::remote as table;
use crate::server::remote::Inner;
use crate::server::remote::gaps::Times;
use crate::server::remote::send::OWN_AGENT;
use crate::server::storage::{StorageError, submit_batch};

/// How often gaps and metrics are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often the note of what is sent is written where no gap changed.
const NOTE_EVERY: Duration = Duration::from_secs(10);
/// How often the forwarder's own samples are stored.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// A batch has its time of arrival before it is committed: so much later at the most.
const COMMIT_MS: i64 = 2 * MINUTE_MS;

/// Rows to write: target, agent, times.
type Rows = Vec<(String, Arc<str>, Vec<Times>)>;

/// Keeps the notes until `stop`.
pub(super) fn run(inner: &Inner, stop: &Stop) {
    let mut recovered = false;
    let mut noted = Instant::now();
    let mut reported = Instant::now();
    loop {
        if !recovered {
            // Until it is done, the note stays where the last process left it.
            recovered = recover(inner);
        }
        show(inner);
        let now = Instant::now();
        let mut held = std::mem::take(&mut *inner.held.lock());
        held.retain(|held| held.waits(now));
        inner.held.lock().append(&mut held);
        let note = recovered && noted.elapsed() >= NOTE_EVERY;
        if write(inner, note.then(|| inner.sent_to_ms())) && note {
            noted = Instant::now();
        }
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            report(inner);
        }
        if stop.wait(TICK) {
            return;
        }
    }
}

/// Notes what a process that ended without a stop may not have sent. True once that is done.
fn recover(inner: &Inner) -> bool {
    let Some(since_ms) = *inner.unsure_since_ms.lock() else { return true };
    match inner.store.arrived_since(since_ms.saturating_sub(COMMIT_MS)) {
        Ok(found) => {
            for arrived in found {
                let times = (arrived.from_ms, arrived.to_ms);
                inner.miss(&arrived.agent, times);
                for target in inner.homes(&arrived.agent) {
                    // An audit may have passed these times before they came.
                    target.audit.again(Arc::clone(&arrived.agent), times, 0);
                }
            }
            *inner.unsure_since_ms.lock() = None;
            true
        }
        Err(error) => {
            log::warn!("failed to read what was not sent before the last end: {error}");
            false
        }
    }
}

/// Reads what the last process left.
///
/// # Errors
///
/// When `cert.db` can't be read or written.
pub(super) fn load(inner: &Inner) -> Result<(), StorageError> {
    let (rows, sent_to, stopped) = inner.control.read(|db| -> Result<_, StorageError> {
        let stopped = table::note(db, table::STOPPED)? == Some(1);
        Ok((table::gaps(db)?, table::note(db, table::SENT_TO)?, stopped))
    })?;
    let mut moved = Vec::new();
    for row in rows {
        match inner.targets.iter().find(|target| target.key == row.target) {
            Some(target) => target.gaps.load(&row.agent, row.times),
            None => {
                inner.miss(&row.agent.as_str().into(), row.times);
                moved.push((row.target, row.agent));
            }
        }
    }
    *inner.unsure_since_ms.lock() = sent_to.filter(|_| !stopped);
    let hot_from = inner
        .control
        .read(|db| -> Result<_, StorageError> { Ok(table::note(db, table::HOT_FROM)?) })?;
    inner.hot_from_ms.store(hot_from.unwrap_or(i64::MIN), Ordering::Release);
    let now_ms = inner.clock.now_ms();
    let rows = rows_of(inner);
    inner.control.write(move |tx| -> Result<(), StorageError> {
        table::put_note(tx, table::STOPPED, 0)?;
        table::put_note(tx, table::SENT_TO, sent_to.filter(|_| !stopped).unwrap_or(now_ms))?;
        for (target, agent) in &moved {
            table::put_gaps(tx, target, agent, &[])?;
        }
        put(tx, &rows)
    })
}

fn rows_of(inner: &Inner) -> Rows {
    let of_target = |target: &Arc<super::target::Target>| {
        let key = target.key.clone();
        let changed = target.gaps.changed();
        changed.into_iter().map(move |(agent, ranges)| (key.clone(), agent, ranges))
    };
    inner.targets.iter().flat_map(of_target).collect()
}

fn put(tx: &rusqlite::Connection, rows: &Rows) -> Result<(), StorageError> {
    for (target, agent, ranges) in rows {
        table::put_gaps(tx, target, agent, ranges)?;
    }
    Ok(())
}

/// Writes gaps that changed, and the note. True when nothing failed.
fn write(inner: &Inner, sent_to_ms: Option<i64>) -> bool {
    // After the time was taken: whatever arrived before it is sent or among these.
    let rows = Arc::new(rows_of(inner));
    if rows.is_empty() && sent_to_ms.is_none() {
        return true;
    }
    let written = {
        let rows = Arc::clone(&rows);
        inner.control.write(move |tx| -> Result<(), StorageError> {
            put(tx, &rows)?;
            if let Some(at_ms) = sent_to_ms {
                table::put_note(tx, table::SENT_TO, at_ms)?;
            }
            Ok(())
        })
    };
    if let Err(error) = written {
        log::error!("failed to note what the engine lacks, retrying: {error}");
        for target in &inner.targets {
            let mine = rows.iter().filter(|(key, ..)| *key == target.key);
            target.gaps.not_written(mine.map(|(_, agent, _)| Arc::clone(agent)));
        }
        return false;
    }
    true
}

/// At the stop, once no more samples come: what is not sent becomes gaps.
pub(super) fn finish(inner: &Inner) {
    for target in &inner.targets {
        for queue in &target.queues {
            for (agent, from, to) in queue.give_up() {
                target.gaps.add(&agent, (from, to));
            }
        }
    }
    let is_sure = inner.unsure_since_ms.lock().is_none();
    let rows = rows_of(inner);
    let now_ms = inner.clock.now_ms();
    let written = inner.control.write(move |tx| -> Result<(), StorageError> {
        put(tx, &rows)?;
        if is_sure {
            table::put_note(tx, table::SENT_TO, now_ms)?;
            table::put_note(tx, table::STOPPED, 1)?;
        }
        Ok(())
    });
    if let Err(error) = written {
        log::error!("failed to note what the engine lacks; the next start finds it: {error}");
    }
}

fn show(inner: &Inner) {
    let metrics = &inner.metrics;
    metrics.queued.set(i64::try_from(inner.room.used()).unwrap_or(i64::MAX));
    for target in &inner.targets {
        let (gaps, length_ms) = target.gaps.total();
        let of = |gauges: &prometheus::IntGaugeVec| gauges.with_label_values(&[&target.name]);
        of(&metrics.gaps).set(i64::try_from(gaps).unwrap_or(i64::MAX));
        of(&metrics.gap_seconds).set(length_ms / SECOND_MS);
        of(&metrics.lag).set(inner.lag_secs(target));
        if let Some(done_ms) = target.audit.done_ms() {
            of(&metrics.audited).set((inner.clock.now_ms() - done_ms) / SECOND_MS);
        }
    }
}

/// Stores how far the engine is behind, as samples of oxmon's own, so that rules can be about it.
fn report(inner: &Inner) {
    let now_ms = inner.clock.now_ms();
    let mut points = Vec::new();
    for target in &inner.targets {
        let (gaps, length_ms) = target.gaps.total();
        let behind = inner.lag_secs(target) as f64;
        let refused = target.metrics.refused_total();
        for (metric, value) in [
            ("remote.lag", behind),
            ("remote.gaps", gaps as f64),
            ("remote.gap_length", length_ms as f64 / 1_000.0),
            ("remote.refused", refused as f64),
            ("remote.up", target.metrics.up.get() as f64),
        ] {
            points.push(Point::labelled(metric, "target", &target.name, now_ms, value));
        }
    }
    let batch = Batch { agent_id: OWN_AGENT.into(), timestamp_ms: now_ms, points };
    // What is not stored now is stored a minute later.
    let _ = submit_batch(&*inner.store, batch, Box::new(|_| {}));
}
