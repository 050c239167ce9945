//! What the disks do, from /proc/diskstats (Documentation/admin-guide/iostats.rst).

use std::collections::HashSet;

use crate::agent::collectors::procfile::ProcFile;
use crate::agent::collectors::rate::Counters;
use crate::agent::collectors::samples::Lines;
use crate::agent::collectors::{
    CollectError, Collector, Metric, Pace, Samples, Setup, Spec, round,
};
use crate::agent::filters::Patterns;
use crate::base::limits::DISKS_MAX;

const FILE: &str = "/proc/diskstats";
/// The unit of the file's sectors, whatever the disk's own are.
const SECTOR_BYTES: f64 = 512.0;

const fn of(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, unit, labels: &["disk"], help }
}

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "diskio",
    pace: Pace::Always,
    on: true,
    metrics: &[
        of(
            "diskio.read_bytes",
            "bytes/s",
            "Bytes read, since the collection before (/proc/diskstats).",
        ),
        of("diskio.write_bytes", "bytes/s", "Bytes written."),
        of("diskio.reads", "operations/s", "Reads that were completed."),
        of("diskio.writes", "operations/s", "Writes that were completed."),
        of("diskio.busy_percent", "%", "Time in which at least one operation was under way."),
        of("diskio.latency", "ms", "Mean time of a read or write, with its wait; 0 without any."),
        of("diskio.queue", "operations", "Operations under way, on average."),
    ],
    make: |setup: &Setup<'_>| {
        let filters = &setup.config.filters;
        Box::new(DiskIo {
            file: ProcFile::records(setup.proc("diskstats")),
            wanted: filters.disks(),
            partitions: filters.disk_partitions,
            before: Counters::new(),
        })
    },
};

/// Reads, sectors read, ms of reads, writes, sectors written, ms of writes, ms busy, ms of all
/// operations together.
type Counts = [u64; 8];

struct DiskIo {
    file: ProcFile,
    wanted: Patterns,
    partitions: bool,
    before: Counters<8>,
}

impl Collector for DiskIo {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Some(text) = self.file.read_optional(out.moment.at)? else { return Ok(()) };
        let (now, wrong) = parse(&text);
        self.push(now, out);
        wrong.map_or(Ok(()), Err)
    }
}

impl DiskIo {
    fn push(&mut self, mut now: Vec<(Box<str>, Counts)>, out: &mut Samples) {
        if !self.partitions {
            let names: HashSet<Box<str>> = now.iter().map(|(name, _)| name.clone()).collect();
            now.retain(|(name, _)| !is_partition(name, |other| names.contains(other)));
        }
        // A disk without a single operation is a drive without a medium, or not set up.
        now.retain(|(name, counts)| self.wanted.take(name) && counts.iter().any(|n| *n > 0));
        out.cap(&mut now, DISKS_MAX, "disks", Some("filters.disks_exclude"));
        let Some(growth) = self.before.step(out.moment.at, now) else { return };
        for (disk, grown) in &growth.groups {
            let [reads, read_sectors, read_ms, writes, write_sectors, write_ms, busy, all] = *grown;
            let per_second = |grown: u64| round(growth.per_second(grown), 10.0);
            let bytes = |sectors: u64| round(growth.per_second(sectors) * SECTOR_BYTES, 10.0);
            let operations = reads.saturating_add(writes);
            let latency = match operations {
                0 => 0.0,
                some => read_ms.saturating_add(write_ms) as f64 / some as f64,
            };
            let ms = growth.secs * 1_000.0;
            for (metric, value) in [
                ("diskio.read_bytes", bytes(read_sectors)),
                ("diskio.write_bytes", bytes(write_sectors)),
                ("diskio.reads", per_second(reads)),
                ("diskio.writes", per_second(writes)),
                ("diskio.busy_percent", round((busy as f64 / ms * 100.0).min(100.0), 100.0)),
                ("diskio.latency", round(latency, 100.0)),
                ("diskio.queue", round(all as f64 / ms, 100.0)),
            ] {
                out.labelled(metric, "disk", disk, value);
            }
        }
    }
}

