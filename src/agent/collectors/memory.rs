//! Memory and swap from /proc/meminfo (proc(5)).

use crate::agent::collectors::procfile::ProcFile;
use crate::agent::collectors::{
    CollectError, Collector, Metric, Pace, Samples, Setup, Spec, percent, plain,
};

const FILE: &str = "/proc/meminfo";

const fn bytes(name: &'static str, help: &'static str) -> Metric {
    plain(name, "bytes", help)
}

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "memory",
    pace: Pace::Always,
    on: true,
    metrics: &[
        bytes("memory.total", "Memory that the kernel can use (MemTotal)."),
        bytes(
            "memory.used",
            "MemTotal less memory.available: what would have to be freed by swapping.",
        ),
        bytes(
            "memory.available",
            "Memory for new work without swapping (MemAvailable, and what ZFS' cache can free).",
        ),
        plain("memory.used_percent", "%", "memory.used of memory.total."),
        bytes("memory.swap_total", "Swap space (SwapTotal)."),
        bytes("memory.swap_used", "SwapTotal less SwapFree."),
        bytes("memory.free", "Memory that nothing uses (MemFree)."),
        bytes("memory.buffers", "Buffers of block devices (Buffers)."),
        bytes("memory.cached", "The page cache, with shared memory (Cached)."),
        bytes("memory.shared", "Shared memory and tmpfs (Shmem)."),
        bytes("memory.slab", "The kernel's own objects (Slab)."),
        bytes("memory.huge_total", "Huge pages set aside (HugePages_Total); none where it is 0."),
        bytes("memory.huge_used", "Huge pages in use; none where there are none."),
        bytes("memory.zfs_arc", "ZFS' cache; none without ZFS (/proc/spl/kstat/zfs/arcstats)."),
    ],
    make: |setup: &Setup<'_>| {
        Box::new(Memory {
            meminfo: ProcFile::whole(setup.proc("meminfo")),
            arcstats: ProcFile::pieces(setup.proc("spl/kstat/zfs/arcstats")),
        })
    },
};

struct Memory {
    meminfo: ProcFile,
    arcstats: ProcFile,
}

impl Collector for Memory {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let arc = self.arcstats.read_optional(out.moment.at)?;
        let (arc_size, arc_min) = arc.as_deref().and_then(parse_arc).unwrap_or_default();
        let mut sizes = parse(&self.meminfo.read()?)?;
        if sizes.drop_absurd() {
            out.note("sizes", "a size is more than MemTotal, and is left out");
        }
        let number = |value: Option<u64>| value.map(|value| value as f64);
        let freeable = arc_size.saturating_sub(arc_min);
        let available = sizes.available().map(|bytes| bytes.saturating_add(freeable));
        let available = match sizes.total {
            Some(total) => available.map(|bytes| bytes.min(total)),
            None => available,
        };
        let used = sizes.total.zip(available).map(|(total, available)| (total - available, total));
        out.maybe("memory.total", number(sizes.total));
        out.maybe("memory.used", used.map(|(used, _)| used as f64));
        out.maybe("memory.available", number(available));
        let share = used.map(|(used, total)| percent(used as f64, total as f64));
        out.maybe("memory.used_percent", share);
        out.maybe("memory.swap_total", number(sizes.swap_total));
        // A container's file may say that more is free than there is.
        let swap = sizes.swap_total.zip(sizes.swap_free);
        let swap_used = swap.and_then(|(total, free)| total.checked_sub(free));
        out.maybe("memory.swap_used", number(swap_used));
        out.maybe("memory.free", number(sizes.free));
        out.maybe("memory.buffers", number(sizes.buffers));
        out.maybe("memory.cached", number(sizes.cached));
        out.maybe("memory.shared", number(sizes.shared));
        out.maybe("memory.slab", number(sizes.slab));
        if let Some((total, used)) = sizes.huge {
            out.plain("memory.huge_total", total as f64);
            out.plain("memory.huge_used", used as f64);
        }
        if arc_size > 0 {
            out.plain("memory.zfs_arc", arc_size as f64);
        }
        if available.is_none() || sizes.total.is_none() {
            out.note(FILE, "no usable MemTotal, or neither MemAvailable nor MemFree");
        }
        if sizes.swap_total.is_some() && swap_used.is_none() {
            out.note("swap", "SwapFree is missing, or more than SwapTotal");
        }
        Ok(())
    }
}

