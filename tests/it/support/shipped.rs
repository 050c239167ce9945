//! The programs that packages and images of the tests hold.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools::{must, root, stripped};

/// A folder with both daemons as they ship.
pub struct Shipped {
    pub dir: PathBuf,
    /// Whether they are static, as those of releases; otherwise of the build under test.
    pub is_static: bool,
}

impl Shipped {
    /// Those that `OXMON_MUSL_DIR` names, made by `make musl`; otherwise those of the build under
    /// test, put into `scratch` without what a debugger reads of them.
    pub fn new(scratch: &Path) -> Self {
        if let Some(dir) = std::env::var_os("OXMON_MUSL_DIR").map(PathBuf::from)
            && dir.join("oxmon-server").is_file()
        {
            return Self { dir, is_static: true };
        }
        stripped(scratch);
        Self { dir: scratch.to_owned(), is_static: false }
    }

    /// The folder with an agent for aarch64 beside that of [`Self::new`], where it was made.
    pub fn arm64(&self) -> Option<PathBuf> {
        let dir = self.dir.join("../../aarch64-unknown-linux-musl/release");
        (self.is_static && architecture() != "arm64" && dir.join("oxmon-agent").is_file())
            .then_some(dir)
    }

    /// Puts the libraries that the programs need below `to`, where they are not static.
    pub fn put_libraries(&self, to: &Path) {
        if self.is_static {
            return;
        }
        let script = "for program in oxmon-agent oxmon-server; do ldd \"$1/$program\"; done | \
                      grep -o '/[^ ]*' | sort -u | while read -r file; do \
                      install -D \"$file\" \"$2/$file\"; done";
        let (from, to) = (self.dir.display().to_string(), to.display().to_string());
        must("sh", &["-c", script, "libraries", &from, &to]);
    }
}

/// How containers and Debian call the processor of this machine.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A script of the project with variables of its own; it must succeed.
pub fn script(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(root().join(name));
    command.args(arguments).envs(variables.iter().copied()).current_dir(root());
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{name}: {said}{}", String::from_utf8_lossy(&out.stderr));
    said
}
