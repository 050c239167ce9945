//! A snapshot of processes: those with the most CPU time, memory and I/O over a second, from
//! /proc/[pid] (proc(5)).

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::agent::collectors::procfile::value;
use crate::agent::host::Sources;
use crate::agent::host::facts::{boot_time_ms, long_text};
use crate::agent::procstat::{self, ProcStat};
use crate::base::clock::{Clock as _, SystemClock};
use crate::base::limits::PROCESSES_MAX;
use crate::model::host::{ARGUMENTS_BYTES_MAX, ProcessSnapshot, ProcessUse};
use crate::rt::stop::Stop;

/// Over how long CPU time and I/O are measured.
pub(super) const WINDOW: Duration = Duration::from_secs(1);
/// Processes that are taken for each of CPU time, memory and I/O.
const OF_EACH: usize = 10;

/// What one look at a process gives.
struct Look {
    stat: ProcStat,
    /// Bytes read from and written to disks since it started; `None` where they are hidden.
    io: Option<(u64, u64)>,
}

type Looks = HashMap<(u32, u64), Look>;

/// A process with what it used between two looks.
struct Used {
    pid: u32,
    stat: ProcStat,
    cpu_percent: f64,
    io: Option<(f64, f64)>,
}

/// Looks twice, `window` apart.
pub(super) fn take(sources: &Sources, window: Duration) -> ProcessSnapshot {
    let started = Instant::now();
    let before = look(&sources.proc);
    Stop::never().wait(window);
    let secs = started.elapsed().as_secs_f64();
    let taken_at_ms = SystemClock.now_ms();
    assemble(sources, &before, look(&sources.proc), secs, taken_at_ms)
}

/// The snapshot of two looks, `secs` apart.
fn assemble(
    sources: &Sources,
    before: &Looks,
    now: Looks,
    secs: f64,
    taken_at_ms: i64,
) -> ProcessSnapshot {
    let processes_seen = u32::try_from(now.len()).unwrap_or(u32::MAX);
    let incomplete = incomplete(&sources.proc, &now);
    let chosen = choose(used(before, now, secs));
    let booted_ms = boot_time_ms(&long_text(&sources.proc.join("stat")));
    let users = long_text(&sources.root.join("etc/passwd"));
    let processes = chosen.into_iter().map(|used| describe(sources, used, booted_ms, &users));
    ProcessSnapshot {
        taken_at_ms,
        window_ms: (secs * 1_000.0).round() as u32,
        processes_seen,
        incomplete,
        processes: processes.collect(),
    }
}

fn look(proc: &Path) -> Looks {
    let Ok(entries) = std::fs::read_dir(proc) else { return Looks::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let looks = pids.take(PROCESSES_MAX).filter_map(|pid: u32| {
        let dir = proc.join(pid.to_string());
        // A process that ends meanwhile has no file any more.
        let stat = procstat::parse(&value(&dir.join("stat"))?)?;
        let io = value(&dir.join("io")).and_then(|text| parse_io(&text));
        Some(((pid, stat.started), Look { stat, io }))
    });
    looks.collect()
}

/// `read_bytes` and `write_bytes` of /proc/[pid]/io.
fn parse_io(text: &str) -> Option<(u64, u64)> {
    let field = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim().parse::<u64>().ok()
    };
    Some((field("read_bytes:")?, field("write_bytes:")?))
}

/// What was used between the looks. A process that has started since has used all of it since.
fn used(before: &Looks, now: Looks, secs: f64) -> Vec<Used> {
    let secs = secs.max(0.001);
    let ticks_per_sec = rustix::param::clock_ticks_per_second() as f64;
    let used = now.into_iter().map(|((pid, started), look)| {
        let earlier = before.get(&(pid, started));
        let ticks = earlier.map_or(0, |earlier| earlier.stat.ticks);
        let cpu = look.stat.ticks.saturating_sub(ticks) as f64 / ticks_per_sec / secs * 100.0;
        let io = look.io.map(|(read, written)| {
            let (read_before, written_before) =
                earlier.and_then(|earlier| earlier.io).unwrap_or((0, 0));
            let rate = |now: u64, before: u64| (now.saturating_sub(before) as f64 / secs).round();
            (rate(read, read_before), rate(written, written_before))
        });
        let cpu_percent = (cpu * 10.0).round() / 10.0;
        Used { pid, stat: look.stat, cpu_percent, io }
    });
    used.collect()
}

