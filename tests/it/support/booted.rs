//! A Debian or Ubuntu of this system's release, booted by systemd-nspawn over a root that is made
//! once and never written to.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use super::tools::{must, or_excuse, run, there};
use super::wait_slowly;

/// What every root holds beside apt, which mmdebstrap brings.
const MINIMAL: [&str; 3] = ["systemd", "systemd-sysv", "dbus"];

/// A root whose changes end with it. Dropping it ends what runs in it.
pub struct Booted {
    container: Option<Child>,
    groups: Vec<PathBuf>,
    dir: TempDir,
}

impl Booted {
    /// A root with these packages more than the least that boots; `None` where none can be made,
    /// with the reason printed.
    pub fn new(packages: &[String]) -> Option<Self> {
        let tools = ["mmdebstrap", "systemd-nspawn", "nsenter", "curl"];
        if !tools.iter().all(|tool| there(tool)) {
            return None;
        }
        if !or_excuse(must("id", &["-u"]).trim() == "0", "only root makes and boots a system") {
            return None;
        }
        let lower = root(packages)?;
        let dir = tempfile::tempdir().unwrap();
        for folder in ["upper", "work", "merged"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let at = dir.path().display();
        let options = format!("lowerdir={},upperdir={at}/upper,workdir={at}/work", lower.display());
        let merged = format!("{at}/merged");
        let out = run("mount", &["-t", "overlay", "overlay", "-o", &options, &merged]);
        let why = String::from_utf8_lossy(&out.stderr).into_owned();
        said(out.status.success(), &format!("no overlay file system: {why}")).then(|| Self {
            container: None,
            groups: groups(),
            dir,
        })
    }

    /// Where a file of the root is, seen from outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join("merged").join(inside.trim_start_matches('/'))
    }

    /// A folder of the test that is not in the root.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    pub fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Starts systemd and waits until it has started what is enabled. `false` where this system
    /// lets nobody boot a container, with the reason printed.
    pub fn boot(&mut self) -> bool {
        let log = File::create(self.dir.path().join("console")).unwrap();
        // In control groups of its own: two containers that share theirs see each other's units.
        let join = "for group; do [ \"$group\" != -- ] || break; shift; \
                    echo $$ >\"$group/cgroup.procs\"; done; shift; exec systemd-nspawn \"$@\"";
        let child = Command::new("sh")
            .args(["-c", join, "join"])
            .args(&self.groups)
            .arg("--")
            .args(["-b", "--quiet", "--register=no", "--keep-unit", "--private-network"])
            .args(["--console=pipe", "--link-journal=no", "--resolv-conf=off", "--timezone=off"])
            .arg("-D")
            .arg(self.dir.path().join("merged"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.container = Some(child);
        let mut ended = false;
        wait_slowly("a booted system", || {
            let child = self.container.as_mut()?;
            if child.try_wait().unwrap().is_some() {
                ended = true;
                return Some(());
            }
            let out = self.try_run(&["systemctl", "is-system-running"])?;
            let state = String::from_utf8_lossy(&out.stdout).trim().to_owned();
            matches!(state.as_str(), "running" | "degraded").then_some(())
        });
        let why = || std::fs::read_to_string(self.dir.path().join("console")).unwrap_or_default();
        said(!ended, &format!("no container can be booted here: {}", why()))
    }

    /// Gives the container's systemd the memory controller, so that `MemoryMax=` counts; `false`
    /// where it can't have it, with the reason printed.
    pub fn with_memory_limits(&self) -> bool {
        let is_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        if !is_v2 {
            // Of version 1, systemd-nspawn shows it read-only. Its groups are this system's own,
            // which only matters where a systemd uses them.
            if Path::new("/run/systemd/system").exists() {
                return said(false, "the memory controller belongs to this system's systemd");
            }
            self.run(&["mount", "-o", "remount,bind,rw", "/sys/fs/cgroup/memory"]);
            self.must(&["systemctl", "daemon-reexec"]);
        }
        let unit = "oxmon-test-memory.service";
        let start = ["systemd-run", "--quiet", "--collect", "--unit", unit, "-p", "MemoryMax=9M"];
        self.must(&[&start[..], &["sleep", "60"]].concat());
        let current = self.show(unit, "MemoryCurrent");
        self.must(&["systemctl", "stop", unit]);
        let why = format!("no memory controller in the container: MemoryCurrent={current}");
        said(current.parse::<u64>().is_ok_and(|bytes| bytes < 1 << 40), &why)
    }

    /// Ends what runs, as when the power goes, and boots again. What was written stays.
    pub fn boot_again(&mut self) {
        self.end();
        assert!(self.boot());
    }

    /// The process that is the container's first; `None` where there is none.
    fn leader(&self) -> Option<String> {
        let id = self.container.as_ref()?.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        children.split_whitespace().next_back().map(str::to_owned)
    }

    /// The option of nsenter(1) that names the container's network.
    pub fn net(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.leader().expect("a booted container"))
    }

    fn try_run(&self, words: &[&str]) -> Option<Output> {
        let leader = self.leader()?;
        let mut command = Command::new("nsenter");
        command.args(["-t", &leader, "-a", "env", "-i"]);
        command.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root"]);
        command.args(["DEBIAN_FRONTEND=noninteractive", "SYSTEMD_PAGER="]);
        command.args(words).current_dir("/").output().ok()
    }

    /// Runs a program inside, as root.
    pub fn run(&self, words: &[&str]) -> Output {
        self.try_run(words).expect("a booted container")
    }

    /// What a program inside says where it must succeed.
    pub fn must(&self, words: &[&str]) -> String {
        let out = self.run(words);
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{words:?}: {said}{wrong}");
        said
    }

    /// A program of this system in the container's network.
    pub fn beside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(self.net()).args(words);
        command
    }