/// Lines of `major minor name` and 11 numbers or more; kernels from 4.18 and 5.5 have more. Before
/// 2.6.25, partitions had four numbers: such lines are left out.
fn parse(text: &str) -> Lines<(Box<str>, Counts)> {
    let (mut found, mut wrong) = (Vec::new(), None);
    for line in text.lines() {
        match disk(line) {
            Ok(disk) => found.extend(disk),
            Err(why) => wrong = wrong.or(Some(CollectError::parse(FILE, why))),
        }
    }
    (found, wrong)
}

/// What a line says of a disk; `None` where it is one of the old partitions.
fn disk(line: &str) -> Result<Option<(Box<str>, Counts)>, String> {
    let mut words = line.split_ascii_whitespace().skip(2);
    let name = words.next().ok_or("a line without a name")?;
    let mut fields = [0_u64; 11];
    let mut count = 0;
    for (field, word) in fields.iter_mut().zip(words) {
        *field = word.parse().map_err(|_| format!("{name}: not a number"))?;
        count += 1;
    }
    match count {
        11 => {
            let [reads, _, read, read_ms, writes, _, write, write_ms, _, busy, all] = fields;
            let counts = [reads, read, read_ms, writes, write, write_ms, busy, all];
            Ok(Some((name.into(), counts)))
        }
        4 => Ok(None),
        other => Err(format!("{name}: {other} numbers")),
    }
}

/// Whether a name is that of a partition of another disk: `sda1` of `sda`, `nvme0n1p2` of
/// `nvme0n1`.
fn is_partition(name: &str, exists: impl Fn(&str) -> bool) -> bool {
    let disk = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if disk.len() == name.len() || disk.is_empty() {
        return false;
    }
    let numbered = disk.strip_suffix('p');
    let numbered = numbered.filter(|disk| disk.ends_with(|c: char| c.is_ascii_digit()));
    exists(numbered.unwrap_or(disk))
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::collectors::tests::{partly, twice};

    pub(crate) fn parse_any(text: &str) {
        let _ = parse(text);
    }

    #[test]
    fn partitions_are_known_by_their_disk() {
        let all = ["sda", "sda1", "nvme0n1", "nvme0n1p2", "mmcblk0", "mmcblk0p1", "dm-0", "md127"];
        let whole: Vec<&str> =
            all.into_iter().filter(|name| !is_partition(name, |n| all.contains(&n))).collect();
        assert_eq!(whole, ["sda", "nvme0n1", "mmcblk0", "dm-0", "md127"]);
    }

    #[test]
    fn rates_latency_and_queue_come_from_their_own_columns() {
        // 10 reads of 8 sectors each in 50 ms, 10 writes of 16 sectors in 150 ms, 100 ms busy.
        let seen = twice(
            "diskio",
            "diskstats",
            "8 0 sda 0 0 0 0 1 0 0 0 0 0 0\n",
            "8 0 sda 10 0 80 50 11 0 160 150 0 100 200\n",
        );
        assert_eq!(seen["diskio.latency@sda"], 10.0);
        assert_eq!(seen["diskio.reads@sda"], seen["diskio.writes@sda"]);
        assert!((seen["diskio.read_bytes@sda"] / seen["diskio.reads@sda"] - 4_096.0).abs() < 5.0);
        assert!((seen["diskio.write_bytes@sda"] / seen["diskio.writes@sda"] - 8_192.0).abs() < 9.0);
        assert!(seen["diskio.busy_percent@sda"] > 0.0 && seen["diskio.queue@sda"] > 0.0);
    }

    #[test]
    fn a_line_cut_short_is_an_error() {
        assert!(parse("8 0 sda 1 2 3\n").1.is_some());
        assert!(parse("8 0\n").1.is_some());
        let (found, wrong) = parse("3 1 hda1 35486 38030 38030 38030\n");
        assert!(found.is_empty() && wrong.is_none());
    }

    #[test]
    fn a_line_that_makes_no_sense_costs_its_own_disk() {
        let before = "8 0 sda 1 0 0 0 1 0 0 0 0 0 0\n8 16 sdb 1 0 0 0 1 0 0 0 0 0 0\n";
        let now = "8 0 sda x 0 0 0 1 0 0 0 0 0 0\n8 16 sdb 11 0 0 0 1 0 0 0 0 0 0\n";
        let seen = partly("diskio", &[&[("proc/diskstats", before)], &[("proc/diskstats", now)]]);
        assert!(seen["diskio.reads@sdb"] > 0.0 && !seen.contains_key("diskio.reads@sda"));
    }
}
