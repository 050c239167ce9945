//! Every file that a collector reads, damaged in every way: it costs the collectors that read it,
//! and nothing else.

use super::*;

/// Files of /sys beside the /proc of a recent kernel.
const SYS: &[(&str, &str)] = &[
    ("sys/class/hwmon/hwmon0/name", "coretemp\n"),
    ("sys/class/hwmon/hwmon0/temp1_input", "41000\n"),
    ("sys/class/hwmon/hwmon0/temp1_label", "Package id 0\n"),
    ("sys/class/hwmon/hwmon0/temp1_crit", "100000\n"),
    ("sys/class/hwmon/hwmon0/fan1_input", "900\n"),
    ("sys/class/power_supply/BAT0/type", "Battery\n"),
    ("sys/class/power_supply/BAT0/capacity", "80\n"),
    ("sys/class/power_supply/BAT0/status", "Charging\n"),
    ("sys/class/net/eth0/operstate", "up\n"),
    ("sys/class/net/eth0/speed", "1000\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "2000000\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "3000000\n"),
    ("sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n"),
    ("sys/fs/cgroup/system.slice/nginx.service/cgroup.procs", "7\n"),
    ("sys/fs/cgroup/system.slice/nginx.service/memory.current", "9000\n"),
    ("sys/fs/cgroup/system.slice/nginx.service/cpu.stat", "usage_usec 5\n"),
    ("sys/fs/cgroup/machine.slice/machine-box.scope/cpu.stat", "usage_usec 5\n"),
    ("sys/fs/cgroup/machine.slice/machine-box.scope/memory.current", "9000\n"),
    ("sys/fs/cgroup/machine.slice/machine-box.scope/memory.max", "max\n"),
    ("sys/fs/cgroup/machine.slice/machine-box.scope/memory.events", "oom_kill 0\n"),
    ("sys/fs/cgroup/machine.slice/machine-box.scope/pids.current", "3\n"),
    ("sys/fs/cgroup/machine.slice/machine-box.scope/io.stat", "8:0 rbytes=1 wbytes=2\n"),
    ("proc/mdstat", "Personalities : [raid1]\nmd0 : active raid1 sdb1[1] sda1[0]\n"),
    ("proc/7/stat", "7 (postgres) S 1 7 7 0 -1 0 1 2 3 4 50 60 7 8 20 0 3 0 900 1000000 250 1"),
    ("text/a.prom", "backup_bytes 1\n"),
];

/// The collectors that read a file.
fn readers(file: &str) -> &'static [&'static str] {
    let table: &[(&str, &[&str])] = &[
        ("proc/stat", &["cpu", "kernel"]),
        ("proc/meminfo", &["memory"]),
        ("proc/mountinfo", &["disk"]),
        ("proc/net/dev", &["network"]),
        ("proc/loadavg", &["load"]),
        ("proc/uptime", &["load"]),
        ("proc/diskstats", &["diskio"]),
        ("proc/pressure", &["pressure"]),
        ("proc/vmstat", &["vm"]),
        ("proc/sys", &["kernel"]),
        ("proc/net/snmp", &["tcp"]),
        ("proc/net/netstat", &["tcp"]),
        ("proc/net/sockstat", &["sockets"]),
        ("proc/net/wireless", &["wireless"]),
        ("proc/mdstat", &["raid"]),
        ("proc/7", &["processes"]),
        ("sys/class/hwmon", &["sensors"]),
        ("sys/class/power_supply", &["power"]),
        ("sys/class/net", &["network"]),
        ("sys/devices", &["frequency"]),
        ("sys/fs/cgroup/cgroup.controllers", &["containers", "units"]),
        ("sys/fs/cgroup/system.slice", &["units"]),
        ("sys/fs/cgroup/machine.slice", &["containers"]),
        ("text", &["textfile"]),
    ];
    let row = table.iter().find(|(start, _)| file.starts_with(start));
    row.unwrap_or_else(|| panic!("which collector reads {file}?")).1
}

fn copy(from: &Path, to: &Path, files: &mut Vec<String>, name: &str) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{name}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), to, files, &name);
        } else {
            let text = fs::read(entry.path()).unwrap();
            fs::create_dir_all(to.join(&name).parent().unwrap()).unwrap();
            fs::write(to.join(&name), text).unwrap();
            files.push(name);
        }
    }
}

/// A whole host of files, and their names.
fn host(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    copy(Path::new("tests/fixtures/kernels/6.18/proc"), root, &mut files, "proc");
    write_tree(root, SYS);
    files.extend(SYS.iter().map(|(file, _)| (*file).to_owned()));
    files
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
    let seen = by_name(&collectors.collect_everything(2_000));
    let mut missing = Vec::new();
    for spec in SPECS.iter().filter(|spec| !readers(file).contains(&spec.name)) {
        let success = seen.get(&format!("agent.collect_success@{}", spec.name));
        if success.is_some_and(|success| *success == 0.0) {
            missing.push(spec.name);
        }
    }
    assert!(missing.is_empty(), "{file} {damage}: {missing:?} fail: {:?}", collectors.failures());
    assert!(seen.contains_key("agent.collect_success@load"), "{file} {damage}: {seen:?}");
    for (name, value) in &seen {
        assert!(value.is_finite(), "{file} {damage}: {name} is {value}");
    }
}

#[test]
fn a_damaged_file_costs_the_collectors_that_read_it_alone() {
    let whole = tempfile::tempdir().unwrap();
    let files = host(whole.path());
    check(whole.path(), "text/none", "undamaged");
    assert!(collectors_of(whole.path()).collect(1_000).len() > 60);
    for file in &files {
        let dir = tempfile::tempdir().unwrap();
        host(dir.path());
        let path = dir.path().join(file);
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        check(dir.path(), file, "half-written");
        fs::write(&path, "").unwrap();
        check(dir.path(), file, "empty");
        fs::write(&path, [0xff, 0, b'\n', 0x80].repeat(999)).unwrap();
        check(dir.path(), file, "of any bytes");
        fs::write(&path, text.repeat(5_000_000 / text.len())).unwrap();
        check(dir.path(), file, "huge");
        fs::remove_file(&path).unwrap();
        check(dir.path(), file, "missing");
        // Reading it fails, as without the right to.
        fs::create_dir(&path).unwrap();
        check(dir.path(), file, "unreadable");
    }
}

#[test]
fn a_file_of_a_tree_that_blocks_costs_its_collector_alone() {
    let blocking = [
        "sys/class/hwmon/hwmon0/temp1_input",
        "sys/class/net/eth0/operstate",
        "sys/fs/cgroup/machine.slice/machine-box.scope/memory.current",
        "sys/fs/cgroup/system.slice/nginx.service/cpu.stat",
        "proc/7/stat",
    ];
    std::thread::scope(|scope| {
        for file in blocking {
            scope.spawn(move || {
                let dir = tempfile::tempdir().unwrap();
                host(dir.path());
                let path = dir.path().join(file);
                fs::remove_file(&path).unwrap();
                assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
                check(dir.path(), file, "blocking");
            });
        }
    });
}
