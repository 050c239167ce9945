//! Every file that a collector reads, damaged in every way: it costs the collectors that read it,
//! and nothing else.

use std::os::unix::fs::symlink;

use super::*;
use crate::base::limits::BATCH_POINTS_MAX;

/// The text of a file is that of the fixtures of a recent kernel.
const OF_KERNEL: &str = "";

/// A file of the one container.
macro_rules! of_box {
    ($file:literal) => {
        concat!("sys/fs/cgroup/machine.slice/machine-box.scope/", $file)
    };
}

/// The files that each collector reads, with their texts. A new collector is one row.
const SOURCES: &[(&str, &[(&str, &str)])] = &[
    ("cpu", &[("proc/stat", OF_KERNEL)]),
    (
        "memory",
        &[
            ("proc/meminfo", OF_KERNEL),
            ("proc/spl/kstat/zfs/arcstats", "9 1\nname type data\nc_min 4 1000\nsize 4 5000\n"),
        ],
    ),
    ("disk", &[("proc/mountinfo", OF_KERNEL)]),
    (
        "network",
        &[
            ("proc/net/dev", OF_KERNEL),
            ("sys/class/net/eth0/operstate", "up\n"),
            ("sys/class/net/eth0/speed", "1000\n"),
        ],
    ),
    ("load", &[("proc/loadavg", OF_KERNEL), ("proc/uptime", OF_KERNEL)]),
    ("diskio", &[("proc/diskstats", OF_KERNEL)]),
    (
        "pressure",
        &[
            ("proc/pressure/cpu", OF_KERNEL),
            ("proc/pressure/memory", OF_KERNEL),
            ("proc/pressure/io", OF_KERNEL),
        ],
    ),
    ("vm", &[("proc/vmstat", OF_KERNEL)]),
    (
        "kernel",
        &[
            ("proc/stat", OF_KERNEL),
            ("proc/sys/fs/file-nr", OF_KERNEL),
            ("proc/sys/net/netfilter/nf_conntrack_count", "31\n"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "262144\n"),
            ("proc/sys/kernel/random/poolsize", "4096\n"),
            ("proc/sys/kernel/random/entropy_avail", "3000\n"),
        ],
    ),
    (
        "tcp",
        &[
            ("proc/net/snmp", OF_KERNEL),
            ("proc/net/snmp6", "Udp6InErrors 0\n"),
            ("proc/net/netstat", OF_KERNEL),
        ],
    ),
    ("sockets", &[("proc/net/sockstat", OF_KERNEL), ("proc/net/sockstat6", "TCP6: inuse 1\n")]),
    (
        "sensors",
        &[
            ("sys/class/hwmon/hwmon0/name", "coretemp\n"),
            ("sys/class/hwmon/hwmon0/temp1_input", "41000\n"),
            ("sys/class/hwmon/hwmon0/temp1_label", "Package id 0\n"),
            ("sys/class/hwmon/hwmon0/temp1_crit", "100000\n"),
            ("sys/class/hwmon/hwmon0/fan1_input", "900\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "51000\n"),
            ("sys/class/thermal/thermal_zone0/trip_point_0_type", "critical\n"),
            ("sys/class/thermal/thermal_zone0/trip_point_0_temp", "110000\n"),
        ],
    ),
    (
        "frequency",
        &[
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "2000000\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "3000000\n"),
        ],
    ),
    (
        "power",
        &[
            ("sys/class/power_supply/BAT0/type", "Battery\n"),
            ("sys/class/power_supply/BAT0/capacity", "80\n"),
            ("sys/class/power_supply/BAT0/status", "Charging\n"),
            ("sys/class/power_supply/BAT0/scope", "System\n"),
            ("sys/class/power_supply/AC/type", "Mains\n"),
            ("sys/class/power_supply/AC/online", "1\n"),
            ("sys/bus/platform/drivers/raspberrypi-firmware/soc:firmware/get_throttled", "0\n"),
            ("sys/class/hwmon/hwmon0/name", "coretemp\n"),
        ],
    ),
    ("wireless", &[("proc/net/wireless", "a\nb\nwlan0: 0000 54. -56. -256 0 0 0 0 0 0\n")]),
    (
        "raid",
        &[
            ("proc/mdstat", "Personalities : [raid1]\nmd0 : active raid1 sdb1[1] sda1[0]\n"),
            ("sys/fs/btrfs/1234-abcd/devinfo/1/error_stats", "write_errs 1\nread_errs 2\n"),
        ],
    ),
    // It asks the kernel, and reads no file: what it does where that fails has a test beside it.
    ("time", &[]),
    (
        "containers",
        &[
            ("sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n"),
            (of_box!("cpu.stat"), "usage_usec 5\n"),
            (of_box!("memory.current"), "9000\n"),
            (of_box!("memory.stat"), "inactive_file 10\n"),
            (of_box!("memory.max"), "max\n"),
            (of_box!("memory.events"), "oom_kill 0\n"),
            (of_box!("pids.current"), "3\n"),
            (of_box!("io.stat"), "8:0 rbytes=1 wbytes=2\n"),
            (
                "sys/fs/cgroup/system.slice/docker-\
                 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.scope/pids.current",
                "1\n",
            ),
            (
                "root/var/lib/docker/containers/\
                 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/config.v2.json",
                "{\"Name\":\"/web\"}",
            ),
            ("root/var/lib/containers/storage/overlay-containers/containers.json", "[]"),
            ("root/var/lib/nerdctl/1/names/default/web", "b"),
        ],
    ),
    (
        "units",
        &[
            ("sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n"),
            ("sys/fs/cgroup/system.slice/nginx.service/cgroup.procs", "7\n"),
            ("sys/fs/cgroup/system.slice/nginx.service/memory.current", "9000\n"),
            ("sys/fs/cgroup/system.slice/nginx.service/cpu.stat", "usage_usec 5\n"),
            ("sys/fs/cgroup/system.slice/nginx.service/pids.current", "1\n"),
        ],
    ),
    (
        "processes",
        &[(
            "proc/7/stat",
            "7 (postgres) S 1 7 7 0 -1 0 1 2 3 4 50 60 7 8 20 0 3 0 900 1000000 250 1",
        )],
    ),
    ("textfile", &[("text/a.prom", "backup_bytes 1\n")]),
    // It reads no file: exporters that hang or send too much are tests of the HTTP client.
    ("scrape", &[]),
];

/// Every file once, with its text.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let mut found: Vec<(&str, Vec<u8>)> = Vec::new();
    for (file, text) in SOURCES.iter().flat_map(|(_, files)| *files) {
        if found.iter().any(|(other, _)| other == file) {
            continue;
        }
        let text = match *text {
            OF_KERNEL => fs::read(Path::new("tests/fixtures/kernels/6.18").join(file)).unwrap(),
            text => text.as_bytes().to_vec(),
        };
        found.push((file, text));
    }
    found
}

