//! Control groups (cgroup v2: Documentation/admin-guide/cgroup-v2.rst; v1 where that is all there
//! is), as containers and units are measured by them.

use std::path::{Path, PathBuf};

use crate::agent::collectors::procfile::{number, value};

/// Where the groups are.
#[derive(Debug, Clone)]
pub(super) struct Hierarchy {
    root: PathBuf,
    unified: bool,
}

/// What a group has used, and may use.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    /// CPU time, microseconds.
    pub cpu_us: Option<u64>,
    /// Time in which it was kept from the CPU by its limit, microseconds.
    pub throttled_us: Option<u64>,
    /// Memory that can't be freed at once, bytes: what it uses less its inactive file cache.
    pub memory: Option<f64>,
    /// The limit of its memory, bytes.
    pub memory_limit: Option<f64>,
    /// Programs killed at the limit of its memory.
    pub oom_kills: Option<u64>,
    /// Bytes read from disks.
    pub read_bytes: Option<u64>,
    /// Bytes written to disks.
    pub write_bytes: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<f64>,
}

/// A limit of cgroup v1 that is none: the largest multiple of a page below 2^63.
const V1_NO_LIMIT: f64 = 9e18;
/// Folders that are looked into below one group.
const CHILDREN_MAX: usize = 2_000;

impl Hierarchy {
    /// The groups below `root`, usually /sys/fs/cgroup.
    pub(super) fn new(root: PathBuf) -> Self {
        let unified = root.join("cgroup.controllers").exists();
        Self { root, unified }
    }

    /// The folder of the groups that has them all: that of the controller `memory` of v1.
    pub(super) fn folder(&self) -> PathBuf {
        if self.unified { self.root.clone() } else { self.root.join("memory") }
    }

    /// The names of the groups below one, which is named by its path from the root.
    pub(super) fn children(&self, group: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder().join(group));
        let entries = entries.into_iter().flatten().flatten().take(CHILDREN_MAX);
        // The type comes with the entry, without a call of its own.
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut found: Vec<String> =
            folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        found.sort_unstable();
        found
    }

    /// What a group has used; fields that the kernel does not give are `None`.
    pub(super) fn usage(&self, group: &str) -> Usage {
        if self.unified { unified(&self.root.join(group)) } else { self.separate(group) }
    }

    fn separate(&self, group: &str) -> Usage {
        let file = |controller: &str, name: &str| self.root.join(controller).join(group).join(name);
        let cpu_ns = number(&file("cpuacct", "cpuacct.usage"));
        let cpu_stat = value(&file("cpu", "cpu.stat"));
        let stat = value(&file("memory", "memory.stat"));
        let used = number(&file("memory", "memory.usage_in_bytes"));
        let limit = number(&file("memory", "memory.limit_in_bytes"));
        let bytes = value(&file("blkio", "blkio.throttle.io_service_bytes"));
        let io = |operation: &str| {
            let text = bytes.as_deref()?;
            let rows = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            let sum = rows.filter_map(|words| match words[..] {
                [_, kind, count] if kind == operation => count.parse::<u64>().ok(),
                _ => None,
            });
            Some(sum.sum())
        };
        let inactive = stat.as_deref().and_then(|text| field(text, "total_inactive_file"));
        Usage {
            cpu_us: cpu_ns.map(|ns| (ns / 1_000.0) as u64),
            throttled_us: cpu_stat
                .as_deref()
                .and_then(|text| field(text, "throttled_time"))
                .map(|ns| ns / 1_000),
            memory: used.map(|used| (used - inactive.unwrap_or(0) as f64).max(0.0)),
            memory_limit: limit.filter(|limit| *limit < V1_NO_LIMIT),
            oom_kills: value(&file("memory", "memory.oom_control"))
                .as_deref()
                .and_then(|text| field(text, "oom_kill")),
            read_bytes: io("Read"),
            write_bytes: io("Write"),
            tasks: number(&file("pids", "pids.current")),
        }
    }
}

fn unified(folder: &Path) -> Usage {
    let text = |name: &str| value(&folder.join(name));
    let of = |text: &Option<String>, name: &str| text.as_deref().and_then(|t| field(t, name));
    let cpu = text("cpu.stat");
    let memory_stat = text("memory.stat");
    let events = text("memory.events");
    let io = text("io.stat");
    let used = number(&folder.join("memory.current"));
    let inactive = of(&memory_stat, "inactive_file").unwrap_or(0) as f64;
    Usage {
        cpu_us: of(&cpu, "usage_usec"),
        throttled_us: of(&cpu, "throttled_usec"),
        memory: used.map(|used| (used - inactive).max(0.0)),
        // `max` where there is none.
        memory_limit: number(&folder.join("memory.max")),
        oom_kills: of(&events, "oom_kill"),
        read_bytes: io.as_deref().map(|text| sum(text, "rbytes=")),
        write_bytes: io.as_deref().map(|text| sum(text, "wbytes=")),
        tasks: number(&folder.join("pids.current")),
    }
}

/// The number of a line `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name)?.1.trim().parse().ok()
}

/// The sum of `key=number` over all lines.
fn sum(text: &str, key: &str) -> u64 {
    let words = text.split_ascii_whitespace().filter_map(|word| word.strip_prefix(key));
    words.filter_map(|number| number.parse::<u64>().ok()).fold(0, u64::saturating_add)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(crate) fn parse_any(text: &str) {
        let _ = field(text, "oom_kill");
        let _ = sum(text, "rbytes=");
    }

    #[test]
    fn both_versions_say_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("2/cgroup.controllers", "cpu io memory pids\n");
        write("2/a/cpu.stat", "usage_usec 5000\nuser_usec 1\nthrottled_usec 70\n");
        write("2/a/memory.current", "1000\n");
        write("2/a/memory.stat", "anon 1\ninactive_file 400\n");
        write("2/a/memory.max", "4096\n");
        write("2/a/memory.events", "low 0\noom 1\noom_kill 2\n");
        write("2/a/io.stat", "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n");
        write("2/a/pids.current", "3\n");
        write("1/cpuacct/a/cpuacct.usage", "5000000\n");
        write("1/cpu/a/cpu.stat", "nr_periods 1\nthrottled_time 70000\n");
        write("1/memory/a/memory.usage_in_bytes", "1000\n");
        write("1/memory/a/memory.stat", "cache 1\ntotal_inactive_file 400\n");
        write("1/memory/a/memory.limit_in_bytes", "4096\n");
        write("1/memory/a/memory.oom_control", "oom_kill_disable 0\noom_kill 2\n");
        let io = "8:0 Read 10\n8:0 Write 20\n8:16 Read 1\n8:16 Write 2\nTotal 33\n";
        write("1/blkio/a/blkio.throttle.io_service_bytes", io);
        write("1/pids/a/pids.current", "3\n");
        let new = Hierarchy::new(dir.path().join("2"));
        let old = Hierarchy::new(dir.path().join("1"));
        let expected = Usage {
            cpu_us: Some(5_000),
            throttled_us: Some(70),
            memory: Some(600.0),
            memory_limit: Some(4_096.0),
            oom_kills: Some(2),
            read_bytes: Some(11),
            write_bytes: Some(22),
            tasks: Some(3.0),
        };
        assert_eq!(new.usage("a"), expected);
        assert_eq!(old.usage("a"), expected);
        assert_eq!((new.children(""), old.children("")), (vec!["a".into()], vec!["a".into()]));
        write("2/a/memory.max", "max\n");
        assert_eq!(new.usage("a").memory_limit, None);
        assert_eq!(new.usage("gone"), Usage::default());
    }
}
