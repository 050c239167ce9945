//! The RPM packages: installed and upgraded by dnf from a signed repository, then run by systemd on
//! a booted system. That system is a Debian with rpm: what the packages ask of a distribution of
//! theirs, a stand-in provides.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::booted::Booted;
use crate::support::inside::Api;
use crate::support::shipped::Shipped;
use crate::support::tools::{must, there};
use crate::support::{free_port, wait_slowly};

use super::booted::{Beside, Key};

const UNITS: [&str; 2] = ["oxmon-agent.service", "oxmon-server.service"];

/// A package that provides what the others require: libraries, a shell, systemd.
fn stand_in(packages: &Path, to: &Path) {
    let script = "top=$(mktemp -d) && \
        provides=$(for rpm in \"$1\"/*.rpm; do rpm -qp --requires \"$rpm\"; done 2>/dev/null | \
          grep -v -e '^rpmlib' -e '^config' | sort -u | sed 's/^/Provides: /') && \
        printf 'Name: stand-in\\nVersion: 1\\nRelease: 1\\nSummary: s\\nLicense: MIT\\n\
BuildArch: noarch\\n\
%s\\n%%description\\nd\\n%%files\\n' \"$provides\" >\"$top/stand-in.spec\" && \
        rpmbuild -bb --quiet --define \"_topdir $top\" --define \"_rpmdir $2\" \
          --define '_rpmfilename oxmon-stand-in-1.rpm' \"$top/stand-in.spec\" && rm -rf \"$top\"";
    let (from, to) = (packages.display().to_string(), to.display().to_string());
    must("sh", &["-c", script, "stand-in", &from, &to]);
}

/// dnf of this system over another root, which knows the test's repository alone.
struct Dnf<'a> {
    root: &'a Path,
    repos: &'a Path,
}

impl Dnf<'_> {
    fn must(&self, words: &[&str]) -> String {
        let root = format!("--installroot={}", self.root.display());
        let repos = format!("--setopt=reposdir={}", self.repos.display());
        let options = ["-y", "-q", "--releasever=1", "--setopt=install_weak_deps=0", &root, &repos];
        must("dnf", &[&options[..], words].concat())
    }
}

#[test]
fn rpm_packages_live_on_a_booted_system() {
    let tools = ["rpmbuild", "rpmsign", "createrepo_c", "dnf", "gpg", "python3"];
    if !tools.iter().all(|tool| there(tool)) {
        return;
    }
    let Some(mut booted) = Booted::new(&["rpm".to_owned()]) else { return };
    let shipped = Shipped::new(&booted.scratch("bin"));
    let bin = shipped.dir.display().to_string();
    let dist = booted.path("/root/rpms");
    for version in ["0.0.1", "0.0.2"] {
        must("packaging/rpm/build.sh", &[&bin, &dist.join(version).display().to_string(), version]);
    }
    shipped.put_libraries(&booted.path("/"));
    stand_in(&dist.join("0.0.1"), &dist.join("0.0.1"));
    let key = Key::new(booted.scratch("key"));
    let web = booted.scratch("web");
    let publish = |version: &str| {
        let (from, to) = (dist.join(version), &web);
        key.publish("scripts/rpm-repo.sh", &from.display().to_string(), &to.display().to_string());
    };
    publish("0.0.1");
    let port = free_port();
    let mut server = Command::new("python3");
    server.args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1"]);
    server.current_dir(&web).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Beside(server.spawn().unwrap());
    wait_slowly("the web server", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    let repos = booted.scratch("repos");
    let text = std::fs::read_to_string(web.join("oxmon.repo")).unwrap();
    let text = text.replace("@URL@", &format!("http://127.0.0.1:{port}"));
    std::fs::write(repos.join("oxmon.repo"), text).unwrap();

    let root = booted.path("/");
    let dnf = Dnf { root: &root, repos: &repos };
    dnf.must(&["install", "oxmon-agent", "oxmon-server"]);
    let version = |root: &Path| {
        let root = root.display().to_string();
        must(
            "rpm",
            &["--root", &root, "-q", "--queryformat", "%{VERSION} ", "oxmon-agent", "oxmon-server"],
        )
    };
    assert_eq!(version(&root), "0.0.1 0.0.1 ");
    publish("0.0.2");
    dnf.must(&["--refresh", "upgrade"]);
    assert_eq!(version(&root), "0.0.2 0.0.2 ");
    if booted.boot() {
        units_run_and_are_restarted(&booted);
    }
}

fn units_run_and_are_restarted(booted: &Booted) {
    let [agent, server] = UNITS;
    for unit in UNITS {
        assert_eq!(booted.show(unit, "ActiveState"), "inactive");
    }
    for user in ["oxmon-agent", "oxmon"] {
        booted.must(&["getent", "passwd", user]);
    }
    let text = "require_agent_auth = true\n[cert_check]\nenabled = false\n";
    booted.write("/etc/oxmon/server.toml", text);
    booted.must(&["systemctl", "enable", "--now", server]);
    let api = Api::new(booted.net());
    // A code of the dashboard makes a configuration that the unit's user can read, and others not.
    let made = api.call("POST", "/v1/agents/enroll-codes", Some(json!({"agent_id": "unit"})));
    let code = made.expect("a code")["code"].as_str().unwrap().to_owned();
    let enroll = ["oxmon-agent", "enroll", "--server", "127.0.0.1:9090", "--agent-id", "unit"];
    booted.must(&[&enroll[..], &["--code", &code]].concat());
    let owner = booted.must(&["stat", "-c", "%a %U %G", "/etc/oxmon/agent.toml"]);
    assert_eq!(owner.trim(), "640 root oxmon-agent");
    booted.must(&["systemctl", "enable", "--now", agent]);
    for unit in UNITS {
        booted.wait_show(unit, "SubState", "running");
    }
    wait_slowly("the agent's values", || api.latest("unit").filter(|rows| rows.len() > 20));
    let rpm = |words: &[&str]| {
        let script = format!("rpm --nosignature {}", words.join(" "));
        booted.must(&["sh", "-c", &script])
    };
    // Back to the version before, and forward: each time what runs is replaced.
    for (words, version) in [
        (&["-U", "--oldpackage", "/root/rpms/0.0.1/oxmon-[as]*-0.0.1-1.*.rpm"][..], "0.0.1"),
        (&["-U", "/root/rpms/0.0.2/oxmon-[as]*-0.0.2-1.*.rpm"][..], "0.0.2"),
    ] {
        let before = UNITS.map(|unit| booted.show(unit, "MainPID"));
        rpm(words);
        assert_eq!(rpm(&["-q", "--queryformat", "%{VERSION}", "oxmon-server"]), version);
        for (unit, before) in UNITS.iter().zip(before) {
            booted.wait_show(unit, "SubState", "running");
            assert_ne!(booted.show(unit, "MainPID"), before, "{unit}");
            assert_eq!(booted.show(unit, "UnitFileState"), "enabled");
        }
    }
    assert!(!api.times("unit", "memory.total").is_empty());
    rpm(&["-e", "oxmon-agent", "oxmon-server"]);
    for unit in UNITS {
        assert_eq!(booted.show(unit, "LoadState"), "not-found");
    }
    assert!(booted.path("/etc/oxmon/server.toml").exists(), "the configuration is the user's");
}
