//! A simulated host's series: what looks like a real one, from a seed.

use fastrand::Rng;

use crate::model::series::Labels;

/// How a series moves.
#[derive(Debug, Clone, Copy)]
enum Motion {
    /// Stays as it is: sizes of disks and memory.
    Constant,
    /// A percentage with noise, rounded to 0.01.
    Noise,
    /// Moves a little from where it was, rounded to 4 KiB: used memory, used disk.
    Walk,
    /// A rate with noise, rounded to 0.1; some interfaces are idle.
    Rate,
    /// Grows by the step: uptime.
    Uptime,
}

/// One series with its present value.
#[derive(Debug, Clone)]
pub struct Simulated {
    /// The metric.
    pub metric: &'static str,
    /// The labels.
    pub labels: Labels,
    motion: Motion,
    value: f64,
}

/// One simulated host.
pub struct Host {
    /// Its series, in the order of its batches.
    pub series: Vec<Simulated>,
    random: Rng,
}

const DISK: [(&str, Motion); 4] = [
    ("disk.total", Motion::Constant),
    ("disk.used", Motion::Walk),
    ("disk.available", Motion::Walk),
    ("disk.used_percent", Motion::Noise),
];
const NETWORK: [&str; 4] =
    ["network.bytes_sent", "network.bytes_recv", "network.packets_sent", "network.packets_recv"];
const OTHERS: [(&str, Motion); 12] = [
    ("cpu.usage", Motion::Noise),
    ("memory.total", Motion::Constant),
    ("memory.used", Motion::Walk),
    ("memory.available", Motion::Walk),
    ("memory.used_percent", Motion::Noise),
    ("memory.swap_total", Motion::Constant),
    ("memory.swap_used", Motion::Constant),
    ("load.load_1", Motion::Noise),
    ("load.load_5", Motion::Noise),
    ("load.load_15", Motion::Noise),
    ("load.uptime", Motion::Uptime),
    ("agent.send_failures", Motion::Constant),
];

impl Host {
    /// A host with `points` series (60: 8 cores, 4 mounts, 6 interfaces and 12 others), whose
    /// values follow from the seed.
    pub fn new(seed: u64, points: usize) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut series = Vec::with_capacity(points);
        let mut add = |metric, labels, motion, random: &mut Rng| {
            let value = first(motion, random);
            series.push(Simulated { metric, labels, motion, value });
        };
        for core in 0..8 {
            let labels = Labels::one("core", &core.to_string());
            add("cpu.core_usage", labels, Motion::Noise, &mut random);
        }
        for mount in ["/", "/boot", "/home", "/var"] {
            for (metric, motion) in DISK {
                add(metric, Labels::one("mount", mount), motion, &mut random);
            }
        }
        for interface in ["eth0", "eth1", "eth2", "wg0", "wlan0", "bond0"] {
            // Half of a host's interfaces carry nothing.
            let motion = if interface.ends_with('0') { Motion::Rate } else { Motion::Constant };
            for metric in NETWORK {
                add(metric, Labels::one("interface", interface), motion, &mut random);
            }
        }
        for (metric, motion) in OTHERS {
            add(metric, Labels::none(), motion, &mut random);
        }
        let mut extra = 0;
        while series.len() < points {
            let labels = Labels::one("core", &(8 + extra).to_string());
            let value = first(Motion::Noise, &mut random);
            series.push(Simulated {
                metric: "cpu.core_usage",
                labels,
                motion: Motion::Noise,
                value,
            });
            extra += 1;
        }
        series.truncate(points);
        Self { series, random }
    }

    /// Moves every series by one step of `step_ms` and gives the new values to `take`, in order.
    pub fn step(&mut self, step_ms: i64, mut take: impl FnMut(usize, f64)) {
        for (index, series) in self.series.iter_mut().enumerate() {
            series.value = next(series.motion, series.value, step_ms, &mut self.random);
            take(index, series.value);
        }
    }
}

fn round(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

fn first(motion: Motion, random: &mut Rng) -> f64 {
    match motion {
        Motion::Constant => (random.u64(0..64) * 1_073_741_824) as f64,
        Motion::Noise => round(random.f64() * 60.0, 100.0),
        Motion::Walk => (random.u64(1_000..8_000_000) * 4_096) as f64,
        Motion::Rate => round(random.f64() * 50_000.0, 10.0),
        Motion::Uptime => random.u64(1_000..10_000_000) as f64,
    }
}

fn next(motion: Motion, value: f64, step_ms: i64, random: &mut Rng) -> f64 {
    match motion {
        Motion::Constant => value,
        Motion::Noise => round((value + random.f64() * 4.0 - 2.0).clamp(0.0, 100.0), 100.0),
        // A disk or a memory is not written in every second.
        Motion::Walk if random.u8(..) < 160 => value,
        Motion::Walk => (value + (random.i64(-200..=220) * 4_096) as f64).max(0.0),
        Motion::Rate => round((value * (0.8 + random.f64() * 0.4)).clamp(1.0, 1e7), 10.0),
        Motion::Uptime => value + (step_ms / 1_000) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_host_again() {
        let values = |seed| {
            let mut host = Host::new(seed, 60);
            let mut seen = Vec::new();
            for _ in 0..5 {
                host.step(1_000, |_, value| seen.push(value.to_bits()));
            }
            seen
        };
        assert_eq!(values(7), values(7));
        assert_ne!(values(7), values(8));
        assert_eq!(values(7).len(), 300);
    }

    #[test]
    fn series_are_different_from_each_other() {
        let host = Host::new(1, 100);
        let mut keys: Vec<String> =
            host.series.iter().map(|s| format!("{}{}", s.metric, s.labels)).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 100);
    }
}
