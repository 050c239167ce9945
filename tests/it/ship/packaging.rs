//! Packages as a user of them meets them: installed, upgraded, removed and read back for real.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::shipped::script;
use crate::support::tools::{must, or_excuse, root, run, stripped, there};

/// Debian packages of this build in two versions, and a system that they can be put on.
struct Debian {
    out: TempDir,
}

impl Debian {
    /// `None` where this system is none for that; it says so.
    fn new() -> Option<Self> {
        let root_user = must("id", &["-u"]).trim() == "0";
        if !there("dpkg-deb") || !or_excuse(root_user, "packages are installed by root alone") {
            return None;
        }
        if !or_excuse(!Path::new("/etc/oxmon").exists(), "oxmon is installed on this system") {
            return None;
        }
        let debian = Self { out: tempfile::tempdir().unwrap() };
        let dir = debian.out.path().display().to_string();
        let bin = stripped(&debian.out.path().join("bin"));
        for version in ["0.0.1", "0.0.2"] {
            must("packaging/deb/build.sh", &[&bin, &dir, version]);
        }
        debian.fake_systemctl();
        Some(debian)
    }

    /// A systemctl that records its arguments, and finds every unit enabled and running.
    fn fake_systemctl(&self) {
        let path = self.out.path().join("fake");
        std::fs::create_dir(&path).unwrap();
        let script = format!(
            "#!/bin/sh\necho \"$*\" >>{}\ncase $* in *is-enabled*) echo enabled ;; esac\n",
            self.asked_file()
        );
        std::fs::write(path.join("systemctl"), script).unwrap();
        must("chmod", &["755", &path.join("systemctl").display().to_string()]);
    }

    fn asked_file(&self) -> String {
        self.out.path().join("asked").display().to_string()
    }

    /// What systemctl was asked since this was last called.
    fn asked(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.asked_file()).unwrap_or_default();
        let _ = std::fs::remove_file(self.asked_file());
        text.lines().map(str::to_owned).collect()
    }

    fn packages(&self, version: &str) -> Vec<String> {
        let architecture = must("dpkg", &["--print-architecture"]);
        let name = |name: &str| format!("{name}_{version}-1_{}.deb", architecture.trim());
        ["oxmon-agent", "oxmon-server"]
            .map(|package| self.out.path().join(name(package)).display().to_string())
            .into()
    }

    /// dpkg on a system without systemd, such as a container.
    fn dpkg(&self, arguments: &[&str]) {
        self.dpkg_by(Command::new("dpkg").arg("--force-unsafe-io").args(arguments));
    }

    /// dpkg on a system that systemd runs: a view of /run of its own, and the systemctl above. The
    /// man pages were looked at by then, and their index takes a while.
    fn dpkg_under_systemd(&self, arguments: &[&str]) {
        let path = std::env::var("PATH").unwrap();
        let script = "mount -t tmpfs none /run && mkdir -p /run/systemd/system /run/lock && \
                      { [ ! -e /usr/sbin/policy-rc.d ] || mount --bind /dev/null \
                      /usr/sbin/policy-rc.d; } && exec dpkg --force-unsafe-io \
                      --path-exclude='/usr/share/man/*' \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "dpkg"]).args(arguments);
        command.env("PATH", format!("{}:{path}", self.out.path().join("fake").display()));
        self.dpkg_by(&mut command);
    }

    /// Waits for the packages' lock, which another program of this system may hold.
    fn dpkg_by(&self, command: &mut Command) {
        let out = crate::support::wait_for("dpkg", std::time::Duration::from_secs(120), || {
            let out = command.output().unwrap();
            let text = String::from_utf8_lossy(&out.stderr).into_owned();
            (!text.contains("lock")).then_some(out)
        });
        let (said, wrong) = (&out.stdout, &out.stderr);
        let text = String::from_utf8_lossy(said) + String::from_utf8_lossy(wrong);
        assert!(out.status.success(), "{text}");
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        if Path::new("/etc/oxmon").exists() {
            let _ = run("dpkg", &["--purge", "oxmon-agent", "oxmon-server"]);
        }
    }
}

