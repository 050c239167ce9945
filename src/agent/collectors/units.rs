//! Units of systemd that the configuration names, by their control groups (systemd.slice(5)).

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::agent::collectors::cgroup::{Hierarchy, Usage};
use crate::agent::collectors::processes::open_files;
use crate::agent::collectors::procfile::value;
use crate::agent::collectors::rate::Counters;
use crate::agent::collectors::{
    CollectError, Collector, Metric, Pace, Samples, Setup, Spec, round,
};

const fn of(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, unit, labels: &["unit"], help }
}

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "units",
    pace: Pace::Always,
    on: true,
    metrics: &[
        of("unit.running", "0 or 1", "Whether a unit of `units` has a process (/sys/fs/cgroup)."),
        of("unit.restarts", "restarts", "How often it was started again, since the agent started."),
        of(
            "unit.cpu_percent",
            "%",
            "Its CPU time, 100 for each core that is fully used; none without CPU accounting.",
        ),
        of(
            "unit.memory",
            "bytes",
            "Its memory less what is cache and can be freed; none without memory accounting.",
        ),
        of("unit.tasks", "tasks", "Its processes and threads; none without task accounting."),
        of(
            "unit.open_files",
            "files",
            "Its open files; none where they are not the agent's to see.",
        ),
    ],
    make: |setup: &Setup<'_>| {
        let root = setup.sys("fs/cgroup");
        Box::new(Units {
            groups: Hierarchy::new(root.clone()),
            // Where both versions are mounted, systemd has a hierarchy of its own.
            own: [root.join("systemd"), root.join("unified"), root.clone()]
                .into_iter()
                .find(|folder| folder.join("system.slice").is_dir())
                .unwrap_or(root),
            proc: setup.config.proc_root.clone(),
            units: setup.config.units.clone(),
            state: HashMap::new(),
            before: Counters::new(),
        })
    },
};

struct Units {
    groups: Hierarchy,
    /// The root of the hierarchy that systemd keeps its units in.
    own: PathBuf,
    proc: PathBuf,
    units: Vec<String>,
    state: HashMap<String, State>,
    before: Counters<1>,
}

#[derive(Default)]
struct State {
    group: String,
    /// The number of the group's folder: a unit that starts gets a new one.
    folder: Option<u64>,
    restarts: u64,
}

/// Processes whose open files are counted.
const PROCESSES_COUNTED_MAX: usize = 100;

impl Collector for Units {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let units = self.units.clone();
        let mut seen = Vec::with_capacity(units.len());
        for unit in &units {
            let pids = self.pids(unit, out.moment.slow);
            let state = self.state.entry(unit.clone()).or_default();
            let running = !pids.is_empty();
            out.labelled("unit.running", "unit", unit, f64::from(u8::from(running)));
            out.labelled("unit.restarts", "unit", unit, state.restarts as f64);
            let usage = if running { self.groups.usage(&state.group) } else { Usage::default() };
            seen.push((unit, pids, usage));
        }
        let counters = seen.iter().filter_map(|(unit, _, usage)| {
            Some((Box::<str>::from(unit.as_str()), [usage.cpu_us?]))
        });
        let growth = self.before.step(out.moment.at, counters.collect());
        for (unit, pids, usage) in &seen {
            let mut push = |metric, value| out.labelled(metric, "unit", unit, value);
            if let Some(growth) = &growth
                && let Some((_, [cpu])) = growth.groups.iter().find(|(name, _)| **name == ***unit)
            {
                push("unit.cpu_percent", round(growth.per_second(*cpu) / 10_000.0, 100.0));
            }
            if let Some(memory) = usage.memory {
                push("unit.memory", memory);
            }
            if let Some(tasks) = usage.tasks {
                push("unit.tasks", tasks);
            }
            let counted = pids.iter().take(PROCESSES_COUNTED_MAX);
            let files: Option<usize> = counted.map(|pid| open_files(&self.proc, *pid)).sum();
            if let Some(files) = files.filter(|_| !pids.is_empty()) {
                push("unit.open_files", files as f64);
            }
        }
        Ok(())
    }
}

impl Units {
    /// The processes of a unit. Notes where its group is, and whether it is another one.
    fn pids(&mut self, unit: &str, search: bool) -> Vec<u32> {
        let state = self.state.entry(unit.to_owned()).or_default();
        if state.group.is_empty() || !self.own.join(&state.group).is_dir() {
            state.group = find(&self.own, unit, search).unwrap_or_default();
        }
        if state.group.is_empty() {
            return Vec::new();
        }
        let folder = self.own.join(&state.group);
        let pids = pids_below(&folder, 3);
        let number = std::fs::metadata(&folder).map(|meta| meta.ino()).ok();
        if !pids.is_empty() && state.folder != number {
            state.restarts += u64::from(state.folder.is_some());
            state.folder = number;
        }
        pids
    }
}

/// The processes of a group and of those below it.
fn pids_below(folder: &std::path::Path, depth: usize) -> Vec<u32> {
    let own = value(&folder.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<u32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    if depth > 0 {
        let below = std::fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            pids.extend(pids_below(&entry.path(), depth - 1));
        }
    }
    pids
}

