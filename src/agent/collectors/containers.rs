//! Containers, by their control groups: those of Docker, Podman, containerd, CRI-O, LXC and
//! systemd-nspawn. Names come from the engines' own files where those can be read.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::agent::collectors::cgroup::{Hierarchy, Usage};
use crate::agent::collectors::engines::Engines;
use crate::agent::collectors::rate::Counters;
use crate::agent::collectors::{
    CollectError, Collector, Metric, Pace, Samples, Setup, Spec, percent, round,
};
use crate::base::limits::CONTAINERS_MAX;

const fn of(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, unit, labels: &["container"], help }
}

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "containers",
    pace: Pace::Always,
    on: true,
    metrics: &[
        of(
            "container.cpu_percent",
            "%",
            "CPU time, 100 for each core that is fully used (/sys/fs/cgroup; new containers are looked for once a minute).",
        ),
        of(
            "container.throttled_percent",
            "%",
            "Time in which the container was kept from the CPU by its limit.",
        ),
        of("container.memory", "bytes", "Memory less what is cache and can be freed."),
        of("container.memory_limit", "bytes", "Limit of the memory; none without one."),
        of("container.memory_percent", "%", "container.memory of its limit; none without one."),
        of("container.read_bytes", "bytes/s", "Bytes read from disks."),
        of("container.write_bytes", "bytes/s", "Bytes written to disks."),
        of("container.tasks", "tasks", "Processes and threads."),
        of(
            "container.oom_kills",
            "kills",
            "Programs killed at the limit of the memory, since the collection before.",
        ),
    ],
    make: |setup: &Setup<'_>| {
        Box::new(Containers {
            groups: Hierarchy::new(setup.sys("fs/cgroup")),
            root: setup.config.root.clone(),
            found: Vec::new(),
            before: Counters::new(),
        })
    },
};

struct Containers {
    groups: Hierarchy,
    root: PathBuf,
    found: Vec<Found>,
    before: Counters<5>,
}

#[derive(Debug, Clone, PartialEq)]
struct Found {
    group: String,
    name: String,
}

impl Collector for Containers {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        if out.moment.slow {
            self.found = find(&self.groups, &self.root, out);
        }
        let mut usages = Vec::with_capacity(self.found.len());
        for found in &self.found {
            let usage = self.groups.usage(&found.group);
            // It ended since it was found.
            if usage != Usage::default() {
                usages.push((found.name.clone(), usage));
            }
        }
        let counters = usages.iter().map(|(name, usage)| {
            let or_0 = |counter: Option<u64>| counter.unwrap_or(0);
            let counters = [
                or_0(usage.cpu_us),
                or_0(usage.throttled_us),
                or_0(usage.read_bytes),
                or_0(usage.write_bytes),
                or_0(usage.oom_kills),
            ];
            (Box::<str>::from(name.as_str()), counters)
        });
        let growth = self.before.step(out.moment.at, counters.collect());
        for (name, usage) in &usages {
            let mut push = |metric, value| out.labelled(metric, "container", name, value);
            if let Some(growth) = &growth
                && let Some((_, grown)) = growth.groups.iter().find(|(group, _)| **group == **name)
            {
                let [cpu, throttled, read, write, kills] = *grown;
                let share = |us| round(growth.per_second(us) / 10_000.0, 100.0);
                push("container.cpu_percent", share(cpu));
                push("container.throttled_percent", share(throttled));
                if usage.read_bytes.is_some() {
                    push("container.read_bytes", round(growth.per_second(read), 10.0));
                    push("container.write_bytes", round(growth.per_second(write), 10.0));
                }
                push("container.oom_kills", kills as f64);
            }
            if let Some(memory) = usage.memory {
                push("container.memory", memory);
                if let Some(limit) = usage.memory_limit {
                    push("container.memory_limit", limit);
                    push("container.memory_percent", percent(memory, limit));
                }
            }
            if let Some(tasks) = usage.tasks {
                push("container.tasks", tasks);
            }
        }
        Ok(())
    }
}

/// Containers that are counted.
const FOUND_MAX: usize = 10_000;
/// How deep groups that hold others are looked through.
const DEPTH_MAX: usize = 5;

/// Whether a group may hold containers below it: those of engines, of systemd's slices for them, of
/// Kubernetes, and of users, whose own engines have them in a slice of the user's manager.
fn holds_containers(place: &str, name: &str) -> bool {
    match place.split('/').next() {
        None | Some("") => {
            matches!(name, "docker" | "lxc" | "machine" | "system.slice" | "machine.slice")
                || matches!(name, "user.slice" | "libpod_parent")
                || name.starts_with("kubepods")
        }
        Some("user.slice") => name.starts_with("user") || name == "app.slice",
        Some(top) => top.starts_with("kubepods"),
    }
}

/// The containers with their names, at most [`CONTAINERS_MAX`].
fn find(groups: &Hierarchy, root: &Path, out: &mut Samples) -> Vec<Found> {
    let mut found = Vec::new();
    look(groups, "", DEPTH_MAX, &mut found);
    found.sort_by(|a: &(String, String), b| a.1.cmp(&b.1));
    out.cap(&mut found, CONTAINERS_MAX, "containers", None);
    if found.is_empty() {
        // Nobody's name is asked for, which would be ten system calls.
        return Vec::new();
    }
    let engines = Engines::read(root);
    let mut used = HashSet::new();
    let mut named = Vec::with_capacity(found.len());
    for (group, id) in found {
        let mut name = engines.name(&id).unwrap_or_else(|| short(&id).to_owned());
        // Two containers of two engines may have one name.
        if used.contains(&name) {
            name = format!("{name}-{}", short(&id));
        }
        if used.insert(name.clone()) {
            named.push(Found { group, name });
        }
    }
    named
}