fn nothing_is_left() {
    let wants = "/etc/systemd/system/multi-user.target.wants";
    for left in [
        "/etc/oxmon",
        "/var/lib/oxmon",
        "/var/lib/oxmon-agent",
        "/usr/bin/oxmon-agent",
        "/usr/share/doc/oxmon-server",
        &format!("{wants}/oxmon-agent.service"),
        "/var/lib/systemd/deb-systemd-helper-enabled/oxmon-agent.service.dsh-also",
    ] {
        assert!(std::fs::symlink_metadata(left).is_err(), "{left} is left behind");
    }
    for user in ["oxmon", "oxmon-agent"] {
        let found: Output = run("getent", &["passwd", user]);
        assert!(!found.status.success(), "the user {user} is left behind");
    }
}

#[test]
fn debian_packages_install_upgrade_and_purge_cleanly() {
    let Some(debian) = Debian::new() else { return };
    let (first, second) = (debian.packages("0.0.1"), debian.packages("0.0.2"));
    debian.dpkg(&["-i", &first[0], &first[1]]);
    must("/usr/bin/oxmon-agent", &["--version"]);
    must("/usr/bin/oxmon-server", &["--check-config", "/etc/oxmon/server.example.toml"]);
    must("getent", &["passwd", "oxmon-agent"]);
    must("getent", &["passwd", "oxmon"]);
    for name in ["oxmon-agent", "oxmon-server"] {
        for file in [
            format!("/usr/share/man/man1/{name}.1.gz"),
            format!("/usr/lib/systemd/system/{name}.service"),
            format!("/usr/share/bash-completion/completions/{name}"),
            format!("/usr/share/zsh/vendor-completions/_{name}"),
            format!("/usr/share/fish/vendor_completions.d/{name}.fish"),
            format!("/usr/lib/sysusers.d/{name}.conf"),
        ] {
            assert!(Path::new(&file).is_file(), "{file}");
        }
    }
    assert!(must("dpkg", &["--verify", "oxmon-agent", "oxmon-server"]).is_empty());

    // A configuration and data of the user's own survive an upgrade, and a changed example too.
    std::fs::write("/etc/oxmon/agent.toml", "agent_id = \"kept\"\n").unwrap();
    std::fs::write("/etc/oxmon/agent.example.toml", "# mine\n").unwrap();
    std::fs::create_dir_all("/var/lib/oxmon").unwrap();
    std::fs::write("/var/lib/oxmon/kept", "data").unwrap();
    debian.dpkg(&["--force-confold", "-i", &second[0], &second[1]]);
    assert!(must("dpkg-query", &["-W", "oxmon-agent"]).contains("0.0.2"));
    assert_eq!(std::fs::read_to_string("/etc/oxmon/agent.toml").unwrap(), "agent_id = \"kept\"\n");
    assert_eq!(std::fs::read_to_string("/etc/oxmon/agent.example.toml").unwrap(), "# mine\n");
    assert!(Path::new("/var/lib/oxmon/kept").is_file());
    debian.dpkg(&["--purge", "oxmon-agent", "oxmon-server"]);
    nothing_is_left();

    // The same where systemd runs: nothing that is not configured is started, what runs is.
    debian.dpkg_under_systemd(&["-i", &first[0], &first[1]]);
    let asked = debian.asked().join("\n");
    assert!(asked.contains("daemon-reload"), "{asked}");
    assert!(!asked.contains("start") && !asked.contains("--now"), "{asked}");
    debian.dpkg_under_systemd(&["-i", &second[0], &second[1]]);
    let asked = debian.asked();
    for name in ["oxmon-agent", "oxmon-server"] {
        assert!(asked.contains(&format!("try-restart {name}.service")), "{asked:?}");
    }
    // Installed again after a removal: what is configured starts.
    std::fs::write("/etc/oxmon/agent.toml", "agent_id = \"kept\"\n").unwrap();
    debian.dpkg_under_systemd(&["--remove", "oxmon-agent"]);
    assert!(debian.asked().contains(&"stop oxmon-agent.service".to_owned()));
    debian.dpkg_under_systemd(&["-i", &second[0]]);
    let asked = debian.asked();
    let starts = |line: &String| line.ends_with(" start oxmon-agent.service");
    assert!(asked.iter().any(starts), "{asked:?}");
    debian.dpkg_under_systemd(&["--purge", "oxmon-agent", "oxmon-server"]);
    assert!(debian.asked().contains(&"stop oxmon-agent.service".to_owned()));
    nothing_is_left();
}

