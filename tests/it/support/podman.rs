//! Podman with a store of its own, where it may be root of a container itself.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::wait_slowly;

/// A runtime that sets no limits of processes: root of a container may not raise them.
const RUNTIME: &str = "#!/bin/sh
for word; do
  case $before in
    --bundle) file=$word/config.json limits=.process.rlimits ;;
    --process) file=$word limits=.rlimits ;;
  esac
  before=$word
done
if [ -n \"$file\" ]; then
  jq \"del($limits)\" \"$file\" >\"$file.new\" && mv \"$file.new\" \"$file\"
fi
exec runc \"$@\"
";

/// Podman whose store is below a folder, as the host's is below its root. Dropping it removes the
/// containers.
pub struct Podman {
    dir: PathBuf,
    net: Option<Net>,
}

impl Podman {
    /// One whose host network is this system's.
    pub fn new(dir: &Path) -> Self {
        let podman = Self { dir: dir.to_owned(), net: None };
        podman.program("runtime", RUNTIME);
        let folder = |name: &str| dir.join(name).display().to_string();
        let script = format!(
            "#!/bin/sh\nexec podman --root {} --runroot {} --tmpdir {} --network-config-dir {} \
             --cgroup-manager=cgroupfs --events-backend=none --runtime {} \"$@\"\n",
            folder("var/lib/containers/storage"),
            folder("run"),
            folder("tmp"),
            folder("networks"),
            folder("runtime"),
        );
        podman.program("podman", &script);
        podman
    }

    /// One whose host network is one of its own: no port in it is taken.
    pub fn with_net(dir: &Path) -> Self {
        let mut podman = Self::new(dir);
        podman.net = Some(Net::new());
        podman
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The option of nsenter(1) that names the network of the containers.
    pub fn net(&self) -> String {
        self.net.as_ref().map_or_else(|| "--net=/proc/self/ns/net".to_owned(), Net::enter)
    }

    /// The program that runs podman over this store.
    pub fn path(&self) -> PathBuf {
        self.dir.join("podman")
    }

    /// Any program, in the network of the containers.
    pub fn outside(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = match &self.net {
            Some(net) => {
                let mut command = Command::new("nsenter");
                command.arg(net.enter()).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(arguments).current_dir(super::tools::root()).output().unwrap()
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.outside(&self.path().display().to_string(), arguments)
    }

    /// What podman says where it must succeed.
    pub fn must(&self, arguments: &[&str]) -> String {
        let out = self.run(arguments);
        let wrong = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "podman {arguments:?}: {wrong}");
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // One that others depend on goes at the second try.
        for _ in 0..2 {
            self.run(&["rm", "--all", "--force", "--volumes", "-t", "0"]);
        }
        self.run(&["pod", "rm", "--all", "--force"]);
        // Control groups that podman leaves behind; those in use stay.
        let empty = ["-path", "*/libpod_parent*", "-type", "d", "-exec", "rmdir", "{}", ";"];
        let mut find = Command::new("find");
        find.args(["/sys/fs/cgroup", "-depth"]).args(empty).stderr(Stdio::null());
        let _ = find.status();
        // What overlay file systems hold of the store ends with them.
        self.run(&["umount", "--all", "--force"]);
        let store = self.dir.join("var/lib/containers/storage/overlay");
        let _ = Command::new("umount").arg(store).stderr(Stdio::null()).status();
    }
}

/// A network with a loopback interface and nothing else.
struct Net(Child);

impl Net {
    fn new() -> Self {
        let script = "ip link set lo up && echo up && exec sleep 1000";
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", script]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut up = [0_u8; 3];
        std::io::Read::read_exact(&mut out, &mut up).expect("rights for a network namespace");
        Self(child)
    }

    /// The option of nsenter(1) that names it.
    fn enter(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until the health check of a container succeeds.
pub fn wait_healthy(podman: &Podman, name: &str) {
    wait_slowly(&format!("the health of {name}"), || {
        let out = podman.run(&["healthcheck", "run", name]);
        if !out.status.success() {
            let state = podman.run(&["inspect", "--format", "{{.State.Status}}", name]);
            let state = String::from_utf8_lossy(&state.stdout).into_owned();
            let log = || podman.run(&["logs", name]);
            assert!(state.trim() == "running", "{name} is {state}: {:?}", log());
        }
        out.status.success().then_some(())
    });
}
