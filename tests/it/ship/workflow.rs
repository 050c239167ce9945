//! The release workflow: what it may do, and its steps that a shell can take, with files of a
//! release as the build jobs leave them and stand-ins for the registry and the page of releases.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::tools::{must, root, there};

fn workflow(name: &str) -> Value {
    let path = root().join(".github/workflows").join(name);
    yaml_serde::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn steps(job: &Value) -> impl Iterator<Item = &Value> {
    job["steps"].as_array().unwrap().iter()
}

#[test]
fn actions_of_others_are_pinned_and_no_job_may_more_than_it_needs() {
    for name in ["ci.yml", "release.yml"] {
        let text = std::fs::read_to_string(root().join(".github/workflows").join(name)).unwrap();
        for line in text.lines().filter(|line| line.contains("uses:")) {
            let (_, action) = line.split_once("uses:").unwrap();
            let (action, version) = action.split_once(" # v").unwrap_or_else(|| panic!("{line}"));
            let (_, hash) = action.trim().split_once('@').unwrap();
            assert!(
                hash.len() == 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{line}"
            );
            assert!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "{line}");
        }
        assert!(!text.contains("continue-on-error"), "a failure would be hidden");
        assert_eq!(workflow(name)["permissions"], serde_json::json!({"contents": "read"}));
    }
    let release = workflow("release.yml");
    for (name, job) in release["jobs"].as_object().unwrap() {
        let may: Vec<&String> =
            job["permissions"].as_object().into_iter().flatten().map(|(key, _)| key).collect();
        let wanted: &[&str] = match name.as_str() {
            "draft" => &["attestations", "contents", "id-token"],
            "images" => &["attestations", "contents", "id-token", "packages"],
            "publish" => &["contents", "packages"],
            _ => &[],
        };
        let mut sorted = may.clone();
        sorted.sort();
        assert_eq!(sorted, wanted, "{name}");
        assert!(job["timeout-minutes"].is_u64(), "{name} has no end");
    }
    // Nothing is published before the files and the images are there.
    assert_eq!(release["jobs"]["publish"]["needs"], serde_json::json!(["draft", "images"]));
    let needs = release["jobs"]["draft"]["needs"].to_string();
    assert!(needs.contains("linux") && needs.contains("macos"), "{needs}");
}

/// A checkout with `dist` as the build jobs leave it, and programs that note what they are asked.
struct Runner {
    dir: TempDir,
    tag: String,
}

impl Runner {
    fn new() -> Self {
        let runner = Self {
            dir: tempfile::tempdir().unwrap(),
            tag: format!("v{}", env!("CARGO_PKG_VERSION")),
        };
        let work = runner.work();
        std::fs::create_dir_all(work.join("dist")).unwrap();
        for name in [
            "scripts",
            "packaging",
            "config",
            "systemd",
            "Cargo.toml",
            "Cargo.lock",
            "README.md",
            "CHANGELOG.md",
            "LICENSE",
            "Dockerfile.agent",
            "Dockerfile.server",
            "src",
            "benches",
            "build.rs",
            ".cargo",
        ] {
            must(
                "cp",
                &["-r", &root().join(name).display().to_string(), &work.display().to_string()],
            );
        }
        let bin = runner.dir.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for program in ["gh", "docker"] {
            runner.program(
                &bin.join(program),
                &format!(
                    "echo \"{program} $*\" >>{}/asked\n\
                for word; do [ \"$before\" = --metadata-file ] && \
                echo '{{\"containerimage.digest\": \"sha256:00\"}}' >$word; \
                before=$word; done; exit 0",
                    runner.dir.path().display()
                ),
            );
        }
        runner
    }

    fn program(&self, path: &Path, text: &str) {
        std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Archives and packages of made-up programs, as the build jobs make them.
    fn build(&self) {
        let bin = self.dir.path().join("built");
        std::fs::create_dir(&bin).unwrap();
        for program in ["oxmon-agent", "oxmon-server"] {
            must("cp", &["/bin/true", &bin.join(program).display().to_string()]);
        }
        let (bin, dist) =
            (bin.display().to_string(), self.work().join("dist").display().to_string());
        for triple in ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"] {
            must("scripts/package.sh", &[triple, &dist, &bin]);
        }
        if there("dpkg-deb") {
            must("packaging/deb/build.sh", &[&bin, &dist]);
        }
        if there("rpmbuild") {
            must("packaging/rpm/build.sh", &[&bin, &dist]);
        }
    }

