//! Containers and kills, against control groups that a test makes and fills.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;

use super::*;
use crate::support::tools::or_excuse;

const LIMIT_BYTES: u64 = 24 * 1024 * 1024;

/// A group as LXC names its containers', of version 1 or 2. Dropping it removes it.
struct Group {
    name: String,
    /// The group's folder of each controller; of version 2 they are all one.
    folders: [PathBuf; 3],
    unified: bool,
}

const MEMORY: usize = 0;
const CPU: usize = 1;
const TASKS: usize = 2;

impl Group {
    /// A group with a limit of memory, and a fifth of a core; `None` where none can be made, as
    /// without being root.
    fn new(test: &str) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let name = format!("oxmon-{test}-{}", std::process::id());
        let unified = root.join("cgroup.controllers").exists();
        if unified {
            let _ = std::fs::write(root.join("cgroup.subtree_control"), "+memory +cpu +pids");
        }
        let of = |controller: &str| {
            let root = if unified { root.to_owned() } else { root.join(controller) };
            root.join(format!("lxc.payload.{name}"))
        };
        // CPU time of version 1 is counted by a controller of its own.
        let folders = [of("memory"), of("cpu"), of("pids")];
        let group = Self { name, folders, unified };
        for folder in group.all() {
            std::fs::create_dir_all(folder).ok()?;
        }
        let limit = LIMIT_BYTES.to_string();
        if unified {
            group.set(MEMORY, "memory.max", &limit)?;
            let _ = group.set(MEMORY, "memory.swap.max", "0");
            group.set(CPU, "cpu.max", "20000 100000")?;
        } else {
            group.set(MEMORY, "memory.limit_in_bytes", &limit)?;
            let _ = group.set(MEMORY, "memory.memsw.limit_in_bytes", &limit);
            group.set(CPU, "cpu.cfs_quota_us", "20000")?;
        }
        Some(group)
    }

    fn all(&self) -> Vec<PathBuf> {
        let own = self.folders.iter().cloned();
        let time = self.folders[CPU].to_string_lossy().replace("/cpu/", "/cpuacct/");
        if self.unified { own.take(1).collect() } else { own.chain([time.into()]).collect() }
    }

    fn set(&self, controller: usize, file: &str, text: &str) -> Option<()> {
        std::fs::write(self.folders[controller].join(file), text).ok()
    }

    fn read(&self, controller: usize, file: &str) -> String {
        std::fs::read_to_string(self.folders[controller].join(file)).unwrap_or_default()
    }

    /// Starts a shell's command in the group.
    fn start(&self, command: &str) -> Child {
        let enter = |folder: &PathBuf| format!("echo $$ > {}/cgroup.procs && ", folder.display());
        let enter: String = self.all().iter().map(enter).collect();
        Command::new("sh").args(["-c", &format!("{enter}exec {command}")]).spawn().unwrap()
    }

    /// Kills at the limit, as the group itself counts them.
    fn kills(&self) -> f64 {
        let file = if self.unified { "memory.events" } else { "memory.oom_control" };
        number_after(&self.read(MEMORY, file), "oom_kill ")
    }

    fn of(&self, rows: &BTreeMap<(String, String), f64>, metric: &str) -> f64 {
        let key = (format!("container.{metric}"), format!("container={:?}", self.name));
        *rows.get(&key).unwrap_or_else(|| panic!("no {key:?} in {rows:?}"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in self.all() {
            // A group of a process that has just ended may be busy for a moment.
            crate::support::wait_for("the group's end", std::time::Duration::from_secs(20), || {
                let gone = std::fs::remove_dir(&folder).is_ok() || !folder.exists();
                gone.then_some(())
            });
        }
    }
}

/// The number after a name at the start of a line.
fn number_after(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0.0)
}

fn kernel_kills() -> f64 {
    number_after(&std::fs::read_to_string("/proc/vmstat").unwrap(), "oom_kill ")
}

#[test]
fn kills_at_a_limit_are_what_the_kernel_and_the_group_count() {
    let Some(group) = Group::new("oom") else {
        or_excuse(!rustix::process::geteuid().is_root(), "no control group can be made here");
        return;
    };
    let stop = AtomicBool::new(false);
    let group_ref = &group;
    let (rows, before, after, killed) = std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut killed = 0;
            while !stop.load(Ordering::Relaxed) {
                // It keeps what it reads until a line ends, which none does.
                let status = group_ref.start("tail /dev/zero").wait().unwrap();
                killed += u32::from(status.signal() == Some(9));
            }
            killed
        });
        let before = (kernel_kills(), group.kills());
        let rows = once("");
        let after = (kernel_kills(), group.kills());
        stop.store(true, Ordering::Relaxed);
        (rows, before, after, killer.join().unwrap())
    });
    assert!(killed > 0 && after.1 > before.1, "nothing was killed: {before:?} {after:?}");
    let ours = rows[&("vm.oom_kills".to_owned(), String::new())];
    assert!(ours >= 1.0 && ours <= after.0 - before.0, "{ours} of {before:?} to {after:?}");
    let ours = group.of(&rows, "oom_kills");
    assert!(ours >= 1.0 && ours <= after.1 - before.1, "{ours} of {before:?} to {after:?}");
    near("memory_limit", group.of(&rows, "memory_limit"), LIMIT_BYTES as f64, 4_096.0);
    assert!(group.of(&rows, "memory") <= LIMIT_BYTES as f64);
}

#[test]
fn a_container_that_may_use_a_fifth_of_a_core_shows_it_and_that_it_is_throttled() {
    let Some(group) = Group::new("cpu") else {
        or_excuse(!rustix::process::geteuid().is_root(), "no control group can be made here");
        return;
    };
    let mut busy: Vec<Child> = (0..3).map(|_| group.start("sh -c 'while :; do :; done'")).collect();
    let rows = once("");
    let tasks = group.read(TASKS, "pids.current");
    for child in &mut busy {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let cpu = group.of(&rows, "cpu_percent");
    assert!((2.0..35.0).contains(&cpu), "{cpu} % of a core, where 20 are allowed");
    assert!(group.of(&rows, "throttled_percent") > 10.0, "{rows:?}");
    assert_eq!(group.of(&rows, "tasks").to_string(), tasks.trim());
}
