//! Counters of rare events, against `nstat`, `vmstat` and `ip` while a test makes such events.

use std::net::UdpSocket;

use super::*;
use crate::support::tools::there;

/// A counter of the network as `nstat` has it, since the system started.
fn nstat(name: &str) -> f64 {
    let text = said(Command::new("nstat").args(["-asz", "--json", name]));
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    all["kernel"][name].as_f64().unwrap_or_else(|| panic!("no {name}: {text}"))
}

/// Checks a rate against how far a counter moved around its second.
fn within(metric: &str, ours: f64, moved: f64) {
    assert!(ours > 0.0 && ours <= moved * 1.01 + 0.01, "{metric}: {ours} a second, {moved} in all");
}

#[test]
fn refused_connections_and_lost_packets_are_what_nstat_says() {
    if !there("nstat") {
        return;
    }
    let names = ["TcpExtListenOverflows", "TcpExtListenDrops", "UdpInErrors", "Udp6InErrors"];
    let stop = AtomicBool::new(false);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 1).unwrap();
    let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
    let deaf6 = UdpSocket::bind("[::1]:0").ok();
    rustix::net::sockopt::set_socket_recv_buffer_size(&deaf, 2_048).unwrap();
    let (rows, moved) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let target = listener.local_addr().unwrap();
            let pause = std::time::Duration::from_millis(20);
            let mut open = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                // Nobody accepts: those that find the queue full wait for nothing.
                open.extend(TcpStream::connect_timeout(&target, pause).ok());
            }
        });
        scope.spawn(|| {
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            let sender6 = UdpSocket::bind("[::1]:0").ok();
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    let _ = sender.send_to(&[7; 1_000], deaf.local_addr().unwrap());
                    if let (Some(sender), Some(deaf)) = (&sender6, &deaf6) {
                        let _ = sender.send_to(&[7; 60_000], deaf.local_addr().unwrap());
                    }
                }
                std::thread::yield_now();
            }
        });
        let before = names.map(nstat);
        let rows = once("");
        let after = names.map(nstat);
        stop.store(true, Ordering::Relaxed);
        let moved: Vec<f64> = before.iter().zip(after).map(|(before, now)| now - before).collect();
        (rows, moved)
    });
    let ours = |name: &str| rows[&(name.to_owned(), String::new())];
    within("tcp.listen_overflows", ours("tcp.listen_overflows"), moved[0]);
    within("tcp.listen_drops", ours("tcp.listen_drops"), moved[1]);
    within("udp.errors", ours("udp.errors"), moved[2] + moved[3]);
    if deaf6.is_some() {
        assert!(moved[3] > 0.0, "no packet of IPv6 was lost");
    }
}

#[test]
fn started_processes_and_open_files_are_what_vmstat_and_sysctl_say() {
    let forks = || -> f64 {
        let text = said(Command::new("vmstat").arg("-f"));
        text.split_whitespace().next().unwrap().parse().unwrap()
    };
    let stop = AtomicBool::new(false);
    let (rows, moved) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert!(Command::new("true").status().unwrap().success());
            }
        });
        let before = forks();
        let rows = once("");
        let moved = forks() - before;
        stop.store(true, Ordering::Relaxed);
        (rows, moved)
    });
    let ours = |name: &str| rows[&(name.to_owned(), String::new())];
    within("kernel.forks", ours("kernel.forks"), moved);
    let text = said(Command::new("sysctl").args(["-n", "fs.file-nr"]));
    let files: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    near("kernel.files_used", ours("kernel.files_used"), files[0] - files[1], 3_000.0);
    // More than 2^53 loses its last digits on the way.
    near("kernel.files_max", ours("kernel.files_max") / files[2], 1.0, 1e-9);
}

