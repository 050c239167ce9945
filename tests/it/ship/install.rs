//! `scripts/install.sh`, against a release folder served on loopback, into scratch folders.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::support::server::Server;
use crate::support::tools::{must, or_excuse, root, stripped, there, venv};
use crate::support::{free_port, wait_for};

/// A release's files, served as a mirror would.
struct Mirror {
    dir: TempDir,
    server: Child,
    url: String,
}

impl Mirror {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let built = tempfile::tempdir().unwrap();
        let bin = stripped(built.path());
        must("scripts/package.sh", &[&triple, &dir.path().display().to_string(), &bin]);
        let port = free_port();
        let server = Command::new("python3")
            .args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1"])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the mirror", Duration::from_secs(10), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { dir, server, url: format!("http://127.0.0.1:{port}") }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Scratch folders for what is installed.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str], path: Option<&str>) -> Output {
        self.run_by("bash", arguments, path)
    }

    fn run_by(&self, shell: &str, arguments: &[&str], path: Option<&str>) -> Output {
        let folder = |name: &str| self.path(name).display().to_string();
        let mut command = Command::new(shell);
        command
            .arg("scripts/install.sh")
            .args(["--install-dir", &folder("bin"), "--config-dir", &folder("etc")])
            .args(["--data-dir", &folder("data")])
            .args(arguments)
            .env("PM2_HOME", folder("pm2"))
            .current_dir(root());
        if let Some(path) = path {
            command.env("PATH", path);
        }
        command.output().unwrap()
    }

    fn must(&self, arguments: &[&str], path: Option<&str>) -> String {
        let out = self.run(arguments, path);
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(
            out.status.success(),
            "{arguments:?}: {said}{}",
            String::from_utf8_lossy(&out.stderr)
        );
        said
    }
}

#[test]
fn a_component_is_installed_configured_and_removed() {
    let mirror = Mirror::new();
    let scratch = Scratch::new();
    let said = scratch.must(
        &[
            "agent",
            "--base-url",
            &mirror.url,
            "--agent-id",
            "edge-7",
            "--server-endpoint",
            "10.1.2.3:9090",
        ],
        None,
    );
    assert!(said.contains("installed"), "{said}");
    let config = std::fs::read_to_string(scratch.path("etc/agent.toml")).unwrap();
    assert!(
        config.contains("agent_id = \"edge-7\"") && config.contains("10.1.2.3:9090"),
        "{config}"
    );
    let program = scratch.path("bin/oxmon-agent");
    let check = Command::new(&program)
        .arg("--check-config")
        .arg(scratch.path("etc/agent.toml"))
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));

    // A second run is an upgrade: the configuration stays as the user has it.
    std::fs::write(scratch.path("etc/agent.toml"), "agent_id = \"mine\"\n").unwrap();
    let said = scratch.must(&["agent", "--base-url", &mirror.url, "--agent-id", "other"], None);
    assert!(said.contains("kept"), "{said}");
    let config = std::fs::read_to_string(scratch.path("etc/agent.toml")).unwrap();
    assert_eq!(config, "agent_id = \"mine\"\n");

    scratch.must(&["server", "--base-url", &mirror.dir.path().display().to_string()], None);
    assert!(scratch.path("data").is_dir());
    let config = std::fs::read_to_string(scratch.path("etc/server.toml")).unwrap();
    assert!(config.contains(&scratch.path("data").display().to_string()));

    scratch.must(&["agent", "--uninstall"], None);
    assert!(!program.exists());
    assert!(scratch.path("etc/agent.toml").exists(), "the configuration is the user's");
}

#[test]
fn a_code_of_the_dashboard_gives_the_agent_its_token() {
    let mut server = Server::start("require_agent_auth = true\n");
    let made = server.post("/v1/agents/enroll-codes", json!({"agent_id": "edge-7"}));
    let code = made["code"].as_str().unwrap().to_owned();
    let (mirror, scratch) = (Mirror::new(), Scratch::new());
    let endpoint = format!("127.0.0.1:{}", server.grpc_port);
    let line =
        ["agent", "--base-url", &mirror.url, "--server-endpoint", &endpoint, "--code", &code];
    scratch.must(&[&line[..], &["--agent-id", "edge-7"]].concat(), None);
    let config = std::fs::read_to_string(scratch.path("etc/agent.toml")).unwrap();
    assert!(config.contains("\nauth_token = \""), "{config}");
    let mut agent = Command::new(scratch.path("bin/oxmon-agent"))
        .arg(scratch.path("etc/agent.toml"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the host's values", Duration::from_secs(30), || {
        let latest = server.call("GET", "/v1/agents/edge-7/latest", None);
        (latest.status == 200).then_some(())
    });
    agent.kill().unwrap();
    agent.wait().unwrap();

    // A code is good once: the program stays, and what to do is said.
    let out = scratch.run(&[&line[..], &["--agent-id", "edge-7"]].concat(), None);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("get a new code"), "{said}");
    let out = scratch.run(&["server", "--code", &code], None);
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("for an agent"));
}

