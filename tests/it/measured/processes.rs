//! Processes that the configuration names, against `ps`; sockets in use, against `ss`.

use std::process::Child;
use std::time::Duration;

use super::*;
use crate::support::tools::{find, there};
use crate::support::wait_for;

/// Longer than the 15 bytes that the kernel keeps of a name.
const NAME: &str = "oxmon-test-sleeper";

#[test]
fn processes_are_what_ps_says() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join(NAME);
    std::fs::copy(find("sleep").unwrap(), &program).unwrap();
    let mut sleeping: Vec<Child> =
        (0..3).map(|_| Command::new(&program).arg("600").spawn().unwrap()).collect();
    let pids: Vec<String> = sleeping.iter().map(|child| child.id().to_string()).collect();
    // Until it sleeps, a program still takes memory.
    wait_for("the programs to sleep", Duration::from_secs(30), || {
        let sleeps = |pid: &String| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
        };
        pids.iter().all(sleeps).then_some(())
    });
    let rows = once(&format!("processes = [{NAME:?}, \"oxmon-none\"]\n"));
    let fields = ["-o", "rss=,nlwp=", "-p", &pids.join(",")].map(str::to_owned);
    let text = said(Command::new("ps").args(fields));
    let files: usize =
        pids.iter().map(|pid| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()).sum();
    for child in &mut sleeping {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let theirs: Vec<[f64; 2]> = text
        .lines()
        .map(|line| {
            let mut words = line.split_whitespace().map(|word| word.parse().unwrap());
            [words.next().unwrap(), words.next().unwrap()]
        })
        .collect();
    let ours = |metric: &str| rows[&(format!("process.{metric}"), format!("process={NAME:?}"))];
    assert_eq!(ours("running"), theirs.len() as f64, "{text}");
    near("memory", ours("memory"), theirs.iter().map(|row| row[0] * 1_024.0).sum(), 600_000.0);
    assert_eq!(ours("tasks"), theirs.iter().map(|row| row[1]).sum::<f64>(), "{text}");
    assert_eq!(ours("open_files"), files as f64);
    assert_eq!((ours("restarts"), ours("cpu_percent")), (0.0, 0.0));
    let none = ("process.running".to_owned(), "process=\"oxmon-none\"".to_owned());
    assert_eq!(rows[&none], 0.0);
}

#[test]
fn sockets_in_use_are_what_ss_says_with_those_of_ipv6() {
    if !there("ss") {
        return;
    }
    let of_ipv4: Vec<TcpListener> =
        (0..40).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let of_ipv6: Vec<TcpListener> =
        (0..40).filter_map(|_| TcpListener::bind("[::1]:0").ok()).collect();
    let rows = once("");
    let summary = said(Command::new("ss").arg("-s"));
    let open = of_ipv4.len() + of_ipv6.len();
    drop((of_ipv4, of_ipv6));
    // `TCP	  12        10        2`, below a line of heads; the line before it has a colon.
    let total = |kind: &str| -> f64 {
        let mut lines = summary.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = lines.find(|words| words.first() == Some(&kind)).unwrap();
        row[1].parse().unwrap()
    };
    let ours = |name: &str| rows[&(format!("sockets.{name}"), String::new())];
    // Other tests open and close sockets meanwhile.
    near("tcp", ours("tcp"), total("TCP"), 60.0);
    assert!(ours("tcp") >= open as f64, "{open} sockets listen: {summary}");
    near("udp", ours("udp"), total("UDP"), 20.0);
}
