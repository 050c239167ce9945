//! CPU time from /proc/stat (proc(5)): what the cores did since the collection before.

use crate::agent::collectors::procfile::ProcFile;
use crate::agent::collectors::rate::Counters;
use crate::agent::collectors::samples::Lines;
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

/// Idle time and time that waits for I/O: the kernel corrects both, so that they step back a little
/// (proc_stat(5): "the value in this field may decrease").
const STEPS_BACK: [usize; 2] = [3, 4];
/// Ticks that a correction may have: three seconds. More of it is a counter that was reset.
const STEP_MAX: u64 = 300;

/// A counter of [`STEPS_BACK`], which stands still where the kernel corrected it.
fn forward(before: u64, now: u64) -> u64 {
    if before.checked_sub(now).is_some_and(|back| back <= STEP_MAX) { before } else { now }
}

struct Cpu {
    file: ProcFile,
    before: Counters<8>,
}

impl Collector for Cpu {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let (now, wrong) = parse(&self.file.read()?);
        self.push(now, out);
        wrong.map_or(Ok(()), Err)
    }
}

impl Cpu {
    fn push(&mut self, mut now: Vec<(Box<str>, Times)>, out: &mut Samples) {
        // The first line is of all of them.
        out.left_out(now.len().saturating_sub(1), CORES_MAX, "cores", None);
        now.truncate(CORES_MAX + 1);
        for (name, times) in &mut now {
            let before = self.before.last(name).copied().unwrap_or_default();
            STEPS_BACK.iter().for_each(|&at| times[at] = forward(before[at], times[at]));
        }
        let Some(growth) = self.before.step(out.moment.at, now) else { return };
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
    }
}

/// The `cpu` lines: all cores first, then each that is online, by its own number, which stays the
/// same when another one goes offline.
fn parse(text: &str) -> Lines<(Box<str>, Times)> {
    let (mut found, mut wrong) = (Vec::new(), None);
    for line in text.lines().take_while(|line| line.starts_with("cpu")) {
        let mut words = line.split_ascii_whitespace();
        let Some(name) = words.next() else { continue };
        match times(words) {
            Ok(times) => found.push((name.into(), times)),
            Err(why) => {
                wrong.get_or_insert_with(|| CollectError::parse(FILE, format!("`{name}` {why}")));
            }
        }
    }
    if found.is_empty() && wrong.is_none() {
        wrong = Some(CollectError::parse(FILE, "no `cpu` line"));
    }
    (found, wrong)
}

/// The times of a line; fields that an older kernel does not have are 0.
fn times<'a>(words: impl Iterator<Item = &'a str>) -> Result<Times, String> {
    let mut fields = [0_u64; 8];
    let mut count = 0;
    for (field, word) in fields.iter_mut().zip(words) {
        *field = word.parse().map_err(|_| format!("has `{word}`, which is not a number"))?;
        count += 1;
    }
    if count < 4 { Err(format!("has {count} numbers")) } else { Ok(fields) }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::collectors::tests::{partly, twice};

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
    fn idle_time_that_the_kernel_corrects_costs_no_collection() {
        let now = "cpu  150 0 75 795 47 0 0 0 70 0\ncpu0 150 0 75 100 75 0 0 0 70 0\n";
        let seen = twice("cpu", "stat", BEFORE, now);
        assert_eq!((seen["cpu.usage"], seen["cpu.iowait"]), (100.0, 0.0));
        assert!(!seen.contains_key("cpu.core_usage@0"), "that core was reset");
    }

    #[test]
    fn a_line_that_makes_no_sense_costs_itself() {
        let now = "cpu  150 0 75 900 75 0 0 0 70 0\ncpu0 150 x 75 900\ncpu1 9\ncpu2 1 1 1 1\n";
        let seen = partly("cpu", &[&[("proc/stat", BEFORE)], &[("proc/stat", now)]]);
        assert_eq!(seen["cpu.usage"], 37.5);
        assert!(!seen.contains_key("cpu.core_usage@0"));
    }

    #[test]
    fn cores_keep_their_numbers_when_one_goes_offline() {
        let text = "cpu 1 1 1 1\ncpu0 1 1 1 1\ncpu3 1 1 1 1\nctxt 5\n";
        let names = parse(text).0.into_iter().map(|(name, _)| name);
        let names: Vec<Box<str>> = names.collect();
        assert_eq!(names, ["cpu".into(), "cpu0".into(), Box::<str>::from("cpu3")]);
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        assert!(parse("").1.is_some());
        assert!(parse("cpu 1 2\n").1.is_some());
        assert!(parse("cpu 1 2 x 4\n").1.is_some());
        assert!(parse("cpu 18446744073709551615 18446744073709551615 1 1\n").1.is_none());
    }
}