#[test]
fn an_archive_that_was_changed_is_not_installed() {
    let mirror = Mirror::new();
    let scratch = Scratch::new();
    let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let archive = mirror.dir.path().join(format!("oxmon-agent-{triple}.tar.gz"));
    let mut bytes = std::fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&archive, bytes).unwrap();
    let out = scratch.run(&["agent", "--base-url", &mirror.url], None);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("nothing is installed"), "{said}");
    assert!(!scratch.path("bin/oxmon-agent").exists());

    std::fs::write(mirror.dir.path().join("SHA256SUMS"), "").unwrap();
    let out = scratch.run(&["agent", "--base-url", &mirror.url], None);
    assert!(!out.status.success());
    assert!(!scratch.path("bin/oxmon-agent").exists());
}

#[test]
fn a_program_that_does_not_run_here_replaces_nothing() {
    let (dir, scratch) = (tempfile::tempdir().unwrap(), Scratch::new());
    let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let folder = dir.path().display().to_string();
    for program in ["oxmon-agent", "oxmon-server"] {
        let file = dir.path().join(program);
        std::fs::write(&file, "#!/bin/sh\necho not for this processor >&2\nexit 126\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    must("scripts/package.sh", &[&triple, &folder, &folder]);
    let out = scratch.run(&["agent", "--base-url", &folder], None);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("does not run on this system"), "{said}");
    assert!(!scratch.path("bin/oxmon-agent").exists());
}

#[test]
fn a_plain_shell_and_wget_are_enough_and_what_is_open_is_printed() {
    if !there("dash") || !there("wget") {
        return;
    }
    let (mirror, scratch) = (Mirror::new(), Scratch::new());
    // A PATH without curl: links to everything else.
    let tools = scratch.path("tools");
    std::fs::create_dir(&tools).unwrap();
    let script = format!(
        "for file in /usr/bin/* /bin/*; do case $file in */curl | */pm2) ;; \
         *) ln -sf \"$file\" {}/ ;; esac; done",
        tools.display()
    );
    must("sh", &["-c", &script]);
    let path = tools.display().to_string();
    let install = ["server", "--base-url", &mirror.url];
    let out = scratch.run_by("dash", &install, Some(&path));
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    assert!(said.contains("9090") && said.contains("require_agent_auth = true"), "{said}");
    // An upgrade repeats nothing of that.
    let out = scratch.run_by("dash", &install, Some(&path));
    assert!(!String::from_utf8_lossy(&out.stdout).contains("require_agent_auth"));
    let out = scratch.run_by("dash", &["server", "--uninstall"], Some(&path));
    assert!(out.status.success() && !scratch.path("bin/oxmon-server").exists());
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    let scratch = Scratch::new();
    for (arguments, words) in [
        (&["--version", "v1"][..], "server or agent"),
        (&["agent", "--colour"][..], "--colour"),
        (&["agent", "--setup-pm2", "--setup-systemd"][..], "not both"),
        (&["agent", "--agent-id", "a\"b"][..], "--agent-id"),
        (&["agent", "--setup-systemd", "--install-dir", "/opt/a b"][..], "space"),
        (&["agent", "--setup-systemd", "--install-dir", "/root/bin"][..], "/root"),
        (&["agent", "--setup-systemd", "--install-dir", "bin"][..], "absolute"),
        (&["agent", "--base-url", "/no/such/folder"][..], "/no/such/folder"),
        (&["agent", "--pm2-only"][..], ""),
    ] {
        let out = scratch.run(arguments, None);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn somebody_who_is_not_root_installs_into_folders_of_their_own() {
    let root_user = must("id", &["-u"]).trim() == "0";
    if !root_user {
        // The other tests of this file are that one then.
        return;
    }
    let mirror = Mirror::new();
    let scratch = Scratch::new();
    let script = scratch.path("install.sh");
    std::fs::copy(root().join("scripts/install.sh"), &script).unwrap();
    must("chown", &["-R", "65534:65534", &scratch.0.path().display().to_string()]);
    let install = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "bash"]).arg(&script);
        command.args(["agent", "--base-url", &mirror.url]).args(arguments);
        // Whoever may use sudo is asked for it; this user may not.
        command.env("PATH", "/usr/bin:/bin").current_dir(scratch.0.path()).output().unwrap()
    };
    let (bin, etc) = (scratch.path("bin"), scratch.path("etc"));
    let folders = ["--install-dir", bin.to_str().unwrap(), "--config-dir", etc.to_str().unwrap()];
    let out = install(&folders);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(etc.join("agent.toml").is_file() && bin.join("oxmon-agent").is_file());
    let has_sudo = std::path::Path::new("/usr/bin/sudo").exists();
    let out = install(&["--install-dir", "/usr/local/bin", "--config-dir", folders[3]]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && (has_sudo || said.contains("run this as root")), "{said}");
    assert!(!std::path::Path::new("/usr/local/bin/oxmon-agent").exists());
}

