//! Paging and out-of-memory kills, from /proc/vmstat (proc(5)).

use crate::agent::collectors::procfile::ProcFile;
use crate::agent::collectors::rate::{Counters, Group};
use crate::agent::collectors::{CollectError, Collector, Pace, Samples, Setup, Spec, plain, round};

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "vm",
    pace: Pace::Always,
    on: true,
    metrics: &[
        plain(
            "vm.oom_kills",
            "kills",
            "Programs that the kernel killed for want of memory, since the collection before; kernels from 4.13 (/proc/vmstat).",
        ),
        plain("vm.major_faults", "faults/s", "Page faults that had to read from a disk."),
        plain("vm.swap_in", "bytes/s", "Memory read back from swap."),
        plain("vm.swap_out", "bytes/s", "Memory written to swap."),
    ],
    make: |setup: &Setup<'_>| {
        let file = ProcFile::records(setup.proc("vmstat"));
        Box::new(Vm { file, before: Counters::new() })
    },
};

struct Vm {
    file: ProcFile,
    before: Counters<1>,
}

impl Collector for Vm {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let now = parse(&self.file.read()?)?;
        let Some(growth) = self.before.step(out.moment.at, now) else { return Ok(()) };
        let page = rustix::param::page_size() as f64;
        for (name, [grown]) in &growth.groups {
            let rate = growth.per_second(*grown);
            match &**name {
                "oom_kill" => out.plain("vm.oom_kills", *grown as f64),
                "pgmajfault" => out.plain("vm.major_faults", round(rate, 10.0)),
                "pswpin" => out.plain("vm.swap_in", round(rate * page, 10.0)),
                _ => out.plain("vm.swap_out", round(rate * page, 10.0)),
            }
        }
        Ok(())
    }
}

/// The four counters that count, in the order of the metrics; those that the kernel has.
fn parse(text: &str) -> Result<Vec<Group<1>>, CollectError> {
    let names = ["oom_kill", "pgmajfault", "pswpin", "pswpout"];
    let found: Vec<Group<1>> = names
        .into_iter()
        .filter_map(|name| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            let (_, value) = lines.find(|(key, _)| *key == name)?;
            Some((name.into(), [value.trim().parse().ok()?]))
        })
        .collect();
    if found.is_empty() {
        return Err(CollectError::parse("/proc/vmstat", "none of its fields is known"));
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
    fn an_old_kernel_has_no_count_of_kills_and_the_rest_is_given() {
        let seen =
            twice("vm", "vmstat", "pgmajfault 1\noom_kill 2\n", "pgmajfault 1\noom_kill 5\n");
        assert_eq!((seen["vm.oom_kills"], seen["vm.major_faults"]), (3.0, 0.0));
        assert_eq!(parse("pswpin 4\n").unwrap(), [("pswpin".into(), [4])]);
        assert!(parse("nr_free_pages 4\n").is_err());
    }
}
