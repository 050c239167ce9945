//! The packages on a booted minimal system: installed by apt from a signed repository, run by
//! systemd within their units, upgraded under load, and removed.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::support::booted::Booted;
use crate::support::grpc::{Client, batch, now_ms};
use crate::support::inside::Api;
use crate::support::once::{self, Rows};
use crate::support::shipped::{Shipped, architecture, script};
use crate::support::tools::{must, there};
use crate::support::wait_slowly;

const AGENT: &str = "oxmon-agent.service";
const SERVER: &str = "oxmon-server.service";

/// A key of gpg in a folder of its own.
pub struct Key(pub PathBuf);

impl Key {
    pub fn new(dir: PathBuf) -> Self {
        must("chmod", &["700", &dir.display().to_string()]);
        let key = Self(dir);
        let id = "oxmon test <test@oxmon.invalid>";
        let out = Command::new("gpg")
            .args(["--batch", "--quiet", "--passphrase", "", "--quick-generate-key", id])
            .args(["rsa2048", "sign", "never"])
            .env("GNUPGHOME", &key.0)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        key
    }

    /// Lays out a repository, with `scripts/apt-repo.sh` or `scripts/rpm-repo.sh`.
    pub fn publish(&self, name: &str, dist: &str, out: &str) {
        let home = self.0.display().to_string();
        script(name, &[dist, out, "test@oxmon.invalid"], &[("GNUPGHOME", &home)]);
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", &self.0).status();
    }
}