fn put(root: &Path, file: &str, text: &[u8]) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A whole host of files.
fn host() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in files() {
        put(dir.path(), file, &text);
    }
    dir
}

fn collectors_of(root: &Path) -> Collectors {
    let folder = |name: &str| format!("{:?}", root.join(name).display().to_string());
    let text = format!(
        "agent_id = 't'\nproc_root = {}\nsys_root = {}\nroot = {}\ntextfile_dir = {}\n\
         units = ['nginx.service']\nprocesses = ['postgres']\n\
         [filters]\ninterfaces_exclude = []\n",
        folder("proc"),
        folder("sys"),
        folder("root"),
        folder("text")
    );
    all(&AgentConfig::from_source(&Source::embedded("t.toml", &text)).unwrap())
}

/// Collects twice and checks that every collector succeeds that does not read `file`.
fn check(root: &Path, file: &str, damage: &str) {
    let mut collectors = collectors_of(root);
    collectors.collect(1_000);
    let points = collectors.collect_everything(2_000);
    assert!(points.len() <= BATCH_POINTS_MAX, "{file} {damage}: {} points", points.len());
    let seen = by_name(&points);
    let reads = |files: &[(&str, &str)]| files.iter().any(|(other, _)| *other == file);
    let others = SOURCES.iter().filter(|(_, files)| !reads(files)).map(|(name, _)| *name);
    let failed: Vec<&str> = others
        .filter(|name| seen.get(&format!("agent.collect_success@{name}")) == Some(&0.0))
        .collect();
    assert!(failed.is_empty(), "{file} {damage}: {failed:?} fail: {:?}", collectors.failures());
    assert!(seen.contains_key("agent.collect_success@load"), "{file} {damage}: {seen:?}");
    for (name, value) in &seen {
        assert!(value.is_finite(), "{file} {damage}: {name} is {value}");
    }
}

