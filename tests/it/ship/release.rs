//! `scripts/release.sh`, in a scratch clone with a remote of its own.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::tools::root;

/// A clone of the project whose `make test` does what `tests` says.
struct Clone {
    dir: TempDir,
}

impl Clone {
    fn new(tests: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clone = Self { dir };
        let work = clone.work();
        std::fs::create_dir(&work).unwrap();
        clone.must("git", &["init", "--quiet", "--bare", "../remote"]);
        clone.must("git", &["init", "--quiet", "--initial-branch", "main"]);
        for (key, value) in [("user.name", "Tester"), ("user.email", "tester@example.com")] {
            clone.must("git", &["config", key, value]);
        }
        for file in ["Cargo.toml", "Cargo.lock", "CHANGELOG.md"] {
            std::fs::copy(root().join(file), work.join(file)).unwrap();
        }
        std::fs::create_dir_all(work.join("scripts")).unwrap();
        std::fs::copy(root().join("scripts/release.sh"), work.join("scripts/release.sh")).unwrap();
        std::fs::write(work.join("Makefile"), format!("test:\n\t@{tests}\n")).unwrap();
        // cargo reads where the programs are, and nothing is built.
        for source in ["src/lib.rs", "src/bin/oxmon-agent.rs", "src/bin/oxmon-server.rs"] {
            clone.empty(source);
        }
        for source in ["src/bin/oxmon-mock.rs", "build.rs"] {
            clone.empty(source);
        }
        for bench in std::fs::read_dir(root().join("benches")).unwrap() {
            let name = bench.unwrap().file_name().into_string().unwrap();
            clone.empty(&format!("benches/{name}"));
        }
        clone.must("git", &["remote", "add", "origin", "../remote"]);
        clone.commit("First");
        clone
    }

    fn work(&self) -> std::path::PathBuf {
        self.dir.path().join("work")
    }

    fn empty(&self, file: &str) {
        let path = self.work().join(file);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        std::fs::write(path, "fn main() {}\n").unwrap();
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(program).args(arguments).current_dir(self.work()).output().unwrap()
    }

    fn must(&self, program: &str, arguments: &[&str]) -> String {
        let out = self.run(program, arguments);
        let wrong = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{program} {arguments:?}: {wrong}");
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    fn commit(&self, message: &str) {
        self.must("git", &["add", "--all"]);
        self.must("git", &["commit", "--quiet", "--message", message]);
    }

    /// Releases, and gives what was said where it was refused.
    fn refused(&self, arguments: &[&str]) -> String {
        let before = self.must("git", &["rev-parse", "HEAD"]);
        let out = self.run("scripts/release.sh", arguments);
        assert!(!out.status.success(), "{arguments:?} was not refused");
        assert_eq!(self.must("git", &["rev-parse", "HEAD"]), before, "a commit was made");
        assert_eq!(self.must("git", &["tag", "--list"]), "", "a tag was made");
        String::from_utf8_lossy(&out.stderr).into_owned()
    }
}

#[test]
fn a_release_raises_the_patch_number_commits_tags_and_pushes() {
    let clone = Clone::new("true");
    let version = env!("CARGO_PKG_VERSION");
    let (head, patch) = version.rsplit_once('.').unwrap();
    let next = format!("{head}.{}", patch.parse::<u32>().unwrap() + 1);
    clone.must("scripts/release.sh", &[]);
    assert_eq!(clone.must("git", &["tag", "--list"]), format!("v{next}"));
    assert_eq!(clone.must("git", &["status", "--porcelain"]), "");
    let changed = clone.must("git", &["show", "--stat", "--format=%s", "HEAD"]);
    for file in ["Cargo.toml", "Cargo.lock", "CHANGELOG.md"] {
        assert!(changed.contains(file), "{changed}");
    }
    let lock = std::fs::read_to_string(clone.work().join("Cargo.lock")).unwrap();
    assert!(lock.contains(&format!("name = \"oxmon\"\nversion = \"{next}\"")));
    let log = std::fs::read_to_string(clone.work().join("CHANGELOG.md")).unwrap();
    assert!(log.contains("## [Unreleased]\n\n## ["), "{log}");
    assert_eq!(clone.must("git", &["ls-remote", "origin"]), "", "nothing is pushed unasked");

    clone.must("scripts/release.sh", &["--version", "7.0.0", "--push"]);
    let remote = clone.must("git", &["ls-remote", "origin"]);
    assert!(remote.contains("refs/tags/v7.0.0") && remote.contains("refs/heads/main"), "{remote}");
}

#[test]
fn a_dirty_tree_failing_tests_and_wrong_versions_are_refused() {
    let clone = Clone::new("echo the tests ran >&2; false");
    let said = clone.refused(&[]);
    assert!(said.contains("the tests ran") && said.contains("nothing was released"), "{said}");
    assert_eq!(clone.must("git", &["status", "--porcelain"]), "", "the tree is as it was");
    assert!(clone.refused(&["--version", "1.2"]).contains("1.2"));
    assert!(clone.refused(&["--colour"]).contains("--colour"));
    std::fs::write(clone.work().join("left-over"), "").unwrap();
    assert!(clone.refused(&["--skip-tests"]).contains("not clean"));
}