#[test]
fn links_are_what_ip_says() {
    if !there("ip") {
        return;
    }
    let rows = once("[filters]\ninterfaces_exclude = []\n");
    let links: serde_json::Value =
        serde_json::from_str(&said(Command::new("ip").args(["-j", "-s", "link"]))).unwrap();
    let mut compared = 0;
    for link in links.as_array().unwrap() {
        let name = link["ifname"].as_str().unwrap();
        let ours = |metric: &str| {
            rows.get(&(format!("network.{metric}"), format!("interface={name:?}"))).copied()
        };
        // One of another test that came meanwhile.
        let Some(up) = ours("up") else { continue };
        let state = link["operstate"].as_str().unwrap();
        assert_eq!(up == 1.0, matches!(state, "UP" | "UNKNOWN"), "{link}");
        for (metric, side, counter) in [
            ("errors_recv", "rx", "errors"),
            ("errors_sent", "tx", "errors"),
            ("drops_recv", "rx", "dropped"),
            ("drops_sent", "tx", "dropped"),
        ] {
            // Where none was ever counted, none is.
            if link["stats64"][side][counter] == 0 {
                assert_eq!(ours(metric), Some(0.0), "{metric} of {link}");
            }
        }
        compared += 1;
    }
    assert!(compared > 0, "{links}");
}

#[test]
fn a_file_system_that_can_not_be_written_shows() {
    if !there("unshare") {
        return;
    }
    for (option, expected) in [("ro", 1.0), ("rw", 0.0)] {
        let dir = tempfile::tempdir().unwrap();
        let point = dir.path().join("m");
        std::fs::create_dir(&point).unwrap();
        let config = dir.path().join("agent.toml");
        let include = format!("[filters]\nmounts_include = [{:?}]\n", point.display().to_string());
        std::fs::write(&config, include).unwrap();
        let mount =
            format!("mount -t tmpfs -o {option},size=1m,nr_inodes=77 t {}", point.display());
        let all = format!("{mount} && exec {} --once {}", program(), config.display());
        let out = Command::new("unshare").args(["-m", "sh", "-c", &all]).output().unwrap();
        if !crate::support::tools::or_excuse(out.status.success(), "no file system can be mounted")
        {
            return;
        }
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let value = |metric: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("disk.{metric} ")));
            let line = line.unwrap_or_else(|| panic!("no {metric}: {text}"));
            line.split_whitespace().nth(2).unwrap().parse().unwrap()
        };
        assert_eq!(value("read_only"), expected, "{text}");
        assert_eq!((value("total"), value("inodes_total")), (1_048_576.0, 77.0), "{text}");
    }
}

/// Microseconds in which programs have waited, as the kernel counts them.
fn stalled(resource: &str) -> Option<[f64; 2]> {
    let text = std::fs::read_to_string(format!("/proc/pressure/{resource}")).ok()?;
    let of = |kind: &str| -> Option<f64> {
        let line = text.lines().find(|line| line.starts_with(kind))?;
        line.split_once("total=")?.1.trim().parse().ok()
    };
    Some([of("some")?, of("full").unwrap_or(0.0)])
}

#[test]
fn time_spent_waiting_for_memory_and_disks_is_what_the_kernel_counts() {
    if stalled("io").is_none() || !there("stress-ng") {
        return;
    }
    let resources = ["memory", "io"];
    let before = resources.map(stalled);
    let dir = tempfile::tempdir_in(crate::support::tools::root()).unwrap();
    let folder = dir.path().display().to_string();
    let arguments =
        ["--hdd", "2", "--hdd-opts", "sync", "--temp-path", &folder, "--timeout", "3s", "--quiet"];
    let (rows, _) = beside("stress-ng", &arguments, "");
    let after = resources.map(stalled);
    for (at, resource) in resources.into_iter().enumerate() {
        let (Some(before), Some(after)) = (before[at], after[at]) else { continue };
        for (kind, name) in ["some", "full"].into_iter().enumerate() {
            let key = (format!("pressure.{resource}_{name}"), String::new());
            let Some(ours) = rows.get(&key) else { continue };
            // A percent is 10,000 microseconds of the one second.
            let moved = (after[kind] - before[kind]) / 10_000.0;
            assert!(*ours <= moved * 1.05 + 0.5, "{key:?}: {ours} % of {moved}");
            if resource == "io" && name == "some" && moved > 150.0 {
                assert!(*ours > 1.0, "{ours} % while programs waited for {moved}");
            }
        }
    }
}
