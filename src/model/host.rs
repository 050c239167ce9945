//! What an agent says of its host beside samples: facts that seldom change, and the processes that
//! use the most while an alert is pending or firing.

use serde::{Deserialize, Serialize};

use crate::base::limits::{HOST_ADDRESSES_MAX, HOST_TEXT_BYTES_MAX, SNAPSHOT_PROCESSES_MAX};

/// What a host is. Texts are empty, and numbers 0, where the agent could not find out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HostFacts {
    /// The host's name.
    pub(crate) hostname: String,
    /// The system, such as `Debian GNU/Linux 12 (bookworm)`.
    pub(crate) os: String,
    /// The kernel and its release, such as `Linux 6.1.0-18-amd64`.
    pub(crate) kernel: String,
    /// The processor's architecture, such as `x86_64`.
    pub(crate) architecture: String,
    /// `none`, or what the system runs in, such as `kvm` or `docker`.
    pub(crate) virtualization: String,
    /// The processor's model.
    pub(crate) cpu_model: String,
    /// Processors that the system has.
    pub(crate) cpu_cores: u32,
    /// Memory, bytes.
    pub(crate) memory_bytes: u64,
    /// When the system started, Unix milliseconds.
    pub(crate) boot_time_ms: i64,
    /// The time zone, such as `Europe/Berlin`.
    pub(crate) time_zone: String,
    /// IP addresses but for those of loopback and of one link.
    pub(crate) addresses: Vec<String>,
    /// The agent's version.
    pub(crate) agent_version: String,
}

/// A start that differs by less is the same: the kernel derives it from a clock that is set.
const SAME_BOOT_MS: i64 = 120_000;

impl HostFacts {
    /// Whether nothing has changed since `before`.
    #[cfg(feature = "agent")]
    pub(crate) fn is_like(&self, before: &Self) -> bool {
        let apart_ms = self.boot_time_ms.saturating_sub(before.boot_time_ms).saturating_abs();
        let shifted = Self { boot_time_ms: before.boot_time_ms, ..self.clone() };
        apart_ms < SAME_BOOT_MS && shifted == *before
    }

    /// The facts with texts and lists cut to their limits.
    #[must_use]
    pub(crate) fn bounded(mut self) -> Self {
        for text in [
            &mut self.hostname,
            &mut self.os,
            &mut self.kernel,
            &mut self.architecture,
            &mut self.virtualization,
            &mut self.cpu_model,
            &mut self.time_zone,
            &mut self.agent_version,
        ] {
            bound(text, HOST_TEXT_BYTES_MAX);
        }
        self.addresses.truncate(HOST_ADDRESSES_MAX);
        self.addresses.iter_mut().for_each(|address| bound(address, HOST_TEXT_BYTES_MAX));
        self
    }
}

/// The processes of a host that used the most CPU, memory or I/O for about a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ProcessSnapshot {
    /// When it was taken, by the host's clock, Unix milliseconds.
    pub(crate) taken_at_ms: i64,
    /// Over how long CPU time and I/O were measured, milliseconds.
    pub(crate) window_ms: u32,
    /// Processes that were seen.
    pub(crate) processes_seen: u32,
    /// What could not be read, and why; empty when all of it could.
    pub(crate) incomplete: String,
    /// The processes, those with the most CPU time first.
    pub(crate) processes: Vec<ProcessUse>,
}

/// What one process used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ProcessUse {
    /// Its id.
    pub(crate) pid: u32,
    /// Its name, 15 bytes at the most.
    pub(crate) name: String,
    /// The user's name, or its number where /etc/passwd has none.
    pub(crate) user: String,
    /// When it started, Unix milliseconds.
    pub(crate) started_at_ms: i64,
    /// Its control group, such as `/system.slice/nginx.service`.
    pub(crate) cgroup: String,
    /// CPU time, 100 for each core that is fully used.
    pub(crate) cpu_percent: f64,
    /// Resident memory, bytes.
    pub(crate) memory_bytes: u64,
    /// Bytes a second that it read from disks; null where the agent may not see that.
    pub(crate) read_bytes: Option<f64>,
    /// Bytes a second that it wrote to disks; null as above.
    pub(crate) write_bytes: Option<f64>,
    /// Its command line, where the agent's configuration allows it (`snapshot.arguments`).
    pub(crate) arguments: Option<String>,
}