/// Bytes; `None` for a field that the file does not have or that makes no sense.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sizes {
    total: Option<u64>,
    free: Option<u64>,
    mem_available: Option<u64>,
    buffers: Option<u64>,
    cached: Option<u64>,
    shared: Option<u64>,
    slab: Option<u64>,
    reclaimable: Option<u64>,
    swap_total: Option<u64>,
    swap_free: Option<u64>,
    /// All huge pages, and those in use.
    huge: Option<(u64, u64)>,
}

impl Sizes {
    /// Drops sizes of more than the whole memory, which files of some containers have: a total that
    /// is the container's beside sizes that are the host's. Gives whether there were any.
    fn drop_absurd(&mut self) -> bool {
        let Some(total) = self.total else { return false };
        let mut found = false;
        for size in [
            &mut self.free,
            &mut self.mem_available,
            &mut self.buffers,
            &mut self.cached,
            &mut self.shared,
            &mut self.slab,
            &mut self.reclaimable,
        ] {
            found |= size.is_some_and(|size| size > total);
            *size = size.filter(|size| *size <= total);
        }
        found
    }

    /// What new work can have. Kernels before 3.14, and some containers, have no MemAvailable:
    /// free memory and caches come near it, but for shared memory, which counts as cached and
    /// can't be dropped.
    fn available(&self) -> Option<u64> {
        self.mem_available.or_else(|| {
            let caches = [self.buffers, self.cached, self.reclaimable].into_iter().flatten();
            let all = caches.fold(self.free?, u64::saturating_add);
            Some(all.saturating_sub(self.shared.unwrap_or(0)))
        })
    }
}

/// The few fields that count; a line without a colon is passed over.
fn parse(text: &str) -> Result<Sizes, CollectError> {
    let mut sizes = Sizes::default();
    let (mut huge, mut huge_free, mut huge_size) = (None, None, None);
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let mut words = value.split_ascii_whitespace();
        let number = words.next().and_then(|word| word.parse::<u64>().ok());
        let bytes = match words.next() {
            Some("kB") => number.and_then(|kib| kib.checked_mul(1_024)),
            _ => None,
        };
        match name {
            "MemTotal" => sizes.total = bytes.filter(|bytes| *bytes > 0),
            "MemFree" => sizes.free = bytes,
            "MemAvailable" => sizes.mem_available = bytes,
            "Buffers" => sizes.buffers = bytes,
            "Cached" => sizes.cached = bytes,
            "Shmem" => sizes.shared = bytes,
            "Slab" => sizes.slab = bytes,
            "SReclaimable" => sizes.reclaimable = bytes,
            "SwapTotal" => sizes.swap_total = bytes,
            "SwapFree" => sizes.swap_free = bytes,
            "HugePages_Total" => huge = number,
            "HugePages_Free" => huge_free = number,
            "Hugepagesize" => huge_size = bytes,
            _ => {}
        }
    }
    if let (Some(total), Some(free), Some(size)) = (huge.filter(|n| *n > 0), huge_free, huge_size) {
        let used = total.saturating_sub(free);
        sizes.huge = total.checked_mul(size).zip(used.checked_mul(size));
    }
    if sizes == Sizes::default() {
        return Err(CollectError::parse(FILE, "none of its fields is known"));
    }
    Ok(sizes)
}

