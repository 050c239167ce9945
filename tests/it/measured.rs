//! What the agent measures against what the system's own programs say at the same moment.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::agent::PROGRAM;

/// Memory moves while it is looked at: a test run's own programs come and go.
const MEMORY_SLACK_BYTES: f64 = 1_024.0 * 1_024.0 * 1_024.0;
const DISK_SLACK_BYTES: f64 = 1_024.0 * 1_024.0 * 1_024.0;

/// `--once` as a map from metric and labels to value.
fn once(config: &str) -> BTreeMap<(String, String), f64> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, config).unwrap();
    let text = said(Command::new(PROGRAM).arg("--once").arg(&path));
    let mut rows = BTreeMap::new();
    for line in text.lines().skip(3) {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let metric = words.remove(0);
        let labels = if words[0].contains('=') { words.remove(0) } else { "" };
        if labels.contains(' ') || words[0].parse::<f64>().is_err() {
            continue;
        }
        rows.insert((metric.to_owned(), labels.to_owned()), words[0].parse().unwrap());
    }
    assert!(rows.len() > 20, "{text}");
    rows
}

fn said(command: &mut Command) -> String {
    let out = command.env("LC_ALL", "C").output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn near(what: &str, ours: f64, theirs: f64, slack: f64) {
    assert!((ours - theirs).abs() <= slack, "{what}: {ours} is not near {theirs}");
}

#[test]
fn disks_are_what_df_says() {
    let rows = once("");
    let df = said(Command::new("df").args(["-B1", "-P"]));
    let mut compared = 0;
    for line in df.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mount = format!("mount={:?}", words[5]);
        let ours = |name: &str| rows.get(&(format!("disk.{name}"), mount.clone())).copied();
        let Some(total) = ours("total") else { continue };
        let theirs = |column: usize| words[column].trim_end_matches('%').parse::<f64>().unwrap();
        near(&mount, total, theirs(1), 0.0);
        near(&mount, ours("used").unwrap(), theirs(2), DISK_SLACK_BYTES);
        near(&mount, ours("available").unwrap(), theirs(3), DISK_SLACK_BYTES);
        // df rounds up to whole percents.
        near(&mount, ours("used_percent").unwrap(), theirs(4) - 0.5, 2.0);
        compared += 1;
    }
    assert!(compared > 0, "df and the agent have no mount in common:\n{df}{rows:?}");
}

#[test]
fn memory_is_what_free_says() {
    let rows = once("");
    let free = said(Command::new("free").arg("-b"));
    let row = |name: &str| -> Vec<f64> {
        let line = free.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect()
    };
    let ours = |name: &str| rows[&(format!("memory.{name}"), String::new())];
    let (memory, swap) = (row("Mem:"), row("Swap:"));
    near("total", ours("total"), memory[0], 0.0);
    near("available", ours("available"), memory[5], MEMORY_SLACK_BYTES);
    near("used", ours("used"), memory[0] - memory[5], MEMORY_SLACK_BYTES);
    near("swap_total", ours("swap_total"), swap[0], 0.0);
    near("swap_used", ours("swap_used"), swap[1], MEMORY_SLACK_BYTES);
    let share = ours("used") / ours("total") * 100.0;
    near("used_percent", ours("used_percent"), share, 0.01);
}

#[test]
fn inodes_are_what_df_says() {
    let rows = once("");
    let df = said(Command::new("df").args(["-i", "-P"]));
    let mut compared = 0;
    for line in df.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mount = format!("mount={:?}", words[5]);
        let ours = |name: &str| rows.get(&(format!("disk.{name}"), mount.clone())).copied();
        let Some(total) = ours("inodes_total") else { continue };
        near(&mount, total, words[1].parse().unwrap(), 0.0);
        near(&mount, ours("inodes_used").unwrap(), words[2].parse().unwrap(), 50_000.0);
        compared += 1;
    }
    assert!(compared > 0, "df and the agent have no mount in common:\n{df}{rows:?}");
}

#[test]
fn caches_and_shared_memory_are_what_free_says() {
    let rows = once("");
    let free = said(Command::new("free").args(["-b", "-w"]));
    let line = free.lines().find(|line| line.starts_with("Mem:")).unwrap();
    let theirs: Vec<f64> = line.split_whitespace().skip(1).map(|w| w.parse().unwrap()).collect();
    let ours = |name: &str| rows[&(format!("memory.{name}"), String::new())];
    near("free", ours("free"), theirs[2], MEMORY_SLACK_BYTES);
    near("shared", ours("shared"), theirs[3], MEMORY_SLACK_BYTES);
    near("buffers", ours("buffers"), theirs[4], MEMORY_SLACK_BYTES);
    // free counts what can be reclaimed of the slab as cached.
    near("cached", ours("cached"), theirs[5], 3.0 * MEMORY_SLACK_BYTES);
}