/// The path of a unit's group: in system.slice, in the slice of its template, or, where `search`
/// is set, in any slice.
fn find(root: &std::path::Path, unit: &str, search: bool) -> Option<String> {
    let mut places = vec![format!("system.slice/{unit}"), unit.to_owned()];
    if let Some((template, _)) = unit.split_once('@') {
        let slice = template.replace('-', "\\x2d");
        places.push(format!("system.slice/system-{slice}.slice/{unit}"));
    }
    let usual = places.into_iter().find(|group| root.join(group).is_dir());
    usual.or_else(|| if search { search_slices(root, "", unit, 4) } else { None })
}

fn search_slices(root: &std::path::Path, at: &str, unit: &str, depth: usize) -> Option<String> {
    let entries = std::fs::read_dir(root.join(at)).ok()?;
    let slices = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    for slice in slices.filter(|name| name.ends_with(".slice")) {
        let below = if at.is_empty() { slice } else { format!("{at}/{slice}") };
        let group = format!("{below}/{unit}");
        if root.join(&group).is_dir() {
            return Some(group);
        }
        if depth > 1
            && let Some(found) = search_slices(root, &below, unit, depth - 1)
        {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::collectors::Moment;
    use crate::agent::config::AgentConfig;
    use crate::model::point::Point;
    use std::path::Path;

    #[test]
    fn units_are_found_in_their_slices() {
        let dir = tempfile::tempdir().unwrap();
        for group in [
            "system.slice/nginx.service",
            "system.slice/system-getty.slice/getty@tty1.service",
            "big.slice/big-db.slice/db.service",
        ] {
            std::fs::create_dir_all(dir.path().join(group)).unwrap();
        }
        let found = |unit: &str| find(dir.path(), unit, true);
        assert_eq!(found("nginx.service").unwrap(), "system.slice/nginx.service");
        let getty = "system.slice/system-getty.slice/getty@tty1.service";
        assert_eq!(found("getty@tty1.service").unwrap(), getty);
        assert_eq!(found("db.service").unwrap(), "big.slice/big-db.slice/db.service");
        assert_eq!(found("gone.service"), None);
    }

    /// A host of files with one unit, whose group is of version 2.
    fn host(root: &Path) -> AgentConfig {
        let put = |file: &str, text: &str| {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n");
        let group = "sys/fs/cgroup/system.slice/nginx.service";
        put(&format!("{group}/cgroup.procs"), "7\n");
        put(&format!("{group}/worker/cgroup.procs"), "8\n9\n");
        put(&format!("{group}/memory.current"), "9000\n");
        put(&format!("{group}/memory.stat"), "inactive_file 1000\n");
        put(&format!("{group}/pids.current"), "5\n");
        put(&format!("{group}/cpu.stat"), "usage_usec 1000000\n");
        for (pid, files) in [(7, 3), (8, 2), (9, 1)] {
            (0..files).for_each(|file| put(&format!("proc/{pid}/fd/{file}"), ""));
        }
        AgentConfig {
            units: vec!["nginx.service".to_owned(), "gone.service".to_owned()],
            proc_root: root.join("proc"),
            sys_root: root.join("sys"),
            ..AgentConfig::default()
        }
    }

    #[test]
    fn a_unit_shows_what_it_uses_and_that_it_was_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let config = host(dir.path());
        let mut units = (SPEC.make)(&Setup { config: &config });
        let start = std::time::Instant::now();
        let mut seen = |secs| {
            let at = start + std::time::Duration::from_secs(secs);
            let mut out = Samples::new(Moment { timestamp_ms: 1, at, slow: true });
            units.collect(&mut out).unwrap();
            let key = |p: &Point| format!("{}@{}", p.metric, p.labels.get("unit").unwrap());
            let points = out.into_parts().0;
            points.iter().map(|p| (key(p), p.value)).collect::<HashMap<String, f64>>()
        };
        let first = seen(0);
        assert_eq!(first["unit.running@nginx.service"], 1.0);
        assert_eq!(first["unit.running@gone.service"], 0.0);
        assert_eq!(first["unit.memory@nginx.service"], 8_000.0);
        assert_eq!(first["unit.tasks@nginx.service"], 5.0);
        assert_eq!(first["unit.open_files@nginx.service"], 6.0);
        assert_eq!(first["unit.restarts@nginx.service"], 0.0);
        let group = dir.path().join("sys/fs/cgroup/system.slice/nginx.service");
        std::fs::write(group.join("cpu.stat"), "usage_usec 6000000\n").unwrap();
        assert_eq!(seen(10)["unit.cpu_percent@nginx.service"], 50.0);
        // A unit that is started again has another group of the same name.
        let old = dir.path().join("old");
        std::fs::rename(&group, &old).unwrap();
        let stopped = seen(20);
        assert_eq!(stopped["unit.running@nginx.service"], 0.0);
        assert!(!stopped.contains_key("unit.memory@nginx.service"));
        std::fs::create_dir(&group).unwrap();
        std::fs::write(group.join("cgroup.procs"), "77\n").unwrap();
        let again = seen(30);
        assert_eq!(again["unit.running@nginx.service"], 1.0);
        assert_eq!(again["unit.restarts@nginx.service"], 1.0);
        assert!(!again.contains_key("unit.open_files@nginx.service"), "they are hidden: {again:?}");
    }
}