    /// A property of a unit, as `systemctl show` has it.
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.must(&["systemctl", "show", unit, "-P", property]).trim().to_owned()
    }

    /// Waits until a property of a unit is so.
    pub fn wait_show(&self, unit: &str, property: &str, wanted: &str) {
        wait_slowly(&format!("{unit}: {property}={wanted}"), || {
            (self.show(unit, property) == wanted).then_some(())
        });
    }

    /// Waits until a unit was started again so often at the least.
    pub fn wait_restarts(&self, unit: &str, least: u32) {
        wait_slowly(&format!("{least} restarts of {unit}"), || {
            self.show(unit, "NRestarts").parse::<u32>().is_ok_and(|n| n >= least).then_some(())
        });
    }

    /// The messages of a unit, of a priority and more urgent ones.
    pub fn journal(&self, unit: &str, priority: &str) -> String {
        let _ = self.run(&["journalctl", "--sync"]);
        self.must(&["journalctl", "--no-pager", "-o", "cat", "-u", unit, "-p", priority])
    }

    /// Lines of a drop-in for a unit's `[Service]` section; without lines it is removed.
    pub fn drop_in(&self, unit: &str, lines: &[&str]) {
        let file = format!("/etc/systemd/system/{unit}.d/test.conf");
        if lines.is_empty() {
            std::fs::remove_file(self.path(&file)).unwrap();
        } else {
            self.write(&file, &format!("[Service]\n{}\n", lines.join("\n")));
        }
        self.must(&["systemctl", "daemon-reload"]);
    }

    fn end(&mut self) {
        if let Some(leader) = self.leader() {
            let _ = Command::new("kill").args(["-KILL", &leader]).status();
        }
        if let Some(mut child) = self.container.take() {
            wait_slowly("the container's end", || child.try_wait().unwrap());
        }
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        if std::thread::panicking() && self.leader().is_some() {
            let out = self.run(&["journalctl", "--no-pager", "-n", "60", "-o", "short-monotonic"]);
            eprintln!("--- the journal ---\n{}", String::from_utf8_lossy(&out.stdout));
        }
        if let Some(leader) = self.leader() {
            let _ = Command::new("kill").args(["-KILL", &leader]).status();
        }
        if let Some(mut child) = self.container.take() {
            let _ = child.wait();
        }
        let _ = Command::new("umount").arg(self.dir.path().join("merged")).status();
        for group in &self.groups {
            let empty = ["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"];
            let _ = Command::new("find").arg(group).args(empty).status();
        }
    }
}

/// Control groups below those of the test, in the hierarchies that systemd uses.
fn groups() -> Vec<PathBuf> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let name = format!("oxmon-test-{}", std::process::id());
    let rows = own.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let folder = match controllers {
            "name=systemd" => "systemd",
            "memory" => "memory",
            "" if Path::new("/sys/fs/cgroup/unified").exists() => "unified",
            "" => "",
            _ => return None,
        };
        let group = Path::new("/sys/fs/cgroup").join(folder).join(&path[1..]).join(&name);
        std::fs::create_dir_all(&group).is_ok().then_some(group)
    });
    rows.collect()
}

/// `good`, with a word on what did not run where it is not. Unlike a missing program, what a system
/// does not allow, or a registry that is out of reach, fails no test.
fn said(good: bool, why: &str) -> bool {
    if !good {
        eprintln!("not run: {why}");
    }
    good
}

/// A root of this system's release with these packages, below the cache folder.
fn root(packages: &[String]) -> Option<PathBuf> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let suite = suite.unwrap_or_default();
    if !said(!suite.is_empty(), "this system is neither a Debian nor an Ubuntu") {
        return None;
    }
    let mut wanted: Vec<&str> = MINIMAL.to_vec();
    wanted.extend(packages.iter().map(String::as_str));
    let list = wanted.join(",");
    let roots = super::tools::venv().parent()?.join("roots");
    std::fs::create_dir_all(&roots).unwrap();
    let name = format!("{suite}-{:08x}", crc32fast::hash(list.as_bytes()));
    let made = roots.join(&name);
    // One test makes it, the others wait.
    let lock = File::create(roots.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    if !made.exists() {
        let part = roots.join(format!("{name}.part"));
        let _ = std::fs::remove_dir_all(&part);
        let out = make(suite, &list, &part);
        let why = String::from_utf8_lossy(&out.stderr).into_owned();
        if !said(out.status.success(), &format!("mmdebstrap: {why}")) {
            return None;
        }
        std::fs::rename(&part, &made).unwrap();
    }
    Some(made)
}

fn make(suite: &str, list: &str, to: &Path) -> Output {
    let include = format!("--include={list}");
    let to = to.display().to_string();
    let options = ["--mode=root", "--variant=apt", "--dpkgopt=force-unsafe-io", "--quiet"];
    let mut words = options.to_vec();
    // apt of the root knows no repository but those of a test.
    let forget = "--customize-hook=rm -rf \"$1\"/etc/apt/sources.list*";
    words.extend([include.as_str(), forget, suite, &to]);
    run("mmdebstrap", &words)
}
