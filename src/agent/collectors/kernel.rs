//! What the kernel has in hand: processes, context switches, open files, tracked connections.

use std::path::PathBuf;

use crate::agent::collectors::procfile::{self, ProcFile};
use crate::agent::collectors::rate::Counters;
use crate::agent::collectors::{CollectError, Collector, Pace, Samples, Setup, Spec, plain, round};

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "kernel",
    pace: Pace::Always,
    on: true,
    metrics: &[
        plain(
            "kernel.processes_running",
            "threads",
            "Threads that run or wait for a CPU (/proc/stat).",
        ),
        plain("kernel.processes_blocked", "threads", "Threads that wait for I/O."),
        plain("kernel.forks", "processes/s", "Processes and threads that were started."),
        plain("kernel.context_switches", "switches/s", "Switches from one thread to another."),
        plain("kernel.files_used", "files", "Open files of all programs (/proc/sys/fs/file-nr)."),
        plain("kernel.files_max", "files", "Most files that may be open, once a minute."),
        plain(
            "kernel.conntrack_used",
            "connections",
            "Connections that the firewall tracks; none without it (/proc/sys/net/netfilter).",
        ),
        plain(
            "kernel.conntrack_max",
            "connections",
            "Most connections that it can track, once a minute.",
        ),
        plain(
            "kernel.entropy",
            "bits",
            "Randomness in the pool, once a minute; kernels before 5.18, since later ones never run out.",
        ),
    ],
    make: |setup: &Setup<'_>| {
        let sys = |file: &str| setup.proc("sys").join(file);
        Box::new(Kernel {
            stat: ProcFile::whole(setup.proc("stat")),
            files: ProcFile::whole(sys("fs/file-nr")),
            conntrack: ProcFile::whole(sys("net/netfilter/nf_conntrack_count")),
            conntrack_max: sys("net/netfilter/nf_conntrack_max"),
            random: sys("kernel/random"),
            before: Counters::new(),
        })
    },
};

struct Kernel {
    stat: ProcFile,
    files: ProcFile,
    conntrack: ProcFile,
    conntrack_max: PathBuf,
    random: PathBuf,
    before: Counters<2>,
}

impl Collector for Kernel {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let stat = parse(&self.stat.read()?);
        out.maybe("kernel.processes_running", stat.running);
        out.maybe("kernel.processes_blocked", stat.blocked);
        if let Some(counters) = stat.counters
            && let Some(growth) = self.before.step_one(out.moment.at, counters)
            && let Some([forks, switches]) = growth.only()
        {
            out.plain("kernel.forks", round(growth.per_second(forks), 10.0));
            out.plain("kernel.context_switches", round(growth.per_second(switches), 10.0));
        }
        if let Some(text) = self.files.read_optional(out.moment.at)? {
            // Allocated, free (always 0 since 2.6), most.
            let mut words = text.split_ascii_whitespace().map(|word| word.parse::<f64>().ok());
            let (used, free, most) = (words.next(), words.next(), words.next());
            let used = used.flatten().zip(free.flatten()).map(|(used, free)| used - free);
            out.maybe("kernel.files_used", used);
            out.maybe("kernel.files_max", most.flatten().filter(|_| out.moment.slow));
        }
        if let Some(text) = self.conntrack.read_optional(out.moment.at)? {
            out.maybe("kernel.conntrack_used", text.trim().parse().ok());
            if out.moment.slow {
                out.maybe("kernel.conntrack_max", procfile::number(&self.conntrack_max));
            }
        }
        if out.moment.slow {
            // The pool of kernels from 5.18 on has 256 bits and is always full.
            let pool = procfile::number(&self.random.join("poolsize")).filter(|bits| *bits > 256.0);
            let bits = pool.and_then(|_| procfile::number(&self.random.join("entropy_avail")));
            out.maybe("kernel.entropy", bits);
        }
        Ok(())
    }
}

/// The lines of /proc/stat after those of the CPUs.
#[derive(Debug, Default, PartialEq)]
struct Stat {
    running: Option<f64>,
    blocked: Option<f64>,
    /// Forks and context switches since the start.
    counters: Option<[u64; 2]>,
}

fn parse(text: &str) -> Stat {
    let field = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(key, _)| *key == name).and_then(|(_, value)| value.trim().parse::<u64>().ok())
    };
    let number = |name: &str| field(name).map(|value| value as f64);
    Stat {
        running: number("procs_running"),
        blocked: number("procs_blocked"),
        counters: field("processes").zip(field("ctxt")).map(|(forks, switches)| [forks, switches]),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::agent::collectors::tests::{tree, twice};

    pub(crate) fn parse_any(text: &str) {
        let _ = parse(text);
    }

    #[test]
    fn the_lines_after_the_cpus_are_read() {
        let text = "cpu 1 2 3 4\nintr 5\nctxt 10\nbtime 1\nprocesses 3\nprocs_running 2\nprocs_blocked 1\n";
        let stat = parse(text);
        assert_eq!((stat.running, stat.blocked), (Some(2.0), Some(1.0)));
        assert_eq!(stat.counters, Some([3, 10]));
        assert_eq!(parse("cpu 1"), Stat::default());
        let seen = twice("kernel", "stat", text, text);
        assert_eq!((seen["kernel.forks"], seen["kernel.context_switches"]), (0.0, 0.0));
    }

    #[test]
    fn files_tracked_connections_and_randomness_have_their_limits() {
        let files = |pool: &'static str| {
            [
                ("proc/stat", "procs_running 2\n"),
                ("proc/sys/fs/file-nr", "1216\t16\t184088\n"),
                ("proc/sys/net/netfilter/nf_conntrack_count", "31\n"),
                ("proc/sys/net/netfilter/nf_conntrack_max", "262144\n"),
                ("proc/sys/kernel/random/poolsize", pool),
                ("proc/sys/kernel/random/entropy_avail", "256\n"),
            ]
        };
        let seen = tree("kernel", &files("4096\n"));
        assert_eq!((seen["kernel.files_used"], seen["kernel.files_max"]), (1_200.0, 184_088.0));
        let tracked = (seen["kernel.conntrack_used"], seen["kernel.conntrack_max"]);
        assert_eq!(tracked, (31.0, 262_144.0));
        assert_eq!(seen["kernel.entropy"], 256.0);
        let new = tree("kernel", &files("256\n"));
        assert!(!new.contains_key("kernel.entropy"), "a pool that is always full: {new:?}");
    }
}
