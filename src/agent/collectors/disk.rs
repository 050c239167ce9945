//! Sizes of the mounted file systems, as `df` counts them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::agent::collectors::mounts::{Mount, Mounts};
use crate::agent::collectors::procfile::ProcFile;
use crate::agent::collectors::statfs::{Answer, Asker, Question, push_sizes, statvfs};
use crate::agent::collectors::{CollectError, Collector, Metric, Pace, Samples, Setup, Spec};
use crate::base::limits::MOUNTS_MAX;

const fn of(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, unit, labels: &["mount"], help }
}

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "disk",
    pace: Pace::Always,
    on: true,
    metrics: &[
        of("disk.total", "bytes", "Size of the file system (statvfs: f_blocks)."),
        of("disk.used", "bytes", "What is not free (f_blocks less f_bfree)."),
        of("disk.available", "bytes", "What is free for everyone (f_bavail)."),
        of(
            "disk.used_percent",
            "%",
            "disk.used of disk.used and disk.available together, as df shows it.",
        ),
        of(
            "disk.inodes_total",
            "inodes",
            "Inodes, once a minute; none where the file system makes them as needed.",
        ),
        of("disk.inodes_used", "inodes", "Inodes in use, once a minute."),
        of(
            "disk.inodes_used_percent",
            "%",
            "disk.inodes_used of disk.inodes_total, once a minute.",
        ),
        of(
            "disk.read_only",
            "0 or 1",
            "Whether the file system can't be written, as after an error of the disk; seen within a minute.",
        ),
        of(
            "disk.unreachable",
            "0 or 1",
            "Whether a file system that is not on a local disk fails to answer; it is then asked once a minute.",
        ),
    ],
    make: |setup: &Setup<'_>| {
        let file = ProcFile::pieces(setup.proc_of_host("mountinfo"));
        Box::new(Disk {
            mounts: Mounts::new(file, setup.config.filters.mounts()),
            root: setup.config.root.clone(),
            asker: Asker::new(statvfs),
            unchecked: true,
        })
    },
};

struct Disk {
    mounts: Mounts,
    root: PathBuf,
    asker: Asker,
    /// Whether some mount's device has not been compared since the mounts last changed.
    unchecked: bool,
}

impl Collector for Disk {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let (mounts, changed) = self.mounts.current(out.moment.at, out.moment.slow)?;
        let mut mounts = mounts.to_vec();
        out.cap(&mut mounts, MOUNTS_MAX, "file systems", Some("filters.mounts_exclude"));
        // Mounts that were measured once are what is seen at their points until the list changes.
        let check = self.unchecked || changed || out.moment.slow;
        self.unchecked = false;
        let questions: Vec<Question> = mounts
            .iter()
            .map(|mount| Question {
                path: below(&self.root, &mount.point),
                doubtful: mount.doubtful,
                device: check && mount.device.is_some(),
            })
            .collect();
        let answers = self.asker.ask(&questions);
        for (mount, answer) in mounts.iter().zip(answers) {
            push(mount, answer, out);
        }
        Ok(())
    }
}

fn push(mount: &Mount, answer: Answer, out: &mut Samples) {
    let point = mount.point.as_str();
    match answer {
        Ok((_, Some(seen))) if Some(seen) != mount.device => {
            out.note(point, "left out: another file system is seen there");
        }
        // File systems without a size are views of the kernel.
        Ok((sizes, _)) if sizes.total == 0 => {}
        // An image that is full by its nature can't fill up.
        Ok((sizes, _)) if mount.read_only && sizes.free == 0 && !mount.wanted => {}
        Ok((sizes, _)) => {
            push_sizes(point, sizes, out);
            let read_only = f64::from(u8::from(mount.read_only));
            out.labelled("disk.read_only", "mount", point, read_only);
            if mount.doubtful {
                out.labelled("disk.unreachable", "mount", point, 0.0);
            }
        }
        // It went away between the list and the question.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            out.note(point, format!("left out: {error}"));
            if mount.doubtful && error.kind() != ErrorKind::PermissionDenied {
                out.labelled("disk.unreachable", "mount", point, 1.0);
            }
        }
    }
}

/// Where a mount point of the host is seen by this process.
fn below(root: &Path, point: &str) -> PathBuf {
    if root == Path::new("/") {
        return PathBuf::from(point);
    }
    root.join(point.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::collectors::Moment;
    use crate::agent::collectors::statfs::Sizes;

    fn samples() -> Samples {
        Samples::new(Moment { timestamp_ms: 1, at: std::time::Instant::now(), slow: false })
    }

    fn mount(doubtful: bool) -> Mount {
        Mount {
            point: "/m".to_owned(),
            doubtful,
            device: Some((8, 1)),
            read_only: false,
            wanted: false,
        }
    }

    fn seen(answer: Answer, doubtful: bool) -> (Vec<(String, f64)>, usize) {
        let mut out = samples();
        push(&mount(doubtful), answer, &mut out);
        let (points, notes) = out.into_parts();
        (points.into_iter().map(|p| (p.metric.to_string(), p.value)).collect(), notes.len())
    }

    #[test]
    fn what_is_left_out_has_a_reason_that_is_noted() {
        let sizes = Sizes { total: 10, free: 1, ..Sizes::default() };
        assert_eq!(seen(Ok((sizes, Some((8, 1)))), false).0.len(), 5);
        assert_eq!(seen(Ok((sizes, Some((9, 9)))), false), (vec![], 1), "covered by another");
        let mut out = samples();
        let image = Mount { read_only: true, ..mount(false) };
        push(&image, Ok((Sizes { total: 10, ..Sizes::default() }, None)), &mut out);
        assert_eq!(out.into_parts().0, [], "an image that is full by its nature");
        assert_eq!(seen(Err(ErrorKind::PermissionDenied.into()), true), (vec![], 1));
        let unreachable = vec![("disk.unreachable".to_owned(), 1.0)];
        assert_eq!(seen(Err(ErrorKind::TimedOut.into()), true), (unreachable, 1));
        assert_eq!(seen(Err(ErrorKind::NotFound.into()), true), (vec![], 0));
    }

    #[test]
    fn mounts_of_a_host_are_seen_below_its_root() {
        assert_eq!(below(Path::new("/"), "/boot"), Path::new("/boot"));
        assert_eq!(below(Path::new("/host/root"), "/boot"), Path::new("/host/root/boot"));
        assert_eq!(below(Path::new("/host/root"), "/"), Path::new("/host/root"));
    }
}