/// The processes with the most of each, those with the most CPU time first.
fn choose(mut all: Vec<Used>) -> Vec<Used> {
    let mut chosen: Vec<bool> = vec![false; all.len()];
    let io = |used: &Used| used.io.map_or(0.0, |(read, written)| read + written);
    let measures: [&dyn Fn(&Used) -> f64; 3] =
        [&|used| used.cpu_percent, &|used| used.stat.pages as f64, &io];
    all.sort_by_key(|used| used.pid);
    for measure in measures {
        let mut order: Vec<usize> = (0..all.len()).filter(|at| measure(&all[*at]) > 0.0).collect();
        order.sort_by(|a, b| measure(&all[*b]).total_cmp(&measure(&all[*a])));
        order.iter().take(OF_EACH).for_each(|at| chosen[*at] = true);
    }
    let mut all: Vec<Used> =
        all.into_iter().zip(chosen).filter_map(|(used, chosen)| chosen.then_some(used)).collect();
    all.sort_by(|a, b| {
        let by_cpu = b.cpu_percent.total_cmp(&a.cpu_percent);
        by_cpu.then_with(|| b.stat.pages.cmp(&a.stat.pages))
    });
    all
}

fn describe(sources: &Sources, used: Used, booted_ms: i64, users: &str) -> ProcessUse {
    let dir = sources.proc.join(used.pid.to_string());
    let uid = value(&dir.join("status")).and_then(|text| uid(&text));
    let user = uid.map(|uid| user_name(users, &uid).unwrap_or(uid));
    let ticks_per_sec = rustix::param::clock_ticks_per_second();
    let since_boot_ms = used.stat.started.saturating_mul(1_000) / ticks_per_sec.max(1);
    let started_at_ms =
        booted_ms.saturating_add(i64::try_from(since_boot_ms).unwrap_or(i64::MAX - booted_ms));
    let arguments = sources.arguments.then(|| arguments(&dir)).flatten();
    ProcessUse {
        pid: used.pid,
        name: used.stat.name,
        user: user.unwrap_or_default(),
        started_at_ms,
        cgroup: value(&dir.join("cgroup")).map(|text| cgroup(&text)).unwrap_or_default(),
        cpu_percent: used.cpu_percent,
        memory_bytes: used.stat.pages.saturating_mul(rustix::param::page_size() as u64),
        read_bytes: used.io.map(|(read, _)| read),
        write_bytes: used.io.map(|(_, written)| written),
        arguments,
    }
}

/// The real user's number of /proc/[pid]/status.
fn uid(status: &str) -> Option<String> {
    let rest = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    rest.split_ascii_whitespace().next().map(str::to_owned)
}

/// The name of a user's number in /etc/passwd. Other sources of users are not asked: they may take
/// a network.
fn user_name(passwd: &str, uid: &str) -> Option<String> {
    let mut lines = passwd.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1) == Some(uid)).then(|| name.to_owned())
    })
}

/// The group of version 2, or that of version 1's systemd hierarchy or its first
/// (/proc/[pid]/cgroup).
fn cgroup(text: &str) -> String {
    let groups = || text.lines().filter_map(|line| line.splitn(3, ':').nth(2).map(|p| (line, p)));
    let unified = groups().find(|(line, _)| line.starts_with("0::"));
    let systemd = groups().find(|(line, _)| line.contains(":name=systemd:"));
    let named = unified.filter(|(_, path)| *path != "/").or(systemd).or(unified);
    named.or_else(|| groups().next()).map(|(_, path)| path.to_owned()).unwrap_or_default()
}

fn arguments(dir: &Path) -> Option<String> {
    use std::io::Read as _;
    let file = std::fs::File::open(dir.join("cmdline")).ok()?;
    let mut bytes = Vec::new();
    file.take(ARGUMENTS_BYTES_MAX as u64).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    Some(text.trim_end().to_owned())
}

