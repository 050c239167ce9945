//! CPU time from /proc/stat (proc(5)): what the cores did since the collection before.

use crate::agent::collectors::procfile::ProcFile;
use crate::agent::collectors::rate::Counters;
use crate::agent::collectors::{
    CollectError, Collector, Metric, Pace, Samples, Setup, Spec, percent, plain,
};
use crate::base::limits::CORES_MAX;

const FILE: &str = "/proc/stat";

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "cpu",
    pace: Pace::Always,
    on: true,
    metrics: &[
        plain(
            "cpu.usage",
            "%",
            "Time of all cores that was neither idle nor waiting for I/O, since the collection before (/proc/stat).",
        ),
        plain("cpu.user", "%", "Time in programs, with nice ones and guests, of all cores."),
        plain("cpu.system", "%", "Time in the kernel."),
        plain("cpu.iowait", "%", "Idle time with I/O under way."),
        plain("cpu.irq", "%", "Time in interrupts, hard and soft."),
        plain("cpu.steal", "%", "Time that the hypervisor gave to other machines."),
        Metric {
            name: "cpu.core_usage",
            unit: "%",
            labels: &["core"],
            help: "cpu.usage for each core (/proc/stat).",
        },
    ],
    make: |setup: &Setup<'_>| {
        Box::new(Cpu { file: ProcFile::whole(setup.proc("stat")), before: Counters::new() })
    },
};

/// Clock ticks: user nice system idle iowait irq softirq steal. Guest time is in user time already
/// (proc(5)), so it is not counted again.
type Times = [u64; 8];

struct Cpu {
    file: ProcFile,
    before: Counters<8>,
}

impl Collector for Cpu {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let mut now = parse(&self.file.read()?)?;
        // The first line is of all of them.
        out.left_out(now.len().saturating_sub(1), CORES_MAX, "cores", None);
        now.truncate(CORES_MAX + 1);
        let Some(growth) = self.before.step(out.moment.at, now) else { return Ok(()) };
        for (name, grown) in &growth.groups {
            let total = grown.iter().fold(0_u64, |sum, field| sum.saturating_add(*field));
            // Counters that stand still say nothing.
            if total == 0 {
                continue;
            }
            let share = |fields: &[usize]| {
                let part = fields.iter().fold(0_u64, |sum, at| sum.saturating_add(grown[*at]));
                percent(part as f64, total as f64)
            };
            let usage = share(&[0, 1, 2, 5, 6, 7]);
            match name.strip_prefix("cpu") {
                None | Some("") => {
                    out.plain("cpu.usage", usage);
                    out.plain("cpu.user", share(&[0, 1]));
                    out.plain("cpu.system", share(&[2]));
                    out.plain("cpu.iowait", share(&[4]));
                    out.plain("cpu.irq", share(&[5, 6]));
                    out.plain("cpu.steal", share(&[7]));
                }
                Some(core) => out.labelled("cpu.core_usage", "core", core, usage),
            }
        }
        Ok(())
    }
}

/// The `cpu` lines: all cores first, then each that is online, by its own number, which stays the
/// same when another one goes offline.
fn parse(text: &str) -> Result<Vec<(Box<str>, Times)>, CollectError> {
    let mut found = Vec::new();
    for line in text.lines().take_while(|line| line.starts_with("cpu")) {
        let mut words = line.split_ascii_whitespace();
        let Some(name) = words.next() else { continue };
        let mut fields = [0_u64; 8];
        let mut count = 0;
        for (field, word) in fields.iter_mut().zip(words) {
            *field = word
                .parse()
                .map_err(|_| CollectError::parse(FILE, format!("`{word}` is not a number")))?;
            count += 1;
        }
        if count < 4 {
            return Err(CollectError::parse(FILE, format!("`{name}` has {count} numbers")));
        }
        found.push((name.into(), fields));
    }
    if found.is_empty() {
        return Err(CollectError::parse(FILE, "no `cpu` line"));
    }
    Ok(found)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::collectors::tests::twice;

    pub(crate) fn parse_any(text: &str) {
        let _ = parse(text);
    }

    const BEFORE: &str =
        "cpu  100 0 50 800 50 0 0 0 20 0\ncpu0 100 0 50 800 50 0 0 0 20 0\nintr 1\n";

    #[test]
    fn usage_is_what_was_not_idle_and_counts_guests_once() {
        let now = "cpu  150 0 75 900 75 0 0 0 70 0\ncpu0 150 0 75 900 75 0 0 0 70 0\n";
        let seen = twice("cpu", "stat", BEFORE, now);
        // 200 ticks passed, 75 of them busy.
        assert_eq!((seen["cpu.usage"], seen["cpu.core_usage@0"]), (37.5, 37.5));
        assert_eq!((seen["cpu.user"], seen["cpu.system"], seen["cpu.iowait"]), (25.0, 12.5, 12.5));
    }

    #[test]
    fn counters_that_go_back_or_stand_still_give_nothing() {
        assert!(!twice("cpu", "stat", BEFORE, BEFORE).contains_key("cpu.usage"));
        let reset = "cpu  1 0 5 80 5 0 0 0 0 0\n";
        assert!(!twice("cpu", "stat", BEFORE, reset).contains_key("cpu.usage"));
    }

    #[test]
    fn cores_keep_their_numbers_when_one_goes_offline() {
        let text = "cpu 1 1 1 1\ncpu0 1 1 1 1\ncpu3 1 1 1 1\nctxt 5\n";
        let names: Vec<Box<str>> = parse(text).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["cpu".into(), "cpu0".into(), Box::<str>::from("cpu3")]);
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        assert!(parse("").is_err());
        assert!(parse("cpu 1 2\n").is_err());
        assert!(parse("cpu 1 2 x 4\n").is_err());
        assert!(parse("cpu 18446744073709551615 18446744073709551615 1 1\n").is_ok());
    }
}
