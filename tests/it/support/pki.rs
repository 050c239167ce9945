//! A private authority and what it signs, made by the system's openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const CA_SECTION: &str = "\
[authority]
database = index.txt
certificate = NAME.pem
private_key = NAME.key
default_md = sha256
rand_serial = yes
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
        let (from, to) = if days < 0 { (days - 10, days) } else { (-1, days) };
        self.issue_between(file, names, (from, to))
    }

    /// A certificate that is good between two days, counted from now.
    pub fn issue_between(&self, file: &str, names: &str, days: (i64, i64)) -> (PathBuf, PathBuf) {
        self.sign("ca", file, &format!("subjectAltName={names}\n"), days)
    }

    /// A certificate that names its host by its common name alone.
    pub fn issue_without_names(&self, file: &str) -> (PathBuf, PathBuf) {
        self.sign("ca", file, "keyUsage=digitalSignature\n", (-1, 20))
    }

    /// An authority below the first one, and a certificate of its making.
    pub fn issue_below(&self, between: &str, file: &str, names: &str) -> (PathBuf, PathBuf) {
        self.sign("ca", between, "basicConstraints=critical,CA:true\n", (-1, 20));
        self.sign(between, file, &format!("subjectAltName={names}\n"), (-1, 20))
    }

    /// A certificate that vouches for itself.
    pub fn self_signed(&self, file: &str, names: &str) -> (PathBuf, PathBuf) {
        let (pem, key) = (format!("{file}.pem"), format!("{file}.key"));
        let names = format!("subjectAltName={names}");
        let subject = format!("/CN={file}");
        let mut arguments = vec!["req", "-x509", "-nodes", "-days", "20", "-newkey", "ec"];
        arguments.extend(["-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", &key, "-out", &pem]);
        arguments.extend(["-subj", &subject, "-addext", &names]);
        self.openssl(&arguments);
        (self.path(&pem), self.path(&key))
    }

    fn sign(
        &self,
        authority: &str,
        file: &str,
        extensions: &str,
        days: (i64, i64),
    ) -> (PathBuf, PathBuf) {
        let (pem, key) = (format!("{file}.pem"), format!("{file}.key"));
        let (request, config) = (format!("{file}.csr"), format!("{file}.ext"));
        let subject = format!("/CN={file}");
        let mut arguments = vec!["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        arguments.extend(["-nodes", "-keyout", &key, "-out", &request, "-subj", &subject]);
        self.openssl(&arguments);
        let section = CA_SECTION.replace("NAME", authority);
        std::fs::write(self.path(&config), format!("[leaf]\n{extensions}{section}"))
            .expect("the extensions are written");
        std::fs::write(self.path("index.txt"), "").expect("the authority's index is written");
        let (from, to) = (asn1_time(days.0), asn1_time(days.1));
        let mut arguments = vec!["ca", "-batch", "-config", &config, "-name", "authority"];
        arguments.extend(["-extensions", "leaf", "-startdate", &from, "-enddate", &to]);
        arguments.extend(["-in", &request, "-out", &pem, "-notext"]);
        arguments.extend(["-outdir", "."]);
        self.openssl(&arguments);
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
