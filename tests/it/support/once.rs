//! What `oxmon-agent --once` prints.

use std::collections::BTreeMap;

/// Values by metric and labels, the latter as they are printed.
pub type Rows = BTreeMap<(String, String), f64>;

/// Reads the table.
pub fn rows(text: &str) -> Rows {
    let mut rows = BTreeMap::new();
    for line in text.lines().skip(3) {
        // The labels may hold spaces; the value comes right after them.
        let Some((metric, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let labels = if rest.contains('=') { rest.rfind('"').map_or(0, |at| at + 1) } else { 0 };
        let (labels, rest) = rest.split_at(labels);
        let value = rest.split_whitespace().next().and_then(|word| word.parse().ok());
        if let Some(value) = value {
            rows.insert((metric.to_owned(), labels.to_owned()), value);
        }
    }
    assert!(rows.len() > 20, "{text}");
    rows
}
