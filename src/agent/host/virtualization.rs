//! What a system runs in, from what the kernel and container engines leave in files.

use crate::agent::collectors::procfile::value;
use crate::agent::host::Sources;

/// Parts of the vendor or product of a machine (/sys/class/dmi/id) and what they stand for.
const MACHINES: &[(&str, &str)] = &[
    ("amazon ec2", "amazon"),
    ("google compute engine", "google"),
    ("google", "google"),
    ("alibaba cloud", "alibaba"),
    ("openstack", "openstack"),
    ("vmware", "vmware"),
    ("innotek", "virtualbox"),
    ("virtualbox", "virtualbox"),
    ("parallels", "parallels"),
    ("bochs", "bochs"),
    ("kvm", "kvm"),
    ("qemu", "kvm"),
    ("xen", "xen"),
    ("apple virtualization", "apple"),
    ("bhyve", "bhyve"),
];

/// `none`, or what the system runs in. A container counts before the machine that it is on.
pub(super) fn find(sources: &Sources, cpuinfo: &str) -> String {
    container(sources).or_else(|| machine(sources, cpuinfo)).unwrap_or_else(|| "none".to_owned())
}

/// Only where the files are this system's own: an agent in a container that is shown the host's
/// /proc describes the host.
fn container(sources: &Sources) -> Option<String> {
    if sources.proc.as_os_str() != "/proc" {
        return None;
    }
    // systemd(1) and its nspawn leave the manager's name here.
    if let Some(name) = value(&sources.root.join("run/systemd/container")) {
        let word = name.lines().next().unwrap_or_default().trim();
        return Some(if word.is_empty() { "container".to_owned() } else { word.to_owned() });
    }
    let files = [(".dockerenv", "docker"), ("run/.containerenv", "podman")];
    let found = files.into_iter().find(|(file, _)| sources.root.join(file).exists());
    found.map(|(_, name)| name.to_owned())
}

fn machine(sources: &Sources, cpuinfo: &str) -> Option<String> {
    let release = value(&sources.proc.join("sys/kernel/osrelease")).unwrap_or_default();
    if release.to_ascii_lowercase().contains("microsoft") {
        return Some("wsl".to_owned());
    }
    let dmi = |file: &str| value(&sources.sys.join("class/dmi/id").join(file)).unwrap_or_default();
    let (vendor, product) = (dmi("sys_vendor"), dmi("product_name"));
    let named = format!("{vendor} {product}").to_ascii_lowercase();
    if named.contains("microsoft") && named.contains("virtual machine") {
        return Some("hyperv".to_owned());
    }
    // Real servers of these vendors exist too.
    let is_guest = is_guest(cpuinfo);
    let found = MACHINES.iter().find(|(part, _)| named.contains(part));
    if let Some((part, name)) = found
        && (is_guest || !["google", "amazon ec2"].contains(part))
    {
        return Some((*name).to_owned());
    }
    if let Some(kind) = value(&sources.sys.join("hypervisor/type")) {
        return Some(kind);
    }
    is_guest.then(|| "vm".to_owned())
}

/// Whether the processor says that a hypervisor runs it.
fn is_guest(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|line| line.split_ascii_whitespace().any(|flag| flag == "hypervisor"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;

    fn sources(dir: &Path) -> Sources {
        Sources {
            proc: "/proc".into(),
            sys: dir.join("sys"),
            root: dir.to_owned(),
            snapshots: true,
            arguments: false,
        }
    }

    fn put(dir: &Path, file: &str, text: &str) {
        let path = dir.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_machine_is_known_by_its_vendor_and_a_container_by_its_engines_file() {
        let guest = "processor : 0\nflags : fpu hypervisor\n";
        for (vendor, product, cpuinfo, expected) in [
            ("QEMU\n", "Standard PC\n", guest, "kvm"),
            ("Amazon EC2\n", "m5.large\n", guest, "amazon"),
            ("Microsoft Corporation\n", "Virtual Machine\n", guest, "hyperv"),
            ("Dell Inc.\n", "PowerEdge\n", "flags : fpu\n", "none"),
            ("Unheard\n", "Of\n", guest, "vm"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            put(dir.path(), "sys/class/dmi/id/sys_vendor", vendor);
            put(dir.path(), "sys/class/dmi/id/product_name", product);
            let found = machine(&sources(dir.path()), cpuinfo);
            assert_eq!(found.unwrap_or_else(|| "none".to_owned()), expected, "{vendor}");
        }
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), ".dockerenv", "");
        assert_eq!(find(&sources(dir.path()), guest), "docker");
        put(dir.path(), "run/systemd/container", "lxc\n");
        assert_eq!(find(&sources(dir.path()), guest), "lxc");
        let shown = Sources { proc: dir.path().join("proc"), ..sources(dir.path()) };
        assert_eq!(find(&shown, "flags : fpu\n"), "none", "the host's files, not the container's");
    }
}
