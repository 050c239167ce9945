//! CPU usage from /proc/stat (proc(5)): the share of time that was not idle since the collection
//! before.

use std::collections::HashMap;

use crate::agent::collectors::procfile::ProcFile;
use crate::agent::collectors::rate::growth;
use crate::agent::collectors::{CollectError, Collector, Metric, Moment, Setup, Spec, percent};
use crate::model::point::Point;

const FILE: &str = "/proc/stat";

/// The table's row.
pub const SPEC: Spec = Spec {
    name: "cpu",
    metrics: &[
        Metric {
            name: "cpu.usage",
            unit: "%",
            label: None,
            help: "Time of all cores that was neither idle nor waiting for I/O, since the collection before (/proc/stat).",
        },
        Metric {
            name: "cpu.core_usage",
            unit: "%",
            label: Some("core"),
            help: "The same for each core (/proc/stat).",
        },
    ],
    make: |setup: &Setup<'_>| Box::new(Cpu::new(ProcFile::whole(setup.proc("stat")))),
};

/// Clock ticks of one core, or of all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    busy: u64,
    total: u64,
}

struct Cpu {
    file: ProcFile,
    before: HashMap<Box<str>, Times>,
}

impl Cpu {
    fn new(file: ProcFile) -> Self {
        Self { file, before: HashMap::new() }
    }
}

impl Collector for Cpu {
    fn collect(&mut self, moment: &Moment, out: &mut Vec<Point>) -> Result<(), CollectError> {
        let now = parse(&self.file.read()?)?;
        for (name, times) in &now {
            let Some(usage) = self.before.get(name.as_str()).and_then(|old| usage(*old, *times))
            else {
                continue;
            };
            out.push(match name.strip_prefix("cpu") {
                None | Some("") => Point::plain("cpu.usage", moment.timestamp_ms, usage),
                Some(core) => {
                    Point::labelled("cpu.core_usage", "core", core, moment.timestamp_ms, usage)
                }
            });
        }
        self.before = now.into_iter().map(|(name, times)| (name.into(), times)).collect();
        Ok(())
    }
}

/// Busy time in percent; `None` when the counters went back or stood still.
fn usage(before: Times, now: Times) -> Option<f64> {
    let total = growth(before.total, now.total).filter(|total| *total > 0)?;
    let busy = growth(before.busy, now.busy)?;
    Some(percent(busy as f64, total as f64))
}

/// The `cpu` lines: all cores first, then each that is online, by its own number.
///
/// procfs' parser numbers cores by their place in the file, which moves when one goes offline, so
/// the names are read here.
fn parse(text: &str) -> Result<Vec<(String, Times)>, CollectError> {
    let mut found = Vec::new();
    for line in text.lines().take_while(|line| line.starts_with("cpu")) {
        let mut words = line.split_ascii_whitespace();
        let Some(name) = words.next() else { continue };
        // user nice system idle iowait irq softirq steal guest guest_nice. Guest time is in user
        // time already (proc(5)), so it is not counted again.
        let mut fields = [0_u64; 8];
        let mut count = 0;
        for (field, word) in fields.iter_mut().zip(words) {
            *field = word
                .parse()
                .map_err(|_| CollectError::parse(FILE, format!("`{word}` is no number")))?;
            count += 1;
        }
        if count < 4 {
            return Err(CollectError::parse(FILE, format!("`{name}` has {count} numbers")));
        }
        let total = fields.iter().fold(0_u64, |sum, field| sum.saturating_add(*field));
        let idle = fields[3].saturating_add(fields[4]);
        found.push((name.to_owned(), Times { busy: total.saturating_sub(idle), total }));
    }
    if found.is_empty() {
        return Err(CollectError::parse(FILE, "it has no `cpu` line"));
    }
    Ok(found)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub fn parse_any(text: &str) {
        let _ = parse(text);
    }

    const BEFORE: &str =
        "cpu  100 0 50 800 50 0 0 0 20 0\ncpu0 100 0 50 800 50 0 0 0 20 0\nintr 1\n";

    #[test]
    fn usage_is_what_was_not_idle_and_counts_guests_once() {
        let now = "cpu  150 0 75 900 75 0 0 0 70 0\ncpu0 150 0 75 900 75 0 0 0 70 0\n";
        let (before, now) = (parse(BEFORE).unwrap(), parse(now).unwrap());
        // 200 ticks passed, 75 of them busy.
        assert_eq!(usage(before[0].1, now[0].1), Some(37.5));
    }

    #[test]
    fn counters_that_go_back_or_stand_still_give_nothing() {
        let before = parse(BEFORE).unwrap()[0].1;
        assert_eq!(usage(before, before), None);
        assert_eq!(usage(before, Times { busy: 1, total: 2 }), None);
    }

    #[test]
    fn cores_keep_their_numbers_when_one_goes_offline() {
        let text = "cpu 1 1 1 1\ncpu0 1 1 1 1\ncpu3 1 1 1 1\nctxt 5\n";
        let names: Vec<String> = parse(text).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["cpu", "cpu0", "cpu3"]);
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        assert!(parse("").is_err());
        assert!(parse("cpu 1 2\n").is_err());
        assert!(parse("cpu 1 2 x 4\n").is_err());
        assert!(parse("cpu 18446744073709551615 18446744073709551615 1 1\n").is_ok());
    }
}
