//! Units against `systemctl`: of this machine's systemd where it runs one, otherwise of one that is
//! booted in a container over this machine's /usr.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::*;
use crate::support::agent::Agent;
use crate::support::server::Server;
use crate::support::tools::{root, there};
use crate::support::wait_for;

const SOON: Duration = Duration::from_secs(60);

/// A unit that is stopped at the end.
struct Unit(String);

impl Unit {
    /// A service of two processes that is started again whenever it ends.
    fn start() -> Self {
        let name = format!("oxmon-test-{}.service", std::process::id());
        let mut run = Command::new("systemd-run");
        run.args(["--quiet", &format!("--unit={name}")]);
        for property in ["Restart=always", "RestartSec=100ms"] {
            run.args(["-p", property]);
        }
        for accounting in ["CPU", "Memory", "Tasks"] {
            run.args(["-p", &format!("{accounting}Accounting=yes")]);
        }
        said(run.args(["sh", "-c", "exec 9</dev/null; sleep 600 & sleep 600"]));
        Self(name)
    }

    /// A property as systemctl shows it; `None` where it is not set.
    fn show(&self, property: &str) -> Option<f64> {
        let text = said(Command::new("systemctl").args(["show", &self.0, "-P", property]));
        text.trim().parse::<f64>().ok().filter(|number| *number < 1e18)
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = Command::new("systemctl").args(["stop", &self.0]).status();
    }
}

/// A booted container. Dropping it ends it.
struct Booted(Child);

impl Booted {
    /// Boots one that sees the tests and their programs; `None` where that is not possible.
    fn start() -> Option<Self> {
        let tests = std::env::current_exe().unwrap();
        // The agent may be of another build.
        let agent = Path::new(super::program()).parent()?.to_owned();
        let folders = [root(), tests.parent()?.parent()?.to_owned(), agent];
        let child = Command::new("systemd-nspawn")
            .args(["-b", "--quiet", "--register=no", "--keep-unit", "--private-network"])
            .args(["--console=pipe", "--volatile=yes", "-D", "/"])
            .args(folders.iter().map(|folder| format!("--bind-ro={}", folder.display())))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        child.ok().map(Self)
    }

    /// The process that is the container's first; `None` where there is none.
    fn leader(&self) -> Option<String> {
        let id = self.0.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        children.split_whitespace().next_back().map(str::to_owned)
    }

    fn run(&self, arguments: &[&str]) -> Option<std::process::Output> {
        let leader = self.leader()?;
        let enter = ["-t", leader.as_str(), "-a"];
        Command::new("nsenter").args(enter).args(arguments).output().ok()
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        if let Some(leader) = self.leader() {
            let _ = Command::new("kill").args(["-KILL", &leader]).status();
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs this test in a container.
fn in_container() {
    if !there("systemd-nspawn") || !there("nsenter") {
        return;
    }
    let Some(mut booted) = Booted::start() else { return };
    let is_up = |booted: &mut Booted| {
        if booted.0.try_wait().unwrap().is_some() {
            return Some(false);
        }
        let out = booted.run(&["systemctl", "is-system-running"])?;
        let state = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        matches!(state.as_str(), "starting" | "running" | "degraded").then_some(true)
    };
    if !wait_for("a systemd", SOON, || is_up(&mut booted)) {
        eprintln!("not run: no container can be booted here");
        return;
    }
    let program = std::env::current_exe().unwrap().display().to_string();
    let name = "measured::units::units_are_what_systemctl_says";
    let out = booted.run(&[&program, "--exact", name, "--nocapture"]).unwrap();
    let text = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn units_are_what_systemctl_says() {
    // sd_booted(3)
    if !Path::new("/run/systemd/system").exists() {
        in_container();
        return;
    }
    let unit = Unit::start();
    let config = format!("units = [{:?}, \"oxmon-none.service\"]\n", unit.0);
    let label = |name: &str| format!("unit={name:?}");
    let rows = once(&config);
    let ours = |metric: &str| rows.get(&(format!("unit.{metric}"), label(&unit.0))).copied();
    assert_eq!(ours("running"), Some(1.0), "{rows:?}");
    assert_eq!(rows[&("unit.running".to_owned(), label("oxmon-none.service"))], 0.0);
    assert!(ours("open_files").unwrap() >= 2.0 * 4.0, "{rows:?}");
    let mut compared = 0;
    for (metric, property, slack) in
        [("tasks", "TasksCurrent", 0.0), ("memory", "MemoryCurrent", 4e6)]
    {
        // Without the controller, neither has a figure.
        let theirs = unit.show(property);
        assert_eq!(ours(metric).is_some(), theirs.is_some(), "{metric}: {theirs:?}");
        if let (Some(ours), Some(theirs)) = (ours(metric), theirs) {
            near(metric, ours, theirs, slack);
            compared += 1;
        }
    }
    eprintln!("compared {compared} figures of control groups with systemctl's");

    let mut server = Server::start("");
    let _agent = Agent::start("unit-1", server.grpc_port, &config);
    let path = "/v1/agents/unit-1/latest?limit=1000";
    let mut latest = |metric: &str| -> Option<f64> {
        // An agent that has not reported yet is unknown.
        let answer = server.call("GET", path, None);
        let mut rows = answer.data().as_array()?.iter();
        let row =
            rows.find(|row| row["metric_name"] == metric && row["labels"]["unit"] == unit.0)?;
        row["value"].as_f64()
    };
    wait_for("the unit", SOON, || latest("unit.running"));
    assert_eq!(latest("unit.restarts"), Some(0.0));
    said(Command::new("systemctl").args(["kill", "-s", "KILL", &unit.0]));
    wait_for("its start", SOON, || (unit.show("NRestarts") == Some(1.0)).then_some(()));
    wait_for("the restart", SOON, || (latest("unit.restarts") == Some(1.0)).then_some(()));
    assert_eq!(latest("unit.running"), Some(1.0));
    said(Command::new("systemctl").args(["stop", &unit.0]));
    wait_for("its end", SOON, || (latest("unit.running") == Some(0.0)).then_some(()));
}
