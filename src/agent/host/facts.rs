//! The facts of a host, from the files that every distribution has (os-release(5), localtime(5),
//! proc(5)); on other systems from sysctl(3).

use std::path::Path;

use crate::agent::collectors::procfile::value;
use crate::agent::host::Sources;
use crate::base::cli::VERSION;
#[cfg(target_os = "linux")]
use crate::base::limits::HOST_ADDRESSES_MAX;
use crate::model::host::HostFacts;

/// The facts as far as they can be found out.
pub(super) fn read(sources: &Sources) -> HostFacts {
    let mut facts = HostFacts {
        architecture: std::env::consts::ARCH.to_owned(),
        time_zone: time_zone(&sources.root),
        agent_version: VERSION.to_owned(),
        ..HostFacts::default()
    };
    system(sources, &mut facts);
    facts
}

#[cfg(target_os = "linux")]
fn system(sources: &Sources, facts: &mut HostFacts) {
    let proc = |file: &str| value(&sources.proc.join(file)).unwrap_or_default();
    let text = |file: &str| long_text(&sources.proc.join(file));
    facts.hostname = proc("sys/kernel/hostname");
    let releases = ["etc/os-release", "usr/lib/os-release"];
    let release = releases.iter().find_map(|file| value(&sources.root.join(file)));
    facts.os = os_name(&release.unwrap_or_default());
    facts.kernel = format!("{} {}", proc("sys/kernel/ostype"), proc("sys/kernel/osrelease"));
    facts.kernel = facts.kernel.trim().to_owned();
    let cpuinfo = text("cpuinfo");
    facts.virtualization = super::virtualization::find(sources, &cpuinfo);
    (facts.cpu_model, facts.cpu_cores) = processor(&cpuinfo);
    facts.memory_bytes = memory_bytes(&text("meminfo"));
    facts.boot_time_ms = boot_time_ms(&text("stat"));
    let of_host = if sources.proc.as_os_str() == "/proc" { "self/net" } else { "1/net" };
    let net = sources.proc.join(of_host);
    let net = if net.exists() { net } else { sources.proc.join("net") };
    facts.addresses =
        addresses(&long_text(&net.join("fib_trie")), &long_text(&net.join("if_inet6")));
}

#[cfg(not(target_os = "linux"))]
fn system(_: &Sources, facts: &mut HostFacts) {
    use crate::agent::sysctl::{bytes, number, seconds, text};
    let count = |name: &str| bytes(name).ok().and_then(|bytes| number(&bytes));
    facts.hostname = text("kern.hostname");
    facts.kernel = format!("{} {}", text("kern.ostype"), text("kern.osrelease"));
    facts.os.clone_from(&facts.kernel);
    facts.virtualization = match text("kern.vm_guest") {
        guest if guest.is_empty() => "none".to_owned(),
        guest => guest,
    };
    // The first of each is macOS': its hw.model is the computer's, its hw.physmem has 32 bits.
    let brand = text("machdep.cpu.brand_string");
    facts.cpu_model = if brand.is_empty() { text("hw.model") } else { brand };
    facts.memory_bytes = count("hw.memsize").or_else(|| count("hw.physmem")).unwrap_or(0);
    facts.cpu_cores = count("hw.ncpu").and_then(|cores| u32::try_from(cores).ok()).unwrap_or(0);
    let booted = bytes("kern.boottime").ok().and_then(|bytes| seconds(&bytes));
    facts.boot_time_ms = booted.unwrap_or(0).saturating_mul(1_000);
}

/// Most of a file that is read; more than any host's has.
#[cfg(target_os = "linux")]
const TEXT_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[cfg(target_os = "linux")]
pub(super) fn long_text(path: &Path) -> String {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        // What was read before an error is as good as a shorter file.
        let _ = file.take(TEXT_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The zone's name: `/etc/timezone`, or where `/etc/localtime` points to (localtime(5)).
fn time_zone(root: &Path) -> String {
    let link = std::fs::read_link(root.join("etc/localtime")).unwrap_or_default();
    let link = link.to_string_lossy();
    if let Some((_, name)) = link.split_once("zoneinfo/") {
        return name.to_owned();
    }
    value(&root.join("etc/timezone")).unwrap_or_default()
}

/// `PRETTY_NAME` of os-release(5), or `NAME` and `VERSION_ID`.
#[cfg(target_os = "linux")]
fn os_name(text: &str) -> String {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|line| line.trim().trim_matches(['"', '\'']).to_owned())
    };
    let plain = || {
        let (name, version) = (field("NAME")?, field("VERSION_ID").unwrap_or_default());
        Some(format!("{name} {version}").trim().to_owned())
    };
    field("PRETTY_NAME").or_else(plain).unwrap_or_default()
}

