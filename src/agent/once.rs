//! `--once`: what would be sent, as a table for a person.

use std::fmt::Write as _;
use std::time::Duration;

use crate::agent::collectors::{Collectors, metric};
use crate::agent::config::AgentConfig;
use crate::base::clock::{Clock as _, SystemClock};
use crate::rt::stop::Stop;

/// Rates need two looks at the counters.
const BETWEEN: Duration = Duration::from_secs(1);

/// Collects twice, a second apart, and gives the second collection as a table.
pub(crate) fn run(config: &AgentConfig) -> String {
    let mut collectors = Collectors::new(config, Stop::never());
    collectors.collect(SystemClock.now_ms());
    Stop::never().wait(BETWEEN);
    let points = collectors.collect_everything(SystemClock.now_ms());
    let mut out = format!(
        "agent {:?} would send {} points to {}:\n\n{:<24} {:<28} {:>20} {}\n",
        config.agent_id,
        points.len(),
        config.servers(),
        "metric",
        "labels",
        "value",
        "unit"
    );
    for point in &points {
        let unit = metric(&point.metric).map_or("", |metric| metric.unit);
        let labels = point.labels.to_string();
        // Writing to a string can't fail.
        let _ = writeln!(out, "{:<24} {labels:<28} {:>20} {unit}", point.metric, point.value);
    }
    for (name, note) in collectors.notes() {
        let _ = writeln!(out, "\ncollector `{name}`: {}: {}", note.about, note.text);
    }
    for (name, why) in collectors.failures() {
        let _ = writeln!(out, "\ncollector `{name}` failed: {why}");
    }
    out
}