/// Runs the script where systemd seems to run: /etc is a copy, and systemctl writes down what it is
/// asked. `None` where no such view of the system can be had.
fn under_systemd(scratch: &Scratch, arguments: &[&str]) -> Option<Output> {
    let at = scratch.0.path().display().to_string();
    let systemctl = scratch.path("fake/systemctl");
    if !systemctl.exists() {
        std::fs::create_dir_all(scratch.path("fake")).unwrap();
        must("cp", &["-a", "/etc", &format!("{at}/etc-of-system")]);
        std::fs::write(&systemctl, format!("#!/bin/sh\necho \"$*\" >>{at}/asked\n")).unwrap();
        must("chmod", &["755", &systemctl.display().to_string()]);
    }
    let script = format!(
        "mount --bind {at}/etc-of-system /etc && mount -t tmpfs none /run && \
         mkdir -p /run/systemd/system && PATH={at}/fake:$PATH && exec bash scripts/install.sh \"$@\" \
         --install-dir {at}/bin --config-dir {at}/etc --data-dir {at}/data"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "install"]).args(arguments).current_dir(root());
    let out = command.output().unwrap();
    let refused = String::from_utf8_lossy(&out.stderr).contains("unshare:");
    or_excuse(!refused, "no rights for a mount namespace").then_some(out)
}

#[test]
fn systemd_gets_the_unit_of_the_packages_with_the_folders_that_were_asked_for() {
    let mirror = Mirror::new();
    let scratch = Scratch::new();
    for component in ["agent", "server"] {
        let install = [component, "--base-url", &mirror.url, "--setup-systemd"];
        let Some(out) = under_systemd(&scratch, &install) else { return };
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
        let name = format!("oxmon-{component}.service");
        let unit = scratch.path(&format!("etc-of-system/systemd/system/{name}"));
        let text = std::fs::read_to_string(&unit).unwrap();
        let start = format!(
            "ExecStart={0}/bin/oxmon-{component} {0}/etc/{component}.toml",
            scratch.0.path().display()
        );
        assert!(text.contains(&start) && text.contains("SystemCallFilter="), "{text}");
        if there("systemd-analyze") {
            let file = unit.display().to_string();
            let said = must("systemd-analyze", &["security", "--offline=true", &file]);
            assert!(said.contains("OK"), "{said}");
        }
        let config = std::fs::metadata(scratch.path(&format!("etc/{component}.toml"))).unwrap();
        assert_eq!(config.permissions().mode() & 0o777, 0o640);
        let asked = std::fs::read_to_string(scratch.path("asked")).unwrap();
        assert!(asked.contains(&format!("enable --now {name}")), "{asked}");
        // This systemctl finds every service running.
        assert!(asked.contains(&format!("restart {name}")) && said.contains("restarted"), "{said}");
        let out = under_systemd(&scratch, &[component, "--uninstall"]).unwrap();
        assert!(out.status.success() && !unit.exists());
        let asked = std::fs::read_to_string(scratch.path("asked")).unwrap();
        assert!(asked.contains(&format!("disable --now {name}")), "{asked}");
    }
    let server = std::fs::read_to_string(scratch.path("etc/server.toml")).unwrap();
    assert!(server.contains(&scratch.path("data").display().to_string()), "{server}");
}

/// The folder with a pm2 of the npm registry, put there once by the set-up of the tests.
fn pm2() -> Option<PathBuf> {
    let bin = venv().parent()?.join("npm/node_modules/.bin");
    bin.join("pm2").exists().then_some(bin)
}

#[test]
fn pm2_starts_what_was_installed() {
    let bin = pm2();
    or_excuse(bin.is_some(), "pm2 is not installed");
    let Some(bin) = bin else { return };
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mirror = Mirror::new();
    let scratch = Scratch::new();
    let out = scratch.run(&["agent", "--base-url", &mirror.url, "--setup-pm2"], Some(&path));
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let pm2 = |arguments: &[&str]| {
        let out = Command::new(bin.join("pm2"))
            .args(arguments)
            .env("PM2_HOME", scratch.path("pm2"))
            .env("PATH", &path)
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let list = pm2(&["jlist"]);
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    scratch.must(&["agent", "--pm2-only"], Some(&path));
    scratch.must(&["agent", "--uninstall"], Some(&path));
    let after = pm2(&["jlist"]);
    pm2(&["kill"]);
    assert!(list.contains("\"name\":\"oxmon-agent\"") && list.contains("online"), "{list}");
    assert!(!after.contains("\"name\":\"oxmon-agent\""), "{after}");
}
