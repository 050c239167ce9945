//! The process that used the most, in the message of an alert about what processes use.

use rusqlite::Connection;

use crate::model::host::{ProcessSnapshot, ProcessUse};
use crate::server::control::{Control, hosts};
use crate::server::notify::message::{Kind, Notification};

/// Alerts of one notification whose processes are looked up.
const ALERTS_MAX: usize = 50;

/// What a metric is about.
#[derive(Clone, Copy)]
enum Measure {
    Cpu,
    Memory,
    Io,
}

fn measure_of(metric: &str) -> Option<Measure> {
    let is = |starts: &[&str]| starts.iter().any(|start| metric.starts_with(start));
    if is(&["memory.", "pressure.memory", "vm.", "container.memory"]) {
        Some(Measure::Memory)
    } else if is(&["diskio.", "pressure.io", "cpu.iowait"]) {
        Some(Measure::Io)
    } else if is(&["cpu.", "load.", "pressure.cpu", "container.cpu", "sensors."]) {
        Some(Measure::Cpu)
    } else {
        None
    }
}

/// Adds to each alert's message which process used the most of what it is about, where a snapshot
/// of its host is stored. Where the snapshots can't be read, the messages go out without.
pub(super) fn add(control: &Control, notification: &mut Notification) {
    if notification.kind == Kind::Firing
        && let Err(error) = control.read(|db| add_from(db, notification))
    {
        log::warn!("failed to read the processes of alerts: {error}");
    }
}

fn add_from(db: &Connection, notification: &mut Notification) -> rusqlite::Result<()> {
    for event in notification.items.iter_mut().take(ALERTS_MAX) {
        let Some(measure) = measure_of(&event.metric_name) else { continue };
        let Some(snapshot) = hosts::snapshot_of(db, event)? else { continue };
        if let Some(text) = top(&snapshot, measure) {
            event.message.push_str(&format!("; {text}"));
        }
    }
    Ok(())
}

/// `most CPU: python3 (pid 812, user app) 97 %`
fn top(snapshot: &ProcessSnapshot, measure: Measure) -> Option<String> {
    let amount = |process: &ProcessUse| match measure {
        Measure::Cpu => process.cpu_percent,
        Measure::Memory => process.memory_bytes as f64,
        Measure::Io => process.read_bytes.unwrap_or(0.0) + process.write_bytes.unwrap_or(0.0),
    };
    let most = snapshot.processes.iter().max_by(|a, b| amount(a).total_cmp(&amount(b)))?;
    let used = amount(most);
    if used <= 0.0 {
        return None;
    }
    let (of, used) = match measure {
        Measure::Cpu => ("CPU", format!("{used:.0} %")),
        Measure::Memory => ("memory", bytes(used)),
        Measure::Io => ("I/O", format!("{}/s", bytes(used))),
    };
    let ProcessUse { name, pid, user, .. } = most;
    Some(format!("most {of}: {name} (pid {pid}, user {user}) {used}"))
}

fn bytes(bytes: f64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let found = units.into_iter().find(|(_, shift)| bytes >= f64::from(1_u32 << shift));
    match found {
        Some((unit, shift)) => format!("{:.1} {unit}", bytes / f64::from(1_u32 << shift)),
        None => format!("{bytes:.0} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, cpu_percent: f64, memory_bytes: u64, written: Option<f64>) -> ProcessUse {
        ProcessUse {
            pid,
            name: "python3".to_owned(),
            user: "app".to_owned(),
            cpu_percent,
            memory_bytes,
            write_bytes: written,
            ..ProcessUse::default()
        }
    }

    #[test]
    fn the_process_is_named_that_used_the_most_of_what_the_alert_is_about() {
        let processes = vec![
            process(812, 97.4, 1 << 20, None),
            process(9, 1.0, 3_435_973_837, None),
            process(3, 0.0, 0, Some(125_829_120.0)),
        ];
        let snapshot = ProcessSnapshot { processes, ..ProcessSnapshot::default() };
        let of = |metric| measure_of(metric).and_then(|measure| top(&snapshot, measure));
        let expect = |text: &str| Some(text.to_owned());
        assert_eq!(of("cpu.usage"), expect("most CPU: python3 (pid 812, user app) 97 %"));
        let memory = "most memory: python3 (pid 9, user app) 3.2 GiB";
        assert_eq!(of("memory.used_percent"), expect(memory));
        let io = "most I/O: python3 (pid 3, user app) 120.0 MiB/s";
        assert_eq!(of("pressure.io_some"), expect(io));
        assert_eq!(of("certificate.days_until_expiry"), None);
        assert_eq!(top(&ProcessSnapshot::default(), Measure::Cpu), None);
    }
}
