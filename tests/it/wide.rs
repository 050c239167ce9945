//! Counters, sizes and times that need more than 32 bits: `scripts/musl-check.sh` runs these with
//! the agents of 32-bit processors too.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::support::agent::{Agent, program};
use crate::support::server::Server;
use crate::support::tools::root;
use crate::support::wait_for;

/// What the interface receives a second, bytes.
const RATE: u64 = 1 << 34;
/// What it has received before, bytes.
const BEFORE: u64 = 1 << 40;
/// 16 TiB, in the unit of /proc/meminfo.
const MEMORY_KIB: u64 = 16 << 30;

/// `/proc` of the fixtures, with a memory and an interface of its own.
fn write_proc(dir: &Path) {
    std::fs::create_dir_all(dir.join("net")).unwrap();
    let fixtures = root().join("tests/fixtures/proc");
    for file in ["stat", "loadavg", "uptime"] {
        std::fs::copy(fixtures.join(file), dir.join(file)).unwrap();
    }
    let memory = format!(
        "MemTotal: {MEMORY_KIB} kB\nMemFree: {0} kB\nMemAvailable: {0} kB\n",
        MEMORY_KIB / 4
    );
    std::fs::write(dir.join("meminfo"), memory).unwrap();
    std::fs::write(dir.join("net/dev"), traffic(BEFORE)).unwrap();
}

/// `/proc/net/dev` with one interface; its length is always the same.
fn traffic(bytes: u64) -> String {
    format!("Inter-|\n face |bytes\n  eth0: {bytes:020} 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n")
}

/// Writes the counters that an interface of [`RATE`] has, until it is stopped.
fn run_interface(file: &Path, stop: &AtomicBool) {
    let dev = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    let since = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let grown = since.elapsed().as_secs_f64() * RATE as f64;
        dev.write_all_at(traffic(BEFORE + grown as u64).as_bytes(), 0).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The value of a metric in the output of `--once`.
fn value(text: &str, metric: &str) -> f64 {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(metric));
    let words = line.unwrap_or_else(|| panic!("no {metric}: {text}")).split_whitespace();
    words.skip(1).find_map(|word| word.parse().ok()).unwrap()
}

#[test]
fn counters_sizes_and_times_past_32_bits_are_right() {
    let dir = tempfile::tempdir().unwrap();
    let (proc, text) = (dir.path().join("proc"), dir.path().join("text"));
    write_proc(&proc);
    std::fs::create_dir(&text).unwrap();
    // 2^33 s after 1970 is in 2242.
    std::fs::write(text.join("late.prom"), format!("late_seconds {}\n", 1_u64 << 33)).unwrap();
    let late = std::fs::File::options().write(true).open(text.join("late.prom")).unwrap();
    late.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33)).unwrap();
    // 4 GiB and one byte, of which the file system stores next to nothing.
    let huge = std::fs::File::create(text.join("huge.prom")).unwrap();
    huge.set_len((1 << 32) + 1).unwrap();
    let config = dir.path().join("agent.toml");
    let keys = format!("proc_root = {proc:?}\ntextfile_dir = {text:?}\n");
    std::fs::write(&config, &keys).unwrap();

    let stop = AtomicBool::new(false);
    let (once, rate) = std::thread::scope(|scope| {
        scope.spawn(|| run_interface(&proc.join("net/dev"), &stop));
        let once = Command::new(program()).arg("--once").arg(&config).output().unwrap();
        let mut server = Server::start("");
        let _agent = Agent::start("wide", server.grpc_port, &keys);
        let rate = wait_for("a rate", Duration::from_secs(30), || {
            let latest = server.call("GET", "/v1/agents/wide/latest", None);
            let rows = latest.data().as_array()?.clone();
            let row = rows.iter().find(|row| row["metric_name"] == "network.bytes_recv")?;
            row["value"].as_f64()
        });
        stop.store(true, Ordering::Relaxed);
        (String::from_utf8_lossy(&once.stdout).into_owned(), rate)
    });
    let near = |rate: f64| (rate / RATE as f64 - 1.0).abs() < 0.5;
    assert!(near(rate) && near(value(&once, "network.bytes_recv")), "{rate}, of {RATE}:\n{once}");
    assert_eq!(value(&once, "memory.total"), (MEMORY_KIB << 10) as f64);
    assert_eq!(value(&once, "late_seconds"), (1_u64 << 33) as f64);
    assert_eq!(value(&once, "textfile.age"), 0.0, "a file of 2242 is not one of 1970: {once}");
    assert!(once.contains("it has more than"), "a file of over 4 GiB is too large: {once}");
}
