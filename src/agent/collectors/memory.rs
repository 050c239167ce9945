//! Memory and swap from /proc/meminfo (proc(5)).

use crate::agent::collectors::procfile::ProcFile;
use crate::agent::collectors::{CollectError, Collector, Metric, Moment, Setup, Spec, percent};
use crate::model::point::Point;

const FILE: &str = "/proc/meminfo";

const fn bytes(name: &'static str, help: &'static str) -> Metric {
    Metric { name, unit: "bytes", label: None, help }
}

/// The table's row.
pub const SPEC: Spec = Spec {
    name: "memory",
    metrics: &[
        bytes("memory.total", "Memory that the kernel can use (MemTotal)."),
        bytes(
            "memory.used",
            "MemTotal less MemAvailable: what would have to be freed by swapping.",
        ),
        bytes("memory.available", "Memory for new work without swapping (MemAvailable)."),
        Metric {
            name: "memory.used_percent",
            unit: "%",
            label: None,
            help: "memory.used of memory.total.",
        },
        bytes("memory.swap_total", "Swap space (SwapTotal)."),
        bytes("memory.swap_used", "SwapTotal less SwapFree."),
    ],
    make: |setup: &Setup<'_>| Box::new(Memory(ProcFile::whole(setup.proc("meminfo")))),
};

struct Memory(ProcFile);

impl Collector for Memory {
    fn collect(&mut self, moment: &Moment, out: &mut Vec<Point>) -> Result<(), CollectError> {
        let sizes = parse(&self.0.read()?)?;
        let plain = |name, value: u64| Point::plain(name, moment.timestamp_ms, value as f64);
        let used = sizes.total.saturating_sub(sizes.available);
        out.push(plain("memory.total", sizes.total));
        out.push(plain("memory.used", used));
        out.push(plain("memory.available", sizes.available));
        let share = percent(used as f64, sizes.total as f64);
        out.push(Point::plain("memory.used_percent", moment.timestamp_ms, share));
        out.push(plain("memory.swap_total", sizes.swap_total));
        out.push(plain("memory.swap_used", sizes.swap_total.saturating_sub(sizes.swap_free)));
        Ok(())
    }
}

/// Bytes.
#[derive(Debug, PartialEq, Eq)]
struct Sizes {
    total: u64,
    available: u64,
    swap_total: u64,
    swap_free: u64,
}

/// The few fields that count. procfs' parser panics on a line without its colon, which a property
/// test found, so the lines are read here.
fn parse(text: &str) -> Result<Sizes, CollectError> {
    let field = |name: &str| -> Option<u64> {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib = value.trim().strip_suffix(" kB")?.trim_end();
        kib.parse::<u64>().ok()?.checked_mul(1_024)
    };
    let required = |name: &str| {
        field(name).ok_or_else(|| CollectError::parse(FILE, format!("it has no good `{name}`")))
    };
    let total = required("MemTotal")?;
    // Kernels before 3.14 have no MemAvailable; free memory and caches come near it.
    let available = field("MemAvailable").or_else(|| {
        let parts = [field("MemFree")?, field("Buffers")?, field("Cached")?];
        Some(parts.into_iter().fold(0, u64::saturating_add))
    });
    let available =
        available.ok_or_else(|| CollectError::parse(FILE, "it has no good `MemAvailable`"))?;
    Ok(Sizes {
        total,
        available: available.min(total),
        swap_total: required("SwapTotal")?,
        swap_free: required("SwapFree")?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub fn parse_any(text: &str) {
        let _ = parse(text);
    }

    #[test]
    fn a_real_file_is_read() {
        let text = std::fs::read_to_string("tests/fixtures/proc/meminfo").unwrap();
        let sizes = parse(&text).unwrap();
        assert_eq!(sizes.total, 24_689_764 * 1024);
        assert_eq!(sizes.available, 23_924_388 * 1024);
        assert_eq!((sizes.swap_total, sizes.swap_free), (2_097_148 * 1024, 1_048_572 * 1024));
    }

    #[test]
    fn a_truncated_file_is_said() {
        assert!(parse("").is_err());
        assert!(parse("MemTotal: 12 kB\n").is_err());
        assert!(parse("MemTotal: 99999999999999999999 kB\n").is_err());
    }
}