/// The size of ZFS' cache and the least that it keeps, bytes. The file's lines are
/// `name type data` after two lines of heads.
fn parse_arc(text: &str) -> Option<(u64, u64)> {
    let field = |name: &str| -> Option<u64> {
        let mut rows = text.lines().map(|line| line.split_ascii_whitespace());
        rows.find_map(|mut words| (words.next() == Some(name)).then(|| words.nth(1)))??.parse().ok()
    };
    Some((field("size")?, field("c_min")?))
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::collectors::tests::{once, tree};

    pub(crate) fn parse_any(text: &str) {
        let _ = parse(text);
        let _ = parse_arc(text);
    }

    #[test]
    fn a_real_file_is_read() {
        let text = std::fs::read_to_string("tests/fixtures/proc/meminfo").unwrap();
        let sizes = parse(&text).unwrap();
        assert_eq!(sizes.total, Some(24_689_764 * 1024));
        assert_eq!(sizes.available(), Some(23_924_388 * 1024));
        let swap = (Some(2_097_148 * 1024), Some(1_048_572 * 1024));
        assert_eq!((sizes.swap_total, sizes.swap_free), swap);
    }

    #[test]
    fn a_field_that_is_missing_or_absurd_costs_its_own_metrics() {
        let absurd = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 400 kB\n\
                      SwapTotal: 0 kB\nSwapFree: 18446744073709551496 kB\n";
        let seen = once("memory", "meminfo", absurd);
        assert_eq!(seen["memory.used_percent"], 60.0);
        assert_eq!(seen["memory.swap_total"], 0.0);
        assert!(!seen.contains_key("memory.swap_used"));

        let no_swap = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 400 kB\n";
        let seen = once("memory", "meminfo", no_swap);
        assert!(seen.contains_key("memory.used") && !seen.contains_key("memory.swap_total"));

        let no_total = "MemTotal: 99999999999999999999 kB\nMemAvailable: 400 kB\n";
        let seen = once("memory", "meminfo", no_total);
        assert_eq!(seen["memory.available"], 400.0 * 1024.0);
        assert!(!seen.contains_key("memory.used_percent"));
    }

    #[test]
    fn a_size_of_more_than_the_memory_is_left_out() {
        let mixed = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 90000 kB\nBuffers: 0 kB\n\
                     Cached: 50000 kB\nSlab: 1001 kB\n";
        let seen = once("memory", "meminfo", mixed);
        assert_eq!(seen["memory.used_percent"], 90.0, "not 0: what is left counts");
        for name in ["memory.cached", "memory.slab"] {
            assert!(!seen.contains_key(name), "{name}");
        }
        let nothing = "MemTotal: 1000 kB\nMemFree: 2000 kB\nMemAvailable: 3000 kB\n";
        let seen = once("memory", "meminfo", nothing);
        assert_eq!(seen.keys().filter(|name| !name.starts_with("agent.")).count(), 1, "{seen:?}");
    }

    #[test]
    fn without_mem_available_shared_memory_is_not_available() {
        let old = "MemTotal: 1000 kB\nMemFree: 100 kB\nCached: 500 kB\nShmem: 300 kB\n";
        let seen = once("memory", "meminfo", old);
        assert_eq!(seen["memory.available"], 300.0 * 1024.0, "no Buffers line either");
    }

    #[test]
    fn the_cache_of_zfs_can_be_freed_down_to_its_least() {
        let text = "9 1 0x01 123 33456 1 2\nname type data\nhits 4 5\nc_min 4 1000\nsize 4 5000\n";
        assert_eq!(parse_arc(text), Some((5_000, 1_000)));
        assert_eq!(parse_arc("size 4 5000\n"), None);
        let meminfo = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 400 kB\n";
        let arc = "9 1\nname type data\nc_min 4 102400\nsize 4 409600\n";
        let files = [("proc/meminfo", meminfo), ("proc/spl/kstat/zfs/arcstats", arc)];
        let seen = tree("memory", &files);
        assert_eq!(seen["memory.available"], 700.0 * 1024.0);
        assert_eq!(seen["memory.zfs_arc"], 400.0 * 1024.0);
        assert_eq!(seen["memory.used_percent"], 30.0);
    }

    #[test]
    fn huge_pages_are_counted_in_bytes_where_there_are_some() {
        let text = |pages: &str| {
            format!(
                "MemTotal: 8192 kB\nMemAvailable: 400 kB\nSlab: 12 kB\nHugePages_Total: {pages}\n\
                 HugePages_Free: 1\nHugepagesize: 2048 kB\n"
            )
        };
        let seen = once("memory", "meminfo", &text("4"));
        let pages = (seen["memory.huge_total"], seen["memory.huge_used"]);
        assert_eq!(pages, (4.0 * 2_097_152.0, 3.0 * 2_097_152.0));
        assert_eq!(seen["memory.slab"], 12.0 * 1024.0);
        let none = once("memory", "meminfo", &text("0"));
        assert!(!none.contains_key("memory.huge_total"), "{none:?}");
    }

    #[test]
    fn a_file_that_is_something_else_is_an_error() {
        assert!(parse("").is_err());
        assert!(parse("garbage\n").is_err());
    }
}
