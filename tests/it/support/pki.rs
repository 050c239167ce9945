//! A private authority and what it signs, made by the system's openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const CA_SECTION: &str = "\
[authority]
database = index.txt
serial = serial.txt
certificate = ca.pem
private_key = ca.key
default_md = sha256
policy = any
[any]
commonName = supplied
";

/// The day that is `days` from now, as `openssl ca` takes it.
fn asn1_time(days: i64) -> String {
    let at = super::grpc::now_ms() + days * oxmon::base::clock::DAY_MS;
    let digits: String =
        oxmon::base::clock::rfc3339(at).chars().filter(char::is_ascii_digit).take(14).collect();
    format!("{digits}Z")
}

/// A folder with `ca.pem` and, for each name asked for, `NAME.pem` and `NAME.key`.
pub struct Pki {
    pub dir: TempDir,
}

impl Pki {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let pki = Self { dir };
        pki.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-days",
            "30",
            "-subj",
            "/CN=Test authority",
        ]);
        pki
    }

    /// A certificate for the subject alternative names `names` (`DNS:…`, `IP:…`), good from
    /// yesterday for `days`; a negative number makes one that has ended.
    pub fn issue(&self, file: &str, names: &str, days: i64) -> (PathBuf, PathBuf) {
        let (pem, key) = (format!("{file}.pem"), format!("{file}.key"));
        let request = format!("{file}.csr");
        self.openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &request,
            "-subj",
            &format!("/CN={file}"),
        ]);
        let extensions = format!("{file}.ext");
        let text = format!("[leaf]\nsubjectAltName={names}\n{CA_SECTION}");
        std::fs::write(self.path(&extensions), text).expect("the extensions are written");
        std::fs::write(self.path("index.txt"), "").expect("the authority's index is written");
        let (from, to) = if days < 0 { (days - 10, days) } else { (-1, days) };
        self.openssl(&[
            "ca",
            "-batch",
            "-config",
            &extensions,
            "-name",
            "authority",
            "-extensions",
            "leaf",
            "-startdate",
            &asn1_time(from),
            "-enddate",
            &asn1_time(to),
            "-in",
            &request,
            "-out",
            &pem,
            "-notext",
            "-rand_serial",
            "-outdir",
            ".",
        ]);
        (self.path(&pem), self.path(&key))
    }

    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn openssl(&self, arguments: &[&str]) {
        let dir: &Path = self.dir.path();
        let out = Command::new("openssl").args(arguments).current_dir(dir).output();
        let out = out.expect("openssl runs");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "openssl {arguments:?}: {said}");
    }
}
