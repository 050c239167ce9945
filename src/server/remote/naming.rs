//! What a series is called at the engine, and back. A metric whose name Prometheus takes keeps it,
//! and its labels. Any other, such as `cpu.usage`, is called as in PromQL here
//! (`oxmon_cpu_usage`). The label `oxmon_metric` has the metric's own name in any case: functions
//! drop a series' name, and two series may differ in nothing else. Where labels can't be written
//! there as they are, `oxmon_labels` holds all of them as JSON. So a series that is read back is
//! the one that was written, to the bit.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::series::{Labels, SeriesKey};
use crate::server::config::ServerConfig;
use crate::server::exposition::{factor, family_name};
use crate::server::promql::labels::NAME;
use crate::server::promql::matcher::{is_plain, quoted};

/// The label with the metric's own name.
pub(super) const METRIC: &str = "oxmon_metric";
/// The label with all labels of the series, where the engine can't have them.
const LABELS: &str = "oxmon_labels";
/// Bytes of that label: Mimir refuses values over 2,048.
const LABELS_BYTES_MAX: usize = 2_000;

/// The labels of one series at the engine, by name.
pub(super) type Outside = BTreeMap<String, String>;

/// How names are made.
#[derive(Debug, Clone)]
pub(crate) struct Naming {
    agent_label: String,
    prefix: String,
    labels: BTreeMap<String, String>,
}

/// A text as a regular expression that fits it alone.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii_punctuation() && letter != '_' && letter != '-' {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// A series that no engine can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its labels take more than {LABELS_BYTES_MAX} bytes")]
pub(super) struct Unsendable;

impl Naming {
    /// As the configuration says.
    pub(crate) fn of(config: &ServerConfig) -> Self {
        Self {
            agent_label: config.prometheus.agent_label.clone(),
            prefix: config.remote.name_prefix.clone(),
            labels: config.remote.labels.clone(),
        }
    }

    /// A metric's name at the engine.
    fn name(&self, metric: &str) -> String {
        if is_plain(metric, true) {
            return format!("{}{metric}", self.prefix);
        }
        let name = if factor(metric) == 1.0 {
            family_name(metric, &BTreeSet::new())
        } else {
            // Its name there says another unit: values stay as they were reported.
            let fits = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
            format!("oxmon_{}", metric.chars().map(fits).collect::<String>())
        };
        format!("{}{name}", self.prefix)
    }

    /// The labels of a series, `__name__` among them.
    ///
    /// # Errors
    ///
    /// [`Unsendable`] when they are too long for one label.
    pub(super) fn outside(&self, key: &SeriesKey) -> Result<Outside, Unsendable> {
        let mut out: Outside = self.labels.clone();
        out.insert(NAME.to_owned(), self.name(&key.metric));
        out.insert(self.agent_label.clone(), (*key.agent).to_owned());
        out.insert(METRIC.to_owned(), (*key.metric).to_owned());
        let mut is_whole = true;
        for (name, value) in key.labels.iter() {
            let fits = is_plain(name, false) && !name.starts_with("__");
            let is_ours = name == METRIC || name == LABELS;
            if fits && !is_ours && !value.is_empty() && !out.contains_key(name) {
                out.insert(name.to_owned(), value.to_owned());
            } else {
                is_whole = false;
            }
        }
        if !is_whole {
            let json = key.labels.to_json();
            if json.len() > LABELS_BYTES_MAX {
                return Err(Unsendable);
            }
            out.insert(LABELS.to_owned(), json);
        }
        Ok(out)
    }

    /// The series that has these labels at the engine; `None` for one that oxmon did not write.
    pub(super) fn inside(&self, mut labels: Outside) -> Option<SeriesKey> {
        labels.remove(NAME);
        let metric = labels.remove(METRIC)?;
        let agent = labels.remove(&self.agent_label)?;
        for (name, value) in &self.labels {
            if labels.remove(name).as_deref() != Some(value) {
                return None;
            }
        }
        let labels = match labels.remove(LABELS) {
            Some(json) => Labels::from_json(&json)?,
            None => Labels::from_pairs(labels),
        };
        Some(SeriesKey { agent: agent.into(), metric: metric.into(), labels })
    }

