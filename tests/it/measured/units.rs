//! Units against `systemctl`, where systemd runs.

use std::time::Duration;

use super::*;
use crate::support::agent::Agent;
use crate::support::server::Server;
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

#[test]
fn units_are_what_systemctl_says() {
    // sd_booted(3)
    if !std::path::Path::new("/run/systemd/system").exists() {
        eprintln!("not run: no systemd runs here");
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
    eprintln!("compared {compared} of 2 figures");

    let mut server = Server::start("");
    let _agent = Agent::start("unit-1", server.grpc_port, &config);
    let path = "/v1/agents/unit-1/latest?limit=1000";
    let mut latest = |metric: &str| -> Option<f64> {
        let rows = server.get(path);
        let mut rows = rows.as_array().unwrap().iter();
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
