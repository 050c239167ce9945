//! Scripts, container files and workflows, read by those who know their mistakes.

use crate::support::tools::{must, there};

#[test]
fn scripts_pass_shellcheck() {
    if !there("shellcheck") {
        return;
    }
    let files =
        must("git", &["ls-files", "scripts/*.sh", "packaging/*.sh", ".ci/run", "packaging/deb/p*"]);
    let mut arguments = vec!["-x", "-S", "warning"];
    arguments.extend(files.lines());
    assert!(arguments.len() > 20, "{files}");
    must("shellcheck", &arguments);
}

#[test]
fn container_files_pass_hadolint() {
    // Its package is made for this system alone.
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) || !there("hadolint") {
        return;
    }
    let files = must("git", &["ls-files", "*Dockerfile*"]);
    let files: Vec<&str> = files.lines().collect();
    assert!(files.len() >= 2, "{files:?}");
    must("hadolint", &files);
}

#[test]
fn workflows_pass_actionlint() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) || !there("actionlint") {
        return;
    }
    must("actionlint", &["-no-color"]);
}

#[test]
fn container_files_copy_what_the_script_lays_out() {
    // The engine is asked in `containers.rs`; where there is none, the words are looked at.
    let script = must("cat", &["scripts/images.sh"]);
    for file in ["Dockerfile.agent", "Dockerfile.server"] {
        let text = must("cat", &[file]);
        let copies = text.lines().filter_map(|line| line.strip_prefix("COPY "));
        for copy in copies.map(|copy| copy.split_whitespace().rev().nth(1).unwrap()) {
            let folder = copy.split('/').next().unwrap();
            let laid_out = if folder == "${TARGETARCH}" { "$arch" } else { folder };
            assert!(script.contains(&format!("$context/{laid_out}")), "{file}: {copy}");
        }
        assert!(text.contains("\nFROM scratch\n") && text.contains("\nUSER 65534:65534\n"));
    }
    // Their configurations are good ones, and their health checks are options that exist.
    let (agent, server) = (crate::support::agent::program(), crate::support::server::program());
    must(agent, &["--check-config", "config/agent.docker.toml"]);
    must(server, &["--check-config", "config/server.docker.toml"]);
    for (file, program) in [("Dockerfile.agent", agent), ("Dockerfile.server", server)] {
        let text = must("cat", &[file]);
        let check = text.lines().find(|line| line.starts_with("HEALTHCHECK")).unwrap();
        assert!(check.contains("\"--health\""), "{check}");
        assert!(must(program, &["--help"]).contains("--health"));
    }
}

#[test]
fn what_the_compose_file_names_is_there() {
    let text = must("cat", &["compose.yaml"]);
    let words = text.split(|c: char| c.is_whitespace() || ",{}[]\"".contains(c));
    let mut found = 0;
    for word in words {
        let file = word.split(':').next().unwrap_or_default().trim_start_matches("./");
        if file.starts_with("config/") {
            assert!(!must("git", &["ls-files", file]).is_empty(), "there is no {file}");
            found += 1;
        }
    }
    assert_eq!(found, 2, "{text}");
}
