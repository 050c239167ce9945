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
}

const MOUNTS_EXCLUDE: &[&str] = &[
    "/proc*",
    "/sys*",
    "/dev*",
    "/run*",
    "/snap/*",
    "/var/lib/docker/*",
    "/var/lib/containers/*",
    "/var/lib/containerd/*",
    "/var/lib/kubelet/*",
    "/var/snap/*",
];
/// Views of the kernel, and images that are always full.
const FS_TYPES_EXCLUDE: &[&str] = &[
    "autofs",
    "bdev",
    "binfmt_misc",
    "bpf",
    "cgroup*",
    "configfs",
    "cpuset",
    "debugfs",
    "devfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
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
        }
    }
}

impl Filters {
    /// Which mount points to take.
    pub fn mounts(&self) -> Patterns {
        Patterns::new(&self.mounts_include, &self.mounts_exclude)
    }

    /// Which types of file systems to take.
    pub fn fs_types(&self) -> Patterns {
        Patterns::new(&[], &self.fs_types_exclude)
    }

    /// Which interfaces to take.
    pub fn interfaces(&self) -> Patterns {
        Patterns::new(&self.interfaces_include, &self.interfaces_exclude)
    }
}

/// What to take by name: what an including pattern names, or all where there is none, less what an
/// excluding pattern names.
#[derive(Debug, Clone)]
pub struct Patterns {
    include: Vec<WildMatch>,
    exclude: Vec<WildMatch>,
}

impl Patterns {
    fn new(include: &[String], exclude: &[String]) -> Self {
        let compile = |words: &[String]| words.iter().map(|word| WildMatch::new(word)).collect();
        Self { include: compile(include), exclude: compile(exclude) }
    }

    /// Whether `name` is taken.
    pub fn take(&self, name: &str) -> bool {
        let included = self.include.is_empty() || self.include.iter().any(|p| p.matches(name));
        included && !self.exclude.iter().any(|pattern| pattern.matches(name))
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
        assert!(patterns.take("/") && patterns.take("/data/a") && !patterns.take("/home"));
        assert!(!patterns.take("/data/tmp"));
    }
}
