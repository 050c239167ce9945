//! Labels of a series as PromQL sees them, the metric's name among them as `__name__`.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::server::promql::matcher::{is_plain, label_text, quoted};

/// The label that holds the metric's name.
pub(crate) const NAME: &str = "__name__";

/// Labels sorted by name, each name once, none with an empty value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LabelSet(Vec<(Arc<str>, Arc<str>)>);

impl LabelSet {
    /// Labels from pairs in any order. Of a name that comes twice the last value stays; one with
    /// an empty value is left out.
    pub(crate) fn from_pairs(pairs: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
            pairs.reverse();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            pairs.dedup_by(|a, b| a.0 == b.0);
        }
        pairs.retain(|(_, value)| !value.is_empty());
        Self(pairs)
    }

    /// The value of a label; empty when there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.find(name).map_or("", |value| value)
    }

    fn find(&self, name: &str) -> Option<&Arc<str>> {
        let at = self.0.binary_search_by(|(key, _)| (**key).cmp(name)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// Sets a label; an empty value removes it.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        match self.0.binary_search_by(|(key, _)| (**key).cmp(name)) {
            Ok(at) if value.is_empty() => drop(self.0.remove(at)),
            Ok(at) => self.0[at].1 = value.into(),
            Err(_) if value.is_empty() => {}
            Err(at) => self.0.insert(at, (name.into(), value.into())),
        }
    }

    /// Takes a label over from another set, or removes it where that has none.
    pub(crate) fn copy(&mut self, name: &str, from: &Self) {
        match from.find(name) {
            Some(value) => {
                let value = Arc::clone(value);
                match self.0.binary_search_by(|(key, _)| (**key).cmp(name)) {
                    Ok(at) => self.0[at].1 = value,
                    Err(at) => self.0.insert(at, (name.into(), value)),
                }
            }
            None => self.set(name, ""),
        }
    }

    /// Without the metric's name.
    #[must_use]
    pub(crate) fn nameless(mut self) -> Self {
        self.0.retain(|(name, _)| &**name != NAME);
        self
    }

    /// Only labels of `names`.
    pub(crate) fn keep(&mut self, names: &[String]) {
        self.0.retain(|(name, _)| names.iter().any(|other| **other == **name));
    }

    /// No labels of `names`.
    pub(crate) fn remove(&mut self, names: &[String]) {
        self.0.retain(|(name, _)| !names.iter().any(|other| **other == **name));
    }

    /// The labels that [`Self::keep`] (`on`) or [`Self::remove`], without the name, would leave.
    #[must_use]
    pub(crate) fn group(&self, on: bool, names: &[String]) -> Self {
        let listed = |name: &str| names.iter().any(|other| other == name);
        let is_left = |name: &str| if on { listed(name) } else { name != NAME && !listed(name) };
        Self(self.0.iter().filter(|(name, _)| is_left(name)).cloned().collect())
    }

    /// Name and value of each label, sorted by name.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// A hash of the whole set.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|(_, value)| 48 + value.len()).sum()
    }
}

impl fmt::Display for LabelSet {
    /// `cpu{agent="a"}`, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.get(NAME);
        let plain = is_plain(name, true);
        let mut parts = Vec::new();
        if !name.is_empty() && !plain {
            parts.push(quoted(name));
        }
        let others = self.iter().filter(|(label, _)| *label != NAME);
        parts.extend(
            others.map(|(label, value)| format!("{}={}", label_text(label), quoted(value))),
        );
        write!(f, "{}{{{}}}", if plain { name } else { "" }, parts.join(", "))
    }
}

/// Refuses a label set that came before.
#[derive(Debug, Default)]
pub(crate) struct Unique(std::collections::HashSet<u64>);

impl Unique {
    /// Whether the labels are new.
    pub(crate) fn add(&mut self, labels: &LabelSet) -> bool {
        self.0.insert(labels.fingerprint())
    }
}