#[test]
fn connections_and_sockets_are_what_ss_says() {
    if !crate::support::tools::there("ss") {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open: Vec<TcpStream> =
        (0..50).map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap()).collect();
    let rows = once("");
    let summary = said(Command::new("ss").arg("-s"));
    drop(open);
    // `TCP:   12 (estab 5, closed 3, orphaned 0, timewait 2)`
    let number = |before: &str| -> f64 {
        let rest = summary.split_once(before).unwrap().1;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    };
    let ours = |name: &str| rows[&(name.to_owned(), String::new())];
    // Other tests open and close connections meanwhile.
    near("established", ours("tcp.established"), number("estab "), 60.0);
    assert!(ours("tcp.established") >= 100.0, "50 connections have two ends each");
    near("orphaned", ours("sockets.tcp_orphans"), number("orphaned "), 60.0);
    assert!(ours("sockets.used") >= 100.0);
}

#[test]
fn a_disk_that_is_written_shows_how_much() {
    let dir = tempfile::tempdir_in(crate::support::tools::root()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (stop, path) = (Arc::clone(&stop), dir.path().join("data"));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let mut file = std::fs::File::create(&path).unwrap();
                file.write_all(&[7; 8 << 20]).unwrap();
                file.sync_all().unwrap();
            }
        })
    };
    let written = || -> f64 {
        let text = std::fs::read_to_string("/proc/diskstats").unwrap();
        let sectors = text.lines().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words[9].parse::<f64>().unwrap()
        });
        sectors.sum::<f64>() * 512.0
    };
    let before = written();
    let rows = once("[filters]\ndisks_exclude = []\ndisk_partitions = true\n");
    let moved = written() - before;
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    let rates = rows.iter().filter(|((name, _), _)| name == "diskio.write_bytes");
    let ours: f64 = rates.map(|(_, rate)| *rate).sum();
    if moved > 20e6 {
        assert!(ours > moved * 0.2 && ours < moved * 2.0, "{ours} bytes/s of {moved} bytes");
    }
}

#[test]
fn load_and_uptime_are_what_the_kernel_says() {
    let before = std::fs::read_to_string("/proc/uptime").unwrap();
    let rows = once("");
    let after = std::fs::read_to_string("/proc/uptime").unwrap();
    let seconds = |text: &str| text.split('.').next().unwrap().parse::<f64>().unwrap();
    let uptime = rows[&("load.uptime".to_owned(), String::new())];
    assert!((seconds(&before)..=seconds(&after)).contains(&uptime), "{before} {uptime} {after}");
    let loads = std::fs::read_to_string("/proc/loadavg").unwrap();
    let mut loads = loads.split_whitespace().map(|word| word.parse::<f64>().unwrap_or(0.0));
    for name in ["load.load_1", "load.load_5", "load.load_15"] {
        let ours = rows[&(name.to_owned(), String::new())];
        // The kernel averages every 5 s, which may fall between the two looks.
        near(name, ours, loads.next().unwrap(), 1.0);
    }
}

#[test]
fn cores_are_counted_and_busy_ones_show() {
    let stop = Arc::new(AtomicBool::new(false));
    let spinner = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        })
    };
    let rows = once("");
    stop.store(true, Ordering::Relaxed);
    spinner.join().unwrap();
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let cores = stat.lines().filter(|line| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    let cores = cores.count();
    let shares: Vec<f64> = rows
        .iter()
        .filter(|((name, _), _)| name == "cpu.core_usage")
        .map(|(_, value)| *value)
        .collect();
    assert_eq!(shares.len(), cores, "{rows:?}");
    assert!(shares.iter().all(|share| (0.0..=100.0).contains(share)), "{shares:?}");
    let usage = rows[&("cpu.usage".to_owned(), String::new())];
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    near("cpu.usage and the mean of its cores", usage, mean, 2.0);
    // One thread that spins keeps the machine at one core's share, whatever else runs.
    assert!(usage >= 60.0 / cores as f64, "a busy core shows as {usage} % of {cores} cores");
}

/// Bytes that the loopback interface has sent since the system started.
fn loopback_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap();
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:")).unwrap();
    line.split_whitespace().nth(8).unwrap().parse().unwrap()
}

#[test]
fn network_rates_are_what_the_counters_say() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut out = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut inward, _) = listener.accept().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let writer = {
        let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
        std::thread::spawn(move || {
            let piece = [7_u8; 16 * 1024];
            while !stop.load(Ordering::Relaxed) {
                out.write_all(&piece).unwrap();
                sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
        })
    };
    let reader = std::thread::spawn(move || {
        let mut piece = [0_u8; 64 * 1024];
        while inward.read(&mut piece).is_ok_and(|read| read > 0) {}
    });
    let before = loopback_bytes();
    let rows = once("[filters]\ninterfaces_exclude = []\n");
    let moved = loopback_bytes() - before;
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    reader.join().unwrap();
    let rate = |name: &str| rows[&(format!("network.{name}"), "interface=\"lo\"".to_owned())];
    assert!(sent.load(Ordering::Relaxed) > 1_000_000, "the traffic never ran");
    // The rate is over the second between its two looks; the counter also moves around it.
    let ours = rate("bytes_sent");
    assert!(ours > moved * 0.3 && ours < moved * 1.5, "{ours} bytes/s, {moved} bytes moved");
    // What goes out of the loopback interface comes in there.
    near("bytes_recv", rate("bytes_recv"), ours, ours * 0.01 + 100_000.0);
    assert!(rate("packets_sent") > 10.0);
}
