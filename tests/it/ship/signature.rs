//! The signature over a release's checksums: made by `scripts/sign.sh` with a real key pair, and
//! checked by `scripts/install.sh`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::tools::{must, root, there};

/// A release folder with programs that only say their version, and a key pair.
struct Release(TempDir);

impl Release {
    fn new() -> Self {
        let release = Self(tempfile::tempdir().unwrap());
        let folder = release.path("dist").display().to_string();
        std::fs::create_dir(&folder).unwrap();
        for program in ["oxmon-agent", "oxmon-server"] {
            let file = release.path("dist").join(program);
            std::fs::write(&file, "#!/bin/sh\necho 1.2.3\n").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        must("scripts/package.sh", &[&triple, &folder, &folder]);
        release.key("key");
        release
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn key(&self, name: &str) {
        let file = self.path(name).display().to_string();
        must("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", &file]);
    }

    /// The public half of a key, as `ssh-ed25519 AAAA...`.
    fn public(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap().trim().to_owned()
    }

    /// Signs the checksums with one key, where the script has the public half of another.
    fn sign(&self, private: &str, public: &str) -> Output {
        let key = std::fs::read_to_string(self.path(private)).unwrap();
        Command::new("scripts/sign.sh")
            .arg(self.path("dist/SHA256SUMS"))
            .arg(self.public(public))
            .env("RELEASE_SIGNING_KEY", key)
            .current_dir(root())
            .output()
            .unwrap()
    }

    fn install(&self, arguments: &[&str], path: Option<&Path>) -> (bool, String) {
        let target = tempfile::tempdir().unwrap();
        let folder = |name: &str| target.path().join(name).display().to_string();
        let mut command = Command::new("sh");
        command
            .args(["scripts/install.sh", "agent", "--install-dir", &folder("bin")])
            .args(["--config-dir", &folder("etc"), "--base-url"])
            .arg(self.path("dist"))
            .args(arguments)
            .current_dir(root());
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let out = command.output().unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        let installed = target.path().join("bin/oxmon-agent").exists();
        assert_eq!(out.status.success(), installed, "{said}");
        (installed, said)
    }
}

#[test]
fn what_the_release_key_signed_is_installed_and_nothing_else() {
    if !there("ssh-keygen") {
        return;
    }
    let release = Release::new();
    let key = release.public("key");
    let with_key = ["--release-key", key.as_str()];
    let (installed, said) = release.install(&with_key, None);
    assert!(!installed && said.contains("SHA256SUMS.sig"), "without a signature: {said}");
    let signed = release.sign("key", "key");
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    let (installed, said) = release.install(&with_key, None);
    assert!(installed && said.contains("the signature of SHA256SUMS is good"), "{said}");

    // Checksums that somebody changed after they were signed.
    let sums = release.path("dist/SHA256SUMS");
    let good = std::fs::read_to_string(&sums).unwrap();
    std::fs::write(&sums, format!("{good}{}  oxmon-more\n", "0".repeat(64))).unwrap();
    let (installed, said) = release.install(&with_key, None);
    assert!(!installed && said.contains("not signed with the release key"), "{said}");
    let (installed, said) = release.install(&["--release-key", &key, "--unsigned"], None);
    assert!(installed && said.contains("not checked: --unsigned"), "{said}");
    std::fs::write(&sums, good).unwrap();

    // A signature of another key.
    release.key("stranger");
    assert!(release.sign("stranger", "stranger").status.success());
    let (installed, said) = release.install(&with_key, None);
    assert!(!installed && said.contains("not signed with the release key"), "{said}");
    let wrong = release.sign("stranger", "key");
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(
        !wrong.status.success() && said.contains("is not the one that install.sh has"),
        "{said}"
    );
}

#[test]
fn a_system_that_can_not_check_says_so() {
    if !there("ssh-keygen") {
        return;
    }
    let release = Release::new();
    let key = release.public("key");
    // A PATH without ssh-keygen: links to everything else.
    let tools = release.path("tools");
    std::fs::create_dir(&tools).unwrap();
    let script = format!(
        "for file in /usr/bin/* /bin/*; do case $file in */ssh-keygen) ;; \
         *) ln -sf \"$file\" {}/ ;; esac; done",
        tools.display()
    );
    must("sh", &["-c", &script]);
    let (installed, said) = release.install(&["--release-key", &key], Some(&tools));
    assert!(installed && said.contains("not checked: ssh-keygen is not installed"), "{said}");
    // One of before OpenSSH 8.1.
    let old = tools.join("ssh-keygen");
    std::fs::write(&old, "#!/bin/sh\necho 'unknown option -- Y' >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (installed, said) = release.install(&["--release-key", &key], Some(&tools));
    assert!(installed && said.contains("not checked: this ssh-keygen is too old"), "{said}");
    let (installed, said) = release.install(&["--release-key", ""], None);
    assert!(installed && said.contains("this script has no release key"), "{said}");
}

#[test]
fn https_takes_neither_plain_http_nor_old_tls() {
    let text = std::fs::read_to_string(root().join("scripts/install.sh")).unwrap();
    assert!(text.contains("--proto =https --tlsv1.2"));
    assert!(text.contains("--https-only --secure-protocol=TLSv1_2"));
    let workflow = std::fs::read_to_string(root().join(".github/workflows/release.yml")).unwrap();
    assert!(workflow.contains("scripts/sign.sh dist/SHA256SUMS"), "{workflow}");
}
