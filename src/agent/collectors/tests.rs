//! The collectors together: on fixtures, on any bytes, and against this machine's own tools.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::agent::config::AgentConfig;
use crate::base::configfile::Source;

mod damage;
mod many;

fn config(proc_root: &Path) -> AgentConfig {
    let text = format!(
        "agent_id = \"t\"\nproc_root = {:?}\n[filters]\ninterfaces_exclude = []\n",
        proc_root.display().to_string()
    );
    AgentConfig::from_source(&Source::embedded("t.toml", &text)).unwrap()
}

fn by_name(points: &[Point]) -> HashMap<String, f64> {
    let key = |point: &Point| {
        point.labels.iter().fold(point.metric.to_string(), |key, (_, value)| key + "@" + value)
    };
    points.iter().map(|point| (key(point), point.value)).collect()
}

/// What one collector gives, at its slow pace, for files below a root that holds `proc` and `sys`.
pub(super) fn tree(name: &str, files: &[(&str, &str)]) -> HashMap<String, f64> {
    let dir = tempfile::tempdir().unwrap();
    write_tree(dir.path(), files);
    let mut collector = in_tree(name, dir.path());
    collect(&mut *collector, 0)
}

/// What one collector gives for one file of /proc.
pub(super) fn once(name: &str, file: &str, text: &str) -> HashMap<String, f64> {
    tree(name, &[(&format!("proc/{file}"), text)])
}

/// What one collector gives for a file of /proc that changes, 10 s later.
pub(super) fn twice(name: &str, file: &str, before: &str, now: &str) -> HashMap<String, f64> {
    let dir = tempfile::tempdir().unwrap();
    let mut collector = in_tree(name, dir.path());
    let file = format!("proc/{file}");
    write_tree(dir.path(), &[(file.as_str(), before)]);
    collect(&mut *collector, 0);
    write_tree(dir.path(), &[(file.as_str(), now)]);
    collect(&mut *collector, 10)
}

/// What one collector gives for files that change, 10 s later.
pub(super) fn tree_twice(
    name: &str,
    before: &[(String, String)],
    now: &[(String, String)],
) -> HashMap<String, f64> {
    let dir = tempfile::tempdir().unwrap();
    let mut collector = in_tree(name, dir.path());
    write_tree(dir.path(), before);
    collect(&mut *collector, 0);
    write_tree(dir.path(), now);
    collect(&mut *collector, 10)
}

/// What one collector gives beside an error, for files that are written one set after the other,
/// 10 s apart.
pub(super) fn partly(name: &str, files: &[&[(&str, &str)]]) -> HashMap<String, f64> {
    let dir = tempfile::tempdir().unwrap();
    let mut collector = in_tree(name, dir.path());
    let (mut seen, mut failed) = (HashMap::new(), None);
    for (files, secs) in files.iter().zip([0, 10]) {
        write_tree(dir.path(), files);
        let mut out = Samples::new(moment(secs));
        failed = collector.collect(&mut out).err();
        seen = by_name(&out.into_parts().0);
    }
    assert!(failed.is_some(), "{name} says what failed");
    seen
}