    /// Runs the shell of a step as the runner does; `${{ … }}` of its environment stays as it is.
    fn step(&self, step: &Value, variables: &[(&str, &str)]) -> Output {
        let path = format!("{}/bin:{}", self.dir.path().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c"]);
        command.arg(step["run"].as_str().unwrap()).current_dir(self.work()).env("PATH", path);
        for (key, value) in step["env"].as_object().into_iter().flatten() {
            command.env(key, value.as_str().unwrap());
        }
        command.env("GITHUB_REF_NAME", &self.tag).env("GITHUB_ACTOR", "somebody");
        command.env("GITHUB_REPOSITORY_OWNER", "SkinGford").env("RELEASE_SIGNING_KEY", "");
        command.env("GITHUB_OUTPUT", self.dir.path().join("output"));
        command.envs(variables.iter().copied()).output().unwrap()
    }

    /// Runs every step of a job that a shell can take; gives what they said.
    fn job(&self, name: &str, variables: &[(&str, &str)]) -> String {
        let release = workflow("release.yml");
        let mut said = String::new();
        for step in steps(&release["jobs"][name]).filter(|step| step["run"].is_string()) {
            let out = self.step(step, variables);
            let (good, wrong) =
                (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
            assert!(out.status.success(), "{name}: {step}: {good}{wrong}");
            said += &good;
        }
        said
    }

    fn asked(&self) -> String {
        let file = self.dir.path().join("asked");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let _ = std::fs::remove_file(file);
        text
    }
}

#[test]
fn a_tag_that_is_not_the_version_stops_the_release() {
    let release = workflow("release.yml");
    let mut runner = Runner::new();
    let check = steps(&release["jobs"]["version"]).find(|step| step["run"].is_string()).unwrap();
    assert!(runner.step(check, &[]).status.success());
    runner.tag = "v99.0.0".to_owned();
    assert!(!runner.step(check, &[]).status.success());
}

#[test]
fn files_are_drafted_images_pushed_and_then_all_is_published() {
    if !there("jq") {
        return;
    }
    let runner = Runner::new();
    runner.build();
    let said = runner.job("draft", &[("MACOS", "failure")]);
    assert!(said.contains("::warning") && said.contains("macOS"), "{said}");
    let dist = runner.work().join("dist");
    let sums = std::fs::read_to_string(dist.join("SHA256SUMS")).unwrap();
    for file in std::fs::read_dir(&dist).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let listed = sums.lines().any(|line| line.ends_with(&format!("  {name}")));
        assert!(listed || name == "SHA256SUMS", "{name} is not in {sums}");
    }
    for name in ["oxmon-agent.cdx.json", "oxmon-server-x86_64-unknown-linux-musl.tar.gz"] {
        assert!(sums.contains(name), "{sums}");
    }
    let kinds =
        [".deb", ".rpm"].map(|kind| sums.lines().filter(|line| line.ends_with(kind)).count());
    assert_eq!(
        kinds,
        [if there("dpkg-deb") { 2 } else { 0 }, if there("rpmbuild") { 2 } else { 0 }]
    );
    let asked = runner.asked();
    assert!(
        asked.contains("gh release create")
            && asked.contains(" --draft ")
            && asked.contains("--verify-tag"),
        "{asked}"
    );
    assert!(asked.contains("dist/SHA256SUMS") && !asked.contains("--draft=false"), "{asked}");
    assert!(!runner.job("draft", &[("MACOS", "success")]).contains("::warning"));
    runner.asked();

    runner.job("images", &[]);
    let asked = runner.asked();
    let version = env!("CARGO_PKG_VERSION");
    for program in ["agent", "server"] {
        let line =
            asked.lines().find(|line| line.contains(&format!("Dockerfile.{program}"))).unwrap();
        assert!(
            line.contains("--platform linux/amd64,linux/arm64") && line.contains("--push"),
            "{line}"
        );
        assert!(line.contains(&format!("ghcr.io/skingford/oxmon-{program}:{version}")), "{line}");
        for arch in ["amd64", "arm64"] {
            assert!(runner.work().join(format!("context/{arch}/oxmon-{program}")).is_file());
        }
    }
    let output = std::fs::read_to_string(runner.dir.path().join("output")).unwrap();
    assert!(output.contains("agent-digest=sha256:00"), "{output}");
    assert!(!asked.contains(":latest"), "{asked}");

    runner.job("publish", &[]);
    let asked = runner.asked();
    assert!(asked.contains("--draft=false") && asked.contains("oxmon-server:latest"), "{asked}");
}

#[test]
fn the_bill_of_materials_names_what_is_linked() {
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().display().to_string();
    must("scripts/sbom.py", &[&dir]);
    let text = |name: &str| std::fs::read_to_string(out.path().join(name)).unwrap();
    let first = text("oxmon-server.cdx.json");
    for (name, has, has_not) in [
        (
            "oxmon-agent.cdx.json",
            &["grpcio", "procfs", "toml"][..],
            &["rusqlite", "ureq", "tempfile"][..],
        ),
        ("oxmon-server.cdx.json", &["grpcio", "rusqlite", "ureq", "lettre"], &["tempfile"]),
    ] {
        let made: Value = serde_json::from_str(&text(name)).unwrap();
        assert_eq!(
            (&made["bomFormat"], &made["specVersion"]),
            (&"CycloneDX".into(), &"1.5".into())
        );
        let components = made["components"].as_array().unwrap();
        let find = |wanted: &str| components.iter().find(|made| made["name"] == wanted);
        for wanted in has {
            let found = find(wanted).unwrap_or_else(|| panic!("{name}: no {wanted}"));
            assert_eq!(found["hashes"][0]["content"].as_str().unwrap().len(), 64, "{found}");
            assert_eq!(found["scope"], "required", "{found}");
            assert!(found["licenses"][0]["expression"].is_string(), "{found}");
        }
        let builds = |wanted: &str| find(wanted).is_none_or(|made| made["scope"] == "excluded");
        assert!(has_not.iter().all(|wanted| builds(wanted)), "{name}");
        // C and C++ that crates carry.
        let inner = |crate_: &str| find(crate_).map(|made| made["components"][0]["name"].clone());
        assert_eq!(inner("grpcio-sys"), Some("grpc".into()));
        assert_eq!(inner("openssl-src"), Some("openssl".into()));
        let refs: Vec<&Value> = components.iter().map(|made| &made["bom-ref"]).collect();
        for depends in made["dependencies"].as_array().unwrap() {
            for on in depends["dependsOn"].as_array().unwrap() {
                assert!(refs.contains(&on), "{on} is not a component");
            }
        }
    }
    must("scripts/sbom.py", &[&dir]);
    assert_eq!(text("oxmon-server.cdx.json"), first, "the same commit gives the same bytes");
}
