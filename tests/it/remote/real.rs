//! VictoriaMetrics and Prometheus from packages.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{Load, Point3, SOON};
use crate::promql::get;
use crate::support::server::Server;
use crate::support::{free_port, tools, wait_for};

/// A running engine with a folder of its own. Dropping it kills the process.
pub struct Engine {
    child: Child,
    dir: TempDir,
    arguments: Vec<String>,
    program: &'static str,
    pub url: String,
}

impl Engine {
    /// VictoriaMetrics that counts a sample once, however often it comes.
    pub fn victoria(more: &[&str]) -> Option<Self> {
        let port = free_port();
        let mut arguments = vec![
            format!("-httpListenAddr=127.0.0.1:{port}"),
            "-storageDataPath=data".to_owned(),
            "-retentionPeriod=1y".to_owned(),
        ];
        arguments.extend(more.iter().map(|&word| word.to_owned()));
        Self::start("victoria-metrics", arguments, port, "")
    }

    /// Prometheus that takes remote write; `window` of late samples.
    pub fn prometheus(window: Option<&str>) -> Option<Self> {
        let port = free_port();
        let arguments = vec![
            "--config.file=prometheus.yml".to_owned(),
            "--storage.tsdb.path=data".to_owned(),
            "--web.enable-remote-write-receiver".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let window = window
            .map(|window| format!("storage:\n  tsdb:\n    out_of_order_time_window: {window}\n"));
        Self::start("prometheus", arguments, port, &window.unwrap_or_default())
    }

    fn start(
        program: &'static str,
        arguments: Vec<String>,
        port: u16,
        config: &str,
    ) -> Option<Self> {
        let found = tools::find(program);
        if !tools::or_excuse(found.is_some(), &format!("{program} is not installed")) {
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("prometheus.yml"), config).expect("a configuration");
        let child = spawn(program, &dir, &arguments);
        let url = format!("http://127.0.0.1:{port}");
        let mut engine = Self { child, dir, arguments, program, url };
        engine.wait_ready();
        Some(engine)
    }

    fn wait_ready(&mut self) {
        wait_for(self.program, SOON, || {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(self.child.try_wait().unwrap().is_none(), "it ended: {}", log());
            let path = if self.program == "prometheus" { "/-/ready" } else { "/health" };
            ureq::get(format!("{}{path}", self.url)).call().ok()
        });
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn restart(&mut self) {
        self.child = spawn(self.program, &self.dir, &self.arguments);
        self.wait_ready();
    }

    pub fn write_url(&self) -> String {
        format!("{}/api/v1/write", self.url)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(program: &str, dir: &TempDir, arguments: &[String]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.path().join("log"));
    let log = log.expect("a log");
    Command::new(tools::find(program).expect("it is installed"))
        .current_dir(dir.path())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("the engine starts")
}

/// Every sample of the load that an engine has.
pub fn had_by(url: &str) -> std::collections::BTreeMap<Point3, u64> {
    let query = "{agent=~\"load-.*\"}[30m]";
    let now = (crate::support::grpc::now_ms() / 1_000 + 60).to_string();
    let answer = get(url, "none", "query", &[("query", query), ("time", &now)]);
    let mut out = std::collections::BTreeMap::new();
    for row in answer["data"]["result"].as_array().into_iter().flatten() {
        let label = |name: &str| row["metric"][name].as_str().map(str::to_owned);
        let name = label("oxmon_metric").or_else(|| label("__name__")).expect("a name");
        for sample in row["values"].as_array().into_iter().flatten() {
            let ms = (sample[0].as_f64().expect("a time") * 1_000.0).round() as i64;
            let value: f64 = sample[1].as_str().expect("a value").parse().expect("a number");
            let key = (label("agent").expect("an agent"), name.clone(), ms);
            assert_eq!(out.insert(key, value.to_bits()), None, "a sample counts twice");
        }
    }
    out
}

/// Waits until an engine has every acknowledged sample, to the bit.
pub fn wait_until_whole(url: &str, acknowledged: &std::collections::BTreeMap<Point3, u64>) {
    let mut missing = usize::MAX;
    let limit = SOON + Duration::from_secs(30);
    wait_for("every sample at the engine", limit, || {
        std::thread::sleep(Duration::from_millis(500));
        let had = had_by(url);
        missing = acknowledged.iter().filter(|(key, bits)| had.get(*key) != Some(*bits)).count();
        eprintln!("{missing} of {} are missing", acknowledged.len());
        (missing == 0).then_some(())
    });
}

fn forwarding(engine: &mut Engine) {
    let config = format!(
        "[remote]\nwrite_urls = [\"http://127.0.0.1:9/write\", \"{}\"]\nread_urls = [\"{}\"]\n\
         timeout_secs = 3\n",
        engine.write_url(),
        engine.url
    );
    let mut server = Server::start(&config);
    let load = Load::start(server.grpc_port, 100);
    load.wait_for_more(600);
    engine.kill();
    load.wait_for_more(600);
    server.kill_and_restart();
    load.wait_for_more(300);
    engine.restart();
    load.wait_for_more(600);
    let acknowledged = load.end();
    wait_until_whole(&engine.url, &acknowledged);
}

#[test]
fn victoria_metrics_has_every_sample_once() {
    if let Some(mut engine) = Engine::victoria(&["-dedup.minScrapeInterval=1ms"]) {
        forwarding(&mut engine);
    }
}

#[test]
fn prometheus_has_every_sample_once() {
    if let Some(mut engine) = Engine::prometheus(Some("1d")) {
        forwarding(&mut engine);
    }
}

#[test]
fn history_is_sent_by_hand() {
    let Some(engine) = Engine::victoria(&["-dedup.minScrapeInterval=1ms"]) else { return };
    // A server as it was before there was an engine.
    let mut server = Server::start("");
    let load = Load::start(server.grpc_port, 10);
    load.wait_for_more(300);
    let acknowledged = load.end();
    let file = server.dir.path().join("server.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let remote = format!("{text}\n[remote]\nwrite_urls = [\"{}\"]\n", engine.write_url());
    std::fs::write(&file, remote).unwrap();
    let forward = |arguments: &[&str]| {
        let out = Command::new(crate::support::server::program())
            .arg("forward")
            .arg(&file)
            .args(arguments)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        (out.status.success(), said, String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (good, said, wrong) = forward(&["--to", "2001-01-01"]);
    assert!(good && said.starts_with("0 samples read"), "{said}{wrong}");
    // Beside the running server, twice.
    for _ in 0..2 {
        let (good, said, wrong) = forward(&["--from", "2001-01-01"]);
        assert!(good, "{said}{wrong}");
        assert!(said.contains("samples read") && said.contains(" 0 refused"), "{said}");
    }
    wait_until_whole(&engine.url, &acknowledged);
    assert!(server.stop().success());
}