/// Bytes of a process' command line that are kept.
pub(crate) const ARGUMENTS_BYTES_MAX: usize = 512;

impl ProcessSnapshot {
    /// The snapshot with texts, lists and numbers inside their limits.
    #[must_use]
    pub(crate) fn bounded(mut self) -> Self {
        bound(&mut self.incomplete, 2 * HOST_TEXT_BYTES_MAX);
        self.processes.truncate(SNAPSHOT_PROCESSES_MAX);
        for process in &mut self.processes {
            for text in [&mut process.name, &mut process.user, &mut process.cgroup] {
                bound(text, HOST_TEXT_BYTES_MAX);
            }
            if let Some(arguments) = &mut process.arguments {
                bound(arguments, ARGUMENTS_BYTES_MAX);
            }
            process.cpu_percent = finite(process.cpu_percent);
            process.read_bytes = process.read_bytes.map(finite);
            process.write_bytes = process.write_bytes.map(finite);
        }
        self
    }
}

/// A rate that can be stored: 0 for what is none.
fn finite(rate: f64) -> f64 {
    if rate.is_finite() { rate.max(0.0) } else { 0.0 }
}

/// What a message says of the host beside its samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct HostReport {
    /// The host's facts: with the first message of a connection, and when they have changed.
    pub(crate) facts: Option<HostFacts>,
    /// The snapshot that the server asked for.
    pub(crate) snapshot: Option<ProcessSnapshot>,
}

impl HostReport {
    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.facts.is_none() && self.snapshot.is_none()
    }
}

/// Cuts a text between characters, and replaces what a line or a terminal would act on.
fn bound(text: &mut String, bytes_max: usize) {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    if text.contains(char::is_control) {
        *text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_time_that_a_set_clock_moves_is_no_change() {
        let before = HostFacts { boot_time_ms: 1_000_000, cpu_cores: 8, ..HostFacts::default() };
        let moved = HostFacts { boot_time_ms: 1_003_000, ..before.clone() };
        assert!(moved.is_like(&before));
        let booted = HostFacts { boot_time_ms: 9_000_000, ..before.clone() };
        assert!(!booted.is_like(&before));
        assert!(!HostFacts { cpu_cores: 16, ..before.clone() }.is_like(&before));
    }

    #[test]
    fn what_is_too_long_is_cut_and_odd_numbers_are_0() {
        let facts = HostFacts {
            os: "磁".repeat(HOST_TEXT_BYTES_MAX),
            kernel: "a\u{1b}[2J".to_owned(),
            addresses: vec!["10.0.0.1".to_owned(); HOST_ADDRESSES_MAX + 1],
            ..HostFacts::default()
        };
        let facts = facts.bounded();
        assert!(facts.os.len() <= HOST_TEXT_BYTES_MAX && facts.os.starts_with('磁'));
        assert_eq!((facts.kernel.as_str(), facts.addresses.len()), ("a [2J", HOST_ADDRESSES_MAX));
        let process = ProcessUse {
            cpu_percent: f64::NAN,
            read_bytes: Some(-1.0),
            arguments: Some("x".repeat(10_000)),
            ..ProcessUse::default()
        };
        let processes = vec![process; SNAPSHOT_PROCESSES_MAX + 5];
        let snapshot = ProcessSnapshot { processes, ..ProcessSnapshot::default() }.bounded();
        assert_eq!(snapshot.processes.len(), SNAPSHOT_PROCESSES_MAX);
        let first = snapshot.processes.first().cloned().unwrap_or_default();
        assert_eq!((first.cpu_percent, first.read_bytes), (0.0, Some(0.0)));
        assert_eq!(first.arguments.map(|text| text.len()), Some(ARGUMENTS_BYTES_MAX));
    }
}
