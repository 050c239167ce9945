//! How fast the cores run, from /sys/devices/system/cpu (Documentation/admin-guide/pm/cpufreq.rst).

use std::path::PathBuf;

use crate::agent::collectors::procfile::{names, number};
use crate::agent::collectors::{CollectError, Collector, Pace, Samples, Setup, Spec, plain, round};

/// Cores that are looked at.
const CORES_MAX: usize = 64;

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "frequency",
    pace: Pace::Minute,
    on: true,
    metrics: &[
        plain(
            "cpu.frequency",
            "MHz",
            "Mean frequency of the cores; none in most virtual machines (cpufreq/scaling_cur_freq of the first 64 cores).",
        ),
        plain(
            "cpu.frequency_max",
            "MHz",
            "Highest frequency of the fastest core (cpufreq/cpuinfo_max_freq).",
        ),
    ],
    make: |setup: &Setup<'_>| Box::new(Frequency(setup.sys("devices/system/cpu"))),
};

struct Frequency(PathBuf);

impl Collector for Frequency {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let is_core = |name: &str| {
            let number = name.strip_prefix("cpu").unwrap_or_default();
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        };
        // A virtual machine has no frequencies: its first core shows that.
        if number(&self.0.join("cpu0/cpufreq/scaling_cur_freq")).is_none() {
            return Ok(());
        }
        let (mut sum, mut count, mut most) = (0.0, 0.0, 0.0_f64);
        for core in names(&self.0, 8_192).iter().filter(|name| is_core(name)).take(CORES_MAX) {
            let folder = self.0.join(core).join("cpufreq");
            let Some(khz) = number(&folder.join("scaling_cur_freq")) else { continue };
            sum += khz;
            count += 1.0;
            most = most.max(number(&folder.join("cpuinfo_max_freq")).unwrap_or(0.0));
        }
        if count > 0.0 {
            out.plain("cpu.frequency", round(sum / count / 1_000.0, 1.0));
        }
        if most > 0.0 {
            out.plain("cpu.frequency_max", round(most / 1_000.0, 1.0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::agent::collectors::tests::tree;

    #[test]
    fn the_mean_is_over_the_cores() {
        let seen = tree(
            "frequency",
            &[
                ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1000000\n"),
                ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "3500000\n"),
                ("sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "2000000\n"),
                ("sys/devices/system/cpu/cpufreq/x", "1\n"),
            ],
        );
        assert_eq!((seen["cpu.frequency"], seen["cpu.frequency_max"]), (1_500.0, 3_500.0));
        assert!(tree("frequency", &[("sys/devices/system/cpu/cpu0/topology/x", "1")]).is_empty());
    }
}
