//! Both images, built and run by podman as docs/install.md says. Without static binaries
//! (`OXMON_MUSL_DIR`) the images hold those of the build under test, with their libraries.

use std::path::Path;

use tempfile::TempDir;

use crate::support::agent;
use crate::support::inside::Api;
use crate::support::once::{self, Rows};
use crate::support::podman::{Podman, wait_healthy};
use crate::support::shipped::{Shipped, architecture, script};
use crate::support::tools::{find, must, or_excuse, root, run, there};
use crate::support::wait_slowly;

/// What the images of static binaries may weigh, bytes.
const SIZES: [(&str, u64); 2] = [("oxmon-agent", 7_000_000), ("oxmon-server", 18_000_000)];

/// An engine with both images, in a network of its own.
struct Images {
    podman: Podman,
    shipped: Shipped,
    dir: TempDir,
}

impl Images {
    /// `None` where no engine is or can be run; it says so.
    fn build() -> Option<Self> {
        let tools = ["podman", "runc", "jq", "curl", "nsenter"];
        if !tools.iter().all(|tool| there(tool)) {
            return None;
        }
        let root_user = must("id", &["-u"]).trim() == "0";
        if !or_excuse(root_user, "containers are run by root alone here") {
            return None;
        }
        if !run("unshare", &["--net", "true"]).status.success() {
            eprintln!("not run: no rights for a network namespace");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let shipped = Shipped::new(&dir.path().join("bin"));
        let context = dir.path().join("context").display().to_string();
        let mut pairs = vec![format!("{}={}", architecture(), shipped.dir.display())];
        pairs.extend(shipped.arm64().map(|dir| format!("arm64={}", dir.display())));
        let mut words = vec![context.as_str()];
        words.extend(pairs.iter().map(String::as_str));
        script("scripts/images.sh", &words, &[]);
        shipped.put_libraries(&dir.path().join("context/rootfs"));
        let images = Self { podman: Podman::with_net(dir.path()), shipped, dir };
        for component in ["agent", "server"] {
            images.image(component, architecture(), "");
        }
        let out =
            images.podman.run(&["run", "--rm", "--network", "host", "oxmon-agent", "--version"]);
        if !out.status.success() {
            eprintln!("not run: no container here: {}", String::from_utf8_lossy(&out.stderr));
            return None;
        }
        Some(images)
    }

    fn image(&self, component: &str, arch: &str, suffix: &str) {
        let (file, tag) = (format!("Dockerfile.{component}"), format!("oxmon-{component}{suffix}"));
        let context = self.dir.path().join("context").display().to_string();
        let words = ["build", "-q", "--format", "docker", "--platform", &format!("linux/{arch}")];
        self.podman.must(&[&words[..], &["-f", &file, "-t", &tag, &context]].concat());
    }

    /// A file of the test that a container is given.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// `docker run` of the documentation, with everything that is not needed taken away.
    fn start(&self, name: &str, options: &[&str], image: &str) {
        let mut words = vec!["run", "-d", "--name", name, "--network", "host"];
        words.extend(["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"]);
        words.extend(options);
        words.push(image);
        self.podman.must(&words);
    }

    fn process(&self, name: &str) -> String {
        self.podman.must(&["inspect", "--format", "{{.State.Pid}}", name])
    }
}

/// A value of `/proc/PID/status`.
fn status(process: &str, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:")));
    line.unwrap_or_default().split_whitespace().next().unwrap_or_default().to_owned()
}

fn image_is_as_documented(images: &Images, name: &str, most: u64) {
    let show = |format: &str| images.podman.must(&["image", "inspect", "--format", format, name]);
    assert_eq!(show("{{.Config.User}}"), "65534:65534");
    assert!(show("{{json .Config.Volumes}}").contains("/data"));
    assert!(show("{{json .HealthCheck}}").contains("--health"), "{}", show("{{json .}}"));
    assert_eq!(show("{{.Architecture}}"), architecture());
    let bytes: u64 = show("{{.Size}}").parse().unwrap();
    eprintln!("{name}: an image of {bytes} bytes, static: {}", images.shipped.is_static);
    assert!(!images.shipped.is_static || bytes <= most, "{name} has {bytes} bytes");
}

/// What the kernel says of a container's process.
fn process_has_no_rights(images: &Images, name: &str) {
    let process = images.process(name);
    assert_eq!(status(&process, "Uid"), "65534");
    assert_eq!(status(&process, "CapEff"), "0000000000000000");
    assert_eq!(status(&process, "CapBnd"), "0000000000000000");
    assert_eq!(status(&process, "NoNewPrivs"), "1");
    let mounts = std::fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{root}");
    let at = |path: &str| Path::new(&format!("/proc/{process}/root")).join(path);
    for file in ["etc/ssl/certs/ca-certificates.crt", "usr/share/zoneinfo/Asia/Shanghai"] {
        assert!(std::fs::metadata(at(file)).is_ok_and(|file| file.len() > 100), "no {file}");
    }
    assert!(std::fs::read_to_string(at("etc/passwd")).unwrap().contains(":65534:65534:"));
}

/// The figures of a container with the host's folders, against those of a process of the host.
fn figures_are_the_hosts(inside: &Rows, outside: &Rows) {
    let of = |rows: &Rows, metric: &str, labels: &str| {
        rows.get(&(metric.to_owned(), labels.to_owned())).copied()
    };
    let root = "mount=\"/\"";
    for (metric, labels) in
        [("memory.total", ""), ("disk.total", root), ("disk.inodes_total", root)]
    {
        let theirs = of(outside, metric, labels);
        assert!(theirs.is_some(), "{metric} in {outside:?}");
        assert_eq!(of(inside, metric, labels), theirs, "{metric}");
    }
    for (metric, labels, slack) in [
        ("memory.available", "", 1e9),
        ("disk.used", root, 1e9),
        ("disk.used_percent", root, 1.0),
        ("load.load_1", "", 4.0),
        ("load.uptime", "", 30.0),
    ] {
        let (ours, theirs) = (of(inside, metric, labels), of(outside, metric, labels));
        let Some(theirs) = theirs else { panic!("{metric} in {outside:?}") };
        let ours = ours.unwrap_or_else(|| panic!("{metric} in {inside:?}"));
        assert!((ours - theirs).abs() <= slack, "{metric}: {ours} is not near {theirs}");
    }
    let series = |rows: &Rows, metric: &str| -> Vec<String> {
        rows.keys().filter(|(name, _)| name == metric).map(|(_, labels)| labels.clone()).collect()
    };
    for metric in ["cpu.core_usage", "diskio.read_bytes", "disk.total"] {
        assert_eq!(series(inside, metric), series(outside, metric));
    }
    assert!(of(inside, "cpu.usage", "").is_some_and(|percent| (0.0..=100.0).contains(&percent)));
}

/// While the server is away, the agent's samples go to its volume, and outlive its container.
fn samples_outlive_their_container(images: &Images, server: &[&str], agent: &[&str]) -> Api {
    let podman = &images.podman;
    podman.must(&["stop", "server"]);
    podman.must(&["rm", "server"]);
    let kept = || {
        let volume =
            podman.must(&["volume", "inspect", "--format", "{{.Mountpoint}}", "oxmon-agent"]);
        let found = run("find", &[&volume, "-type", "f", "-size", "+1k", "-not", "-name", "alive"]);
        (!found.stdout.is_empty()).then(crate::support::grpc::now_ms)
    };
    wait_slowly("samples in the agent's volume", kept);
    let kept_until = crate::support::grpc::now_ms();
    podman.must(&["rm", "-f", "-t", "5", "agent"]);
    images.start("agent", agent, "oxmon-agent");
    images.start("server", server, "oxmon-server");
    wait_healthy(podman, "server");
    let api = Api::new(podman.net());
    let times = wait_slowly("what the agent kept", || {
        let times = api.times("boxed", "memory.total");
        times.last().is_some_and(|last| *last > kept_until + 2_000).then_some(times)
    });
    // A second without a sample is one in which no agent ran.
    let gaps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let wide = gaps.iter().filter(|gap| **gap > 1_900).count();
    assert!(wide <= 1, "{gaps:?}");
    api
}

#[test]
fn both_images_run_without_rights_and_keep_their_volumes() {
    let Some(images) = Images::build() else { return };
    for (name, most) in SIZES {
        image_is_as_documented(&images, name, most);
    }
    let podman = &images.podman;
    let config = root().join("config/server.docker.toml").display().to_string();
    let server = ["-v", &format!("{config}:/etc/oxmon/server.toml:ro"), "-v", "oxmon-data:/data"];
    images.start("server", &server, "oxmon-server");
    wait_healthy(podman, "server");
    process_has_no_rights(&images, "server");
    let api = Api::new(podman.net());

    let text = std::fs::read_to_string(root().join("config/agent.docker.toml")).unwrap();
    let text = format!("agent_id = \"boxed\"\ncollection_interval_secs = 1\n{text}");
    let config = images.file("agent.toml", &text);
    let agent = [
        "--pid",
        "host",
        "-v",
        "/proc:/host/proc:ro",
        "-v",
        "/sys:/host/sys:ro",
        "-v",
        "/:/host/root:ro,rslave",
        "-e",
        "OXMON_HOST_PROC=/host/proc",
        "-e",
        "OXMON_HOST_SYS=/host/sys",
        "-e",
        "OXMON_HOST_ROOT=/host/root",
        "-v",
        &format!("{config}:/etc/oxmon/agent.toml:ro"),
        "-v",
        "oxmon-agent:/data",
    ];
    images.start("agent", &agent, "oxmon-agent");
    wait_slowly("the agent's values", || api.latest("boxed").filter(|rows| rows.len() > 20));
    wait_healthy(podman, "agent");
    process_has_no_rights(&images, "agent");

    let inside = podman.must(&["exec", "agent", "/oxmon-agent", "--once", "/etc/oxmon/agent.toml"]);
    let outside = must(agent::program(), &["--once", "config/agent.docker.toml"]);
    figures_are_the_hosts(&once::rows(&inside), &once::rows(&outside));

    let api = samples_outlive_their_container(&images, &server, &agent);
    agent_of_another_processor_reports(&images, &api);
    podman.must(&["rm", "--all", "--force", "--volumes", "-t", "0"]);
    compose_file_starts_both(&images);
}

/// The image for arm64, where `make musl` has made its agent: qemu is its entrypoint, so that
/// nothing of this system is changed.
fn agent_of_another_processor_reports(images: &Images, api: &Api) {
    let qemu = find("qemu-aarch64-static");
    let (Some(_), Some(qemu)) = (images.shipped.arm64(), qemu) else {
        eprintln!("not run: no agent for aarch64-unknown-linux-musl, or no qemu-aarch64-static");
        return;
    };
    images.image("agent", "arm64", "-arm64");
    let text =
        "agent_id = \"arm\"\ncollection_interval_secs = 1\nserver_endpoint = \"127.0.0.1:9090\"\n";
    let config = images.file("arm.toml", text);
    let (qemu, config) =
        (format!("{}:/qemu:ro", qemu.display()), format!("{config}:/etc/oxmon/agent.toml:ro"));
    let options = ["--arch", "arm64", "--entrypoint", "/qemu", "-v", &qemu, "-v", &config];
    let image = "oxmon-agent-arm64";
    assert_eq!(
        images.podman.must(&["image", "inspect", "--format", "{{.Architecture}}", image]),
        "arm64"
    );
    let mut words =
        vec!["run", "-d", "--name", "arm", "--network", "host", "--read-only", "--cap-drop", "all"];
    words.extend(options);
    words.extend([image, "/oxmon-agent", "/etc/oxmon/agent.toml"]);
    images.podman.must(&words);
    wait_slowly("values of the agent for arm64", || {
        api.latest("arm").filter(|rows| rows.len() > 20)
    });
    images.podman.must(&["exec", "arm", "/qemu", "/oxmon-agent", "--health"]);
}

/// `docker compose up -d`, by podman-compose.
fn compose_file_starts_both(images: &Images) {
    if !there("podman-compose") {
        return;
    }
    let podman = images.podman.path().display().to_string();
    let compose = find("podman-compose").unwrap().display().to_string();
    let out =
        images.podman.outside(&compose, &["--podman-path", &podman, "-p", "oxmon", "up", "-d"]);
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    assert!(out.status.success(), "{said}");
    let names = images.podman.must(&["ps", "--format", "{{.Names}}"]);
    let named = |service: &str| names.lines().find(|name| name.contains(service)).unwrap();
    // By the published port, as a browser of the host; then from within: with the first password,
    // calls of other machines can change it and nothing else, and the engine's forwarding makes it
    // one.
    let url = "http://127.0.0.1:8080/v1/health";
    wait_slowly("the published port", || {
        images.podman.outside("curl", &["-sf", url]).status.success().then_some(())
    });
    let api = Api::new(format!("--net=/proc/{}/ns/net", images.process(named("server"))));
    let agents = wait_slowly("the agent of the compose file", || {
        api.get("/v1/agents").filter(|agents| !agents.as_array().is_none_or(Vec::is_empty))
    });
    let host = must("hostname", &[]);
    assert_eq!(agents[0]["agent_id"], host.trim());
    for name in [named("server"), named("agent")] {
        wait_healthy(&images.podman, name);
        process_has_no_rights(images, name);
    }
    images.podman.outside(&compose, &["--podman-path", &podman, "-p", "oxmon", "down", "-t", "0"]);
}
