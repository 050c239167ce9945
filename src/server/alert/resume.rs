//! Going on after a restart: alerts have the state that the database holds, windows are filled from
//! history, and points that were stored but not evaluated before the end are evaluated now.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::clock::{DAY_MS, HOUR_MS, MINUTE_MS, Now};
use crate::model::alert::AlertEvent;
use crate::server::alert::evaluate::Sample;
use crate::server::alert::history::Warm;
use crate::server::alert::rule::Rule;
use crate::server::alert::ruleset::RuleSet;
use crate::server::alert::shard::Shard;
use crate::server::alert::worker::{Shared, shard_key};
use crate::server::control::alerts::{self, StateRow};
use crate::server::storage::StorageError;

/// Points carry their agents' time, which may lag behind the server's: so much before the
/// watermark is evaluated again. Evaluating twice changes nothing.
const SLACK_MS: i64 = 2 * MINUTE_MS;

/// The workers' shards as they stood when the process ended, with what happened since.
///
/// # Errors
///
/// When `cert.db` or the agents can't be read.
pub(super) fn resume(
    shared: &Shared,
    workers: usize,
    now: Now,
) -> Result<Vec<Shard>, StorageError> {
    let now_ms = now.wall_ms;
    let rules = shared.rules();
    let mut shards: Vec<Shard> =
        (0..workers.max(1)).map(|_| Shard::new(Arc::clone(&rules))).collect();
    let mut shards = Shards(&mut shards);
    let (rows, watermark) = shared.control.read(|db| -> Result<_, StorageError> {
        Ok((alerts::states(db)?, alerts::watermark(db)?))
    })?;
    shards.start(shared, &rules, now)?;
    for row in &rows {
        let [_, agent, ..] = &row.key;
        shards.of(agent).restore(row, now);
        if let Some(event) = row.detail.as_deref().and_then(AlertEvent::from_json) {
            shared.note_active(row.key.clone(), event);
        }
    }
    let resumed_ms = watermark.map(|at_ms| at_ms.saturating_sub(SLACK_MS));
    let oldest = oldest_rows(&rows);
    for rule in rules.enabled().filter(|rule| rule.evaluates_points()) {
        let row_ms = oldest.get(rule.id.as_str()).copied();
        shards.replay(shared, rule, resumed_ms, row_ms, now);
    }
    let shards = shards.0;
    let changes = shards.iter_mut().flat_map(Shard::take_changes).collect();
    shared.commit_once(changes)?;
    if watermark.is_none() {
        // A kill before the first note of it would hide what this process has not evaluated.
        shared.control.write(move |tx| -> Result<(), StorageError> {
            Ok(alerts::put_watermark(tx, now_ms)?)
        })?;
    }
    Ok(std::mem::take(shards))
}

fn oldest_rows(rows: &[StateRow]) -> HashMap<&str, i64> {
    let mut oldest: HashMap<&str, i64> = HashMap::new();
    for row in rows.iter().filter(|row| row.state != "ok") {
        let [rule, ..] = &row.key;
        let known = oldest.entry(rule).or_insert(row.updated_ms);
        *known = (*known).min(row.updated_ms);
    }
    oldest
}

struct Shards<'a>(&'a mut Vec<Shard>);

impl Shards<'_> {
    fn of(&mut self, agent: &str) -> &mut Shard {
        let count = self.0.len() as u64;
        &mut self.0[(shard_key(agent) % count) as usize]
    }

    /// Who was seen before.
    fn start(&mut self, shared: &Shared, rules: &RuleSet, now: Now) -> Result<(), StorageError> {
        let absence: Vec<Arc<Rule>> =
            rules.enabled().filter(|rule| rule.evaluator.absent_ms().is_some()).cloned().collect();
        let warm = Warm::read(shared.store.as_ref(), &absence, now.wall_ms);
        let seen = shared.store.agents_seen()?;
        let count = self.0.len() as u64;
        for (index, shard) in self.0.iter_mut().enumerate() {
            let mine = |agent: &str| shard_key(agent) % count == index as u64;
            let agents: Vec<(String, i64)> = seen
                .iter()
                .filter(|agent| mine(&agent.agent_id))
                .map(|agent| (agent.agent_id.clone(), agent.last_seen_ms))
                .collect();
            shard.start(&agents, &warm.only(mine), now);
        }
        Ok(())
    }

    /// Fills a rule's windows, and evaluates what came after its alerts' newest points or after the
    /// watermark.
    fn replay(
        &mut self,
        shared: &Shared,
        rule: &Arc<Rule>,
        resumed_ms: Option<i64>,
        row_ms: Option<i64>,
        now: Now,
    ) {
        let now_ms = now.wall_ms;
        let window_ms = rule.evaluator.window_ms();
        let window_from = (window_ms > 0).then(|| now_ms.saturating_sub(window_ms));
        let row_from = row_ms.map(|at_ms| at_ms.max(now_ms.saturating_sub(DAY_MS)));
        let starts = [window_from, resumed_ms, row_from];
        let Some(from_ms) = starts.into_iter().flatten().min() else { return };
        let scanned = shared.store.scan(
            &rule.draft.metric,
            &|key| rule.wants(key),
            from_ms,
            now_ms.saturating_add(HOUR_MS),
            &mut |key, points| {
                let shard = self.of(&key.agent);
                for (at_ms, value) in points {
                    let Some(tracked) = shard.tracked(rule, key) else { break };
                    let known_ms = tracked.state.last_ms;
                    let known = if known_ms == i64::MIN {
                        resumed_ms.is_none_or(|resumed_ms| *at_ms <= resumed_ms)
                    } else {
                        *at_ms <= known_ms
                    };
                    if known {
                        tracked.warm(*at_ms, *value);
                    } else {
                        shard.replay(rule, key, Sample { at_ms: *at_ms, value: *value }, now);
                    }
                }
                ControlFlow::Continue(())
            },
        );
        if let Err(error) = scanned {
            log::warn!("history for the rule {} can't be read: {error}", rule.draft.name);
        }
    }
}
