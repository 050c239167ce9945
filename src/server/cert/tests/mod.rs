//! The checks against real TLS servers, certificates of openssl's making, and a clock that stands.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod checking;
mod fields;
mod looking;
mod scheduling;

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A folder with certificates that vouch for themselves.
struct Made(TempDir);

impl Made {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// A certificate in `NAME.pem` with its key in `NAME.key`, good for so many days.
    fn certificate(&self, name: &str, key: &str, days: &str, extensions: &[&str]) -> PathBuf {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-nodes", "-newkey"]);
        command.args(key.split(' ')).args(["-days", days]);
        command.args(["-subj", &format!("/C=DE/O=Test & Sons/OU=Ops/CN={name}")]);
        command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
        for extension in extensions {
            command.args(["-addext", extension]);
        }
        let out = command.current_dir(self.0.path()).output().expect("openssl runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        self.path(&format!("{name}.pem"))
    }
}

const EC: &str = "ec -pkeyopt ec_paramgen_curve:P-256";

/// `openssl s_server` on an address of this machine.
struct Tls(Child);

impl Tls {
    fn start(pem: &Path, address: &str, port: u16) -> Self {
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-accept", &format!("{address}:{port}"), "-cert"])
            .arg(pem)
            .arg("-key")
            .arg(pem.with_extension("key"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect((address, port)).is_err() {
            assert!(Instant::now() < deadline, "openssl s_server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self(child)
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
