//! Made-up histories, each of which fires the kind of rule that it is named for. Points carry the
//! times of the last minutes, so that a duration or a trend is there at once.

use crate::base::clock::{MINUTE_MS, SECOND_MS};
use crate::model::point::{Batch, Point};

/// One history to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Hosts on which nothing happens.
    Baseline,
    /// A host whose CPU is busy for ten minutes.
    Threshold,
    /// A host whose memory use jumps.
    Rate,
    /// A host whose disk fills steadily.
    Trend,
    /// A certificate that ends in five days.
    Cert,
}

/// The agents of the scenarios that fire.
pub(crate) const AGENT_THRESHOLD: &str = "mock-threshold";
/// See [`AGENT_THRESHOLD`].
pub(crate) const AGENT_RATE: &str = "mock-rate";
/// See [`AGENT_THRESHOLD`].
pub(crate) const AGENT_TREND: &str = "mock-trend";
/// The agent by whose name the server stores its own certificate checks.
pub(crate) const AGENT_CERT: &str = "cert-checker";

impl Scenario {
    /// Every scenario, in the order in which `all` reports them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Baseline, Self::Threshold, Self::Rate, Self::Trend, Self::Cert];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Threshold => "threshold",
            Self::Rate => "rate",
            Self::Trend => "trend",
            Self::Cert => "cert",
        }
    }

    /// The scenarios that a name stands for: one, or `all`.
    pub(crate) fn named(name: &str) -> Option<Vec<Self>> {
        if name == "all" {
            return Some(Self::ALL.to_vec());
        }
        Self::ALL.into_iter().find(|scenario| scenario.name() == name).map(|one| vec![one])
    }

    /// The batches to report, oldest first for each agent, up to `now_ms`.
    pub(crate) fn batches(self, agents: usize, now_ms: i64) -> Vec<Batch> {
        match self {
            Self::Baseline => (1..=agents).flat_map(|number| baseline(number, now_ms)).collect(),
            Self::Threshold => {
                history(AGENT_THRESHOLD, now_ms, 10 * MINUTE_MS, 10 * SECOND_MS, |at, share| {
                    let mut points = host(at, 95.0 + share, 41.0, 52.0);
                    points.push(Point::labelled("cpu.core_usage", "core", "0", at, 97.0));
                    points
                })
            }
            Self::Rate => {
                history(AGENT_RATE, now_ms, 10 * MINUTE_MS, 10 * SECOND_MS, |at, share| {
                    // Level for eight minutes, then from 40 to 70 percent within two.
                    let used = 40.0 + 30.0 * ((share - 0.8) / 0.2).clamp(0.0, 1.0);
                    host(at, 20.0, used, 52.0)
                })
            }
            Self::Trend => history(AGENT_TREND, now_ms, 60 * MINUTE_MS, MINUTE_MS, |at, share| {
                host(at, 20.0, 41.0, 80.0 + 10.0 * share)
            }),
            Self::Cert => vec![Batch {
                agent_id: AGENT_CERT.into(),
                timestamp_ms: now_ms,
                points: vec![
                    certificate("certificate.days_until_expiry", now_ms, 5.0),
                    certificate("certificate.is_valid", now_ms, 1.0),
                ],
            }],
        }
    }
}

fn certificate(metric: &str, at: i64, value: f64) -> Point {
    Point::labelled(metric, "domain", "mock.example.com", at, value)
}

/// A host with a load that swings a little, each with a phase of its own.
fn baseline(number: usize, now_ms: i64) -> Vec<Batch> {
    let agent = format!("mock-normal-{number:02}");
    history(&agent, now_ms, 10 * MINUTE_MS, 10 * SECOND_MS, move |at, share| {
        let swing = (share * 12.0 + number as f64).sin();
        host(at, 20.0 + 8.0 * swing, 45.0 + 2.0 * swing, 55.0)
    })
}

/// `points(time, share)` for every step of the last `length_ms`; `share` goes from 0 to 1.
fn history(
    agent: &str,
    now_ms: i64,
    length_ms: i64,
    step_ms: i64,
    points: impl Fn(i64, f64) -> Vec<Point>,
) -> Vec<Batch> {
    let steps = length_ms / step_ms;
    (0..=steps)
        .map(|step| {
            let at = now_ms - length_ms + step * step_ms;
            let share = step as f64 / steps as f64;
            Batch { agent_id: agent.into(), timestamp_ms: at, points: points(at, share) }
        })
        .collect()
}

/// What every made-up host reports.
fn host(at: i64, cpu: f64, memory_percent: f64, disk_percent: f64) -> Vec<Point> {
    const MEMORY: f64 = 8.0 * 1024.0 * 1024.0 * 1024.0;
    const DISK: f64 = 100.0 * 1024.0 * 1024.0 * 1024.0;
    let round = |value: f64| (value * 100.0).round() / 100.0;
    let disk = |metric, value| Point::labelled(metric, "mount", "/", at, value);
    let network = |metric, value| Point::labelled(metric, "interface", "eth0", at, value);
    vec![
        Point::plain("cpu.usage", at, round(cpu)),
        Point::plain("memory.total", at, MEMORY),
        Point::plain("memory.used", at, (MEMORY * memory_percent / 100.0).floor()),
        Point::plain("memory.available", at, (MEMORY * (1.0 - memory_percent / 100.0)).floor()),
        Point::plain("memory.used_percent", at, round(memory_percent)),
        disk("disk.total", DISK),
        disk("disk.used", (DISK * disk_percent / 100.0).floor()),
        disk("disk.available", (DISK * (1.0 - disk_percent / 100.0)).floor()),
        disk("disk.used_percent", round(disk_percent)),
        network("network.bytes_sent", 1_200.0),
        network("network.bytes_recv", 3_400.0),
        Point::plain("load.load_1", at, round(cpu / 50.0)),
        Point::plain("load.uptime", at, (at / 1_000) as f64 % 1e7),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_batches_in_order_up_to_now() {
        let now = 1_770_625_800_000;
        for scenario in Scenario::ALL {
            let batches = scenario.batches(2, now);
            assert!(!batches.is_empty(), "{}", scenario.name());
            assert_eq!(batches.last().map(|batch| batch.timestamp_ms), Some(now));
            for pair in batches.windows(2) {
                let same = pair[0].agent_id == pair[1].agent_id;
                assert!(!same || pair[0].timestamp_ms < pair[1].timestamp_ms);
            }
        }
        assert_eq!(Scenario::named("all").map(|all| all.len()), Some(5));
        assert_eq!(Scenario::named("some"), None);
    }
}
