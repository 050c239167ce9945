//! Connections and sockets, from /proc/net/snmp, snmp6, netstat, sockstat and sockstat6
//! (proc_net(5)).

use std::time::Instant;

use crate::agent::collectors::procfile::ProcFile;
use crate::agent::collectors::rate::Counters;
use crate::agent::collectors::{
    CollectError, Collector, Pace, Samples, Setup, Spec, percent, plain, round,
};

/// The table's row of TCP and UDP.
pub(super) const TCP: Spec = Spec {
    name: "tcp",
    pace: Pace::Always,
    on: true,
    metrics: &[
        plain("tcp.established", "connections", "Open connections (/proc/net/snmp: CurrEstab)."),
        plain(
            "tcp.retransmit_percent",
            "%",
            "Segments that had to be sent again, of those sent since the collection before.",
        ),
        plain("tcp.resets", "connections/s", "Connections that were reset (EstabResets)."),
        plain(
            "tcp.listen_overflows",
            "connections/s",
            "Connections refused as a program took none in time (/proc/net/netstat: ListenOverflows).",
        ),
        plain(
            "tcp.listen_drops",
            "connections/s",
            "All connections refused by listening sockets (ListenDrops).",
        ),
        plain(
            "udp.errors",
            "packets/s",
            "Packets received and lost (InErrors of Udp, Udp6InErrors of /proc/net/snmp6: full buffers, bad checksums).",
        ),
    ],
    make: |setup: &Setup<'_>| {
        Box::new(Tcp {
            snmp: ProcFile::whole(setup.proc_of_host("net/snmp")),
            snmp6: ProcFile::whole(setup.proc_of_host("net/snmp6")),
            netstat: ProcFile::whole(setup.proc_of_host("net/netstat")),
            before: Counters::new(),
            before6: Counters::new(),
            listen: Counters::new(),
        })
    },
};

/// The table's row of sockets.
pub(super) const SOCKETS: Spec = Spec {
    name: "sockets",
    pace: Pace::Always,
    on: true,
    metrics: &[
        plain(
            "sockets.used",
            "sockets",
            "Sockets of all kinds (/proc/net/sockstat, and sockstat6 for those of IPv6).",
        ),
        plain("sockets.tcp", "sockets", "TCP sockets in use, those that listen too."),
        plain("sockets.tcp_orphans", "sockets", "TCP sockets that no program holds any more."),
        plain("sockets.tcp_time_wait", "sockets", "TCP connections that wait for their end."),
        plain("sockets.tcp_memory", "bytes", "Memory of TCP's buffers."),
        plain("sockets.udp", "sockets", "UDP sockets in use."),
    ],
    make: |setup: &Setup<'_>| {
        Box::new(Sockets {
            all: ProcFile::whole(setup.proc_of_host("net/sockstat")),
            of_ipv6: ProcFile::whole(setup.proc_of_host("net/sockstat6")),
        })
    },
};

struct Tcp {
    snmp: ProcFile,
    snmp6: ProcFile,
    netstat: ProcFile,
    before: Counters<4>,
    before6: Counters<1>,
    listen: Counters<2>,
}

impl Collector for Tcp {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let at = out.moment.at;
        let errors6 = self.errors6(at)?;
        if let Some(text) = self.snmp.read_optional(at)? {
            let tcp = |name: &str| field(&text, "Tcp:", name);
            out.maybe("tcp.established", tcp("CurrEstab").map(|count| count as f64));
            let counters = [
                tcp("OutSegs"),
                tcp("RetransSegs"),
                tcp("EstabResets"),
                field(&text, "Udp:", "InErrors"),
            ];
            if let [Some(sent), Some(again), Some(resets), Some(errors)] = counters
                && let Some(growth) = self.before.step_one(at, [sent, again, resets, errors])
                && let Some([sent, again, resets, errors]) = growth.only()
            {
                out.plain("tcp.retransmit_percent", percent(again as f64, sent as f64));
                out.plain("tcp.resets", round(growth.per_second(resets), 1_000.0));
                let errors = errors.saturating_add(errors6);
                out.plain("udp.errors", round(growth.per_second(errors), 1_000.0));
            }
        }
        if let Some(text) = self.netstat.read_optional(at)? {
            let counters = ["ListenOverflows", "ListenDrops"].map(|n| field(&text, "TcpExt:", n));
            if let [Some(overflows), Some(drops)] = counters
                && let Some(growth) = self.listen.step_one(at, [overflows, drops])
                && let Some([overflows, drops]) = growth.only()
            {
                out.plain("tcp.listen_overflows", round(growth.per_second(overflows), 1_000.0));
                out.plain("tcp.listen_drops", round(growth.per_second(drops), 1_000.0));
            }
        }
        Ok(())
    }
}

