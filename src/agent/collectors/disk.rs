//! Sizes of the mounted file systems, as `df` counts them.

use std::path::{Path, PathBuf};

use crate::agent::collectors::mounts::Mounts;
use crate::agent::collectors::procfile::ProcFile;
use crate::agent::collectors::statfs::{Asker, push, statvfs};
use crate::agent::collectors::{CollectError, Collector, Metric, Moment, Setup, Spec};
use crate::model::point::Point;

const fn bytes(name: &'static str, help: &'static str) -> Metric {
    Metric { name, unit: "bytes", label: Some("mount"), help }
}

/// The table's row.
pub const SPEC: Spec = Spec {
    name: "disk",
    metrics: &[
        bytes("disk.total", "Size of the file system (statvfs: f_blocks)."),
        bytes("disk.used", "What is not free (f_blocks less f_bfree)."),
        bytes("disk.available", "What is free for everyone (f_bavail)."),
        Metric {
            name: "disk.used_percent",
            unit: "%",
            label: Some("mount"),
            help: "disk.used of disk.used and disk.available together, as df shows it.",
        },
    ],
    make: |setup: &Setup<'_>| {
        let filters = &setup.config.filters;
        let file = ProcFile::pieces(setup.proc_of_host("mountinfo"));
        Box::new(Disk {
            mounts: Mounts::new(file, filters.mounts(), filters.fs_types()),
            root: setup.config.root.clone(),
            asker: Asker::new(statvfs),
        })
    },
};

struct Disk {
    mounts: Mounts,
    root: PathBuf,
    asker: Asker,
}

impl Collector for Disk {
    fn collect(&mut self, moment: &Moment, out: &mut Vec<Point>) -> Result<(), CollectError> {
        let mounts = self.mounts.current(moment.at)?;
        self.asker.keep(|path| mounts.iter().any(|mount| below(&self.root, &mount.point) == path));
        for mount in mounts {
            let path = below(&self.root, &mount.point);
            let answer =
                if mount.remote { self.asker.remote(&path) } else { self.asker.local(&path) };
            match answer {
                // File systems without a size are views of the kernel.
                Ok(sizes) if sizes.total > 0 => push(&mount.point, sizes, moment.timestamp_ms, out),
                Ok(_) => {}
                // It went away between the list and the question, hangs, or is not ours to ask.
                Err(error) => log::debug!("passed over {}: {error}", mount.point),
            }
        }
        Ok(())
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
    use crate::agent::collectors::statfs::Sizes;

    #[test]
    fn blocks_for_the_superuser_count_as_df_counts_them() {
        let mut out = Vec::new();
        push("/", Sizes { total: 1_000, free: 300, available: 250 }, 1, &mut out);
        let values: Vec<f64> = out.iter().map(|point| point.value).collect();
        assert_eq!(values, [1_000.0, 700.0, 250.0, 73.68]);
    }

    #[test]
    fn mounts_of_a_host_are_seen_below_its_root() {
        assert_eq!(below(Path::new("/"), "/boot"), Path::new("/boot"));
        assert_eq!(below(Path::new("/host/root"), "/boot"), Path::new("/host/root/boot"));
        assert_eq!(below(Path::new("/host/root"), "/"), Path::new("/host/root"));
    }
}