/// A process that ends with the test.
pub struct Beside(pub Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A booted system that knows a repository of ours, and both versions of the packages.
struct System {
    // The order is that of the drops: the system's network ends last.
    _web: Beside,
    key: Key,
    booted: Booted,
    dist: PathBuf,
}

impl System {
    fn new() -> Option<Self> {
        if !["apt-ftparchive", "gpg", "dpkg-deb", "python3"].iter().all(|tool| there(tool)) {
            return None;
        }
        let scratch = tempfile::tempdir().unwrap();
        let shipped = Shipped::new(&scratch.path().join("bin"));
        let debs = scratch.path().join("debs");
        let bin = shipped.dir.display().to_string();
        for version in ["0.0.1", "0.0.2"] {
            let out = debs.join(version).display().to_string();
            must("packaging/deb/build.sh", &[&bin, &out, version]);
        }
        // A static program needs nothing; that of the build under test the libraries it links.
        let first = must("find", &[&debs.display().to_string(), "-name", "*server_0.0.1*.deb"]);
        let depends = must("dpkg-deb", &["--field", first.trim(), "Depends"]);
        let names = depends.split(',').filter_map(|entry| entry.split_whitespace().next());
        let names: Vec<String> = names.map(str::to_owned).collect();
        assert!(names.is_empty() || !shipped.is_static, "{names:?}");
        let mut booted = Booted::new(&names)?;
        let dist = booted.path("/root/debs");
        must("cp", &["-r", &debs.display().to_string(), &dist.display().to_string()]);
        let key = Key::new(booted.scratch("key"));
        let web = booted.scratch("web");
        publish(&key, &dist.join("0.0.1"), &web);
        // As docs/install.md says, with the address of the test.
        let list = std::fs::read_to_string(web.join("oxmon.sources")).unwrap();
        let list = list.replace("@URL@", "http://127.0.0.1:8000");
        booted.write("/etc/apt/sources.list.d/oxmon.sources", &list);
        let keyring = booted.path("/usr/share/keyrings/oxmon.gpg");
        std::fs::create_dir_all(keyring.parent().unwrap()).unwrap();
        std::fs::copy(web.join("oxmon.gpg"), keyring).unwrap();
        booted.boot().then(|| {
            let _web = serve(&booted, &web);
            Self { _web, key, booted, dist }
        })
    }

    /// Puts the second version into the repository.
    fn publish_second(&self) {
        publish(&self.key, &self.dist.join("0.0.2"), &self.booted.scratch("web"));
    }

    fn apt(&self, words: &[&str]) -> String {
        let fast = ["apt-get", "-y", "-q", "-o", "Dpkg::Options::=--force-unsafe-io"];
        self.booted.must(&[&fast[..], words].concat())
    }

    fn installed(&self, package: &str) -> String {
        self.booted.must(&["dpkg-query", "-W", "-f", "${Version}", package])
    }

    fn package(&self, name: &str, version: &str) -> String {
        format!("/root/debs/{version}/{name}_{version}-1_{}.deb", architecture())
    }
}

fn publish(key: &Key, from: &std::path::Path, to: &std::path::Path) {
    let (from, to) = (from.display().to_string(), to.display().to_string());
    key.publish("scripts/apt-repo.sh", &from, &to);
}

/// A web server on the container's loopback.
fn serve(booted: &Booted, folder: &std::path::Path) -> Beside {
    let mut command =
        booted.beside(&["python3", "-m", "http.server", "8000", "--bind", "127.0.0.1"]);
    let child = command.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let web = Beside(child.unwrap());
    wait_slowly("the web server", || {
        let out = booted.beside(&["curl", "-sf", "http://127.0.0.1:8000/"]).output().ok()?;
        out.status.success().then_some(())
    });
    web
}

const SERVER_CONFIG: &str = "require_agent_auth = true\n[cert_check]\nenabled = false\n";
/// The server is on an address that this system gets late.
const AGENT_CONFIG: &str = "agent_id = \"unit\"\nserver_endpoint = \"10.77.0.1:9090\"\n\
                            collection_interval_secs = 1\nbuffer_dir = \"/var/lib/oxmon-agent\"\n";

fn add_address(booted: &Booted) {
    let out = booted.beside(&["ip", "addr", "add", "10.77.0.1/32", "dev", "lo"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn token(api: &Api, agent: &str) -> String {
    let made = api.call("POST", "/v1/agents/whitelist", Some(json!({"agent_id": agent})));
    made.expect("a token")["token"].as_str().unwrap().to_owned()
}

fn wait_newer(api: &Api, agent: &str, than_ms: i64) {
    wait_slowly("a newer sample", || {
        api.times(agent, "memory.total").last().is_some_and(|last| *last > than_ms).then_some(())
    });
}

/// Nothing runs before it is configured; then the units come up, the agent with a token that only
/// root can read.
fn install_and_configure(system: &System) -> Api {
    let booted = &system.booted;
    system.apt(&["update"]);
    system.apt(&["install", "oxmon-server"]);
    system.apt(&["install", &system.package("oxmon-agent", "0.0.1")]);
    for unit in [AGENT, SERVER] {
        assert_eq!(booted.show(unit, "UnitFileState"), "enabled");
        assert_eq!(booted.show(unit, "ActiveState"), "inactive");
    }
    booted.write("/etc/oxmon/server.toml", SERVER_CONFIG);
    add_address(booted);
    // Type=notify: this waits for READY=1.
    booted.must(&["systemctl", "start", SERVER]);
    let api = Api::new(booted.net());
    booted.write("/etc/oxmon/agent.toml", AGENT_CONFIG);
    booted.write("/etc/oxmon/agent.token", &format!("{}\n", token(&api, "unit")));
    booted.must(&["chmod", "600", "/etc/oxmon/agent.token"]);
    booted.drop_in(AGENT, &["LoadCredential=auth_token:/etc/oxmon/agent.token", "WatchdogSec=3"]);
    booted.drop_in(SERVER, &["WatchdogSec=3"]);
    booted.must(&["systemctl", "restart", AGENT, SERVER]);
    assert_eq!(booted.show(AGENT, "SubState"), "running");
    wait_newer(&api, "unit", 0);
    // The user of the unit can't read what it was given.
    let refused = booted.run(&[
        "setpriv",
        "--reuid=oxmon-agent",
        "--clear-groups",
        "cat",
        "/etc/oxmon/agent.token",
    ]);
    assert!(!refused.status.success());
    api
}

/// What the unit's agent reports is what root measures without the sandbox.
fn sandbox_hides_nothing(system: &System, api: &Api) {
    let booted = &system.booted;
    let text = booted.must(&["/usr/bin/oxmon-agent", "--once", "/etc/oxmon/agent.toml"]);
    let mut outside = once::rows(&text);
    // ProtectClock= refuses adjtimex(2), for reading too (docs/operations.md). What the agent says
    // of itself comes once a minute.
    let is_own = |metric: &str| metric.starts_with("time.") || metric.starts_with("agent.");
    outside.retain(|(metric, _), _| !is_own(metric));
    let inside = wait_slowly("all of the unit's values", || {
        let inside = api.latest("unit")?;
        missing(&outside, &inside).is_empty().then_some(inside)
    });
    for metric in ["memory.total", "disk.total", "disk.inodes_total"] {
        for (key, value) in outside.iter().filter(|(key, _)| key.0 == metric) {
            assert_eq!(inside.get(key), Some(value), "{key:?}");
        }
    }
    let more: Vec<_> = missing(&inside, &outside)
        .into_iter()
        .filter(|(metric, _)| !metric.starts_with("agent."))
        .collect();
    assert!(more.is_empty(), "only the sandboxed agent sees {more:?}");
}

/// Series of one that the other has not. Rates of processes come and go.
fn missing(from: &Rows, of: &Rows) -> Vec<(String, String)> {
    from.keys().filter(|key| !of.contains_key(*key)).cloned().collect()
}

/// SIGHUP, SIGKILL, and a process that stands still.
fn signals_are_answered(system: &System) {
    let booted = &system.booted;
    for (unit, says) in [(AGENT, "reloaded /etc"), (SERVER, "server.toml again")] {
        let main = booted.show(unit, "MainPID");
        booted.must(&["systemctl", "reload", unit]);
        wait_slowly("the reload", || booted.journal(unit, "info").contains(says).then_some(()));
        assert_eq!(booted.show(unit, "MainPID"), main);
        let before: u32 = booted.show(unit, "NRestarts").parse().unwrap();
        booted.must(&["systemctl", "kill", "-s", "KILL", "--kill-who=main", unit]);
        booted.wait_restarts(unit, before + 1);
        booted.wait_show(unit, "SubState", "running");
        assert_ne!(booted.show(unit, "MainPID"), main);
    }
    for unit in [AGENT, SERVER] {
        booted.must(&["systemctl", "kill", "-s", "STOP", "--kill-who=main", unit]);
    }
    for unit in [AGENT, SERVER] {
        booted.wait_restarts(unit, 2);
        booted.wait_show(unit, "SubState", "running");
        let said = booted.must(&["journalctl", "--no-pager", "-o", "cat", "-u", unit]);
        assert!(said.contains("Watchdog timeout"), "{said}");
    }
}

/// Which exit statuses start it again, and what the journal says of a wrong configuration.
fn exit_statuses_decide(system: &System) {
    let booted = &system.booted;
    let kept = "LoadCredential=auth_token:/etc/oxmon/agent.token";
    for status in ["1", "7"] {
        booted.must(&["systemctl", "stop", AGENT]);
        booted.must(&["systemctl", "reset-failed"]);
        let failing = format!("ExecStart=/bin/sh -c 'sleep 0.1; exit {status}'");
        booted.drop_in(AGENT, &[kept, "RestartSec=100ms", "Type=exec", "ExecStart=", &failing]);
        booted.must(&["systemctl", "start", "--no-block", AGENT]);
        booted.wait_restarts(AGENT, 2);
        booted.must(&["systemctl", "stop", AGENT]);
        let said = booted.must(&["journalctl", "--no-pager", "-o", "cat", "-u", AGENT]);
        assert!(said.contains(&format!("code=exited, status={status}/")), "{said}");
    }
    booted.must(&["systemctl", "stop", AGENT]);
    booted.drop_in(AGENT, &[kept]);
    booted.must(&["systemctl", "reset-failed"]);
    booted.write("/etc/oxmon/agent.toml", "collection_interval_secs = 0\n");
    assert!(!booted.run(&["systemctl", "start", AGENT]).status.success());
    assert_eq!(booted.show(AGENT, "ActiveState"), "failed");
    assert_eq!(booted.show(AGENT, "ExecMainStatus"), "3");
    assert_eq!(booted.show(AGENT, "NRestarts"), "0");
    let said = booted.journal(AGENT, "err");
    assert!(said.contains("agent.toml:1") && said.contains("collection_interval_secs"), "{said}");
    assert!(!said.contains("reports as"), "{said}");
    assert!(booted.journal(AGENT, "info").contains("reports as unit to 10.77.0.1:9090"));
    booted.write("/etc/oxmon/agent.toml", AGENT_CONFIG);
    booted.must(&["systemctl", "reset-failed"]);
    booted.must(&["systemctl", "start", AGENT]);
}

/// What exceeds the unit's own `MemoryMax=` is killed by the kernel, and the unit started again.
fn memory_has_its_limit(system: &System) {
    let booted = &system.booted;
    if !booted.with_memory_limits() {
        return;
    }
    let kept = "LoadCredential=auth_token:/etc/oxmon/agent.token";
    // 100 MB in memory at once; without a limit it would end well, and not be started again.
    let hog = "ExecStart=/bin/sh -c 'head -c 100M /dev/zero | tail -c 100M >/dev/null'";
    booted.must(&["systemctl", "stop", AGENT]);
    booted.drop_in(AGENT, &[kept, "RestartSec=100ms", "Type=exec", "ExecStart=", hog]);
    booted.must(&["systemctl", "start", "--no-block", AGENT]);
    booted.wait_restarts(AGENT, 1);
    booted.must(&["systemctl", "stop", AGENT]);
    booted.drop_in(AGENT, &[kept]);
    booted.must(&["systemctl", "reset-failed"]);
    booted.must(&["systemctl", "start", AGENT]);
    let bytes = |property: &str| booted.show(AGENT, property).parse::<u64>().unwrap();
    assert_eq!(bytes("MemoryMax"), 64 << 20);
    assert!((1..64 << 20).contains(&bytes("MemoryCurrent")), "{}", bytes("MemoryCurrent"));
}

/// Sends numbered points until its input ends, and prints how many were acknowledged: this test
/// again, in the network of the system.
#[test]
fn load_beside_an_upgrade() {
    let Ok(token) = std::env::var("OXMON_TEST_LOAD_TOKEN") else { return };
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = std::sync::Arc::clone(&done);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        flag.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let client = Client::to(9_090);
    let header = format!("Bearer {token}");
    let (mut number, base) = (0_u32, now_ms());
    while !done.load(std::sync::atomic::Ordering::Relaxed) {
        let message =
            batch("load", base + i64::from(number) * 5, &[("load.number", number.into())]);
        // What was refused or broke off is sent again, as agents do.
        let metadata = [("agent-id", "load"), ("authorization", header.as_str())];
        let answer = client.report_with(&message, &metadata);
        number += u32::from(answer.is_ok_and(|answer| answer.success));
    }
    println!("acknowledged {number}");
}

/// `apt upgrade` while agents report: what was acknowledged is there, once, and both services run
/// the new version.
fn upgrade_loses_nothing(system: &System, api: &Api) {
    let booted = &system.booted;
    let program = std::env::current_exe().unwrap().display().to_string();
    let mut load = booted.beside(&[
        &program,
        "--exact",
        "ship::booted::load_beside_an_upgrade",
        "--nocapture",
    ]);
    load.env("OXMON_TEST_LOAD_TOKEN", token(api, "load"));
    let mut load = load.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    wait_slowly("load", || (api.times("load", "load.number").len() > 100).then_some(()));
    let processes = [AGENT, SERVER].map(|unit| booted.show(unit, "MainPID"));
    let before = now_ms();
    system.publish_second();
    system.apt(&["update"]);
    system.apt(&["upgrade"]);
    for (unit, old) in [AGENT, SERVER].iter().zip(processes) {
        booted.wait_show(unit, "SubState", "running");
        assert_ne!(booted.show(unit, "MainPID"), old);
    }
    for package in ["oxmon-agent", "oxmon-server"] {
        assert_eq!(system.installed(package), "0.0.2-1");
    }
    wait_newer(api, "unit", before);
    drop(load.stdin.take());
    let out = load.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let sent = said.lines().find_map(|line| line.split_once("acknowledged ")).unwrap().1;
    let sent: usize = sent.trim().parse().unwrap();
    let mut times = api.times("load", "load.number");
    let stored = times.len();
    times.dedup();
    eprintln!("{sent} points acknowledged during an upgrade, {stored} stored");
    assert_eq!((times.len(), stored), (sent, sent));
}

/// apt goes back only when it is asked to, and data and services are as they were.
fn downgrade_is_refused_or_right(system: &System, api: &Api) {
    let booted = &system.booted;
    let old = system.package("oxmon-server", "0.0.1");
    let refused = booted.run(&["apt-get", "-y", "install", &old]);
    assert!(!refused.status.success() && system.installed("oxmon-server") == "0.0.2-1");
    let before = api.times("load", "load.number").len();
    system.apt(&["--allow-downgrades", "install", &old]);
    assert_eq!(system.installed("oxmon-server"), "0.0.1-1");
    booted.wait_show(SERVER, "SubState", "running");
    let kept = wait_slowly("the data", || {
        Some(api.times("load", "load.number").len()).filter(|count| *count > 0)
    });
    assert_eq!(kept, before);
}

/// Both start with the system, after the network target; and a network that comes later still is
/// not a failure: what was measured until then arrives too.
fn boots_before_its_network(system: &mut System) {
    system.booted.write(
        "/etc/systemd/system/late.service",
        "[Unit]\nBefore=network-online.target\nDefaultDependencies=no\n[Service]\nType=oneshot\n\
         RemainAfterExit=yes\nExecStart=/bin/sleep 1\n[Install]\nWantedBy=network-online.target\n",
    );
    system.booted.must(&["systemctl", "enable", "late.service"]);
    let before = now_ms();
    system.booted.boot_again();
    let booted = &system.booted;
    let at = |unit: &str, property: &str| -> u64 { booted.show(unit, property).parse().unwrap() };
    let online = at("late.service", "ActiveEnterTimestampMonotonic");
    for unit in [AGENT, SERVER] {
        booted.wait_show(unit, "SubState", "running");
        let started = at(unit, "ExecMainStartTimestampMonotonic");
        assert!(online > 0 && started > online, "{unit}: {started} is not after {online}");
        assert_eq!(booted.show(unit, "NRestarts"), "0");
    }
    let api = Api::new(booted.net());
    wait_slowly("a failure to connect", || {
        booted.journal(AGENT, "warning").contains("10.77.0.1:9090").then_some(())
    });
    assert!(!api.times("unit", "memory.total").iter().any(|time| *time > before));
    wait_slowly("a sample in the agent's buffer", || {
        let script = "find /var/lib/oxmon-agent -type f -size +0 -newer /run/systemd/system";
        (!booted.must(&["sh", "-c", script]).is_empty()).then_some(())
    });
    let late = now_ms();
    add_address(booted);
    wait_newer(&api, "unit", late);
    wait_slowly("what was measured before the network came", || {
        let times = api.times("unit", "memory.total");
        times.iter().any(|time| (before..late).contains(time)).then_some(())
    });
}

/// A purge leaves nothing of ours but the journal and what apt remembers.
fn purge_leaves_nothing(system: &System) {
    let booted = &system.booted;
    for unit in [AGENT, SERVER] {
        std::fs::remove_dir_all(booted.path(&format!("/etc/systemd/system/{unit}.d"))).unwrap();
    }
    booted.must(&["rm", "/etc/oxmon/agent.token"]);
    system.apt(&["purge", "oxmon-agent", "oxmon-server"]);
    let found = booted.must(&[
        "find",
        "/",
        "-xdev",
        "(",
        "-path",
        "/root",
        "-o",
        "-path",
        "/var/log",
        "-o",
        "-path",
        "/var/lib/apt",
        "-o",
        "-path",
        "/var/cache/apt",
        "-o",
        "-path",
        "/proc",
        ")",
        "-prune",
        "-o",
        "-iname",
        "*oxmon*",
        "-print",
    ]);
    let ours = ["/etc/apt/sources.list.d/oxmon.sources", "/usr/share/keyrings/oxmon.gpg"];
    let left: Vec<&str> = found.lines().filter(|line| !ours.contains(line)).collect();
    assert!(left.is_empty(), "{left:?}");
    let users = booted.must(&["cat", "/etc/passwd", "/etc/group", "/etc/shadow"]);
    assert!(!users.contains("oxmon"), "{users}");
    // systemd may remember the name of a unit whose file is gone until somebody asks for it.
    let list = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "oxmon*"];
    let units = booted.must(&list);
    let is_gone = |line: &str| line.contains(" not-found inactive dead ");
    let known: Vec<&str> = units.lines().filter(|line| !is_gone(&squeezed(line))).collect();
    assert!(known.is_empty(), "{known:?}");
}

/// A row of a table with single spaces.
fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The install script with folders below /home, over a service that runs, and away again.
fn install_script_sets_up_a_service(system: &System) {
    let booted = &system.booted;
    let bin = booted.path("/root/bin");
    std::fs::create_dir_all(&bin).unwrap();
    must("cp", &["scripts/install.sh", &booted.path("/root/install.sh").display().to_string()]);
    let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let unpacked = booted.scratch("unpacked");
    let deb = booted.path(&system.package("oxmon-server", "0.0.2"));
    for name in ["oxmon-agent", "oxmon-server"] {
        let deb = deb.display().to_string().replace("oxmon-server_", &format!("{name}_"));
        must("dpkg-deb", &["-x", &deb, &unpacked.display().to_string()]);
    }
    let programs = unpacked.join("usr/bin").display().to_string();
    must("scripts/package.sh", &[&triple, &bin.display().to_string(), &programs]);
    let install = [
        "sh",
        "/root/install.sh",
        "server",
        "--base-url",
        "/root/bin",
        "--setup-systemd",
        "--install-dir",
        "/home/ops/bin",
        "--config-dir",
        "/home/ops/etc",
        "--data-dir",
        "/home/ops/data",
    ];
    let said = booted.must(&install);
    assert!(said.contains("started oxmon-server with systemd"), "{said}");
    assert_eq!(booted.show(SERVER, "SubState"), "running");
    let _api = Api::new(booted.net());
    let process = booted.show(SERVER, "MainPID");
    let said = booted.must(&install);
    assert!(said.contains("restarted oxmon-server with systemd"), "{said}");
    assert_eq!(booted.show(SERVER, "SubState"), "running");
    assert_ne!(booted.show(SERVER, "MainPID"), process);
    booted.must(&[
        "sh",
        "/root/install.sh",
        "server",
        "--uninstall",
        "--install-dir",
        "/home/ops/bin",
    ]);
    assert_eq!(booted.show(SERVER, "LoadState"), "not-found");
}

#[test]
fn debian_packages_live_on_a_booted_system() {
    let Some(mut system) = System::new() else { return };
    let api = install_and_configure(&system);
    sandbox_hides_nothing(&system, &api);
    signals_are_answered(&system);
    exit_statuses_decide(&system);
    memory_has_its_limit(&system);
    upgrade_loses_nothing(&system, &api);
    downgrade_is_refused_or_right(&system, &api);
    boots_before_its_network(&mut system);
    purge_leaves_nothing(&system);
    install_script_sets_up_a_service(&system);
}