impl Tcp {
    /// Packets of UDP over IPv6 that were lost since the call before; 0 where there is no IPv6.
    fn errors6(&mut self, at: Instant) -> Result<u64, CollectError> {
        let Some(text) = self.snmp6.read_optional(at)? else { return Ok(0) };
        let Some(errors) = value(&text, "Udp6InErrors") else { return Ok(0) };
        let growth = self.before6.step_one(at, [errors]).and_then(|growth| growth.only());
        Ok(growth.map_or(0, |[grown]| grown))
    }
}

/// The number of a line `name number`.
fn value(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_ascii_whitespace);
    lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()))??.parse().ok()
}

/// The number under `name` in the pair of lines that begin with `group`: the first has the names,
/// the second the numbers.
fn field(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split_ascii_whitespace().position(|word| word == name)?;
    values.split_ascii_whitespace().nth(at)?.parse().ok()
}

struct Sockets {
    all: ProcFile,
    of_ipv6: ProcFile,
}

impl Collector for Sockets {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let at = out.moment.at;
        let Some(text) = self.all.read_optional(at)? else { return Ok(()) };
        let text6 = self.of_ipv6.read_optional(at)?.unwrap_or_default();
        let number = |group: &str, name: &str| sockets(&text, group, name).map(|n| n as f64);
        let both = |group: &str, group6: &str| {
            let of_ipv6 = sockets(&text6, group6, "inuse").unwrap_or(0) as f64;
            number(group, "inuse").map(|of_ipv4| of_ipv4 + of_ipv6)
        };
        let page = rustix::param::page_size() as f64;
        for (metric, value) in [
            ("sockets.used", number("sockets:", "used")),
            ("sockets.tcp", both("TCP:", "TCP6:")),
            ("sockets.tcp_orphans", number("TCP:", "orphan")),
            ("sockets.tcp_time_wait", number("TCP:", "tw")),
            ("sockets.tcp_memory", number("TCP:", "mem").map(|pages| pages * page)),
            ("sockets.udp", both("UDP:", "UDP6:")),
        ] {
            out.maybe(metric, value);
        }
        Ok(())
    }
}

/// A number of sockstat: `TCP: inuse 6 orphan 0 …`.
fn sockets(text: &str, group: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(group))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::agent::collectors::tests::{once, tree, tree_twice, twice};

    pub(crate) fn parse_any(text: &str) {
        let _ = field(text, "Tcp:", "CurrEstab");
        let _ = sockets(text, "TCP:", "mem");
        let _ = value(text, "Udp6InErrors");
    }

    #[test]
    fn columns_are_found_by_name() {
        let snmp = |sent: u64, again: u64| {
            format!(
                "Tcp: MaxConn EstabResets CurrEstab OutSegs RetransSegs\nTcp: -1 0 5 {sent} {again}\n\
                 Udp: InErrors\nUdp: 0\n"
            )
        };
        let seen = twice("tcp", "net/snmp", &snmp(100, 1), &snmp(200, 6));
        assert_eq!((seen["tcp.established"], seen["tcp.retransmit_percent"]), (5.0, 5.0));
        assert_eq!(field("Tcp: A B\nTcp: 1\n", "Tcp:", "B"), None);
    }

    #[test]
    fn sockets_are_read_group_by_group() {
        let seen = once(
            "sockets",
            "net/sockstat",
            "sockets: used 31\nTCP: inuse 4 orphan 1 tw 9 alloc 5 mem 2\nUDP: inuse 3 mem 1\n",
        );
        assert_eq!(
            (seen["sockets.used"], seen["sockets.tcp"], seen["sockets.udp"]),
            (31.0, 4.0, 3.0)
        );
        assert_eq!((seen["sockets.tcp_orphans"], seen["sockets.tcp_time_wait"]), (1.0, 9.0));
        assert!(seen["sockets.tcp_memory"] >= 8_192.0);
    }

    #[test]
    fn sockets_and_errors_of_ipv6_count_too() {
        let seen = tree(
            "sockets",
            &[
                ("proc/net/sockstat", "sockets: used 31\nTCP: inuse 4\nUDP: inuse 3 mem 1\n"),
                ("proc/net/sockstat6", "TCP6: inuse 5\nUDP6: inuse 2\n"),
            ],
        );
        assert_eq!((seen["sockets.tcp"], seen["sockets.udp"]), (9.0, 5.0));
        let files = |errors: &str, errors6: &str| {
            let snmp = "Tcp: EstabResets CurrEstab OutSegs RetransSegs\nTcp: 0 5 9 0\n";
            let snmp = format!("{snmp}Udp: InErrors\nUdp: {errors}\n");
            let snmp6 = format!("Udp6InDatagrams   \t9\nUdp6InErrors   \t{errors6}\n");
            [("proc/net/snmp".to_owned(), snmp), ("proc/net/snmp6".to_owned(), snmp6)]
        };
        let seen = tree_twice("tcp", &files("10", "1"), &files("20", "31"));
        assert_eq!(seen["udp.errors"], 4.0, "40 within 10 s");
    }
}
