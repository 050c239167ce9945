//! Traffic, errors and links of each interface, from /proc/net/dev (proc(5)) and /sys/class/net.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::agent::collectors::procfile::{self, ProcFile};
use crate::agent::collectors::rate::Counters;
use crate::agent::collectors::samples::Lines;
use crate::agent::collectors::{
    CollectError, Collector, Metric, Pace, Samples, Setup, Spec, round,
};
use crate::agent::filters::Patterns;
use crate::base::limits::INTERFACES_MAX;

const FILE: &str = "/proc/net/dev";

const fn of(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, unit, labels: &["interface"], help }
}

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "network",
    pace: Pace::Always,
    on: true,
    metrics: &[
        of(
            "network.bytes_sent",
            "bytes/s",
            "Bytes sent, since the collection before (/proc/net/dev).",
        ),
        of("network.bytes_recv", "bytes/s", "Bytes received, since the collection before."),
        of("network.packets_sent", "packets/s", "Packets sent, since the collection before."),
        of("network.packets_recv", "packets/s", "Packets received, since the collection before."),
        of("network.errors_sent", "errors/s", "Packets that could not be sent."),
        of("network.errors_recv", "errors/s", "Packets received with errors."),
        of("network.drops_sent", "packets/s", "Packets dropped before they were sent."),
        of("network.drops_recv", "packets/s", "Packets dropped after they were received."),
        of(
            "network.up",
            "0 or 1",
            "Whether the link is up (/sys/class/net/…/operstate: up or unknown).",
        ),
        of(
            "network.speed",
            "Mbit/s",
            "Speed of the link, once a minute; none where the driver knows none.",
        ),
    ],
    make: |setup: &Setup<'_>| {
        Box::new(Network {
            file: ProcFile::records(setup.proc_of_host("net/dev")),
            sys: setup.sys("class/net"),
            links: HashMap::new(),
            wanted: setup.config.filters.interfaces(),
            before: Counters::new(),
        })
    },
};

/// Since the interface came up: bytes, packets, errors and drops received, then the same sent.
type Counts = [u64; 8];

struct Network {
    file: ProcFile,
    sys: PathBuf,
    /// The `operstate` of each interface.
    links: HashMap<Box<str>, ProcFile>,
    wanted: Patterns,
    before: Counters<8>,
}

impl Collector for Network {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let (mut now, wrong) = parse(&self.file.read()?);
        now.retain(|(name, _)| self.wanted.take(name));
        out.cap(&mut now, INTERFACES_MAX, "interfaces", Some("filters.interfaces_exclude"));
        let names: Vec<Box<str>> = now.iter().map(|(name, _)| name.clone()).collect();
        if let Some(growth) = self.before.step(out.moment.at, now) {
            for (interface, grown) in &growth.groups {
                let [bytes_in, packets_in, errors_in, drops_in, ..] = *grown;
                let [.., bytes_out, packets_out, errors_out, drops_out] = *grown;
                for (metric, grown, parts) in [
                    ("network.bytes_sent", bytes_out, 10.0),
                    ("network.bytes_recv", bytes_in, 10.0),
                    ("network.packets_sent", packets_out, 10.0),
                    ("network.packets_recv", packets_in, 10.0),
                    ("network.errors_sent", errors_out, 1_000.0),
                    ("network.errors_recv", errors_in, 1_000.0),
                    ("network.drops_sent", drops_out, 1_000.0),
                    ("network.drops_recv", drops_in, 1_000.0),
                ] {
                    let value = round(growth.per_second(grown), parts);
                    out.labelled(metric, "interface", interface, value);
                }
            }
        }
        self.links(&names, out);
        wrong.map_or(Ok(()), Err)
    }
}

impl Network {
    /// States of the links, and once a minute their speeds.
    fn links(&mut self, names: &[Box<str>], out: &mut Samples) {
        self.links.retain(|name, _| names.contains(name));
        for name in names {
            let folder = self.sys.join(&**name);
            let file = self.links.entry(name.clone());
            let file = file.or_insert_with(|| ProcFile::whole(folder.join("operstate")));
            // An interface that has just gone is not an error.
            let Ok(Some(state)) = file.read_optional(out.moment.at) else { continue };
            let up = matches!(state.trim(), "up" | "unknown");
            out.labelled("network.up", "interface", name, f64::from(u8::from(up)));
            if !out.moment.slow {
                continue;
            }
            // -1 where there is no link, EINVAL where the driver has no speed.
            let speed = procfile::number(&folder.join("speed")).filter(|speed| *speed > 0.0);
            if let Some(speed) = speed.filter(|speed| *speed < 4_294_967_295.0) {
                out.labelled("network.speed", "interface", name, speed);
            }
        }
    }
}

/// The lines after the two heads: `name:` and 16 numbers.
fn parse(text: &str) -> Lines<(Box<str>, Counts)> {
    let (mut found, mut wrong) = (Vec::new(), None);
    for line in text.lines().skip(2) {
        match interface(line) {
            Ok(interface) => found.push(interface),
            Err(why) => wrong = wrong.or(Some(CollectError::parse(FILE, why))),
        }
    }
    (found, wrong)
}

fn interface(line: &str) -> Result<(Box<str>, Counts), String> {
    // A name may hold a colon (an alias), a number never does.
    let (name, numbers) =
        line.rsplit_once(':').ok_or_else(|| format!("no colon in `{}`", cut(line)))?;
    let mut fields = [0_u64; 16];
    let mut words = numbers.split_ascii_whitespace();
    for field in &mut fields {
        let word = words.next().unwrap_or_default();
        *field = word.parse().map_err(|_| format!("`{}` is not a number", cut(word)))?;
    }
    let [b_in, p_in, e_in, d_in, .., b_out, p_out, e_out, d_out, _, _, _, _] = fields;
    Ok((name.trim().into(), [b_in, p_in, e_in, d_in, b_out, p_out, e_out, d_out]))
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::collectors::tests::{partly, twice};

    pub(crate) fn parse_any(text: &str) {
        let _ = parse(text);
    }

    const HEADS: &str = "Inter-|   Receive\n face |bytes\n";

    #[test]
    fn every_counter_is_read_from_its_own_column() {
        let text = format!("{HEADS}  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
        assert_eq!(parse(&text).0, [("eth0".into(), [1, 2, 3, 4, 9, 10, 11, 12])]);
    }

    #[test]
    fn a_counter_that_went_back_gives_no_rates_of_that_interface() {
        let before = format!(
            "{HEADS}e0: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\ne1: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
        );
        let now = format!(
            "{HEADS}e0: 8 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\ne1: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
        );
        let seen = twice("network", "net/dev", &before, &now);
        assert!(!seen.contains_key("network.bytes_recv@e0"));
        assert_eq!(seen["network.errors_recv@e1"], 0.0);
    }

    #[test]
    fn a_line_cut_short_is_an_error() {
        assert!(parse(&format!("{HEADS}eth0: 1 2 3")).1.is_some());
        assert!(parse(&format!("{HEADS}eth0")).1.is_some());
        assert!(parse("").0.is_empty());
    }

    #[test]
    fn a_line_that_makes_no_sense_costs_its_own_interface() {
        let zeros = "0 ".repeat(16);
        let before = format!("{HEADS}e0: {zeros}\ne1: {zeros}\n");
        let now = format!("{HEADS}e0: -1 {zeros}\ne1: {zeros}\n");
        let seen = partly("network", &[&[("proc/net/dev", &before)], &[("proc/net/dev", &now)]]);
        assert!(seen.contains_key("network.bytes_recv@e1"));
        assert!(!seen.contains_key("network.bytes_recv@e0"));
    }
}