fn write_tree<T: AsRef<str>>(root: &Path, files: &[(T, T)]) {
    for (file, text) in files {
        let (file, text) = (file.as_ref(), text.as_ref());
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn in_tree(name: &str, root: &Path) -> Box<dyn Collector> {
    let mut config = config(&root.join("proc"));
    config.sys_root = root.join("sys");
    config.root = root.join("root");
    config.textfile_dir = Some(root.join("text"));
    let spec = SPECS.iter().find(|spec| spec.name == name).unwrap();
    (spec.make)(&Setup { config: &config })
}

fn moment(secs: u64) -> Moment {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let at = *START.get_or_init(Instant::now) + std::time::Duration::from_secs(secs);
    Moment { timestamp_ms: 1_000, at, slow: true }
}

fn collect(collector: &mut dyn Collector, secs: u64) -> HashMap<String, f64> {
    let mut out = Samples::new(moment(secs));
    collector.collect(&mut out).unwrap();
    by_name(&out.into_parts().0)
}

fn all(config: &AgentConfig) -> Collectors {
    Collectors::new(config, Stop::never())
}

fn copy_fixtures(to: &Path) {
    fs::create_dir_all(to.join("net")).unwrap();
    for file in ["stat", "meminfo", "loadavg", "uptime", "mountinfo", "net/dev"] {
        fs::copy(Path::new("tests/fixtures/proc").join(file), to.join(file)).unwrap();
    }
}

#[test]
fn the_first_collection_has_no_rates_and_the_second_has() {
    let dir = tempfile::tempdir().unwrap();
    copy_fixtures(dir.path());
    let mut collectors = all(&config(dir.path()));
    let first = by_name(&collectors.collect(1_000));
    let rate = |name: &str| name.starts_with("cpu.") || name.starts_with("network.");
    assert!(first.keys().all(|name| !rate(name) || name.starts_with("network.up@")));
    assert_eq!(first["load.load_5"], 0.29);

    let stat = fs::read_to_string(dir.path().join("stat")).unwrap();
    fs::write(dir.path().join("stat"), stat.replacen("cpu  1000", "cpu  1100", 1)).unwrap();
    let second = collectors.collect(2_000);
    assert!(second.iter().all(|point| point.timestamp_ms == 2_000));
    assert_eq!(by_name(&second)["cpu.usage"], 100.0);
    assert_eq!(by_name(&second)["network.bytes_sent@eth0"], 0.0);
}

#[test]
fn a_collector_that_fails_costs_its_own_points_alone() {
    let dir = tempfile::tempdir().unwrap();
    copy_fixtures(dir.path());
    fs::write(dir.path().join("meminfo"), "garbage").unwrap();
    let mut collectors = all(&config(dir.path()));
    let seen = by_name(&collectors.collect(1_000));
    assert!(!seen.contains_key("memory.total") && seen.contains_key("load.load_1"));
    assert!(seen.contains_key("agent.collect_ms@memory"));
    assert_eq!(seen["agent.collect_success@memory"], 0.0);
    assert_eq!(seen["agent.collect_success@load"], 1.0);
    let (name, why) = &collectors.failures()[0];
    assert!(*name == "memory" && why.contains("/proc/meminfo"), "{why}");
}

#[test]
fn a_file_that_blocks_costs_its_own_collector_alone() {
    let dir = tempfile::tempdir().unwrap();
    copy_fixtures(dir.path());
    let fifo = dir.path().join("loadavg");
    fs::remove_file(&fifo).unwrap();
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut collectors = all(&config(dir.path()));
    let seen = by_name(&collectors.collect(1_000));
    assert!(seen.contains_key("memory.total") && !seen.contains_key("load.load_1"));
    assert_eq!(seen["agent.collect_success@load"], 0.0);
    assert!(seen.contains_key("network.up@eth0"), "those after it go on: {seen:?}");
    let started = Instant::now();
    collectors.collect(2_000);
    assert!(started.elapsed() < PATIENCE, "it waits for it once");
}

#[test]
fn a_failure_is_said_once_a_minute() {
    let now = Instant::now();
    let after = |secs| now + std::time::Duration::from_secs(secs);
    assert!(is_due(None, now) && !is_due(Some(now), after(59)) && is_due(Some(now), after(60)));
}

#[test]
fn collectors_are_switched_by_name() {
    let names: Vec<&str> = SPECS.iter().map(|spec| spec.name).collect();
    assert_eq!(names, crate::agent::config::COLLECTORS);
    let text = "[collectors]\ndisable = ['load', 'cpu']\n";
    let off = AgentConfig::from_source(&Source::embedded("t.toml", text)).unwrap();
    let seen = by_name(&all(&off).collect(1_000));
    assert!(!seen.contains_key("load.load_1") && seen.contains_key("memory.total"));
    assert!(!seen.contains_key("agent.collect_ms@load"));
    let unknown = Source::embedded("t.toml", "[collectors]\nenable = ['gpu']\n");
    let error = AgentConfig::from_source(&unknown).unwrap_err().0;
    assert!(error.contains("collectors.enable: no collector \"gpu\"; there are cpu"), "{error}");
}

#[test]
fn what_changes_slowly_is_collected_once_a_minute() {
    let dir = tempfile::tempdir().unwrap();
    copy_fixtures(dir.path());
    let mut collectors = all(&config(dir.path()));
    let slow: Vec<bool> = [58_000, 59_000, 60_000, 61_000]
        .map(|ms| by_name(&collectors.collect(ms)).contains_key("agent.collect_ms@raid"))
        .to_vec();
    assert_eq!(slow, [true, false, true, false]);
}

#[test]
fn every_point_is_in_the_table() {
    let mut collectors = all(&config(Path::new("/proc")));
    collectors.collect(1_000);
    let specs: Vec<&Metric> =
        SPECS.iter().flat_map(|spec| spec.metrics).chain(OWN_METRICS).collect();
    for point in collectors.collect(2_000) {
        let spec = specs.iter().find(|spec| spec.name == point.metric.as_ref()).unwrap();
        let mut labels: Vec<&str> = spec.labels.to_vec();
        labels.sort_unstable();
        let seen: Vec<&str> = point.labels.iter().map(|(name, _)| name).collect();
        assert_eq!(seen, labels, "{}", point.metric);
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).env("LC_ALL", "C").output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn values_are_what_df_free_and_uptime_say() {
    let mut collectors = all(&config(Path::new("/proc")));
    let seen = by_name(&collectors.collect(1_000));
    let near = |name: &str, expected: f64, slack: f64| {
        let value = seen[name];
        assert!((value - expected).abs() <= slack, "{name}: {value} is not near {expected}");
    };
    let df = said("df", &["-B1", "--output=size,used,avail,pcent", "/"]);
    let df: Vec<f64> = df
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .map(|word| word.trim_end_matches('%').parse().unwrap())
        .collect();
    near("disk.total@/", df[0], 0.0);
    // Builds and tests write meanwhile.
    near("disk.used@/", df[1], 2e9);
    near("disk.available@/", df[2], 2e9);
    near("disk.used_percent@/", df[3], 2.0);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let field = |name: &str| -> f64 {
        let line = meminfo.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
    };
    near("memory.total", field("MemTotal:"), 0.0);
    near("memory.available", field("MemAvailable:"), 2e9);
    near("memory.swap_total", field("SwapTotal:"), 0.0);
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    near("load.uptime", uptime.split(' ').next().unwrap().parse().unwrap(), 3.0);
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    near("load.load_15", load.split(' ').nth(2).unwrap().parse().unwrap(), 0.5);
}

#[test]
fn every_metric_has_a_name_of_its_own_a_unit_and_a_meaning() {
    let all: Vec<&Metric> = SPECS.iter().flat_map(|spec| spec.metrics).chain(OWN_METRICS).collect();
    for metric in &all {
        assert!(!metric.unit.is_empty() && !metric.help.is_empty(), "{metric:?}");
        assert_eq!(all.iter().filter(|other| other.name == metric.name).count(), 1, "{metric:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        cpu::tests::parse_any(&text);
        memory::tests::parse_any(&text);
        load::tests::parse_any(&text);
        network::tests::parse_any(&text);
        mounts::tests::parse_any(&text);
        diskio::tests::parse_any(&text);
        pressure::tests::parse_any(&text);
        vm::tests::parse_any(&text);
        kernel::tests::parse_any(&text);
        sockets::tests::parse_any(&text);
        wireless::tests::parse_any(&text);
        raid::tests::parse_any(&text);
        cgroup::tests::parse_any(&text);
        let _ = crate::agent::procstat::parse(&text);
    }

    #[test]
    fn no_change_of_a_real_file_makes_a_parser_panic(
        file in 0_usize..5,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let name = ["stat", "meminfo", "loadavg", "net/dev", "mountinfo"][file];
        let mut bytes = fs::read(Path::new("tests/fixtures/proc").join(name)).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len() + 1));
        let text = String::from_utf8_lossy(&bytes);
        match file {
            0 => cpu::tests::parse_any(&text),
            1 => memory::tests::parse_any(&text),
            2 => load::tests::parse_any(&text),
            3 => network::tests::parse_any(&text),
            _ => mounts::tests::parse_any(&text),
        }
    }
}

/// Whole trees of /proc, as kernels of several ages show it.
#[test]
fn every_collector_reads_the_files_of_old_and_new_kernels() {
    let names = |kernel: &str| -> (HashMap<String, f64>, Vec<String>) {
        let root = Path::new("tests/fixtures/kernels").join(kernel).join("proc");
        let mut config = config(&root);
        config.sys_root = root.join("none");
        let mut collectors = all(&config);
        collectors.collect(1_000);
        let seen = by_name(&collectors.collect_everything(2_000));
        let failed = collectors.failures().iter().map(|(name, _)| (*name).to_owned()).collect();
        (seen, failed)
    };
    let (old, failed) = names("3.10");
    assert!(failed.is_empty(), "{failed:?}");
    // Free memory and caches, less what is shared.
    let available = (172_224 + 2_076 + 955_344 + 62_312 - 8_864) * 1_024;
    assert_eq!(old["memory.available"], f64::from(available));
    assert_eq!((old["tcp.established"], old["sockets.used"]), (5.0, 154.0));
    assert_eq!((old["diskio.reads@sda"], old["kernel.files_max"]), (0.0, 184_088.0));
    assert!(old.contains_key("diskio.reads@dm-0") && !old.contains_key("diskio.reads@sda1"));
    for newer in ["vm.oom_kills", "pressure.cpu_some", "diskio.reads@sr0"] {
        assert!(!old.contains_key(newer), "{newer}");
    }

    let (middle, failed) = names("4.19");
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(middle["memory.available"], 1_101_032.0 * 1_024.0);
    assert_eq!((middle["vm.oom_kills"], middle["udp.errors"]), (0.0, 0.0));
    assert!(middle.contains_key("diskio.reads@nvme0n1"));
    assert!(!middle.contains_key("diskio.reads@nvme0n1p1"));

    let (new, failed) = names("6.18");
    assert!(failed.is_empty(), "{failed:?}");
    for name in ["pressure.io_full", "pressure.cpu_full", "tcp.listen_drops", "vm.swap_in"] {
        assert_eq!(new[name], 0.0, "{name}");
    }
    assert!(new.contains_key("diskio.busy_percent@vda"));
}

#[test]
fn a_file_with_a_hundred_thousand_lines_stays_within_the_limits_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::from("head\nhead\n");
    for n in 0..20_000 {
        text.push_str(&format!("  eth{n}: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"));
    }
    write_tree(dir.path(), &[("proc/net/dev", &text)]);
    let mut collector = in_tree("network", dir.path());
    let at = Instant::now();
    let mut out = Samples::new(Moment { timestamp_ms: 1, at, slow: true });
    collector.collect(&mut out).unwrap();
    let later = at + std::time::Duration::from_secs(1);
    let mut out = Samples::new(Moment { timestamp_ms: 2, at: later, slow: true });
    collector.collect(&mut out).unwrap();
    let (points, notes) = out.into_parts();
    assert_eq!(points.len(), 8 * crate::base::limits::INTERFACES_MAX);
    let text = "measuring 128 of 20000 interfaces, 19872 are left out";
    assert!(notes[0].text.starts_with(text), "{}", notes[0].text);
}