/// Damages one file after the other, each in a host that is whole otherwise.
fn check_each(damage: &str, spoil: impl Fn(&Path, &[u8])) {
    let dir = host();
    for (file, text) in files() {
        let path = dir.path().join(file);
        fs::remove_file(&path).unwrap();
        spoil(&path, &text);
        check(dir.path(), file, damage);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir(&path).unwrap(),
            Ok(_) => fs::remove_file(&path).unwrap(),
            Err(_) => {}
        }
        put(dir.path(), file, &text);
    }
}

#[test]
fn every_collector_has_its_row_and_gives_something_of_its_files() {
    let rows: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).collect();
    let specs: Vec<&str> = SPECS.iter().map(|spec| spec.name).collect();
    assert_eq!(rows, specs, "a collector's row names the files that it reads");
    let dir = host();
    check(dir.path(), "none", "undamaged");
    let mut collectors = collectors_of(dir.path());
    collectors.collect(1_000);
    let points = collectors.collect_everything(2_000);
    // The counters of the cores stand still, and this host has none of the mount points.
    let without = ["cpu", "disk", "time", "scrape"];
    for spec in SPECS.iter().filter(|spec| !without.contains(&spec.name)) {
        let own = |point: &&Point| spec.metrics.iter().any(|m| *m.name == *point.metric);
        assert!(points.iter().any(|point| own(&point)), "{} gives nothing", spec.name);
    }
    assert!(by_name(&points).contains_key("container.tasks@web"), "{points:?}");
}

#[test]
fn a_file_that_is_half_written_costs_its_collectors_alone() {
    check_each("half-written", |path, text| fs::write(path, &text[..text.len() / 2]).unwrap());
}

#[test]
fn a_file_that_is_empty_or_gone_costs_its_collectors_alone() {
    check_each("empty", |path, _| fs::write(path, "").unwrap());
    check_each("missing", |_, _| {});
}

#[test]
fn a_file_of_any_bytes_costs_its_collectors_alone() {
    let bytes = [0xff, 0, b'\n', 0x80].repeat(999);
    check_each("of any bytes", |path, _| fs::write(path, &bytes).unwrap());
}

#[test]
fn a_file_that_can_not_be_read_costs_its_collectors_alone() {
    // Opening a link to itself fails for root too, as it fails for others without the right to.
    check_each("unreadable", |path, _| symlink(path.file_name().unwrap(), path).unwrap());
    check_each("a folder", |path, _| fs::create_dir(path).unwrap());
}

#[test]
fn a_file_of_a_hundred_thousand_lines_costs_its_collectors_alone() {
    check_each("of a hundred thousand lines", |path, text| {
        // The last line again and again; a file in which that takes more than 4 MiB is too large.
        let last = text.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap();
        let line = [last, b"\n"].concat();
        fs::write(path, [text, &line.repeat(100_000)].concat()).unwrap();
    });
}

#[test]
fn a_file_that_is_too_large_costs_its_collectors_alone() {
    check_each("huge", |path, text| {
        fs::write(path, text.repeat(5_000_000 / text.len().max(1))).unwrap();
    });
}

#[test]
fn a_file_that_blocks_costs_its_collectors_alone() {
    std::thread::scope(|scope| {
        for (file, _) in files() {
            scope.spawn(move || {
                let dir = host();
                let path = dir.path().join(file);
                fs::remove_file(&path).unwrap();
                // A pipe that nobody writes to: opening it waits.
                assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
                check(dir.path(), file, "blocking");
            });
        }
    });
}
