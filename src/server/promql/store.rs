//! Series of the store as a [`Source`].

use std::ops::ControlFlow;
use std::sync::Arc;

use prometheus::Registry;

use crate::server::exposition;
use crate::server::promql::error::PromError;
use crate::server::promql::labels::LabelSet;
use crate::server::promql::matcher::Matcher;
use crate::server::promql::names::{Matching, Names};
use crate::server::promql::{Source, Span, Visit};
use crate::server::storage::{Selection, Series, StorageError, Store};

/// The store's series, under the names of PromQL.
pub(crate) struct StoreSource<'a> {
    /// Where they are.
    pub store: &'a dyn Store,
    /// What they are called.
    pub names: Names,
    /// Why metrics may be missing among them.
    pub missing: Option<StorageError>,
}

impl<'a> StoreSource<'a> {
    /// The store's series under their names of now. `registry` has the server's own figures,
    /// whose names no metric takes; `agent_label` is the label that holds the agent.
    pub(crate) fn open(store: &'a dyn Store, registry: &Registry, agent_label: &str) -> Self {
        let taken = exposition::own_names(registry);
        let (metrics, missing) = store.metrics();
        let names = Names::new(metrics, &taken, agent_label);
        Self { store, names, missing }
    }

    /// Runs `body` with what the store needs to find the series of `matchers`.
    fn with_selection<T>(
        &self,
        matchers: &[Matcher],
        span: Span,
        body: impl FnOnce(&Selection<'_>, &Matching) -> T,
    ) -> T {
        let named = self.names.matching(matchers);
        let of_agent = |one: &&Matcher| one.name == self.names.agent_label();
        let agent =
            |name: &str| matchers.iter().filter(of_agent).all(|matcher| matcher.matches(name));
        let series = |series: &Series| {
            named
                .get(series.metric_number)
                .is_some_and(|named| self.names.has_labels(series, named, matchers))
        };
        let Span { from_ms, to_ms, newest_only } = span;
        let metric = |number: u32| named.get(number).is_some();
        let (agent, metric, series) = (&agent, &metric, &series);
        body(&Selection { agent, metric, series, from_ms, to_ms, newest_only }, &named)
    }

    /// Hands the labels of each series that satisfies every matcher to `visit`, without its
    /// samples; until that gives false.
    ///
    /// # Errors
    ///
    /// When some of them are elsewhere, and that does not answer.
    pub(crate) fn series(
        &self,
        matchers: &[Matcher],
        (from_ms, to_ms): (i64, i64),
        visit: &mut dyn FnMut(LabelSet) -> bool,
    ) -> Result<(), StorageError> {
        self.with_selection(matchers, Span::all(from_ms, to_ms), |selection, named| {
            self.store.select_series(selection, &mut |series| {
                let Some(named) = named.get(series.metric_number) else {
                    return ControlFlow::Continue(());
                };
                let more = visit(self.names.labels(series, named));
                if more { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
        })
    }
}

impl Source for StoreSource<'_> {
    fn select(&self, matchers: &[Matcher], span: Span, visit: Visit<'_>) -> Result<(), PromError> {
        let mut scaled: Vec<(i64, f64)> = Vec::new();
        let mut failed = None;
        let read = self.with_selection(matchers, span, |selection, named| {
            self.store.select(selection, &mut |series: &Arc<Series>, points| {
                let Some(named) = named.get(series.metric_number) else {
                    return ControlFlow::Continue(());
                };
                let labels = self.names.labels(series, named);
                let points = if named.factor == 1.0 {
                    points
                } else {
                    scaled.clear();
                    scaled.extend(points.iter().map(|&(ms, value)| (ms, value * named.factor)));
                    &scaled
                };
                match visit(labels, points) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        failed = Some(error);
                        ControlFlow::Break(())
                    }
                }
            })
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(read?),
        }
    }
}