/// What the agent may not see.
fn incomplete(proc: &Path, looks: &Looks) -> String {
    let mut parts = Vec::new();
    let hidden = looks.keys().all(|(pid, _)| *pid != 1);
    if hidden {
        parts.push(format!(
            "{} holds no process 1: it may be mounted with hidepid, and only {} processes are seen",
            proc.display(),
            looks.len()
        ));
    }
    let without_io = looks.values().filter(|look| look.io.is_none()).count();
    if without_io > 0 {
        parts.push(format!(
            "the I/O of {without_io} of {} processes is not the agent's to see",
            looks.len()
        ));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn users_and_groups_are_read_from_text() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nodd\napp:x:1000:1000::/home/app:/bin/sh\n";
        assert_eq!(user_name(passwd, "1000").as_deref(), Some("app"));
        assert_eq!(user_name(passwd, "7"), None);
        assert_eq!(uid("Name:\ta\nUid:\t1000\t1001\t0\t0\n").as_deref(), Some("1000"));
        assert_eq!(cgroup("0::/system.slice/nginx.service\n"), "/system.slice/nginx.service");
        let first = "12:cpu:/docker/abc\n1:name=systemd:/system.slice/a.service\n0::/\n";
        assert_eq!(cgroup(first), "/system.slice/a.service");
        assert_eq!(cgroup("3:cpu,cpuacct:/docker/abc\n"), "/docker/abc");
        assert_eq!(cgroup("garbage"), "");
        assert_eq!(parse_io("rchar: 1\nread_bytes: 4096\nwrite_bytes: 8\n"), Some((4_096, 8)));
        assert_eq!(parse_io("read_bytes: x\n"), None);
    }

    fn used(pid: u32, cpu_percent: f64, pages: u64, written: f64) -> Used {
        let stat = ProcStat { name: pid.to_string(), ticks: 0, threads: 1, started: 1, pages };
        Used { pid, stat, cpu_percent, io: Some((0.0, written)) }
    }

    #[test]
    fn the_most_of_each_are_taken_and_the_busiest_come_first() {
        let mut all: Vec<Used> = (1..=40).map(|pid| used(pid, 0.0, 0, 0.0)).collect();
        all.extend((100..120).map(|pid| used(pid, f64::from(pid), 1, 0.0)));
        all.extend((200..220).map(|pid| used(pid, 0.0, u64::from(pid), 0.0)));
        all.extend((300..320).map(|pid| used(pid, 0.0, 0, f64::from(pid))));
        let chosen: Vec<u32> = choose(all).iter().map(|used| used.pid).collect();
        assert_eq!(chosen.len(), 3 * OF_EACH);
        assert_eq!(chosen[..2], [119, 118]);
        assert!(chosen.contains(&219) && chosen.contains(&319) && !chosen.contains(&40));
    }

    #[test]
    fn a_process_that_is_busy_is_found_with_its_user_and_age() {
        let mut busy =
            std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let config = crate::agent::config::AgentConfig::default();
        let sources = Sources { arguments: true, ..Sources::of(&config) };
        // Of this process alone: others may be busier.
        let own = || {
            let mut looks = look(&sources.proc);
            looks.retain(|(pid, _), _| *pid == busy.id());
            looks
        };
        let before = own();
        let started = Instant::now();
        let mut now = own();
        let ticks = |looks: &Looks| looks.values().map(|look| look.stat.ticks).sum::<u64>();
        while ticks(&now) < ticks(&before) + 5 {
            Stop::never().wait(Duration::from_millis(20));
            now = own();
        }
        let secs = started.elapsed().as_secs_f64();
        let snapshot = assemble(&sources, &before, now, secs, SystemClock.now_ms());
        let gone = take(&Sources { proc: "/nonexistent".into(), ..sources }, Duration::ZERO);
        busy.kill().unwrap();
        busy.wait().unwrap();
        let found = snapshot.processes.iter().find(|process| process.pid == busy.id()).unwrap();
        assert!(found.cpu_percent > 0.0 && found.memory_bytes > 100_000, "{found:?}");
        assert!(found.arguments.as_deref().unwrap().contains("while"), "{found:?}");
        assert!(!found.user.is_empty() && found.read_bytes.is_some(), "{found:?}");
        let age_ms = snapshot.taken_at_ms - found.started_at_ms;
        assert!((-2_000..600_000).contains(&age_ms), "{age_ms} ms old: {found:?}");
        assert!(gone.processes.is_empty() && gone.incomplete.contains("hidepid"), "{gone:?}");
    }
}
