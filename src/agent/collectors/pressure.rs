//! Time in which programs waited for CPU, memory or I/O, from /proc/pressure
//! (Documentation/accounting/psi.rst; kernels from 4.20 that are built with it).

use crate::agent::collectors::procfile::ProcFile;
use crate::agent::collectors::rate::{Counters, Group};
use crate::agent::collectors::{CollectError, Collector, Pace, Samples, Setup, Spec, plain, round};

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "pressure",
    pace: Pace::Always,
    on: true,
    metrics: &[
        plain(
            "pressure.cpu_some",
            "%",
            "Time in which at least one program waited for a CPU, since the collection before (/proc/pressure/cpu).",
        ),
        plain("pressure.cpu_full", "%", "Time in which all of them waited; kernels from 5.13."),
        plain("pressure.memory_some", "%", "Time in which at least one program waited for memory."),
        plain("pressure.memory_full", "%", "Time in which all of them waited for memory."),
        plain("pressure.io_some", "%", "Time in which at least one program waited for I/O."),
        plain("pressure.io_full", "%", "Time in which all of them waited for I/O."),
    ],
    make: |setup: &Setup<'_>| {
        let file = |name: &str| Source {
            file: ProcFile::whole(setup.proc("pressure").join(name)),
            before: Counters::new(),
        };
        Box::new(Pressure([file("cpu"), file("memory"), file("io")]))
    },
};

const METRICS: [[&str; 2]; 3] = [
    ["pressure.cpu_some", "pressure.cpu_full"],
    ["pressure.memory_some", "pressure.memory_full"],
    ["pressure.io_some", "pressure.io_full"],
];

struct Pressure([Source; 3]);

struct Source {
    file: ProcFile,
    before: Counters<1>,
}

impl Collector for Pressure {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let mut failed = None;
        for (source, names) in self.0.iter_mut().zip(METRICS) {
            // The others are read all the same.
            failed = failed.or(source.collect(names, out).err());
        }
        failed.map_or(Ok(()), Err)
    }
}

impl Source {
    fn collect(&mut self, names: [&str; 2], out: &mut Samples) -> Result<(), CollectError> {
        let Some(text) = self.file.read_optional(out.moment.at)? else { return Ok(()) };
        let Some(growth) = self.before.step(out.moment.at, parse(&text)?) else { return Ok(()) };
        for (kind, [stalled_us]) in &growth.groups {
            let share = growth.per_second(*stalled_us) / 10_000.0;
            let name = if &**kind == "full" { names[1] } else { names[0] };
            out.plain(name, round(share.clamp(0.0, 100.0), 100.0));
        }
        Ok(())
    }
}

/// The `total` of each line, microseconds.
fn parse(text: &str) -> Result<Vec<Group<1>>, CollectError> {
    let mut found: Vec<Group<1>> = Vec::new();
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let total = rest.split(' ').find_map(|word| word.strip_prefix("total="));
        let total = total.and_then(|total| total.parse().ok());
        let total = total.ok_or_else(|| CollectError::parse("/proc/pressure", "no `total`"))?;
        if matches!(kind, "some" | "full") && found.iter().all(|(other, _)| **other != *kind) {
            found.push((kind.into(), [total]));
        }
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

    #[test]
    fn the_share_is_of_the_time_between_the_collections() {
        let line = |total: u64| {
            format!(
                "some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
            )
        };
        let seen = twice("pressure", "pressure/io", &line(0), &line(10_000_000));
        assert_eq!((seen["pressure.io_some"], seen["pressure.io_full"]), (100.0, 0.0));
        assert!(parse("some avg10=0.00\n").is_err());
    }
}
