//! What history gives to rules that are new to it: points for their windows, and who was last
//! seen when.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::clock::HOUR_MS;
use crate::model::series::SeriesKey;
use crate::server::alert::rule::Rule;
use crate::server::storage::Store;

/// Points of one series: times in Unix milliseconds, and values.
type Points = Vec<(i64, f64)>;

/// History by rule.
#[derive(Debug, Default)]
pub(crate) struct Warm {
    windows: HashMap<String, HashMap<SeriesKey, Points>>,
    seen: HashMap<String, Vec<(String, i64)>>,
}

impl Warm {
    /// Reads what `rules` need. What can't be read is left out, and the log says so: a rule then
    /// begins with an empty window.
    pub(crate) fn read(store: &dyn Store, rules: &[Arc<Rule>], now_ms: i64) -> Self {
        let mut warm = Self::default();
        for rule in rules.iter().filter(|rule| rule.evaluator.window_ms() > 0) {
            let mut by_series: HashMap<SeriesKey, Points> = HashMap::new();
            let from_ms = now_ms.saturating_sub(rule.evaluator.window_ms());
            let read = store.scan(
                &rule.draft.metric,
                &|key| rule.wants(key),
                from_ms,
                now_ms.saturating_add(HOUR_MS),
                &mut |key, points| {
                    match by_series.get_mut(key) {
                        Some(known) => known.extend_from_slice(points),
                        None => drop(by_series.insert(key.clone(), points.to_vec())),
                    }
                    ControlFlow::Continue(())
                },
            );
            if let Err(error) = read {
                log::warn!("history for the rule {} can't be read: {error}", rule.draft.name);
            }
            warm.windows.insert(rule.id.clone(), by_series);
        }
        warm.read_seen(store, rules);
        warm
    }

    /// When metrics that are missed when silent were last seen.
    fn read_seen(&mut self, store: &dyn Store, rules: &[Arc<Rule>]) {
        let rules: Vec<&Arc<Rule>> = rules
            .iter()
            .filter(|rule| rule.evaluator.absent_ms().is_some() && rule.draft.metric != "*")
            .collect();
        if rules.is_empty() {
            return;
        }
        let rows = match store.latest_all() {
            Ok(rows) => rows,
            Err(error) => {
                log::warn!("the newest values can't be read for no_data rules: {error}");
                return;
            }
        };
        for rule in rules {
            let mut seen: HashMap<&str, i64> = HashMap::new();
            for row in rows.iter().filter(|row| rule.wants(&row.key)) {
                let newest = seen.entry(&row.key.agent).or_insert(row.timestamp_ms);
                *newest = (*newest).max(row.timestamp_ms);
            }
            let seen = seen.into_iter().map(|(agent, at_ms)| (agent.to_owned(), at_ms));
            self.seen.insert(rule.id.clone(), seen.collect());
        }
    }

    /// Points of a rule's window on a series, oldest first.
    pub(crate) fn points(&self, rule_id: &str, key: &SeriesKey) -> &[(i64, f64)] {
        self.windows
            .get(rule_id)
            .and_then(|by_series| by_series.get(key))
            .map_or(&[], Vec::as_slice)
    }

    /// Agents that a `no_data` rule on a metric knows, with the newest point's time.
    pub(crate) fn seen(&self, rule_id: &str) -> &[(String, i64)] {
        self.seen.get(rule_id).map_or(&[], Vec::as_slice)
    }

    /// The agents that are missed when silent, of which `wanted` holds.
    pub(crate) fn only(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let of_rule = |agents: &Vec<(String, i64)>| {
            agents.iter().filter(|(agent, _)| wanted(agent)).cloned().collect()
        };
        let seen = self.seen.iter().map(|(rule, agents)| (rule.clone(), of_rule(agents)));
        Self { windows: HashMap::new(), seen: seen.collect() }
    }

    /// Whether it holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.windows.is_empty() && self.seen.is_empty()
    }
}
