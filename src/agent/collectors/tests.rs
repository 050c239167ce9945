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
    let mut collectors = Collectors::new(&config(dir.path()));
    let first = by_name(&collectors.collect(1_000));
    assert!(first.keys().all(|name| !name.starts_with("cpu.") && !name.starts_with("network.")));
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
    let mut collectors = Collectors::new(&config(dir.path()));
    let seen = by_name(&collectors.collect(1_000));
    assert!(!seen.contains_key("memory.total") && seen.contains_key("load.load_1"));
    assert!(seen.contains_key("agent.collect_ms@memory"));
}

#[test]
fn every_point_is_in_the_table() {
    let mut collectors = Collectors::new(&config(Path::new("/proc")));
    collectors.collect(1_000);
    let specs: Vec<&Metric> =
        SPECS.iter().flat_map(|spec| spec.metrics).chain(OWN_METRICS).collect();
    for point in collectors.collect(2_000) {
        let spec = specs.iter().find(|spec| spec.name == point.metric.as_ref()).unwrap();
        let label = point.labels.iter().next().map(|(name, _)| name);
        assert_eq!(label, spec.label, "{}", point.metric);
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).env("LC_ALL", "C").output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn values_are_what_df_free_and_uptime_say() {
    let mut collectors = Collectors::new(&config(Path::new("/proc")));
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

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        cpu::tests::parse_any(&text);
        memory::tests::parse_any(&text);
        load::tests::parse_any(&text);
        network::tests::parse_any(&text);
        mounts::tests::parse_any(&text);
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
