//! A host that has a thousand of each thing stays within the limits, and says what it left out.

use std::fmt::Write as _;

use super::*;
use crate::base::limits::{
    ARRAYS_MAX, BATCH_POINTS_MAX, CONTAINERS_MAX, CORES_MAX, DISKS_MAX, INTERFACES_MAX, MOUNTS_MAX,
    SENSORS_MAX, TEXTFILES_MAX,
};

const MANY: usize = 1_000;

fn lines(head: &str, count: usize, line: impl Fn(usize) -> String) -> String {
    let mut text = head.to_owned();
    for n in 0..count {
        let _ = writeln!(text, "{}", line(n));
    }
    text
}

/// The files of one kind of thing, a thousand times.
fn files(collector: &str) -> Vec<(String, String)> {
    let one = |file: &str, text: String| vec![(file.to_owned(), text)];
    match collector {
        "cpu" => one("proc/stat", lines("cpu 1 1 1 1\n", 2_000, |n| format!("cpu{n} 1 1 1 1"))),
        "disk" => {
            let mounts =
                lines("", MANY, |n| format!("{} 1 0:{n} / /mnt{n} rw - btrfs /dev/sd rw", n + 20));
            let points = (0..MANY).map(|n| (format!("root/mnt{n}/file"), String::new()));
            points.chain(one("proc/mountinfo", mounts)).collect()
        }
        "network" => {
            let numbers = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16";
            let text = lines("head\nhead\n", MANY, |n| format!("eth{n}: {numbers}"));
            let link = |n| (format!("sys/class/net/eth{n}/operstate"), "up\n".to_owned());
            let links = (0..MANY).map(link);
            links.chain(one("proc/net/dev", text)).collect()
        }
        "diskio" => {
            let text = lines("", MANY, |n| format!("8 {n} sd{n}x 1 2 3 4 5 6 7 8 9 10 11"));
            one("proc/diskstats", text)
        }
        "raid" => one("proc/mdstat", lines("", MANY, |n| format!("md{n} : active raid1 a[0]"))),
        "wireless" => {
            let text = lines("a\nb\n", MANY, |n| format!("wlan{n}: 0000 54. -56. -256 0 0"));
            one("proc/net/wireless", text)
        }
        "sensors" => {
            let chips = (0..MANY).flat_map(|n| {
                let file = |name: &str| format!("sys/class/hwmon/hwmon{n}/{name}");
                [(file("name"), format!("chip{n}\n")), (file("temp1_input"), "41000\n".to_owned())]
            });
            chips.collect()
        }
        "textfile" => {
            let file = |n: usize| (format!("text/{n}.prom"), format!("metric_{n} 1\n"));
            (0..MANY).map(file).collect()
        }
        "containers" => {
            let groups = (0..MANY).flat_map(|n| {
                let file = move |name: &str| {
                    format!("sys/fs/cgroup/system.slice/docker-{n:012x}{:052x}.scope/{name}", 0)
                };
                [
                    (file("memory.current"), "9000\n".to_owned()),
                    (file("pids.current"), "3\n".to_owned()),
                ]
            });
            groups.chain(one("sys/fs/cgroup/cgroup.controllers", "cpu\n".to_owned())).collect()
        }
        other => panic!("no files of {other}"),
    }
}

/// Each collector with what it says, a metric of each thing, and how many of them are measured.
const LEFT_OUT: &[(&str, &str, &str, usize)] = &[
    ("cpu", "measuring 1024 of 2000 cores, 976 are left out", "cpu.core_usage", CORES_MAX),
    (
        "disk",
        "measuring 128 of 1000 file systems, 872 are left out; choose with filters.mounts_exclude",
        "disk.total",
        MOUNTS_MAX,
    ),
    (
        "network",
        "measuring 128 of 1000 interfaces, 872 are left out; choose with filters.interfaces_exclude",
        "network.bytes_recv",
        INTERFACES_MAX,
    ),
    (
        "diskio",
        "measuring 128 of 1000 disks, 872 are left out; choose with filters.disks_exclude",
        "diskio.reads",
        DISKS_MAX,
    ),
    (
        "sensors",
        "measuring 128 of 1000 sensors, 872 are left out",
        "sensors.temperature",
        SENSORS_MAX,
    ),
    (
        "wireless",
        "measuring 128 of 1000 wireless links, 872 are left out",
        "wireless.signal",
        INTERFACES_MAX,
    ),
    ("raid", "measuring 64 of 1000 arrays, 936 are left out", "raid.active", ARRAYS_MAX),
    (
        "containers",
        "measuring 200 of 1000 containers, 800 are left out",
        "container.memory",
        CONTAINERS_MAX,
    ),
    (
        "textfile",
        "measuring 64 of 1000 text files, 936 are left out",
        "textfile.success",
        TEXTFILES_MAX,
    ),
];

#[test]
fn a_thousand_of_each_stay_within_the_limits_and_what_is_left_out_is_said() {
    for (collector, text, metric, most) in LEFT_OUT {
        let dir = tempfile::tempdir().unwrap();
        write_tree(dir.path(), &files(collector));
        let mut it = in_tree(collector, dir.path());
        let at = Instant::now();
        let mut seen = (0, Vec::new());
        for secs in [0, 1] {
            let at = at + std::time::Duration::from_secs(secs);
            if *collector == "cpu" && secs == 1 {
                let busier = lines("cpu 9 1 1 1\n", 2_000, |n| format!("cpu{n} 9 1 1 1"));
                write_tree(dir.path(), &[("proc/stat", busier.as_str())]);
            }
            let mut out = Samples::new(Moment { timestamp_ms: 1, at, slow: true });
            it.collect(&mut out).unwrap();
            let (points, notes) = out.into_parts();
            let of_metric = points.iter().filter(|point| *point.metric == **metric);
            seen = (of_metric.count(), notes);
        }
        assert_eq!(seen.0, *most, "{collector}");
        assert!(seen.1.iter().any(|note| note.text == *text), "{collector}: {:?}", seen.1);
    }
}

#[test]
fn a_host_with_a_thousand_of_everything_sends_one_batch_and_says_so_once() {
    let dir = tempfile::tempdir().unwrap();
    for (collector, ..) in LEFT_OUT {
        write_tree(dir.path(), &files(collector));
    }
    let mut config = config(&dir.path().join("proc"));
    config.sys_root = dir.path().join("sys");
    config.root = dir.path().join("root");
    config.textfile_dir = Some(dir.path().join("text"));
    let mut collectors = all(&config);
    collectors.collect(1_000);
    let points = collectors.collect_everything(2_000);
    assert!(points.len() > 3_000 && points.len() <= BATCH_POINTS_MAX, "{}", points.len());
    let said: Vec<(&str, &str)> =
        collectors.notes().map(|(name, note)| (name, note.text.as_str())).collect();
    for (collector, text, ..) in LEFT_OUT {
        assert!(said.contains(&(*collector, *text)), "{collector}: {said:?}");
    }
    let seen = by_name(&points);
    let failed = seen.iter().filter(|(name, value)| {
        let without = ["load", "memory", "vm", "kernel"];
        let name = name.strip_prefix("agent.collect_success@");
        name.is_some_and(|name| !without.contains(&name)) && **value == 0.0
    });
    assert_eq!(failed.count(), 0, "{:?}", collectors.failures());
}
