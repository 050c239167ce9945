//! PromQL handed to the engine (`remote.promql = "engine"`): steps that need samples of days that
//! are no longer here are evaluated there, the others here. What the engine might understand
//! differently, or has not got yet, is evaluated here over its samples.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::limits::PROMQL_STEPS_MAX;
use crate::server::promql::PromError;
use crate::server::promql::ast::{Expr, Selector};
use crate::server::promql::elsewhere::{Asked, Elsewhere, Part, Writer, has_name, reach_ms};
use crate::server::promql::eval::{LOOKBACK_MS, Row, Steps};
use crate::server::promql::labels::{LabelSet, NAME};
use crate::server::promql::matcher::is_plain;
use crate::server::promql::names::Names;
use crate::server::promql::value::ABSENT;
use crate::server::remote::Inner;
use crate::server::remote::fetch::{self, Fetched, secs};
use crate::server::remote::naming::METRIC;
use crate::server::remote::old::ask_target;
use crate::server::remote::target::Target;
use crate::server::storage::{Selection, Series};

/// How much later than here the engine may have a sample, for a query that is handed to it.
const LAG_MAX_MS: i64 = 15_000;

impl Elsewhere for Inner {
    fn evaluate(&self, asked: &Asked<'_>) -> Result<Option<Part>, PromError> {
        let [target] = self.targets.as_slice() else { return Ok(None) };
        if !self.hands_promql || asked.lookback_ms != LOOKBACK_MS {
            return Ok(None);
        }
        let count = self.old_steps(asked.expr, asked.steps);
        if count == 0 || !self.has_all(target, asked, count) {
            return Ok(None);
        }
        let (Some(text), Some(is_named)) = (self.written(asked), has_name(asked.expr)) else {
            return Ok(None);
        };
        let steps = Steps { count, ..asked.steps };
        match self.ask(target, &text, steps) {
            Ok(rows) => {
                self.metrics.handed.inc();
                Ok(Some(Part { steps: count, rows: self.rows(rows, is_named, steps) }))
            }
            Err(why) => {
                // Evaluated here, which says which samples can't be read.
                log::debug!("the engine did not evaluate `{text}`: {why}");
                Ok(None)
            }
        }
    }
}

impl Inner {
    /// How many steps, from the first on, need samples of days that are no longer here.
    fn old_steps(&self, expr: &Expr, steps: Steps) -> usize {
        let hot_from_ms = self.hot_from_ms();
        let needs = |reach_ms: i64, at_ms: i64| at_ms.saturating_sub(reach_ms) < hot_from_ms;
        match reach_ms(expr, LOOKBACK_MS) {
            Some(reach) => (0..steps.count).take_while(|at| needs(reach, steps.time(*at))).count(),
            // An `@` may name any time.
            None if hot_from_ms > i64::MIN => steps.count,
            None => 0,
        }
    }

    /// Whether the engine has what the first `count` steps need.
    fn has_all(&self, target: &Target, asked: &Asked<'_>, count: usize) -> bool {
        let last_ms = asked.steps.time(count.saturating_sub(1));
        let reach_ms = reach_ms(asked.expr, LOOKBACK_MS).unwrap_or(i64::MAX / 2);
        let times = (asked.steps.start_ms.saturating_sub(reach_ms), last_ms.max(asked.end_ms));
        let is_sent = self.sent_to_ms() >= last_ms.min(self.clock.now_ms()) - LAG_MAX_MS;
        is_sent && !target.gaps.touches(times)
    }

    /// The query in the engine's words; `None` where its series are not called the same.
    fn written(&self, asked: &Asked<'_>) -> Option<String> {
        let braces = |selector: &Selector| self.braces(selector, asked.names);
        let last_ms = asked.steps.time(asked.steps.count.saturating_sub(1));
        let whole = (asked.steps.start_ms, last_ms.max(asked.end_ms));
        Writer { braces: &braces, own_label: METRIC, whole }.text(asked.expr)
    }

    fn braces(&self, selector: &Selector, names: &Names) -> Option<String> {
        let mut of_name = selector.matchers.iter().filter(|matcher| matcher.name == NAME);
        let name = of_name.next()?;
        if of_name.next().is_some() || name.operator() != "=" {
            return None;
        }
        let metric = names.only(&name.value)?;
        if !self.is_called_the_same(metric) {
            return None;
        }
        let others = selector.matchers.iter().filter(|matcher| matcher.name != NAME);
        let parts: Vec<String> = self
            .naming
            .matchers(None, Some(metric))
            .chain(others.map(ToString::to_string))
            .collect();
        Some(parts.join(","))
    }

    /// Whether the labels of a metric's series that are here are the same at the engine.
    fn is_called_the_same(&self, metric: &str) -> bool {
        let of_metric = |series: &Series| *series.key.metric == *metric;
        let selection = Selection { series: &of_metric, ..Selection::all(i64::MIN, i64::MAX) };
        let mut is_same = true;
        let read = self.store.select_series(&selection, &mut |series| {
            let plain = |name: &str| is_plain(name, false) && !name.contains(char::is_uppercase);
            let native = is_plain(&series.key.metric, true);
            let labels = || series.key.labels.iter();
            is_same &= labels().all(|(name, _)| native || plain(name))
                && self.naming.outside(&series.key).is_ok_and(|out| {
                    labels().all(|(name, value)| out.get(name).is_some_and(|one| one == value))
                });
            if is_same { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        is_same && read.is_ok()
    }

    fn ask(&self, target: &Target, query: &str, steps: Steps) -> Result<Vec<Fetched>, String> {
        debug_assert!(steps.count as i64 <= PROMQL_STEPS_MAX + 1, "as the API takes");
        let (start, end) = (secs(steps.start_ms), secs(steps.time(steps.count.saturating_sub(1))));
        // At one time the step only says how far VictoriaMetrics looks back for a sample.
        let step_ms = if steps.count == 1 { LOOKBACK_MS } else { steps.step_ms.max(1) };
        let step = secs(step_ms);
        let parameters = [
            ("query", query),
            ("start", start.as_str()),
            ("end", end.as_str()),
            ("step", step.as_str()),
            // VictoriaMetrics: neither rounded times nor the newest half minute left out.
            ("nocache", "1"),
        ];
        ask_target(target, &|base| {
            fetch::series(&self.http.query(base, "/api/v1/query_range", &parameters)?)
        })
    }

    /// The engine's series as they are called here, with a value at each step.
    fn rows(&self, fetched: Vec<Fetched>, is_named: bool, steps: Steps) -> Vec<Row> {
        let mut rows: BTreeMap<LabelSet, Vec<f64>> = BTreeMap::new();
        for (labels, samples) in fetched {
            let mut labels = self.naming.result(labels);
            if !is_named {
                labels.remove(NAME);
            }
            let pairs = labels.into_iter().map(|(name, value)| (name.into(), value.into()));
            let values = rows
                .entry(LabelSet::from_pairs(pairs.collect::<Vec<(Arc<str>, Arc<str>)>>()))
                .or_insert_with(|| vec![ABSENT; steps.count]);
            for (ms, value) in samples {
                let at = ms.saturating_sub(steps.start_ms) / steps.step_ms.max(1);
                if let Some(slot) = usize::try_from(at).ok().and_then(|at| values.get_mut(at)) {
                    *slot = value;
                }
            }
        }
        rows.into_iter().map(|(labels, values)| Row { labels, values }).collect()
    }
}
