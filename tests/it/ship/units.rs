//! The systemd units: their form, their rating, and that both daemons work within them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::agent;
use crate::support::server::{self, Server};
use crate::support::tools::{bin_dir, must, root, run, there};
use crate::support::{free_port, wait_exit, wait_for};

const UNITS: [&str; 2] = ["oxmon-agent", "oxmon-server"];

fn unit(name: &str) -> String {
    std::fs::read_to_string(root().join(format!("systemd/{name}.service"))).unwrap()
}

#[test]
fn units_are_hardened_to_1_5_or_lower() {
    if !there("systemd-analyze") {
        return;
    }
    for unit in UNITS {
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
        return;
    }
    // The programs are where the build put them, not in /usr/bin.
    let dir = tempfile::tempdir().unwrap();
    for name in UNITS {
        let text = unit(name).replace("/usr/bin/", &format!("{}/", bin_dir()));
        let path = dir.path().join(format!("{name}.service"));
        std::fs::write(&path, text).unwrap();
        let out = run("systemd-analyze", &["verify", "--man=no", &path.display().to_string()]);
        let said = String::from_utf8_lossy(&out.stderr);
        // systemd before 254 knows neither, and says so.
        let newer = ["'RestartSteps'", "'RestartMaxDelaySec'"];
        let known = |line: &&str| !newer.iter().any(|key| line.contains(key));
        let ours: Vec<&str> =
            said.lines().filter(|line| line.contains(name)).filter(known).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
}

#[test]
fn a_service_that_keeps_failing_reaches_its_start_limit() {
    let seconds = |text: &str, key: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {key}"))
    };
    for name in UNITS {
        let text = unit(name);
        let (first, most) = (seconds(&text, "RestartSec"), seconds(&text, "RestartMaxDelaySec"));
        let steps = seconds(&text, "RestartSteps");
        // systemd.service(5): from the one to the other in so many steps, by equal factors.
        let pause = |n: f64| (first * (most / first).powf(n / steps)).min(most);
        let burst = seconds(&text, "StartLimitBurst");
        let took: f64 = (0..burst as i32).map(|n| pause(f64::from(n))).sum();
        let limit = seconds(&text, "StartLimitIntervalSec");
        assert!(took < limit && first * burst < limit, "{name}: {took} s");
    }
}

/// As root, and only then, SQLite gives its files to the owner of the database. The unit's user is
/// not root, but the test may be.
const ROOT_ALONE: [&str; 1] = ["fchown"];
/// Calls that the agent does without where they are refused: ProtectClock= knows no reading.
const REFUSED: [&str; 2] = ["adjtimex", "clock_adjtime"];

/// The system calls that a unit's `SystemCallFilter=` lines allow, by systemd's own sets.
fn allowed(name: &str) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for line in unit(name).lines() {
        let Some(filter) = line.strip_prefix("SystemCallFilter=") else { continue };
        let (deny, sets) = filter.strip_prefix('~').map_or((false, filter), |sets| (true, sets));
        for set in sets.split_whitespace() {
            let mut calls = BTreeSet::new();
            expand(set, &mut calls);
            if deny {
                allowed = &allowed - &calls;
            } else {
                allowed.extend(calls);
            }
        }
    }
    allowed
}

fn expand(set: &str, calls: &mut BTreeSet<String>) {
    if !set.starts_with('@') {
        calls.insert(set.to_owned());
        return;
    }
    let said = must("systemd-analyze", &["syscall-filter", "--no-pager", set]);
    let members = said.lines().skip(1).map(str::trim);
    for member in members.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        expand(member, calls);
    }
}

/// The system calls of a trace by `strace -f -qq`: `PID call(…`, `PID <... call resumed>…`.
fn called(trace: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(trace).unwrap();
    text.lines()
        .filter_map(|line| {
            line.trim_start_matches(|c: char| c.is_ascii_digit()).trim().split_once('(')
        })
        .map(|(call, _)| call.to_owned())
        .filter(|call| call.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .collect()
}

/// A daemon under strace. The trace begins with the `execve` by which systemd starts it.
struct Traced(Child);

impl Traced {
    fn start(program: &str, config: &Path, trace: &Path) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-s", "0", "-o"]).arg(trace).arg(program).arg(config);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// strace itself takes no signal; the daemon does, and strace ends with it.
    fn signal(&self, name: &str) {
        let id = self.0.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            run("kill", &[&format!("-{name}"), child]);
        }
    }

    fn stop(&mut self) {
        self.signal("TERM");
        wait_exit(&mut self.0, Duration::from_secs(30));
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.signal("KILL");
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn both_daemons_call_only_what_their_units_allow() {
    if !there("systemd-analyze") || !there("strace") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (grpc, http) = (free_port(), free_port());
    let data = path("data");
    let text = format!(
        "grpc_port = {grpc}\nhttp_port = {http}\nbind = [\"127.0.0.1\"]\ndata_dir = {:?}\n",
        data.display().to_string()
    );
    std::fs::write(path("server.toml"), text).unwrap();
    let text = format!(
        "agent_id = \"traced\"\nserver_endpoint = \"127.0.0.1:{grpc}\"\n\
         collection_interval_secs = 1\nbuffer_dir = {:?}\n",
        path("buffer").display().to_string()
    );
    std::fs::write(path("agent.toml"), text).unwrap();
    let mut server = Traced::start(server::program(), &path("server.toml"), &path("server.trace"));
    let mut agent = Traced::start(agent::program(), &path("agent.toml"), &path("agent.trace"));
    wait_for("a report of the traced agent", Duration::from_secs(120), || {
        assert!(matches!(server.0.try_wait(), Ok(None)), "the traced server ended");
        let said = ureq::get(format!("http://127.0.0.1:{http}/v1/health")).call().ok()?;
        let text = said.into_body().read_to_string().ok()?;
        text.contains("\"agent_count\":1").then_some(())
    });
    agent.stop();
    server.stop();
    for name in UNITS {
        let trace = path(&format!("{}.trace", name.trim_start_matches("oxmon-")));
        let (called, allowed) = (called(&trace), allowed(name));
        assert!(called.contains("execve") && called.contains("sendto"), "{called:?}");
        let is_known = |call: &str| ROOT_ALONE.contains(&call) || REFUSED.contains(&call);
        let refused: Vec<&String> =
            called.difference(&allowed).filter(|call| !is_known(call)).collect();
        assert!(refused.is_empty(), "{name} would be refused {refused:?}");
    }
}

#[test]
fn what_bind_mounts_of_a_sandbox_show_again_is_measured_once() {
    // ProtectSystem=, StateDirectory= and PrivateTmp= are such mounts in the service's own view.
    let server = Server::start("");
    let report = |arguments: &[&str]| {
        let config = server.dir.path().join("agent.toml");
        std::fs::write(&config, format!("server_endpoint = \"127.0.0.1:{}\"\n", server.grpc_port))
            .unwrap();
        let config = config.display().to_string();
        let line = format!("{} exec {} --once {config}", arguments.join(" "), agent::program());
        let out = run("unshare", &["--mount", "sh", "-c", &line]);
        out.status.success().then(|| {
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            text.lines().filter(|line| line.contains("disk.total")).count()
        })
    };
    let Some(before) = report(&[]) else {
        eprintln!("not run: no rights for a mount namespace");
        return;
    };
    let bound = server.dir.path().join("bound");
    std::fs::create_dir(&bound).unwrap();
    let bind = format!("mount --bind /etc {} &&", bound.display());
    assert_eq!(report(&[&bind]), Some(before));
}
