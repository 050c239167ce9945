//! What the scripts that lay out repositories refuse. What they make is installed by `booted.rs`
//! and `rpm.rs`.

use std::path::Path;
use std::process::Command;

use crate::support::tools::{must, root, there};

use super::booted::Key;

/// Publishes a folder, and gives what was said where it was refused.
fn refused(script: &str, key: &Key, from: &Path, to: &Path, id: &str) -> String {
    let out = Command::new(root().join("scripts").join(script))
        .args([from, to])
        .arg(id)
        .env("GNUPGHOME", &key.0)
        .output()
        .unwrap();
    assert!(!out.status.success(), "{script} was not refused");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Packages of programs that are not oxmon's.
fn packages(build: &str, program: &str, dir: &Path) {
    let bin = dir.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    for name in ["oxmon-agent", "oxmon-server"] {
        std::fs::copy(program, bin.join(name)).unwrap();
    }
    must(build, &[&bin.display().to_string(), &dir.display().to_string(), "0.0.1"]);
}

#[test]
fn nothing_is_published_unsigned_or_twice_with_other_content() {
    for (script, build, tools) in [
        ("apt-repo.sh", "packaging/deb/build.sh", &["apt-ftparchive", "dpkg-deb", "gpg"][..]),
        ("rpm-repo.sh", "packaging/rpm/build.sh", &["createrepo_c", "rpmbuild", "rpmsign", "gpg"]),
    ] {
        if !tools.iter().all(|tool| there(tool)) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let key = Key::new(path("key"));
        let id = "test@oxmon.invalid";
        let said = refused(script, &key, &path("empty"), &path("out"), id);
        assert!(said.contains("holds no oxmon-"), "{said}");
        packages(build, "/bin/true", &path("first"));
        let said = refused(script, &key, &path("first"), &path("out"), "other@oxmon.invalid");
        assert!(said.contains("gpg has no secret key"), "{said}");
        let publish = |from: &str| {
            let (from, to) = (path(from).display().to_string(), path("out").display().to_string());
            key.publish(&format!("scripts/{script}"), &from, &to);
        };
        publish("first");
        publish("first");
        packages(build, "/bin/false", &path("second"));
        let said = refused(script, &key, &path("second"), &path("out"), id);
        assert!(said.contains("is published with other content: raise the version"), "{said}");
    }
}
