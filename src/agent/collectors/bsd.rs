//! macOS and FreeBSD through sysctl(3): written against the documented names, and compiled only
//! there. CPU time is FreeBSD's `kern.cp_time`; macOS has none in sysctl, so it gives no
//! `cpu.usage`.

use crate::agent::collectors::rate::growth;
use crate::agent::collectors::statfs::{push_sizes, statvfs};
use crate::agent::collectors::{
    CollectError, Collector, Metric, Pace, Samples, Spec, percent, plain as metric, round,
};
use crate::agent::sysctl;

const fn disk(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, unit, labels: &["mount"], help }
}

/// The table's row of CPU usage.
pub(super) const CPU: Spec = Spec {
    name: "cpu",
    pace: Pace::Always,
    on: true,
    metrics: &[metric(
        "cpu.usage",
        "%",
        "Time that was not idle since the collection before (kern.cp_time).",
    )],
    make: |_| Box::new(Cpu { before: None }),
};

/// The table's row of memory.
pub(super) const MEMORY: Spec = Spec {
    name: "memory",
    pace: Pace::Always,
    on: true,
    metrics: &[
        metric("memory.total", "bytes", "Physical memory (hw.memsize, hw.physmem)."),
        metric("memory.used", "bytes", "What is not free."),
        metric(
            "memory.available",
            "bytes",
            "Pages that are free, and those that can be used at once: inactive ones of FreeBSD, purgeable ones of macOS.",
        ),
        metric("memory.used_percent", "%", "memory.used of memory.total."),
    ],
    make: |_| Box::new(Memory),
};

/// The table's row of load and uptime.
pub(super) const LOAD: Spec = Spec {
    name: "load",
    pace: Pace::Always,
    on: true,
    metrics: &[
        metric("load.load_1", "processes", "Load average of 1 minute (vm.loadavg)."),
        metric("load.load_5", "processes", "The same over 5 minutes."),
        metric("load.load_15", "processes", "The same over 15 minutes."),
        metric("load.uptime", "s", "Seconds since the system started (kern.boottime)."),
    ],
    make: |_| Box::new(Load),
};

/// The table's row of the root file system, as df counts it.
pub(super) const DISK: Spec = Spec {
    name: "disk",
    pace: Pace::Always,
    on: true,
    metrics: &[
        disk("disk.total", "bytes", "Size of /."),
        disk("disk.used", "bytes", "What is used."),
        disk("disk.available", "bytes", "What is free."),
        disk("disk.used_percent", "%", "As df shows."),
        disk("disk.inodes_total", "inodes", "Inodes, once a minute."),
        disk("disk.inodes_used", "inodes", "Inodes in use, once a minute."),
        disk("disk.inodes_used_percent", "%", "Their share, once a minute."),
    ],
    make: |_| Box::new(Disk),
};

fn bytes(name: &'static str) -> Result<Vec<u8>, CollectError> {
    sysctl::bytes(name).map_err(|error| CollectError::parse(name, error.to_string()))
}

fn number(name: &'static str) -> Result<u64, CollectError> {
    let number = sysctl::number(&bytes(name)?);
    number.ok_or_else(|| CollectError::parse(name, "it is not a number"))
}

struct Cpu {
    before: Option<(u64, u64)>,
}

impl Collector for Cpu {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        // user, nice, system, interrupt, idle (sys/resource.h: CPUSTATES).
        let times: Vec<u64> = sysctl::words::<8>(&bytes("kern.cp_time")?).take(5).collect();
        let [user, nice, system, interrupt, idle] = times[..] else {
            return Err(CollectError::parse("kern.cp_time", "it has fewer than 5 numbers"));
        };
        let busy = user + nice + system + interrupt;
        let now = (busy, busy + idle);
        if let Some((busy, total)) = self.before.replace(now)
            && let (Some(busy), Some(total)) = (growth(busy, now.0), growth(total, now.1))
            && total > 0
        {
            let usage = percent(busy as f64, total as f64);
            out.plain("cpu.usage", usage);
        }
        Ok(())
    }
}

struct Memory;

impl Collector for Memory {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let page = number("hw.pagesize")?;
        #[cfg(target_os = "macos")]
        let (total, free) = (
            number("hw.memsize")?,
            number("vm.page_free_count")? + number("vm.page_purgeable_count")?,
        );
        #[cfg(not(target_os = "macos"))]
        let (total, free) = (
            number("hw.physmem")?,
            number("vm.stats.vm.v_free_count")? + number("vm.stats.vm.v_inactive_count")?,
        );
        let available = free.saturating_mul(page).min(total);
        let used = total - available;
        out.plain("memory.total", total as f64);
        out.plain("memory.used", used as f64);
        out.plain("memory.available", available as f64);
        out.plain("memory.used_percent", percent(used as f64, total as f64));
        Ok(())
    }
}

struct Load;

impl Collector for Load {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let loads = sysctl::loads(&bytes("vm.loadavg")?);
        let loads = loads.ok_or_else(|| CollectError::parse("vm.loadavg", "it is too short"))?;
        let names = ["load.load_1", "load.load_5", "load.load_15"];
        for (name, load) in names.into_iter().zip(loads) {
            out.plain(name, round(load, 100.0));
        }
        let boot = sysctl::seconds(&bytes("kern.boottime")?).unwrap_or(0);
        let uptime = (out.moment.timestamp_ms / 1_000).saturating_sub(boot);
        out.plain("load.uptime", uptime as f64);
        Ok(())
    }
}

struct Disk;

impl Collector for Disk {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let path = std::path::Path::new("/");
        let (sizes, _) = statvfs(path, false)
            .map_err(|error| CollectError::Read { path: path.to_owned(), error })?;
        push_sizes("/", sizes, out);
        Ok(())
    }
}