/// The containers among the groups below one, as pairs of their group and id.
fn look(groups: &Hierarchy, place: &str, depth: usize, found: &mut Vec<(String, String)>) {
    if found.len() > FOUND_MAX {
        return;
    }
    for child in groups.children(place) {
        let group = if place.is_empty() { child.clone() } else { format!("{place}/{child}") };
        match container_id(place, &child) {
            Some(id) => found.push((group, id)),
            None if depth > 1 && holds_containers(place, &child) => {
                look(groups, &group, depth - 1, found);
            }
            None => {}
        }
    }
}

/// The id in a group's name, where it is that of a container.
fn container_id(place: &str, name: &str) -> Option<String> {
    let is_hash = |id: &str| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    // Engines without systemd: /docker/ID, /kubepods/burstable/podUID/ID, /libpod_parent/libpod-ID.
    if let Some(id) = Some(name.strip_prefix("libpod-").unwrap_or(name)).filter(|id| is_hash(id)) {
        return Some(id.to_owned());
    }
    // Podman's monitor and CRI-O's are processes of the engine.
    if name.contains("conmon") {
        return None;
    }
    if let Some(id) = name.strip_suffix(".scope") {
        let hash = id.rsplit('-').next().filter(|id| is_hash(id));
        let machine = id.strip_prefix("machine-").map(|machine| machine.replace("\\x2d", "-"));
        return hash.map(str::to_owned).or(machine);
    }
    if let Some(machine) = name.strip_prefix("systemd-nspawn@") {
        return machine.strip_suffix(".service").map(str::to_owned);
    }
    let lxc = name.strip_prefix("lxc.payload.").or_else(|| name.strip_prefix("lxc.payload/"));
    if let Some(id) = lxc {
        return Some(id.to_owned());
    }
    (place == "lxc").then(|| name.to_owned())
}

/// The first twelve characters of a hash, as engines show it; other ids whole.
fn short(id: &str) -> &str {
    if id.len() == 64 { id.get(..12).unwrap_or(id) } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::collectors::tests::tree;

    #[test]
    fn groups_of_every_engine_are_known() {
        let hash = "0123456789abcdef".repeat(4);
        for (place, name, id) in [
            ("docker", hash.clone(), hash.clone()),
            ("system.slice", format!("docker-{hash}.scope"), hash.clone()),
            ("machine.slice", format!("libpod-{hash}.scope"), hash.clone()),
            ("libpod_parent", format!("libpod-{hash}"), hash.clone()),
            ("kubepods.slice/x", format!("cri-containerd-{hash}.scope"), hash.clone()),
            ("kubepods.slice/x", format!("crio-{hash}.scope"), hash.clone()),
            ("", "lxc.payload.web".to_owned(), "web".to_owned()),
            ("lxc", "old".to_owned(), "old".to_owned()),
            ("machine.slice", "machine-deb\\x2d12.scope".to_owned(), "deb-12".to_owned()),
            ("machine.slice", "systemd-nspawn@box.service".to_owned(), "box".to_owned()),
        ] {
            assert_eq!(container_id(place, &name), Some(id), "{place}/{name}");
        }
        for (place, name) in [
            ("system.slice", "nginx.service".to_owned()),
            ("system.slice", "session-3.scope".to_owned()),
            ("machine.slice", format!("libpod-conmon-{hash}.scope")),
            ("libpod_parent", "conmon".to_owned()),
            ("", "init.scope".to_owned()),
        ] {
            assert_eq!(container_id(place, &name), None, "{place}/{name}");
        }
    }

    #[test]
    fn only_groups_that_may_hold_containers_are_looked_into() {
        for (place, name, expected) in [
            ("", "system.slice", true),
            ("", "init.scope", false),
            ("", "kubepods.slice", true),
            ("kubepods.slice", "kubepods-burstable.slice", true),
            ("system.slice", "nginx.service", false),
            ("user.slice", "user-1000.slice", true),
            ("user.slice/user-1000.slice", "user@1000.service", true),
            ("user.slice/user-1000.slice", "session-3.scope", false),
        ] {
            assert_eq!(holds_containers(place, name), expected, "{place}/{name}");
        }
    }

    #[test]
    fn containers_have_their_engines_names_or_a_short_id() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let group =
            |id: &str, file: &str| format!("sys/fs/cgroup/system.slice/docker-{id}.scope/{file}");
        let config = format!("root/var/lib/docker/containers/{a}/config.v2.json");
        let seen = tree(
            "containers",
            &[
                ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
                (&group(&a, "memory.current"), "1000\n"),
                (&group(&a, "memory.max"), "4000\n"),
                (&group(&a, "pids.current"), "7\n"),
                (&group(&b, "memory.current"), "2000\n"),
                (&group(&b, "memory.max"), "max\n"),
                (&config, "{\"Path\":\"x\",\"Name\":\"/web-1\",\"Driver\":\"overlay2\"}"),
                ("sys/fs/cgroup/system.slice/nginx.service/memory.current", "9\n"),
            ],
        );
        assert_eq!(seen["container.memory_percent@web-1"], 25.0);
        assert_eq!(seen["container.tasks@web-1"], 7.0);
        assert_eq!(seen["container.memory@bbbbbbbbbbbb"], 2_000.0);
        assert!(!seen.contains_key("container.memory_limit@bbbbbbbbbbbb"));
        assert_eq!(seen.len(), 5, "{seen:?}");
    }
}
