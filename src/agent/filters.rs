//! The `[filters]` of `agent.toml`: which mounts, file systems and interfaces are measured.

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

/// Patterns with `*` and `?` of what is measured and what is left out.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filters {
    /// Mount points to measure; empty: all that are not excluded.
    pub mounts_include: Vec<String>,
    /// Mount points to leave out.
    pub mounts_exclude: Vec<String>,
    /// Types of file systems to leave out.
    pub fs_types_exclude: Vec<String>,
    /// Interfaces to measure; empty: all that are not excluded.
    pub interfaces_include: Vec<String>,
    /// Interfaces to leave out.
    pub interfaces_exclude: Vec<String>,
    /// Disks to measure; empty: all that are not excluded.
    pub disks_include: Vec<String>,
    /// Disks to leave out.
    pub disks_exclude: Vec<String>,
    /// Whether partitions are measured beside whole disks.
    pub disk_partitions: bool,
}

const MOUNTS_EXCLUDE: &[&str] = &[
    "/proc",
    "/proc/*",
    "/sys",
    "/sys/*",
    "/dev",
    "/dev/*",
    "/run",
    "/run/containerd/*",
    "/run/credentials/*",
    "/run/docker/*",
    "/run/k3s/*",
    "/run/netns/*",
    "/run/snapd/*",
    "/run/user/*",
    "/snap/*",
    "/var/lib/docker/*",
    "/var/lib/containers/*",
    "/var/lib/containerd/*",
    "/var/lib/kubelet/*",
    "/var/snap/*",
];
/// Views of the kernel, views of other mounts, and images that are always full.
const FS_TYPES_EXCLUDE: &[&str] = &[
    "aufs",
    "autofs",
    "bdev",
    "binfmt_misc",
    "bpf",
    "cgroup*",
    "composefs",
    "configfs",
    "cpuset",
    "cramfs",
    "debugfs",
    "devfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "fuse.fuse-overlayfs",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fuse.snapfuse",
    "fuse.squashfuse*",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "romfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];
const INTERFACES_EXCLUDE: &[&str] = &[
    "lo", "ifb*", "dummy*", "veth*", "docker*", "br-*", "cali*", "cni*", "flannel*", "virbr*",
    "vnet*", "tap*",
];

const DISKS_EXCLUDE: &[&str] =
    &["loop*", "ram*", "zram*", "fd*", "sr*", "mmcblk*boot*", "mmcblk*rpmb", "nvme*c*n*"];

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

impl Default for Filters {
    fn default() -> Self {
        Self {
            mounts_include: Vec::new(),
            mounts_exclude: owned(MOUNTS_EXCLUDE),
            fs_types_exclude: owned(FS_TYPES_EXCLUDE),
            interfaces_include: Vec::new(),
            interfaces_exclude: owned(INTERFACES_EXCLUDE),
            disks_include: Vec::new(),
            disks_exclude: owned(DISKS_EXCLUDE),
            disk_partitions: false,
        }
    }
}

impl Filters {
    /// Which file systems to measure, by mount point and type.
    pub fn mounts(&self) -> MountFilter {
        MountFilter {
            points: Patterns::new(&self.mounts_include, &self.mounts_exclude),
            types: Patterns::new(&[], &self.fs_types_exclude),
        }
    }

    /// Which disks to measure, by the kernel's names.
    pub fn disks(&self) -> Patterns {
        Patterns::new(&self.disks_include, &self.disks_exclude)
    }

    /// Which interfaces to take.
    pub fn interfaces(&self) -> Patterns {
        Patterns::new(&self.interfaces_include, &self.interfaces_exclude)
    }
}

/// Which file systems are measured.
#[derive(Debug, Clone)]
pub struct MountFilter {
    points: Patterns,
    types: Patterns,
}

impl MountFilter {
    /// Whether a file system of type `fs_type` that is mounted at `point` is measured. `/` always
    /// is, unless its mount point is excluded: in a container it is an overlay.
    pub fn take(&self, point: &str, fs_type: &str) -> bool {
        self.points.take(point) && (point == "/" || self.names(point) || self.types.take(fs_type))
    }

    /// Whether an including pattern names `point`, other than one that takes everything.
    pub fn names(&self, point: &str) -> bool {
        self.points.take(point) && weight(&self.points.include, point).is_some_and(|w| w > 1)
    }
}

/// What to take by name: what an including pattern matches, or all where there is none, less what
/// an excluding pattern matches. Of two that match, the one with more literal characters counts,
/// and the including one where they have as many.
#[derive(Debug, Clone)]
pub struct Patterns {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    matcher: Matcher,
    /// Characters that are not wildcards.
    weight: usize,
}

/// Most patterns are plain names, which take a quarter of the memory as such.
#[derive(Debug, Clone)]
enum Matcher {
    Name(Box<str>),
    Wild(WildMatch),
}

impl Pattern {
    fn new(word: &str) -> Self {
        let weight = word.chars().filter(|c| !matches!(c, '*' | '?')).count();
        let matcher = if word.contains(['*', '?']) {
            Matcher::Wild(WildMatch::new(word))
        } else {
            Matcher::Name(word.into())
        };
        Self { matcher, weight }
    }

    fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Name(own) => **own == *name,
            Matcher::Wild(wild) => wild.matches(name),
        }
    }
}

/// The weight of the heaviest pattern that matches.
fn weight(patterns: &[Pattern], name: &str) -> Option<usize> {
    let matching = patterns.iter().filter(|pattern| pattern.matches(name));
    matching.map(|pattern| pattern.weight).max()
}

impl Patterns {
    /// Patterns with `*` and `?`.
    pub fn new(include: &[String], exclude: &[String]) -> Self {
        let compile = |words: &[String]| words.iter().map(|word| Pattern::new(word)).collect();
        Self { include: compile(include), exclude: compile(exclude) }
    }

    /// Whether `name` is taken.
    pub fn take(&self, name: &str) -> bool {
        let included = weight(&self.include, name);
        match (included, weight(&self.exclude, name)) {
            (None, _) if !self.include.is_empty() => false,
            (_, None) => true,
            (Some(include), Some(exclude)) => include >= exclude,
            (None, Some(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn filters_take_and_leave_out() {
        let patterns = Filters::default().interfaces();
        assert!(patterns.take("eth0") && patterns.take("wlp2s0"));
        assert!(!patterns.take("lo") && !patterns.take("veth12ab"));
        let text = "mounts_include = ['/', '/data*']\nmounts_exclude = ['/data/tmp']";
        let patterns = toml::from_str::<Filters>(text).unwrap().mounts();
        let take = |point: &str| patterns.take(point, "ext4");
        assert!(take("/") && take("/data/a") && !take("/home"));
        assert!(!take("/data/tmp"));
    }
}