/// The model of the first processor, and how many there are (/proc/cpuinfo). Its fields differ by
/// architecture; some kernels name no model.
#[cfg(target_os = "linux")]
fn processor(text: &str) -> (String, u32) {
    const MODELS: [&str; 6] = ["model name", "cpu model", "Model", "Hardware", "uarch", "cpu"];
    let fields = || text.lines().filter_map(|line| line.split_once(':'));
    let cores = fields().filter(|(name, _)| name.trim() == "processor").count();
    let model = MODELS.iter().find_map(|wanted| {
        let field = fields().find(|(name, _)| name.trim() == *wanted)?;
        Some(field.1.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
    });
    (model.unwrap_or_default(), u32::try_from(cores).unwrap_or(u32::MAX))
}

#[cfg(target_os = "linux")]
fn memory_bytes(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1_024)
}

#[cfg(target_os = "linux")]
pub(super) fn boot_time_ms(text: &str) -> i64 {
    let line = text.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|secs| secs.trim().parse::<i64>().ok()).unwrap_or(0).saturating_mul(1_000)
}

/// The host's addresses: those that the routing table of local addresses has
/// (/proc/net/fib_trie), and those of IPv6 interfaces that are global (/proc/net/if_inet6).
#[cfg(target_os = "linux")]
fn addresses(trie: &str, inet6: &str) -> Vec<String> {
    let mut found: Vec<std::net::IpAddr> = Vec::new();
    let mut last = "";
    for line in trie.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address;
        } else if line == "/32 host LOCAL"
            && let Ok(address) = last.parse::<std::net::Ipv4Addr>()
            && !address.is_loopback()
            && !address.is_link_local()
        {
            found.push(address.into());
        }
    }
    for line in inet6.lines() {
        // Address, interface, length, scope (0: global), flags, name.
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        if let [address, _, _, "00", ..] = fields.as_slice()
            && let Ok(bits) = u128::from_str_radix(address, 16)
        {
            found.push(std::net::Ipv6Addr::from_bits(bits).into());
        }
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(HOST_ADDRESSES_MAX);
    found.iter().map(ToString::to_string).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_systems_name_is_what_os_release_says() {
        let debian = "NAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(os_name(debian), "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(os_name("NAME=Alpine\nVERSION_ID=3.20\n"), "Alpine 3.20");
        assert_eq!(os_name("nothing"), "");
    }

    #[test]
    fn processors_are_counted_and_named() {
        let x86 =
            "processor\t: 0\nmodel name\t: AMD  EPYC 7B13\n\nprocessor\t: 1\nmodel name\t: x\n";
        assert_eq!(processor(x86), ("AMD EPYC 7B13".to_owned(), 2));
        let arm =
            "processor\t: 0\nBogoMIPS\t: 108.00\n\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n";
        assert_eq!(processor(arm), ("Raspberry Pi 4 Model B Rev 1.4".to_owned(), 1));
        assert_eq!(processor("garbage"), (String::new(), 0));
    }

    #[test]
    fn addresses_are_those_of_the_host_itself() {
        let trie = r"
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
Local:
     +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 10.0.0.7
           /32 host LOCAL
        |-- 10.0.0.255
           /32 link BROADCAST
        |-- 10.0.0.7
           /32 host LOCAL
";
        let inet6 = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     20010db8000000000000000000000005 02 40 00 80     eth0\n\
                     fe800000000000000000000000000001 02 40 20 80     eth0\nodd\n";
        assert_eq!(addresses(trie, inet6), ["10.0.0.7", "2001:db8::5"]);
        assert!(addresses("", "").is_empty());
    }

    #[test]
    fn this_host_has_facts() {
        let config = crate::agent::config::AgentConfig::default();
        let facts = read(&Sources::of(&config));
        assert!(facts.kernel.starts_with("Linux "), "{facts:?}");
        assert!(facts.cpu_cores >= 1 && facts.memory_bytes > 1 << 20, "{facts:?}");
        assert!(facts.boot_time_ms > 1_500_000_000_000, "{facts:?}");
        assert!(!facts.virtualization.is_empty() && facts.agent_version == VERSION, "{facts:?}");
    }
}
