//! Units, packages and scripts as a user of them meets them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::agent;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let out = Command::new(program)
        .args(arguments)
        .current_dir(root())
        // Test builds are large and thrown away.
        .env("OXMON_DEB_COMPRESSION", "none")
        .env("OXMON_RPM_PAYLOAD", "w1.gzdio")
        .output();
    out.unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn must(program: &str, arguments: &[&str]) -> String {
    let out = run(program, arguments);
    let (said, wrong) =
        (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{program} {arguments:?}: {said}{wrong}");
    said.into_owned()
}

fn bin_dir() -> String {
    Path::new(agent::PROGRAM).parent().unwrap().display().to_string()
}

fn there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn units_are_hardened_to_1_5_or_lower() {
    if !there("systemd-analyze") {
        eprintln!("no systemd-analyze on this system: the units are not rated");
        return;
    }
    for unit in ["oxmon-agent", "oxmon-server"] {
        let file = format!("systemd/{unit}.service");
        let said = must("systemd-analyze", &["security", "--offline=true", "--no-pager", &file]);
        let line = said.lines().find(|line| line.contains("Overall exposure")).unwrap();
        let rating: f64 = line
            .split_whitespace()
            .find_map(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("no rating in: {line}"));
        assert!(rating <= 1.5, "{line}");
    }
}

#[test]
fn units_have_no_mistake() {
    if !there("systemd-analyze") {
        eprintln!("no systemd-analyze on this system: the units are not verified");
        return;
    }
    // The programs are where the build put them, not in /usr/bin.
    let dir = tempfile::tempdir().unwrap();
    for unit in ["oxmon-agent", "oxmon-server"] {
        let text = std::fs::read_to_string(root().join(format!("systemd/{unit}.service"))).unwrap();
        let text = text.replace("/usr/bin/", &format!("{}/", bin_dir()));
        let text: String = text
            .lines()
            .filter(|line| !line.starts_with("Documentation="))
            .fold(String::new(), |all, line| all + line + "\n");
        let path = dir.path().join(format!("{unit}.service"));
        std::fs::write(&path, text).unwrap();
        let out = run("systemd-analyze", &["verify", "--man=no", &path.display().to_string()]);
        let said = String::from_utf8_lossy(&out.stderr);
        let ours: Vec<&str> = said.lines().filter(|line| line.contains(unit)).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
}

#[test]
fn scripts_pass_shellcheck() {
    if !there("shellcheck") {
        eprintln!("no shellcheck on this system: the scripts are only parsed");
        return;
    }
    let files = must("git", &["ls-files", "*.sh", ".ci/run", "packaging/deb"]);
    let files: Vec<&str> = files.lines().filter(|file| !file.contains("deb/p")).collect();
    let mut arguments = vec!["-x", "-S", "warning"];
    arguments.extend(&files);
    must("shellcheck", &arguments);
    must("shellcheck", &["packaging/deb/postinst", "packaging/deb/prerm", "packaging/deb/postrm"]);
}

#[test]
fn debian_packages_install_upgrade_and_purge_cleanly() {
    let user = must("id", &["-u"]);
    if user.trim() != "0" || !there("dpkg-deb") {
        eprintln!("not root on a Debian system: the packages are not installed");
        return;
    }
    if Path::new("/etc/oxmon").exists() {
        eprintln!("oxmon is installed on this system: the packages are not installed over it");
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().display().to_string();
    must("packaging/deb/build.sh", &[&bin_dir(), &dir, "0.0.1"]);
    must("packaging/deb/build.sh", &[&bin_dir(), &dir, "0.0.2"]);
    let package = |name: &str, version: &str| {
        let architecture = must("dpkg", &["--print-architecture"]);
        format!("{dir}/{name}_{version}_{}.deb", architecture.trim())
    };
    let (agent, server) = (package("oxmon-agent", "0.0.1"), package("oxmon-server", "0.0.1"));
    must("dpkg", &["-i", &agent, &server]);
    must("oxmon-agent", &["--version"]);
    must("oxmon-server", &["--check-config", "/etc/oxmon/server.example.toml"]);
    must("getent", &["passwd", "oxmon-agent"]);
    must("getent", &["passwd", "oxmon"]);
    for file in
        ["/usr/share/man/man1/oxmon-agent.1.gz", "/usr/lib/systemd/system/oxmon-server.service"]
    {
        assert!(Path::new(file).is_file(), "{file}");
    }
    // A configuration and data of the user's own survive an upgrade, and a changed example too.
    std::fs::write("/etc/oxmon/agent.toml", "agent_id = \"kept\"\n").unwrap();
    std::fs::create_dir_all("/var/lib/oxmon").unwrap();
    std::fs::write("/var/lib/oxmon/kept", "data").unwrap();
    let (agent, server) = (package("oxmon-agent", "0.0.2"), package("oxmon-server", "0.0.2"));
    must("dpkg", &["-i", &agent, &server]);
    assert!(must("dpkg-query", &["-W", "oxmon-agent"]).contains("0.0.2"));
    assert_eq!(std::fs::read_to_string("/etc/oxmon/agent.toml").unwrap(), "agent_id = \"kept\"\n");
    assert!(Path::new("/var/lib/oxmon/kept").is_file());

    must("dpkg", &["--purge", "oxmon-agent", "oxmon-server"]);
    for left in ["/etc/oxmon", "/var/lib/oxmon", "/var/lib/oxmon-agent", "/usr/bin/oxmon-agent"] {
        assert!(!Path::new(left).exists(), "{left} is left behind");
    }
    assert!(!run("getent", &["passwd", "oxmon-agent"]).status.success(), "the user is left behind");
}

#[test]
fn rpm_packages_hold_what_they_should() {
    if !there("rpmbuild") {
        eprintln!("no rpmbuild on this system: the RPM packages are not built");
        return;
    }
    let out = tempfile::tempdir().unwrap();
    must("packaging/rpm/build.sh", &[&bin_dir(), &out.path().display().to_string(), "0.0.1"]);
    for name in ["oxmon-agent", "oxmon-server"] {
        let found =
            must("find", &[&out.path().display().to_string(), "-name", &format!("{name}-*.rpm")]);
        let package = found.lines().next().unwrap();
        let files = must("rpm", &["-qlp", package]);
        for file in [
            format!("/usr/bin/{name}"),
            format!("/usr/lib/systemd/system/{name}.service"),
            format!("/usr/share/man/man1/{name}.1.gz"),
            format!("/etc/oxmon/{}.example.toml", name.trim_start_matches("oxmon-")),
        ] {
            assert!(files.lines().any(|line| line == file), "{file} is not in {files}");
        }
        let configs = must("rpm", &["-qcp", package]);
        assert!(configs.contains(".example.toml"), "{configs}");
        let scripts = must("rpm", &["-qp", "--scripts", package]);
        assert!(scripts.contains("useradd") && scripts.contains("try-restart"), "{scripts}");
    }
}