#[test]
fn lintian_finds_no_fault_with_the_debian_packages() {
    if !there("dpkg-deb") || !there("lintian") {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().display().to_string();
    let bin = stripped(&out.path().join("bin"));
    must("packaging/deb/build.sh", &[&bin, &dir, "0.0.1"]);
    let found = must("find", &[&dir, "-name", "*.deb"]);
    assert_eq!(found.lines().count(), 2, "{found}");
    for package in found.lines() {
        let listed = must("dpkg-deb", &["--contents", package]);
        assert!(listed.starts_with("drwxr-xr-x root/root"), "{listed}");
        assert!(!must("dpkg-deb", &["--field", package, "Recommends"]).contains("systemd"));
    }
    // What is left to say has its reason in packaging/deb/lintian-overrides.
    let mut check = vec!["--allow-root", "--fail-on", "error,warning"];
    check.extend(found.lines());
    must("lintian", &check);
}

#[test]
fn debian_packages_are_compressed_for_every_dpkg() {
    if !there("dpkg-deb") || !there("ar") {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let bin = out.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for program in ["oxmon-agent", "oxmon-server"] {
        std::fs::copy("/bin/true", bin.join(program)).unwrap();
    }
    let (bin, dir) = (bin.display().to_string(), out.path().display().to_string());
    // As a release is built; the other tests compress faster.
    script("packaging/deb/build.sh", &[&bin, &dir, "0.0.1"], &[]);
    let found = must("find", &[&dir, "-name", "*.deb"]);
    assert_eq!(found.lines().count(), 2, "{found}");
    for package in found.lines() {
        let parts = must("ar", &["t", package]);
        assert_eq!(parts.trim(), "debian-binary\ncontrol.tar.xz\ndata.tar.xz", "{package}");
    }
}

#[test]
fn rpm_packages_hold_what_they_should() {
    if !there("rpmbuild") {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().display().to_string();
    let bin = stripped(&out.path().join("bin"));
    must("packaging/rpm/build.sh", &[&bin, &dir, "0.0.1"]);
    // In the folder itself, where the release workflow looks for them.
    let found = must("find", &[&dir, "-maxdepth", "1", "-name", "*.rpm"]);
    assert_eq!(found.lines().count(), 2, "{found}");
    for package in found.lines() {
        let name = if package.contains("oxmon-agent") { "oxmon-agent" } else { "oxmon-server" };
        let files = must("rpm", &["-qlp", package]);
        for file in [
            format!("/usr/bin/{name}"),
            format!("/usr/lib/systemd/system/{name}.service"),
            format!("/usr/lib/sysusers.d/{name}.conf"),
            format!("/usr/share/man/man1/{name}.1.gz"),
            format!("/usr/share/bash-completion/completions/{name}"),
            format!("/usr/share/zsh/site-functions/_{name}"),
            format!("/usr/share/fish/vendor_completions.d/{name}.fish"),
            format!("/usr/share/doc/{name}/changelog.gz"),
            format!("/usr/share/doc/{name}/copyright"),
            format!("/etc/oxmon/{}.example.toml", name.trim_start_matches("oxmon-")),
        ] {
            assert!(files.lines().any(|line| line == file), "{file} is not in {files}");
        }
        let configs = must("rpm", &["-qcp", package]);
        assert!(configs.contains(".example.toml"), "{configs}");
        let scripts = must("rpm", &["-qp", "--scripts", package]);
        assert!(scripts.contains("systemd-sysusers") && scripts.contains("useradd"), "{scripts}");
        assert!(!must("rpm", &["-qp", "--requires", package]).contains("shadow"));
        assert!(scripts.contains("useradd") && scripts.contains("try-restart"), "{scripts}");
        must("rpm", &["-K", "--nosignature", package]);
    }
    if there("rpmlint") {
        let config = root().join("packaging/rpm/rpmlint.toml").display().to_string();
        let mut arguments = vec!["--config", &config];
        arguments.extend(found.lines());
        let said = must("rpmlint", &arguments);
        assert!(said.contains("0 errors, 0 warnings"), "{said}");
    }
}