    /// The matchers of the series of an agent and of a metric, or of all that oxmon writes.
    pub(super) fn matchers<'a>(
        &'a self,
        agent: Option<&'a str>,
        metric: Option<&'a str>,
    ) -> impl Iterator<Item = String> + 'a {
        let name = metric.map(|metric| format!("{NAME}={}", quoted(&self.name(metric))));
        let own = match metric {
            Some(metric) => format!("{METRIC}={}", quoted(metric)),
            None => format!("{METRIC}!=\"\""),
        };
        let agent = match agent {
            Some(agent) => format!("{}={}", self.agent_label, quoted(agent)),
            None => format!("{}!=\"\"", self.agent_label),
        };
        let labels = self.labels.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
        name.into_iter().chain([own, agent]).chain(labels)
    }

    /// The labels of a series about an alert of an agent. It has no label [`METRIC`].
    pub(super) fn alert(&self, agent: &str, name: &str, more: [(&str, &String); 3]) -> Outside {
        let mut out: Outside = self.labels.clone();
        out.insert(NAME.to_owned(), format!("{}{name}", self.prefix));
        out.extend(more.map(|(name, value)| (name.to_owned(), value.clone())));
        out.insert(self.agent_label.clone(), agent.to_owned());
        // No engine keeps a label that is empty.
        out.retain(|_, value| !value.is_empty());
        out
    }

    /// The alert that these labels are about: rule, agent, metric and labels as JSON. `None` for a
    /// series that is none, or that others wrote.
    pub(super) fn alert_key(&self, labels: &Outside) -> Option<[String; 4]> {
        if self.labels.iter().any(|(name, value)| labels.get(name) != Some(value)) {
            return None;
        }
        let label = |name: &str| labels.get(name).cloned();
        Some([label("rule")?, label(&self.agent_label)?, label("metric")?, label("labels")?])
    }

    /// The selector of the series about alerts of these agents.
    pub(super) fn alert_selector(&self, agents: &[&str], family: &str) -> String {
        let agents: Vec<String> = agents.iter().map(|agent| literal(agent)).collect();
        let name = format!("{}{family}.+", literal(&self.prefix));
        let mut parts = vec![
            format!("{NAME}=~{}", quoted(&name)),
            format!("{METRIC}=\"\""),
            format!("{}=~{}", self.agent_label, quoted(&agents.join("|"))),
        ];
        parts.extend(self.labels.iter().map(|(name, value)| format!("{name}={}", quoted(value))));
        format!("{{{}}}", parts.join(","))
    }

    /// The selector of the series of an agent and of a metric, or of all that oxmon writes.
    pub(super) fn selector(&self, agent: Option<&str>, metric: Option<&str>) -> String {
        format!("{{{}}}", self.matchers(agent, metric).collect::<Vec<_>>().join(","))
    }

    /// A result's labels as they are called here.
    pub(super) fn result(&self, mut labels: Outside) -> Outside {
        labels.remove(METRIC);
        self.labels.keys().for_each(|name| drop(labels.remove(name)));
        if let Some(name) = labels.get_mut(NAME)
            && let Some(bare) = name.strip_prefix(self.prefix.as_str())
        {
            *name = bare.to_owned();
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn naming(prefix: &str) -> Naming {
        let labels = [("site".to_owned(), "berlin".to_owned())].into();
        Naming { agent_label: "agent".to_owned(), prefix: prefix.to_owned(), labels }
    }

    fn key(metric: &str, labels: &[(&str, &str)]) -> SeriesKey {
        let labels = Labels::from_pairs(labels.iter().copied());
        SeriesKey { agent: "web-01".into(), metric: metric.into(), labels }
    }

    #[test]
    fn every_series_comes_back_as_it_was() {
        for prefix in ["", "lab_"] {
            let naming = naming(prefix);
            for key in [
                key("cpu.usage", &[]),
                key("disk.used_percent", &[("mount", "/")]),
                key("node_load1", &[("fooBar", "1")]),
                key("agent.collect_ms", &[("collector", "cpu")]),
                key("x-y", &[("a.b", "1"), ("c", "2")]),
                key("x.y", &[("agent", "other"), ("site", "paris")]),
                key("oxmon_cpu_usage", &[("oxmon_metric", "x"), ("empty", "")]),
                key("smörgås", &[("__name__", "x"), ("ü", "ö")]),
            ] {
                let outside = naming.outside(&key).unwrap();
                for name in outside.keys() {
                    assert!(is_plain(name, false), "{name}");
                }
                assert!(is_plain(&outside[NAME], true), "{}", outside[NAME]);
                assert!(outside[NAME].starts_with(prefix));
                assert_eq!(naming.inside(outside), Some(key));
            }
        }
    }

    #[test]
    fn names_are_those_of_promql_here() {
        let outside = naming("").outside(&key("cpu.usage", &[("core", "1")])).unwrap();
        let shown: Vec<String> = outside.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let wanted =
            ["__name__=oxmon_cpu_usage", "agent=web-01", "core=1", "oxmon_metric=cpu.usage"];
        assert_eq!(shown[..4], wanted);
        assert_eq!(
            naming("p_").selector(Some("a\"b"), Some("cpu.usage")),
            "{__name__=\"p_oxmon_cpu_usage\",oxmon_metric=\"cpu.usage\",agent=\"a\\\"b\",site=\"berlin\"}"
        );
        assert_eq!(
            naming("").selector(None, None),
            "{oxmon_metric!=\"\",agent!=\"\",site=\"berlin\"}"
        );
    }

    #[test]
    fn the_state_of_an_alert_is_found_by_its_agents() {
        let naming = naming("p_");
        let [rule, metric, labels] = ["r1", "disk.used", r#"{"mount":"/"}"#].map(str::to_owned);
        let more = [("rule", &rule), ("metric", &metric), ("labels", &labels)];
        let outside = naming.alert("web.1", "oxmon_alert_value", more);
        assert_eq!(outside[NAME], "p_oxmon_alert_value");
        let key = [rule, "web.1".to_owned(), metric, labels];
        assert_eq!(naming.alert_key(&outside), Some(key));
        assert_eq!(naming.inside(outside), None, "not a sample");
        assert_eq!(
            naming.alert_selector(&["web.1", "a-b"], "oxmon_alert_"),
            "{__name__=~\"p_oxmon_alert_.+\",oxmon_metric=\"\",agent=~\"web\\\\.1|a-b\",\
             site=\"berlin\"}"
        );
    }

    #[test]
    fn what_others_wrote_is_left_out() {
        let outside = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Outside>()
        };
        let naming = naming("p_");
        let metric = ("oxmon_metric", "up");
        assert_eq!(naming.inside(outside(&[metric, ("site", "berlin")])), None);
        assert_eq!(naming.inside(outside(&[metric, ("agent", "a"), ("site", "paris")])), None);
        let others = [("__name__", "p_up"), ("agent", "a"), ("site", "berlin")];
        assert_eq!(naming.inside(outside(&others)), None);
    }

    #[test]
    fn labels_that_no_engine_holds_are_refused() {
        let long = "x".repeat(500);
        let labels: Vec<(String, &str)> = (0..5).map(|n| (format!("a.{n}"), &*long)).collect();
        let labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        assert_eq!(naming("").outside(&key("m", &labels)), Err(Unsendable));
    }
}
