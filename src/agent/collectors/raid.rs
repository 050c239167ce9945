//! Arrays of disks: Linux' own from /proc/mdstat (md(4)), and errors that btrfs counted, from
//! /sys/fs/btrfs (btrfs(5); kernels from 5.14).

use std::path::PathBuf;

use crate::agent::collectors::procfile::{ProcFile, names, value};
use crate::agent::collectors::{CollectError, Collector, Metric, Pace, Samples, Setup, Spec};
use crate::base::limits::ARRAYS_MAX;
use crate::model::series::Labels;

const fn of(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, unit, labels: &["array"], help }
}

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "raid",
    pace: Pace::Minute,
    on: true,
    metrics: &[
        of("raid.disks", "disks", "Disks that the array wants (/proc/mdstat)."),
        of("raid.disks_missing", "disks", "Disks that it wants and does not have."),
        of("raid.disks_failed", "disks", "Disks that were marked as failed."),
        of("raid.active", "0 or 1", "Whether the array runs."),
        of(
            "raid.sync_percent",
            "%",
            "How far a rebuild, a check or a reshape is; none without one.",
        ),
        Metric {
            name: "raid.btrfs_errors",
            unit: "errors",
            labels: &["filesystem", "device"],
            help: "Errors of a device that btrfs has counted since they were last reset (error_stats).",
        },
    ],
    make: |setup: &Setup<'_>| {
        Box::new(Raid {
            mdstat: ProcFile::pieces(setup.proc("mdstat")),
            btrfs: setup.sys("fs/btrfs"),
        })
    },
};

struct Raid {
    mdstat: ProcFile,
    btrfs: PathBuf,
}

impl Collector for Raid {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        if let Some(text) = self.mdstat.read_optional(out.moment.at)? {
            let mut arrays = parse(&text);
            out.cap(&mut arrays, ARRAYS_MAX, "arrays", None);
            for array in arrays {
                let mut push = |metric, value| out.labelled(metric, "array", array.name, value);
                if let Some((wanted, there)) = array.disks {
                    push("raid.disks", wanted);
                    push("raid.disks_missing", (wanted - there).max(0.0));
                }
                push("raid.disks_failed", array.failed);
                push("raid.active", f64::from(u8::from(array.active)));
                if let Some(percent) = array.sync {
                    push("raid.sync_percent", percent);
                }
            }
        }
        let mut devices = self.btrfs_devices();
        out.cap(&mut devices, ARRAYS_MAX, "devices of btrfs", None);
        for (filesystem, device) in devices {
            let folder = self.btrfs.join(&filesystem).join("devinfo").join(&device);
            let Some(text) = value(&folder.join("error_stats")) else { continue };
            let numbers = text.lines().filter_map(|line| line.split_once(' '));
            let numbers = numbers.filter_map(|(_, number)| number.trim().parse::<f64>().ok());
            let pairs = [("filesystem", filesystem.as_str()), ("device", device.as_str())];
            out.with("raid.btrfs_errors", &Labels::from_pairs(pairs), numbers.sum());
        }
        Ok(())
    }
}

/// Names that are looked at in one folder of btrfs.
const NAMES_MAX: usize = 1_000;

impl Raid {
    /// Pairs of a file system and a device of it.
    fn btrfs_devices(&self) -> Vec<(String, String)> {
        let devices = |filesystem: String| {
            let folder = self.btrfs.join(&filesystem).join("devinfo");
            names(&folder, NAMES_MAX).into_iter().map(move |device| (filesystem.clone(), device))
        };
        names(&self.btrfs, NAMES_MAX).into_iter().flat_map(devices).take(NAMES_MAX).collect()
    }
}

#[derive(Debug, PartialEq)]
struct Array<'a> {
    name: &'a str,
    active: bool,
    failed: f64,
    /// Disks that it wants, and that are there: `[2/1]`. None for a RAID 0 or a linear array.
    disks: Option<(f64, f64)>,
    sync: Option<f64>,
}

/// The arrays: a line `md0 : active raid1 sdb1[1](F) sda1[0]`, and those below it until an empty
/// one.
fn parse(text: &str) -> Vec<Array<'_>> {
    let mut arrays: Vec<Array<'_>> = Vec::new();
    for line in text.lines() {
        if let Some((name, rest)) = line.split_once(" : ")
            && !line.starts_with([' ', '\t'])
            && !matches!(name.trim(), "Personalities" | "unused devices")
        {
            arrays.push(Array {
                name: name.trim(),
                active: rest.split(' ').next() == Some("active"),
                failed: rest.matches("(F)").count() as f64,
                disks: None,
                sync: None,
            });
            continue;
        }
        let Some(array) = arrays.last_mut() else { continue };
        let brackets = line.split('[').skip(1).filter_map(|part| part.split(']').next());
        let pair = brackets.filter_map(|part| part.split_once('/'));
        let mut pair = pair.filter_map(|(wanted, there)| {
            Some((wanted.parse::<u32>().ok()?.into(), there.parse::<u32>().ok()?.into()))
        });
        array.disks = array.disks.or_else(|| pair.next());
        // `recovery =  8.5% (8/95)`, `resync=DELAYED`.
        let percent = line.split_once('%').and_then(|(before, _)| before.rsplit('=').next());
        let percent = percent.and_then(|percent| percent.trim().parse().ok());
        array.sync = array.sync.or(percent.filter(|p: &f64| (0.0..=100.0).contains(p)));
    }
    arrays
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::agent::collectors::tests::tree;

    pub(crate) fn parse_any(text: &str) {
        let _ = parse(text);
    }

    const MDSTAT: &str = "\
Personalities : [raid1] [raid6] [raid5] [raid4] [raid0]
md1 : active raid1 sdb2[1](F) sda2[0]
      10476544 blocks super 1.2 [2/1] [U_]
      [=>...................]  recovery =  8.5% (890880/10476544) finish=1.7min speed=89088K/sec

md0 : active raid0 sdd1[1] sdc1[0]
      20951040 blocks super 1.2 512k chunks

md2 : inactive sde1[0](S)
      10476544 blocks super 1.2

unused devices: <none>
";

    #[test]
    fn a_missing_disk_and_a_rebuild_show() {
        let degraded = Array {
            name: "md1",
            active: true,
            failed: 1.0,
            disks: Some((2.0, 1.0)),
            sync: Some(8.5),
        };
        let arrays = parse(MDSTAT);
        assert_eq!(arrays[0], degraded);
        assert_eq!((arrays[1].disks, arrays[1].active), (None, true));
        assert_eq!((arrays[2].name, arrays[2].active, arrays.len()), ("md2", false, 3));
    }

    #[test]
    fn errors_of_btrfs_are_summed_by_device() {
        let seen = tree(
            "raid",
            &[
                ("proc/mdstat", MDSTAT),
                ("sys/fs/btrfs/features/x", "1"),
                (
                    "sys/fs/btrfs/1234-abcd/devinfo/1/error_stats",
                    "write_errs 1\nread_errs 2\nflush_errs 0\ncorruption_errs 0\ngeneration_errs 0\n",
                ),
            ],
        );
        assert_eq!(seen["raid.btrfs_errors@1@1234-abcd"], 3.0);
        assert_eq!(seen["raid.disks_missing@md1"], 1.0);
        assert_eq!(seen["raid.active@md2"], 0.0);
    }
}
