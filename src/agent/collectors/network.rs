//! Traffic of each interface from /proc/net/dev (proc(5)), as rates since the collection before.

use std::collections::BTreeMap;
use std::time::Instant;

use procfs::FromBufRead as _;
use procfs::net::InterfaceDeviceStatus;

use crate::agent::collectors::procfile::ProcFile;
use crate::agent::collectors::rate::growth;
use crate::agent::collectors::{CollectError, Collector, Metric, Moment, Setup, Spec, round};
use crate::agent::filters::Patterns;
use crate::model::point::Point;

const FILE: &str = "/proc/net/dev";

const fn rate(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, unit, label: Some("interface"), help }
}

/// The table's row.
pub const SPEC: Spec = Spec {
    name: "network",
    metrics: &[
        rate(
            "network.bytes_sent",
            "bytes/s",
            "Bytes sent, since the collection before (/proc/net/dev).",
        ),
        rate("network.bytes_recv", "bytes/s", "Bytes received, since the collection before."),
        rate("network.packets_sent", "packets/s", "Packets sent, since the collection before."),
        rate("network.packets_recv", "packets/s", "Packets received, since the collection before."),
    ],
    make: |setup: &Setup<'_>| {
        Box::new(Network {
            file: ProcFile::pieces(setup.proc_of_host("net/dev")),
            wanted: setup.config.filters.interfaces(),
            before: BTreeMap::new(),
            before_at: None,
        })
    },
};

/// Counters since the interface came up: bytes and packets sent, bytes and packets received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counters {
    bytes_sent: u64,
    bytes_recv: u64,
    packets_sent: u64,
    packets_recv: u64,
}

struct Network {
    file: ProcFile,
    wanted: Patterns,
    before: BTreeMap<String, Counters>,
    before_at: Option<Instant>,
}

impl Collector for Network {
    fn collect(&mut self, moment: &Moment, out: &mut Vec<Point>) -> Result<(), CollectError> {
        let mut now = parse(&self.file.read()?)?;
        now.retain(|name, _| self.wanted.take(name));
        let secs = self.before_at.map(|before| moment.at.duration_since(before).as_secs_f64());
        if let Some(secs) = secs.filter(|secs| *secs > 0.0) {
            for (name, counters) in &now {
                if let Some(before) = self.before.get(name) {
                    push_rates(name, *before, *counters, secs, moment.timestamp_ms, out);
                }
            }
        }
        self.before = now;
        self.before_at = Some(moment.at);
        Ok(())
    }
}

fn push_rates(
    interface: &str,
    before: Counters,
    now: Counters,
    secs: f64,
    now_ms: i64,
    out: &mut Vec<Point>,
) {
    let pairs = [
        ("network.bytes_sent", before.bytes_sent, now.bytes_sent),
        ("network.bytes_recv", before.bytes_recv, now.bytes_recv),
        ("network.packets_sent", before.packets_sent, now.packets_sent),
        ("network.packets_recv", before.packets_recv, now.packets_recv),
    ];
    // Counters are reset together, so one that went back makes all of them doubtful.
    if pairs.iter().any(|(_, before, now)| growth(*before, *now).is_none()) {
        return;
    }
    for (metric, before, now) in pairs {
        let value = round((now - before) as f64 / secs, 10.0);
        out.push(Point::labelled(metric, "interface", interface, now_ms, value));
    }
}

fn parse(text: &str) -> Result<BTreeMap<String, Counters>, CollectError> {
    let table = InterfaceDeviceStatus::from_buf_read(text.as_bytes())
        .map_err(|error| CollectError::parse(FILE, error.to_string()))?;
    let counters = table.0.into_iter().map(|(name, status)| {
        let counters = Counters {
            bytes_sent: status.sent_bytes,
            bytes_recv: status.recv_bytes,
            packets_sent: status.sent_packets,
            packets_recv: status.recv_packets,
        };
        (name, counters)
    });
    Ok(counters.collect())
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub fn parse_any(text: &str) {
        let _ = parse(text);
    }

    fn counters(bytes_sent: u64) -> Counters {
        Counters { bytes_sent, bytes_recv: 10, packets_sent: 10, packets_recv: 10 }
    }

    #[test]
    fn odd_names_are_read() {
        let text = std::fs::read_to_string("tests/fixtures/proc/net/dev").unwrap();
        let names: Vec<String> = parse(&text).unwrap().into_keys().collect();
        assert_eq!(names, ["br-3f1", "eth0", "eth0.100", "lo", "wlp2s0"]);
    }

    #[test]
    fn rates_are_per_second_and_a_reset_gives_none() {
        let mut out = Vec::new();
        push_rates("eth0", counters(1_000), counters(2_234), 10.0, 5, &mut out);
        assert_eq!(out.len(), 4);
        assert_eq!((out[0].metric.as_ref(), out[0].value), ("network.bytes_sent", 123.4));
        out.clear();
        push_rates("eth0", counters(u64::MAX), counters(5), 10.0, 5, &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn a_truncated_file_is_said_or_short() {
        assert!(parse("Inter-|\n face |\n eth0: 12 x").is_err());
        assert!(parse("Inter-|\n face |\n").unwrap().is_empty());
    }
}
