//! What the agent measures against what the system's own programs say at the same moment.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::agent::program;
use crate::support::once;

mod events;
mod groups;
mod podman;
mod processes;
mod sensors;
mod units;

/// Memory moves while it is looked at: a test run's own programs come and go.
const MEMORY_SLACK_BYTES: f64 = 1_024.0 * 1_024.0 * 1_024.0;
const DISK_SLACK_BYTES: f64 = 1_024.0 * 1_024.0 * 1_024.0;

/// `--once` as a map from metric and labels to value.
fn once(config: &str) -> once::Rows {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, config).unwrap();
    let text = said(Command::new(program()).arg("--once").arg(&path));
    once::rows(&text)
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

/// What a program says while `--once` takes its second between two looks.
fn beside(
    program: &str,
    arguments: &[&str],
    config: &str,
) -> (BTreeMap<(String, String), f64>, String) {
    let command = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let rows = once(config);
    let out = command.wait_with_output().unwrap();
    (rows, String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The numbers of the last line of a table that has the name, by the heads of its columns.
fn columns(text: &str, head: &str, row: &str) -> BTreeMap<String, f64> {
    let heads = text.lines().find(|line| line.contains(head)).unwrap_or_else(|| panic!("{text}"));
    let mut rows = text.lines().filter(|line| line.split_whitespace().any(|word| word == row));
    let row = rows.next_back().unwrap_or_else(|| panic!("no {row}: {text}"));
    // Both end with the numbers.
    let heads = heads.split_whitespace().rev();
    let cells = row.split_whitespace().rev();
    let cells = heads.zip(cells).filter_map(|(head, cell)| Some((head, cell.parse().ok()?)));
    cells.map(|(head, cell)| (head.to_owned(), cell)).collect()
}

#[test]
fn cpu_time_is_what_mpstat_says() {
    if !crate::support::tools::there("mpstat") {
        return;
    }
    let (rows, text) = beside("mpstat", &["1", "1"], "");
    let theirs = columns(&text, "%idle", "all");
    let ours = |name: &str| rows[&(format!("cpu.{name}"), String::new())];
    // The two seconds overlap, and other tests run.
    near("busy", ours("usage"), 100.0 - theirs["%idle"] - theirs["%iowait"], 35.0);
    near("user", ours("user"), theirs["%usr"] + theirs["%nice"], 35.0);
    near("system", ours("system"), theirs["%sys"], 35.0);
}

#[test]
fn disks_at_work_are_what_iostat_says() {
    if !crate::support::tools::there("iostat") {
        return;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let dir = tempfile::tempdir_in(crate::support::tools::root()).unwrap();
    let writer = {
        let (stop, path) = (Arc::clone(&stop), dir.path().join("data"));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let mut file = std::fs::File::create(&path).unwrap();
                file.write_all(&[7; 4 << 20]).unwrap();
                file.sync_all().unwrap();
            }
        })
    };
    // Two reports: the first one is of the time since the start.
    let (rows, text) = beside("iostat", &["-d", "-x", "-k", "1", "2"], "");
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    let mut compared = 0;
    for ((name, labels), ours) in &rows {
        let Some(device) = labels.strip_prefix("disk=").map(|name| name.trim_matches('"')) else {
            continue;
        };
        if name != "diskio.write_bytes" || !text.contains(device) {
            continue;
        }
        let theirs = columns(&text, "%util", device);
        let kib = theirs["wkB/s"];
        compared += 1;
        if kib < 10_000.0 {
            continue;
        }
        // Both seconds are of the same steady writing.
        let share = ours / (kib * 1_024.0);
        assert!((0.2..5.0).contains(&share), "{device}: {ours} bytes/s beside\n{text}");
        let busy = rows[&("diskio.busy_percent".to_owned(), labels.clone())];
        near(&format!("{device} busy"), busy, theirs["%util"].min(100.0), 60.0);
    }
    assert!(compared > 0 || rows.keys().all(|(name, _)| !name.starts_with("diskio")), "{text}");
}

#[test]
fn switches_between_threads_are_what_vmstat_says() {
    let (rows, text) = beside("vmstat", &["1", "2"], "");
    let heads: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    let cells: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
    let at = heads.iter().position(|head| *head == "cs").unwrap();
    let theirs: f64 = cells[at].parse().unwrap();
    let ours = rows[&("kernel.context_switches".to_owned(), String::new())];
    assert!((theirs / 5.0..=theirs * 5.0).contains(&ours), "{ours} beside {theirs}");
}

#[test]
fn programs_that_wait_for_the_cpu_show_as_pressure() {
    let there = std::path::Path::new("/proc/pressure/cpu").exists();
    if !there || !crate::support::tools::there("stress-ng") {
        return;
    }
    let total = || -> f64 {
        let text = std::fs::read_to_string("/proc/pressure/cpu").unwrap();
        text.split("total=").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    };
    let cores = std::thread::available_parallelism().unwrap().get();
    let workers = (cores * 3).to_string();
    let arguments = ["--cpu", &workers, "--timeout", "4s", "--quiet"];
    let before = total();
    let (rows, _) = beside("stress-ng", &arguments, "");
    if total() - before < 1_000_000.0 {
        eprintln!("not run: this kernel counts no pressure");
        return;
    }
    let ours = rows[&("pressure.cpu_some".to_owned(), String::new())];
    assert!(ours > 50.0 && ours <= 100.0, "{workers} workers on {cores} cores: {ours} %");
}

/// adjtimex(2), asked through Python's ctypes: value, status, offset, maxerror, esterror.
const ADJTIMEX: &str = "
import ctypes
class T(ctypes.Structure):
    _fields_ = [('modes', ctypes.c_uint)] + [(n, ctypes.c_long) for n in
        ('offset', 'freq', 'maxerror', 'esterror')] + [('status', ctypes.c_int)] + [
        (n, ctypes.c_long) for n in ('constant', 'precision', 'tolerance')] + [
        ('rest', ctypes.c_char * 256)]
t = T()
print(ctypes.CDLL(None).adjtimex(ctypes.byref(t)), t.status, t.offset, t.maxerror, t.esterror)
";

#[test]
fn the_clock_is_what_another_program_reads_of_the_kernel() {
    let rows = once("");
    let text = said(Command::new("python3").args(["-c", ADJTIMEX]));
    let theirs: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let [value, status, offset, error_max, _] = theirs[..] else { panic!("{text}") };
    let ours = |name: &str| rows[&(format!("time.{name}"), String::new())];
    let kept = value != 5.0 && status as i64 & 0x40 == 0;
    assert_eq!(ours("synchronised"), f64::from(u8::from(kept)), "{text}");
    let unit = if status as i64 & 0x2000 == 0 { 1e6 } else { 1e9 };
    near("offset", ours("offset"), offset / unit, 0.01);
    near("error_max", ours("error_max"), error_max / 1e6, 1.0);
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
