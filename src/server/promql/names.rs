//! What the store's metrics are called in PromQL, and back.
//!
//! A metric whose name is one that Prometheus takes, as those of exporters and remote write are,
//! keeps it, and its labels. Any other, such as oxmon's own `cpu.usage`, is called as in
//! `GET /metrics`: `oxmon_cpu_usage`. Metrics whose names differ only in what a name can't have
//! there share one, and have the label `metric`, so that a series is always one metric's.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::server::exposition::{factor, family_name, label_name};
use crate::server::promql::labels::{LabelSet, NAME};
use crate::server::promql::matcher::{Matcher, is_plain};
use crate::server::storage::Series;

/// What one metric is called.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Named {
    /// Its name in PromQL.
    pub name: Arc<str>,
    /// Whether labels keep their names.
    pub native: bool,
    /// Whether another metric has the same name.
    pub shared: bool,
    /// What a value is multiplied with.
    pub factor: f64,
}

/// What every metric is called.
#[derive(Debug)]
pub(crate) struct Names {
    by_number: HashMap<u32, (Arc<str>, Named)>,
    agent_label: Arc<str>,
    name_label: Arc<str>,
}

/// Metrics that a query is about, by number: mostly one, so that finding it takes no hash.
#[derive(Debug)]
pub(crate) struct Matching(Vec<(u32, Named)>);

impl Matching {
    /// What the metric with this number is called.
    pub(crate) fn get(&self, number: u32) -> Option<&Named> {
        let at = self.0.binary_search_by_key(&number, |(other, _)| *other).ok()?;
        self.0.get(at).map(|(_, named)| named)
    }
}

impl Names {
    /// The names of `metrics`, with their numbers. `taken` are names that the server's own figures
    /// have in `GET /metrics`; `agent_label` is the label that holds the agent.
    pub(crate) fn new(
        metrics: Vec<(Arc<str>, u32)>,
        taken: &BTreeSet<String>,
        agent_label: &str,
    ) -> Self {
        let mut uses: HashMap<Arc<str>, u32> = HashMap::new();
        let mut by_number = HashMap::with_capacity(metrics.len());
        for (metric, number) in metrics {
            let native = is_plain(&metric, true);
            let name: Arc<str> =
                if native { Arc::clone(&metric) } else { family_name(&metric, taken).into() };
            *uses.entry(Arc::clone(&name)).or_default() += 1;
            let factor = if native { 1.0 } else { factor(&metric) };
            by_number.insert(number, (metric, Named { name, native, shared: false, factor }));
        }
        for (_, named) in by_number.values_mut() {
            named.shared = uses.get(&named.name).is_some_and(|uses| *uses > 1);
        }
        Self { by_number, agent_label: agent_label.into(), name_label: NAME.into() }
    }

