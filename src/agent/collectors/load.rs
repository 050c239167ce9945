//! Load averages from /proc/loadavg and uptime from /proc/uptime (proc(5)).

use crate::agent::collectors::procfile::ProcFile;
use crate::agent::collectors::{
    CollectError, Collector, Metric, Pace, Samples, Setup, Spec, plain,
};

const fn load(name: &'static str, help: &'static str) -> Metric {
    plain(name, "processes", help)
}

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "load",
    pace: Pace::Always,
    on: true,
    metrics: &[
        load(
            "load.load_1",
            "Processes that ran or waited, averaged over 1 minute (/proc/loadavg).",
        ),
        load("load.load_5", "The same over 5 minutes."),
        load("load.load_15", "The same over 15 minutes."),
        plain("load.uptime", "s", "Seconds since the system started (/proc/uptime)."),
    ],
    make: |setup: &Setup<'_>| {
        Box::new(Load {
            loadavg: ProcFile::whole(setup.proc("loadavg")),
            uptime: ProcFile::whole(setup.proc("uptime")),
        })
    },
};

struct Load {
    loadavg: ProcFile,
    uptime: ProcFile,
}

impl Collector for Load {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let loads = self.loadavg.read().and_then(|text| numbers("/proc/loadavg", &text));
        if let Ok([one, five, fifteen]) = loads {
            out.plain("load.load_1", one);
            out.plain("load.load_5", five);
            out.plain("load.load_15", fifteen);
        }
        let [uptime] = numbers("/proc/uptime", &self.uptime.read()?)?;
        out.plain("load.uptime", uptime.floor());
        loads.map(drop)
    }
}

/// The first `N` numbers of a line.
fn numbers<const N: usize>(file: &'static str, text: &str) -> Result<[f64; N], CollectError> {
    let mut words = text.split_ascii_whitespace();
    let mut found = [0.0; N];
    for number in &mut found {
        let word = words.next().unwrap_or_default();
        *number = word
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite() && *value >= 0.0)
            .ok_or_else(|| CollectError::parse(file, format!("`{word}` is not a number")))?;
    }
    Ok(found)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::collectors::tests::partly;

    pub(crate) fn parse_any(text: &str) {
        let _ = numbers::<3>("x", text);
    }

    #[test]
    fn the_decimals_of_the_kernel_are_kept() {
        assert_eq!(numbers("f", "0.05 1.10 12.34 1/234 5678\n").unwrap(), [0.05, 1.10, 12.34]);
        assert_eq!(numbers("f", "350735.47 234388.90\n").unwrap(), [350_735.47]);
    }

    #[test]
    fn each_of_the_two_files_costs_its_own_metrics() {
        let seen = partly("load", &[&[("proc/loadavg", "0.5 1 2 1/2 3\n")]]);
        assert_eq!((seen["load.load_15"], seen.contains_key("load.uptime")), (2.0, false));
        let seen = partly("load", &[&[("proc/loadavg", "x\n"), ("proc/uptime", "7.5 1\n")]]);
        assert_eq!((seen["load.uptime"], seen.contains_key("load.load_1")), (7.0, false));
    }

    #[test]
    fn what_is_not_a_number_is_an_error() {
        assert!(numbers::<3>("f", "0.05 1.10").is_err());
        assert!(numbers::<1>("f", "NaN").is_err());
        assert!(numbers::<1>("f", "-1").is_err());
    }
}
