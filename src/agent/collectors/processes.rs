//! Processes that the configuration names, from /proc/[pid]/stat (proc_pid_stat(5)).

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use crate::agent::collectors::procfile::value;
use crate::agent::collectors::{
    CollectError, Collector, Metric, Pace, Samples, Setup, Spec, round,
};
use crate::agent::procstat::{self, ProcStat};
use crate::base::limits::PROCESSES_MAX;

const fn of(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, unit, labels: &["process"], help }
}

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "processes",
    pace: Pace::Always,
    on: true,
    metrics: &[
        of("process.running", "processes", "Processes with a name of `processes` (/proc/…/stat)."),
        of(
            "process.restarts",
            "restarts",
            "How often the oldest of them was replaced, since the agent started.",
        ),
        of(
            "process.cpu_percent",
            "%",
            "CPU time of all of them, 100 for each core that is fully used.",
        ),
        of("process.memory", "bytes", "Their resident memory, shared pages counted for each."),
        of("process.tasks", "threads", "Their threads."),
        of(
            "process.open_files",
            "files",
            "Their open files; none where they are not the agent's to see.",
        ),
    ],
    make: |setup: &Setup<'_>| {
        Box::new(Processes {
            proc: setup.config.proc_root.clone(),
            wanted: setup.config.processes.clone(),
            before: HashMap::new(),
            before_at: None,
            others: HashSet::new(),
            oldest: HashMap::new(),
        })
    },
};

struct Processes {
    proc: PathBuf,
    wanted: Vec<String>,
    /// CPU time of each process, by its id and start.
    before: HashMap<(u32, u64), u64>,
    before_at: Option<std::time::Instant>,
    /// Processes with other names, which are not read again before the next minute.
    others: HashSet<u32>,
    /// When the oldest process of each name started, and how often that has changed.
    oldest: HashMap<String, (u64, u64)>,
}

/// The linux kernel keeps this many characters of a name.
const NAME_BYTES: usize = 15;

impl Collector for Processes {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        if self.wanted.is_empty() {
            return Ok(());
        }
        let found = self.find(out)?;
        let secs = self.before_at.map(|before| out.moment.at.duration_since(before).as_secs_f64());
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let page = rustix::param::page_size() as f64;
        for name in &self.wanted {
            let kernel_name = name.get(..NAME_BYTES).unwrap_or(name);
            let own: Vec<&(u32, ProcStat)> =
                found.iter().filter(|(_, stat)| stat.name == kernel_name).collect();
            let mut push = |metric, value| out.labelled(metric, "process", name, value);
            push("process.running", own.len() as f64);
            let oldest = own.iter().map(|(_, stat)| stat.started).min();
            let known = self.oldest.entry(name.clone()).or_insert((0, 0));
            if let Some(oldest) = oldest {
                known.1 += u64::from(known.0 != 0 && known.0 != oldest);
                known.0 = oldest;
            }
            push("process.restarts", known.1 as f64);
            if own.is_empty() {
                continue;
            }
            if let Some(secs) = secs.filter(|secs| *secs > 0.0) {
                let grown = own.iter().filter_map(|(pid, stat)| {
                    let before = self.before.get(&(*pid, stat.started));
                    // One that has started since has used all of its time since.
                    stat.ticks.checked_sub(before.copied().unwrap_or(0))
                });
                let used = grown.fold(0_u64, u64::saturating_add) as f64 / ticks;
                push("process.cpu_percent", round(used / secs * 100.0, 100.0));
            }
            let pages = own.iter().fold(0_u64, |sum, (_, stat)| sum.saturating_add(stat.pages));
            push("process.memory", pages as f64 * page);
            let threads = own.iter().fold(0_u64, |sum, (_, s)| sum.saturating_add(s.threads));
            push("process.tasks", threads as f64);
            let files: Option<usize> =
                own.iter().map(|(pid, _)| open_files(&self.proc, *pid)).sum();
            if let Some(files) = files {
                push("process.open_files", files as f64);
            }
        }
        self.before =
            found.into_iter().map(|(pid, stat)| ((pid, stat.started), stat.ticks)).collect();
        self.before_at = Some(out.moment.at);
        Ok(())
    }
}

impl Processes {
    /// The processes with a wanted name. Those with others are looked at once a minute, since a
    /// process may take another name.
    fn find(&mut self, out: &mut Samples) -> Result<Vec<(u32, ProcStat)>, CollectError> {
        let entries = std::fs::read_dir(&self.proc)
            .map_err(|error| CollectError::Read { path: self.proc.clone(), error })?;
        let mut pids: Vec<u32> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        out.cap(&mut pids, PROCESSES_MAX, "processes", None);
        if out.moment.slow {
            self.others.clear();
        }
        let mut others = HashSet::new();
        let mut found = Vec::new();
        for pid in pids {
            if self.others.contains(&pid) {
                others.insert(pid);
                continue;
            }
            // A process that ends meanwhile has no file any more.
            let text = value(&self.proc.join(pid.to_string()).join("stat"));
            let Some(stat) = text.and_then(|text| procstat::parse(&text)) else { continue };
            let is_wanted = |name: &String| name.get(..NAME_BYTES).unwrap_or(name) == stat.name;
            if self.wanted.iter().any(is_wanted) {
                found.push((pid, stat));
            } else {
                others.insert(pid);
            }
        }
        self.others = others;
        Ok(found)
    }
}

/// The open files of a process; `None` where they are hidden.
pub(super) fn open_files(proc: &std::path::Path, pid: u32) -> Option<usize> {
    let files = std::fs::read_dir(proc.join(pid.to_string()).join("fd")).ok()?;
    Some(files.take(100_000).count())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::collectors::Moment;
    use std::path::Path;

    fn put(proc: &Path, pid: u32, name: &str) {
        std::fs::create_dir_all(proc.join(pid.to_string())).unwrap();
        let rest = "S 1 7 7 0 -1 0 1 2 3 4 50 60 7 8 20 0 3 0 900 1000000 250 1";
        let text = format!("{pid} ({name}) {rest}");
        std::fs::write(proc.join(pid.to_string()).join("stat"), text).unwrap();
    }

    #[test]
    fn new_processes_are_seen_at_once_and_new_names_within_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let mut processes = Processes {
            proc: dir.path().to_owned(),
            wanted: vec!["postgres".to_owned()],
            before: HashMap::new(),
            before_at: None,
            others: HashSet::new(),
            oldest: HashMap::new(),
        };
        let mut find = |slow| -> Vec<u32> {
            let moment = Moment { timestamp_ms: 1, at: std::time::Instant::now(), slow };
            let found = processes.find(&mut Samples::new(moment)).unwrap();
            let mut pids: Vec<u32> = found.into_iter().map(|(pid, _)| pid).collect();
            pids.sort_unstable();
            pids
        };
        put(dir.path(), 7, "postgres");
        put(dir.path(), 8, "sh");
        assert_eq!(find(true), [7]);
        put(dir.path(), 8, "postgres");
        put(dir.path(), 9, "postgres");
        assert_eq!(find(false), [7, 9]);
        assert_eq!(find(true), [7, 8, 9]);
        std::fs::remove_dir_all(dir.path().join("8")).unwrap();
        assert_eq!(find(false), [7, 9]);
        put(dir.path(), 8, "postgres");
        assert_eq!(find(false), [7, 8, 9], "an id that is used again");
    }
}