    /// Name and original name of every metric.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Named, &str)> {
        self.by_number.values().map(|(metric, named)| (named, &**metric))
    }

    /// The only metric that is meant by a name, under that name and with its values as they are.
    pub(crate) fn only(&self, name: &str) -> Option<&str> {
        let mut meant =
            self.iter().filter(|(named, metric)| &*named.name == name || *metric == name);
        let (named, metric) = meant.next()?;
        let is_alone = meant.next().is_none() && !named.shared;
        (is_alone && named.factor == 1.0 && &*named.name == name).then_some(metric)
    }

    /// The label that holds the agent.
    pub(crate) fn agent_label(&self) -> &str {
        &self.agent_label
    }

    /// The metrics that satisfy the matchers of `__name__`, each under the name that they give:
    /// the original one where a query names that.
    pub(crate) fn matching(&self, matchers: &[Matcher]) -> Matching {
        let all = |name: &str| {
            matchers.iter().filter(|matcher| matcher.name == NAME).all(|one| one.matches(name))
        };
        let pick = |(number, (metric, named)): (&u32, &(Arc<str>, Named))| {
            if all(&named.name) {
                return Some((*number, named.clone()));
            }
            all(metric).then(|| {
                let name = Arc::clone(metric);
                (*number, Named { name, shared: false, factor: 1.0, ..named.clone() })
            })
        };
        let mut found: Vec<(u32, Named)> = self.by_number.iter().filter_map(pick).collect();
        found.sort_unstable_by_key(|(number, _)| *number);
        Matching(found)
    }

    /// The labels of a series of a metric that is called so.
    pub(crate) fn labels(&self, series: &Series, named: &Named) -> LabelSet {
        let key = &series.key;
        let mut pairs: Vec<(Arc<str>, Arc<str>)> = Vec::with_capacity(key.labels.len() + 3);
        pairs.push((Arc::clone(&self.name_label), Arc::clone(&named.name)));
        pairs.push((Arc::clone(&self.agent_label), Arc::clone(&key.agent)));
        if named.shared {
            pairs.push(("metric".into(), Arc::clone(&key.metric)));
        }
        for (name, value) in key.labels.iter() {
            let mut name = if named.native { name.to_owned() } else { label_name(name) };
            while pairs.iter().any(|(other, _)| **other == name) {
                // What Prometheus itself does with a label that a target has too.
                name.insert_str(0, "exported_");
            }
            pairs.push((name.into(), value.into()));
        }
        LabelSet::from_pairs(pairs)
    }

    /// Whether a series of a metric that is called so has the labels that are asked for. The
    /// matchers of `__name__` and of the agent are taken as satisfied.
    pub(crate) fn has_labels(&self, series: &Series, named: &Named, matchers: &[Matcher]) -> bool {
        let others = || {
            let is_other = |one: &&Matcher| one.name != NAME && *one.name != *self.agent_label;
            matchers.iter().filter(is_other)
        };
        if others().next().is_none() {
            return true;
        }
        // Labels that are called as they are need no set of their own to be looked at.
        let simple = |name: &str| {
            let plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            name.bytes().all(plain) && name.starts_with(|first: char| first.is_ascii_lowercase())
        };
        let labels = &series.key.labels;
        let as_they_are = labels.iter().all(|(name, _)| {
            (named.native || simple(name)) && *name != *self.agent_label && name != "metric"
        });
        if as_they_are && !named.shared {
            return others().all(|one| one.matches(labels.get(&one.name).unwrap_or("")));
        }
        let labels = self.labels(series, named);
        others().all(|one| one.matches(labels.get(&one.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::series::{Labels, SeriesKey};

    fn series(number: u32, metric: &str, labels: &[(&str, &str)]) -> Series {
        let labels = Labels::from_pairs(labels.iter().copied());
        let key = SeriesKey { agent: "web-01".into(), metric: metric.into(), labels };
        Series { number, metric_number: number, key }
    }

    #[test]
    fn names_map_back_to_one_metric() {
        let metrics = ["cpu.usage", "node_load1", "x.y", "x-y", "agent.collect_ms"];
        let numbered = metrics.iter().zip(0..).map(|(name, number)| ((*name).into(), number));
        let names = Names::new(numbered.collect(), &BTreeSet::new(), "agent");
        let shown = |number: u32, metric: &str, labels: &[(&str, &str)], asked: &Matcher| {
            let found = names.matching(std::slice::from_ref(asked));
            let named = found.get(number)?;
            Some(names.labels(&series(number, metric, labels), named).to_string())
        };
        let is = |name: &str| Matcher::equal(NAME, name);
        let own = shown(0, "cpu.usage", &[("fooBar", "1")], &is("oxmon_cpu_usage"));
        assert_eq!(own.as_deref(), Some("oxmon_cpu_usage{agent=\"web-01\", foo_bar=\"1\"}"));
        let quoted = shown(0, "cpu.usage", &[], &is("cpu.usage"));
        assert_eq!(quoted.as_deref(), Some("{\"cpu.usage\", agent=\"web-01\"}"));
        let native = shown(1, "node_load1", &[("fooBar", "1"), ("agent", "x")], &is("node_load1"));
        let wanted = "node_load1{agent=\"web-01\", exported_agent=\"x\", fooBar=\"1\"}";
        assert_eq!(native.as_deref(), Some(wanted));
        let first = shown(2, "x.y", &[], &is("oxmon_x_y"));
        let second = shown(3, "x-y", &[], &is("oxmon_x_y"));
        assert_eq!(first.as_deref(), Some("oxmon_x_y{agent=\"web-01\", metric=\"x.y\"}"));
        assert_eq!(second.as_deref(), Some("oxmon_x_y{agent=\"web-01\", metric=\"x-y\"}"));
        let found = names.matching(&[is("oxmon_agent_collect_seconds")]);
        assert_eq!(found.get(4).map(|named| named.factor), Some(0.001));
        assert!(names.matching(&[is("oxmon_node_load1")]).0.is_empty());
    }

    #[test]
    fn labels_are_found_under_the_name_that_they_are_shown_by() {
        let names = Names::new(vec![("x.y".into(), 0)], &BTreeSet::new(), "agent");
        let found = names.matching(&[]);
        let has = |labels: &[(&str, &str)], name: &str, value: &str| {
            let matchers = [Matcher::equal(name, value)];
            let named = found.get(0);
            named.is_some_and(|it| names.has_labels(&series(0, "x.y", labels), it, &matchers))
        };
        assert!(found.get(0).is_some() && found.get(1).is_none());
        assert!(has(&[("mount", "/")], "mount", "/"));
        assert!(!has(&[("mount", "/")], "mount", ""));
        assert!(has(&[("mount", "/")], "other", ""));
        assert!(has(&[("fooBar", "1")], "foo_bar", "1"));
        assert!(has(&[("agent", "1")], "exported_agent", "1"));
    }
}
