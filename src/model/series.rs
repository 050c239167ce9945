//! A series: one metric of one agent with one set of labels.

use std::fmt;
use std::sync::Arc;

/// Labels sorted by name, each name once: the same set always compares and prints the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[(Box<str>, Box<str>)]>);

impl Labels {
    /// No labels.
    pub fn none() -> Self {
        Self::default()
    }

    /// One label.
    pub fn one(name: &str, value: &str) -> Self {
        Self(Arc::new([(name.into(), value.into())]))
    }

    /// Labels from pairs in any order; of a name that comes twice the last value stays.
    pub fn from_pairs<N: Into<Box<str>>, V: Into<Box<str>>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let sorted: std::collections::BTreeMap<Box<str>, Box<str>> =
            pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self(sorted.into_iter().collect())
    }

    /// The value of the label `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(key, _)| key.as_ref().cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// Name and value of each label, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// Whether somebody else holds the same set: clones share it.
    #[cfg(feature = "server")]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A JSON object with the names in order, as it stands in the databases: `{"mount":"/"}`.
    #[cfg(feature = "server")]
    pub fn to_json(&self) -> String {
        let map: std::collections::BTreeMap<&str, &str> = self.iter().collect();
        serde_json::to_string(&map).unwrap_or_else(|_| "{}".to_owned())
    }

    /// Labels from a JSON object of strings; `None` for anything else.
    #[cfg(feature = "server")]
    pub fn from_json(text: &str) -> Option<Self> {
        let map: std::collections::BTreeMap<String, String> = serde_json::from_str(text).ok()?;
        Some(Self::from_pairs(map))
    }

    /// The labels as an owned map, as the API shows them.
    pub fn to_map(&self) -> std::collections::BTreeMap<String, String> {
        self.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

#[cfg(feature = "server")]
impl serde::Serialize for Labels {
    /// A map with the names in order.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(feature = "server")]
impl<'de> serde::Deserialize<'de> for Labels {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = std::collections::BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(Self::from_pairs(map))
    }
}

impl fmt::Display for Labels {
    /// `mount="/",disk="sda"`, for log lines and messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.iter().enumerate() {
            let gap = if index > 0 { "," } else { "" };
            write!(f, "{gap}{name}={value:?}")?;
        }
        Ok(())
    }
}

/// What makes a series the same series: agent, metric and labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    /// The agent's id.
    pub agent: Arc<str>,
    /// The metric's name, such as `cpu.usage`.
    pub metric: Arc<str>,
    /// The labels.
    pub labels: Labels,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_a_set_in_one_order() {
        let a = Labels::from_pairs([("b", "2"), ("a", "1"), ("b", "3")]);
        assert_eq!(a.to_string(), "a=\"1\",b=\"3\"");
        assert_eq!(a.get("b"), Some("3"));
        assert_eq!(a.get("c"), None);
    }

    #[cfg(feature = "server")]
    #[test]
    fn labels_survive_json() {
        let labels = Labels::from_pairs([("mount", "/a\"b"), ("interface", "eth0")]);
        assert_eq!(Labels::from_json(&labels.to_json()), Some(labels));
        assert_eq!(Labels::none().to_json(), "{}");
        assert_eq!(Labels::from_json("[]"), None);
    }
}
