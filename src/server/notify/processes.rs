//! The process that used the most, in the message of an alert about what processes use.

use rusqlite::Connection;

use crate::model::alert::{TopProcess, Usage};
use crate::model::host::{ProcessSnapshot, ProcessUse};
use crate::server::control::{Control, hosts};
use crate::server::notify::lang::{Language, Words, fill};
use crate::server::notify::message::{Kind, Notification};
use crate::server::notify::units::amount;

/// Alerts of one notification whose processes are looked up.
const ALERTS_MAX: usize = 50;

fn measure_of(metric: &str) -> Option<Usage> {
    let is = |starts: &[&str]| starts.iter().any(|start| metric.starts_with(start));
    if is(&["memory.", "pressure.memory", "vm.", "container.memory"]) {
        Some(Usage::Memory)
    } else if is(&["diskio.", "pressure.io", "cpu.iowait"]) {
        Some(Usage::Io)
    } else if is(&["cpu.", "load.", "pressure.cpu", "container.cpu", "sensors."]) {
        Some(Usage::Cpu)
    } else {
        None
    }
}

/// Adds to each alert which process used the most of what it is about, where a snapshot of its host
/// is stored. Where the snapshots can't be read, the messages go out without.
pub(super) fn add(control: &Control, notification: &mut Notification) {
    if notification.kind == Kind::Firing
        && let Err(error) = control.read(|db| add_from(db, notification))
    {
        log::warn!("failed to read the processes of alerts: {error}");
    }
}

fn add_from(db: &Connection, notification: &mut Notification) -> rusqlite::Result<()> {
    for event in notification.items.iter_mut().take(ALERTS_MAX) {
        let Some(usage) = measure_of(&event.metric_name) else { continue };
        let Some(snapshot) = hosts::snapshot_of(db, event)? else { continue };
        let Some(process) = top(&snapshot, usage) else { continue };
        // The message is in English, and some channels have nothing else.
        event.message.push_str(&most(&process, Language::En.words()));
        if let Some(facts) = &mut event.facts {
            facts.process = Some(process);
        }
    }
    Ok(())
}

fn top(snapshot: &ProcessSnapshot, of: Usage) -> Option<TopProcess> {
    let amount = |process: &ProcessUse| match of {
        Usage::Cpu => process.cpu_percent,
        Usage::Memory => process.memory_bytes as f64,
        Usage::Io => process.read_bytes.unwrap_or(0.0) + process.write_bytes.unwrap_or(0.0),
    };
    let most = snapshot.processes.iter().max_by(|a, b| amount(a).total_cmp(&amount(b)))?;
    let used = amount(most);
    let ProcessUse { name, pid, user, .. } = most;
    let process = TopProcess { of, used, name: name.clone(), pid: *pid, user: user.clone() };
    (used > 0.0).then_some(process)
}

/// `; most CPU: python3 (pid 812, user app) 97%`
pub(super) fn most(process: &TopProcess, words: &Words) -> String {
    let TopProcess { of, used, name, pid, user } = process;
    let (template, unit) = match of {
        Usage::Cpu => (words.most_cpu, "%"),
        Usage::Memory => (words.most_memory, "bytes"),
        Usage::Io => (words.most_io, "bytes/s"),
    };
    let (used, pid) = (amount(used.round(), unit, words), pid.to_string());
    let values = [("process", name.as_str()), ("pid", &pid), ("user", user), ("used", &used)];
    fill(template, &values)
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
        let of = |metric, language: Language| {
            let process = measure_of(metric).and_then(|usage| top(&snapshot, usage));
            process.map(|process| most(&process, language.words())).unwrap_or_default()
        };
        let (en, zh) = (Language::En, Language::ZhCn);
        assert_eq!(of("cpu.usage", en), "; most CPU: python3 (pid 812, user app) 97%");
        assert_eq!(of("cpu.usage", zh), "；占用 CPU 最多的进程：python3（pid 812，用户 app）97%");
        let memory = "; most memory: python3 (pid 9, user app) 3.2 GiB";
        assert_eq!(of("memory.used_percent", en), memory);
        let io = "; most I/O: python3 (pid 3, user app) 120 MiB/s";
        assert_eq!(of("pressure.io_some", en), io);
        assert_eq!(of("certificate.days_until_expiry", en), "");
        assert_eq!(top(&ProcessSnapshot::default(), Usage::Cpu), None);
    }
}
