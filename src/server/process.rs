//! What the process itself costs, under the names that Prometheus' own clients use.

use prometheus::{Gauge, IntGauge, Opts, Registry};

use crate::base::cli::VERSION;
use crate::base::clock::SECOND_MS;

/// Registers the process' figures. Memory, CPU time, threads and open files are read when they are
/// asked for, and are there on Linux alone.
pub(crate) fn register(registry: &Registry, started_ms: i64) -> Result<(), prometheus::Error> {
    let start = "Unix time at which the process started.";
    let start = Gauge::new("process_start_time_seconds", start)?;
    start.set(started_ms as f64 / SECOND_MS as f64);
    registry.register(Box::new(start))?;
    let build = Opts::new("oxmon_build_info", "Always 1; the labels say what runs.");
    let build = IntGauge::with_opts(build.const_label("version", VERSION))?;
    build.set(1);
    registry.register(Box::new(build))?;
    #[cfg(target_os = "linux")]
    registry.register(Box::new(linux::Figures::new()?))?;
    Ok(())
}

#[cfg(target_os = "linux")]
mod linux {
    use parking_lot::Mutex;

    use prometheus::core::{Collector, Desc};
    use prometheus::proto::MetricFamily;
    use prometheus::{Counter, IntGauge};

    /// What `/proc/self` says.
    pub(super) struct Figures {
        cpu: Counter,
        resident: IntGauge,
        threads: IntGauge,
        open_files: IntGauge,
        /// Held while the figures are set and read, so that two scrapes don't mix theirs.
        turn: Mutex<()>,
    }

    impl Figures {
        pub(super) fn new() -> Result<Self, prometheus::Error> {
            Ok(Self {
                cpu: Counter::new(
                    "process_cpu_seconds_total",
                    "User and system CPU time of the process.",
                )?,
                resident: IntGauge::new("process_resident_memory_bytes", "Resident memory.")?,
                threads: IntGauge::new("process_threads", "Threads.")?,
                open_files: IntGauge::new("process_open_fds", "Open file descriptors.")?,
                turn: Mutex::new(()),
            })
        }

        fn all(&self) -> [&dyn Collector; 4] {
            [&self.cpu, &self.resident, &self.threads, &self.open_files]
        }
    }

    impl Collector for Figures {
        fn desc(&self) -> Vec<&Desc> {
            self.all().into_iter().flat_map(Collector::desc).collect()
        }

        fn collect(&self) -> Vec<MetricFamily> {
            let _turn = self.turn.lock();
            // Without /proc there is nothing to say.
            let stat = std::fs::read_to_string("/proc/self/stat").ok();
            let Some(seen) = stat.as_deref().and_then(parse) else { return Vec::new() };
            let ticks = rustix::param::clock_ticks_per_second() as f64;
            self.cpu.reset();
            self.cpu.inc_by(seen.cpu_ticks as f64 / ticks);
            self.resident.set(seen.pages.saturating_mul(rustix::param::page_size() as i64));
            self.threads.set(seen.threads);
            let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
            self.open_files.set(i64::try_from(open).unwrap_or(i64::MAX));
            self.all().into_iter().flat_map(Collector::collect).collect()
        }
    }

    #[derive(Debug, PartialEq, Eq)]
    struct Seen {
        cpu_ticks: u64,
        threads: i64,
        pages: i64,
    }

    /// Fields 14, 15, 20 and 24 of proc(5)'s stat. The name, which may hold anything, ends with the
    /// last bracket.
    fn parse(stat: &str) -> Option<Seen> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3);
        let ticks = |number: usize| field(number)?.parse::<u64>().ok();
        Some(Seen {
            cpu_ticks: ticks(14)?.saturating_add(ticks(15)?),
            threads: field(20)?.parse().ok()?,
            pages: field(24)?.parse().ok()?,
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_name_with_brackets_and_spaces_confuses_nothing() {
            let stat =
                "7 (a) b (c) S 1 7 7 0 -1 4194304 9 0 0 0 150 50 0 0 20 0 12 0 99 5000 321 1";
            assert_eq!(parse(stat), Some(Seen { cpu_ticks: 200, threads: 12, pages: 321 }));
            assert_eq!(parse("7 (a) S 1"), None);
            assert_eq!(parse(""), None);
        }

        #[test]
        fn this_process_has_memory_threads_and_files() {
            let families = Figures::new().map(|figures| figures.collect()).unwrap_or_default();
            assert_eq!(families.len(), 4);
            for family in families.iter().filter(|family| !family.name().contains("cpu")) {
                let value = family.get_metric()[0].get_gauge().get_value();
                assert!(value > 0.0, "{} is {value}", family.name());
            }
        }
    }
}
