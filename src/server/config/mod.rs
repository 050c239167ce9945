//! `server.toml`: its keys, their defaults, and the checks that a person's mistakes meet.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::configfile::{ConfigError, Source};
use crate::base::keys::check_ranges;
use crate::base::limits::{PASSWORD_BYTES_MAX, PASSWORD_BYTES_MIN};
use crate::base::{logging, secretfile};

pub(crate) mod http;
pub mod keys;
pub(crate) mod network;
pub(crate) mod outgoing;
pub(crate) mod peers;
pub(crate) mod remote;

pub use http::Http;
pub use outgoing::Outgoing;
pub use peers::Peers;
pub use remote::Remote;

/// The control database in `data_dir`. Named here because storage backs it up without opening it.
pub const CONTROL_FILE: &str = "cert.db";

/// Languages of mails and chat messages; the first is the default.
pub const LANGUAGES: [&str; 2] = ["en", "zh-CN"];

/// Whether a text is a URL that paths can be put behind.
fn is_base_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let bad = |c: char| !c.is_ascii_graphic() || "\"'<>()[]{}|\\^`@?#".contains(c);
    let bad = |rest: &str| rest.replace(['[', ']'], "").contains(bad);
    rest.is_some_and(|rest| !rest.is_empty() && rest.len() <= 255 && !bad(rest))
}

/// The whole of `server.toml`. What each key means stands in [`keys::KEYS`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(
    missing_docs,
    reason = "keys::KEYS documents every key, and docs/configuration.md shows it"
)]
pub struct ServerConfig {
    pub grpc_port: u16,
    pub http_port: u16,
    pub bind: Vec<String>,
    pub data_dir: PathBuf,
    pub retention_days: u32,
    pub retention_max_bytes: u64,
    pub require_agent_auth: bool,
    pub aggregation_window_secs: u64,
    pub log_level: String,
    pub time_zone: Option<String>,
    pub language: String,
    pub public_url: Option<String>,
    pub tls: Option<Tls>,
    pub auth: Auth,
    pub pools: Pools,
    pub ingest: Ingest,
    pub storage: Storage,
    pub cert_check: CertCheck,
    pub notify: Notify,
    pub prometheus: Prometheus,
    pub cors: Cors,
    pub http: Http,
    pub outgoing: Outgoing,
    pub remote: Remote,
    pub peers: Peers,
    pub alert: Alert,
    /// What was found that works but should be changed, with file, line and key.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// Keys and certificate of both ports.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "keys::KEYS documents every key")]
pub struct Tls {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    #[serde(default)]
    pub client_ca_file: Option<PathBuf>,
    #[serde(default = "Tls::hsts_default")]
    pub hsts_secs: u64,
}

impl Tls {
    /// A year: what browsers' lists ask for.
    const fn hsts_default() -> u64 {
        365 * 86_400
    }
}

/// Keys that SIGHUP reads again, besides `[[alert.rules]]`. The files of certificates and
/// authorities are read again under their names.
pub(crate) const RELOADED: [&str; 11] = [
    "log_level",
    "auth.jwt_secret_file",
    "auth.default_password_file",
    "ingest.refuse_twins",
    "cert_check.ca_file",
    "notify.ca_file",
    "notify.timeout_secs",
    "outgoing.proxy",
    "outgoing.no_proxy",
    "peers.token_file",
    "alert.rules",
];

/// Bytes of a key for HMAC-SHA-256 at the least (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;
/// Secrets in examples and documents that anybody can read, those of the first oxmon among them.
const PUBLISHED_SECRETS: [&str; 5] = [
    "your-secret-key-here",
    "change-me-in-production",
    "my-secret",
    "oxmon-jwt-secret-please-change-in-production",
    "test-secret-key-for-cloud-monitoring",
];

/// Logins.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "keys::KEYS documents every key")]
pub struct Auth {
    #[serde(skip_serializing)]
    pub jwt_secret: Option<String>,
    pub jwt_secret_file: Option<PathBuf>,
    pub token_expire_secs: u64,
    pub default_username: String,
    #[serde(skip_serializing)]
    pub default_password: String,
    pub default_password_file: Option<PathBuf>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secret = self.jwt_secret.as_ref().map(|_| "***");
        f.debug_struct("Auth")
            .field("jwt_secret", &secret)
            .field("token_expire_secs", &self.token_expire_secs)
            .field("default_username", &self.default_username)
            .finish_non_exhaustive()
    }
}

/// Sizes of the worker pools and their queues.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "keys::KEYS documents every key")]
pub struct Pools {
    pub ingest_workers: usize,
    pub storage_queue: usize,
    pub alert_workers: usize,
    pub alert_queue: usize,
    pub notify_workers: usize,
    pub http_workers: usize,
    pub http_queue: usize,
}

/// How the storage engine groups and packs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "keys::KEYS documents every key")]
pub struct Storage {
    pub commit_max_bytes: u64,
    pub commit_max_ms: u64,
    pub pack_points: usize,
    pub pack_age_secs: u64,
    pub head_max_bytes: u64,
    pub agents_max: usize,
    pub series_max_bytes: u64,
}

/// Certificate checks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "keys::KEYS documents every key")]
pub struct CertCheck {
    pub enabled: bool,
    pub default_interval_secs: u64,
    pub tick_secs: u64,
    pub connect_timeout_secs: u64,
    pub max_concurrent: usize,
    pub ca_file: Option<PathBuf>,
}

/// Notifications.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "keys::KEYS documents every key")]
pub struct Notify {
    pub deliver_within_secs: u64,
    pub timeout_secs: u64,
    pub log_retention_days: u32,
    pub ca_file: Option<PathBuf>,
}

/// The Prometheus exposition.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "keys::KEYS documents every key")]
pub struct Prometheus {
    pub enabled: bool,
    pub agents: bool,
    pub agent_label: String,
}

/// Reports of agents.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "keys::KEYS documents every key")]
pub struct Ingest {
    pub refuse_twins: bool,
}

/// Cross-origin requests.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "keys::KEYS documents every key")]
pub struct Cors {
    pub allowed_origins: Vec<String>,
}

/// Alert rules of the file. Each table is checked by its rule type when the rules are used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alert {
    /// `[[alert.rules]]`, in the file's order.
    pub rules: Vec<toml::Table>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            grpc_port: 9090,
            http_port: 8080,
            bind: vec!["0.0.0.0".to_owned()],
            data_dir: PathBuf::from("data"),
            retention_days: 7,
            retention_max_bytes: 0,
            require_agent_auth: false,
            aggregation_window_secs: 60,
            log_level: "info".to_owned(),
            time_zone: None,
            language: LANGUAGES[0].to_owned(),
            public_url: None,
            tls: None,
            auth: Auth::default(),
            pools: Pools::default(),
            ingest: Ingest::default(),
            storage: Storage::default(),
            cert_check: CertCheck::default(),
            notify: Notify::default(),
            prometheus: Prometheus::default(),
            cors: Cors::default(),
            http: Http::default(),
            outgoing: Outgoing::default(),
            remote: Remote::default(),
            peers: Peers::default(),
            alert: Alert::default(),
            warnings: Vec::new(),
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            jwt_secret: None,
            jwt_secret_file: None,
            token_expire_secs: 86_400,
            default_username: "admin".to_owned(),
            default_password: "changeme".to_owned(),
            default_password_file: None,
        }
    }
}

impl Default for Pools {
    fn default() -> Self {
        Self {
            ingest_workers: 2,
            storage_queue: 1_024,
            alert_workers: 2,
            alert_queue: 128,
            notify_workers: 4,
            http_workers: 4,
            http_queue: 64,
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            commit_max_bytes: 8 * 1024 * 1024,
            commit_max_ms: 5,
            pack_points: 240,
            pack_age_secs: 7_200,
            head_max_bytes: 12 * 1024 * 1024,
            agents_max: 10_000,
            series_max_bytes: 256 * 1024 * 1024,
        }
    }
}

impl Default for CertCheck {
    fn default() -> Self {
        Self {
            enabled: true,
            default_interval_secs: 86_400,
            tick_secs: 60,
            connect_timeout_secs: 10,
            max_concurrent: 10,
            ca_file: None,
        }
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            deliver_within_secs: 86_400,
            timeout_secs: 10,
            log_retention_days: 30,
            ca_file: None,
        }
    }
}

impl Default for Prometheus {
    fn default() -> Self {
        Self { enabled: true, agents: false, agent_label: "agent".to_owned() }
    }
}

impl ServerConfig {
    /// Reads and checks a file. Its alert rules are taken as they are: `alert::load_config` checks
    /// them too.
    ///
    /// # Errors
    ///
    /// Names file, line and key of the first mistake.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::from_source(&Source::read(path)?)
    }

    /// Parses and checks a configuration.
    ///
    /// # Errors
    ///
    /// Names file, line and key of the first mistake.
    pub fn from_source(source: &Source) -> Result<Self, ConfigError> {
        let mut config: Self = source.parse()?;
        check_ranges(source, keys::KEYS)?;
        if logging::parse_level(&config.log_level).is_none() {
            return Err(source.error("log_level", "must be error, warn, info, debug or trace"));
        }
        if config.bind.is_empty() {
            return Err(source.error("bind", "must name at least one address, such as \"0.0.0.0\""));
        }
        for address in &config.bind {
            if address.parse::<std::net::IpAddr>().is_err() {
                return Err(source.error("bind", format!("`{address}` is not a valid IP address")));
            }
        }
        if config.grpc_port == config.http_port {
            return Err(source.error("http_port", "must differ from grpc_port"));
        }
        if let Some(zone) = &config.time_zone
            && jiff::tz::TimeZone::get(zone).is_err()
        {
            return Err(
                source.error("time_zone", format!("`{zone}` is not a time zone of this system"))
            );
        }
        config.read_secrets(source)?;
        config.check_messages(source)?;
        let password = config.auth.default_password.len();
        if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password) {
            let message = format!("must have {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes");
            return Err(source.error("auth.default_password", message));
        }
        config.weigh_secret(source);
        let wrong = config.cors.allowed_origins.iter().find(|text| !is_origin(text));
        if let Some(text) = wrong {
            let message = format!("`{text}` must be an origin such as \"https://ui.example.com\"");
            return Err(source.error("cors.allowed_origins", message));
        }
        if let Some((key, message)) = config.http.wrong() {
            return Err(source.error(key, message));
        }
        if let Some(text) = config.outgoing.wrong() {
            let message = format!("`{text}` must be an address or a network such as 10.0.0.0/8");
            return Err(source.error("outgoing.deny", message));
        }
        let warnings = config.remote.complete(source)?;
        config.warnings.extend(warnings);
        let warnings = config.peers.complete(source)?;
        config.warnings.extend(warnings);
        config.check_files(source)?;
        config.warn_of_open_files(source)?;
        Ok(config)
    }

    /// Reads the secrets that are in files of their own, or that the service manager passes as
    /// credentials of the same names.
    fn read_secrets(&mut self, source: &Source) -> Result<(), ConfigError> {
        let given: toml::Table = source.parse()?;
        let has = |name: &str| given.get("auth").and_then(|auth| auth.get(name)).is_some();
        let auth = &mut self.auth;
        for (name, file) in [
            ("jwt_secret", auth.jwt_secret_file.clone()),
            ("default_password", auth.default_password_file.clone()),
        ] {
            let key = format!("auth.{name}_file");
            if has(name) && file.is_some() {
                return Err(source.error(&key, format!("needs no auth.{name} beside it")));
            }
            let credential = secretfile::credential(name).filter(|_| !has(name));
            let Some(path) = file.or(credential) else { continue };
            let secret = secretfile::read(&path).map_err(|error| {
                source.error(&key, format!("cannot read {}: {error}", path.display()))
            })?;
            self.warnings.extend(secret.warning.map(|why| source.error(&key, why).0));
            match name {
                "jwt_secret" => auth.jwt_secret = Some(secret.text),
                _ => auth.default_password = secret.text,
            }
        }
        Ok(())
    }

    /// Warns of files with secrets that every user can read or change: the private key, and the
    /// configuration itself where it holds a secret.
    fn warn_of_open_files(&mut self, source: &Source) -> Result<(), ConfigError> {
        let key_file = self.tls.as_ref().and_then(|tls| secretfile::warning(&tls.key_file));
        self.warnings.extend(key_file.map(|why| source.error("tls.key_file", why).0));
        let given: toml::Table = source.parse()?;
        let has_secret = |key: &&&str| {
            let found = key.split('.').try_fold(None, |table: Option<&toml::Value>, name| {
                table.map_or_else(|| given.get(name), |table| table.get(name)).map(Some)
            });
            let text = found.flatten().and_then(toml::Value::as_str).unwrap_or_default();
            // A proxy's URL is a secret where it has a password.
            !text.is_empty() && (**key != "outgoing.proxy" || text.contains('@'))
        };
        let keys = ["auth.jwt_secret", "auth.default_password", "outgoing.proxy", "peers.token"];
        if let Some(key) = keys.iter().find(has_secret) {
            let open = secretfile::warning(source.path());
            self.warnings.extend(open.map(|why| source.error(key, why).0));
        }
        Ok(())
    }

    /// Language and links of messages.
    fn check_messages(&self, source: &Source) -> Result<(), ConfigError> {
        if !LANGUAGES.contains(&self.language.as_str()) {
            let message = format!("must be one of {}", LANGUAGES.join(", "));
            return Err(source.error("language", message));
        }
        if let Some(url) = &self.public_url
            && !is_base_url(url)
        {
            let message = format!("`{url}` must be a URL such as \"https://oxmon.example.com\"");
            return Err(source.error("public_url", message));
        }
        Ok(())
    }

    /// The keys whose values differ from those that the server runs with, and that it reads at its
    /// start alone.
    pub(crate) fn needs_restart(&self, running: &Self) -> Vec<&'static str> {
        let shown = |config: &Self| serde_json::to_value(config).unwrap_or_default();
        let (new, old) = (shown(self), shown(running));
        let at = |name: &str| format!("/{}", name.replace('.', "/"));
        let names = keys::KEYS.iter().map(|key| key.path);
        names
            .filter(|name| !RELOADED.contains(name))
            .filter(|name| new.pointer(&at(name)) != old.pointer(&at(name)))
            .collect()
    }

    /// A secret that everybody can read counts as absent; a short one is taken with a warning.
    fn weigh_secret(&mut self, source: &Source) {
        let Some(secret) = &self.auth.jwt_secret else { return };
        let published = secret.is_empty() || PUBLISHED_SECRETS.contains(&secret.as_str());
        let warning = if published {
            self.auth.jwt_secret = None;
            "is that of a published example and is not used; the server makes one of its own. \
             Remove the line"
                .to_owned()
        } else if secret.len() < SECRET_BYTES_MIN {
            format!(
                "has {} bytes and can be guessed from one login; use {SECRET_BYTES_MIN} random \
                 bytes, or remove the line, and the server makes one",
                secret.len()
            )
        } else {
            return;
        };
        self.warnings.push(source.error("auth.jwt_secret", warning).0);
    }

    fn check_files(&self, source: &Source) -> Result<(), ConfigError> {
        let tls = self.tls.as_ref();
        let files = [
            ("tls.cert_file", tls.map(|tls| &tls.cert_file)),
            ("tls.key_file", tls.map(|tls| &tls.key_file)),
            ("tls.client_ca_file", tls.and_then(|tls| tls.client_ca_file.as_ref())),
            ("cert_check.ca_file", self.cert_check.ca_file.as_ref()),
            ("notify.ca_file", self.notify.ca_file.as_ref()),
            ("remote.ca_file", self.remote.ca_file.as_ref()),
            ("peers.ca_file", self.peers.ca_file.as_ref()),
        ];
        for (key, path) in files {
            let Some(path) = path else { continue };
            if let Err(error) = std::fs::File::open(path) {
                return Err(source.error(key, format!("cannot read {}: {error}", path.display())));
            }
        }
        Ok(())
    }
}

/// Whether `text` is an origin: `https://grafana.example.com`, with a port where it has one, or
/// `*` for any.
fn is_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let Some((scheme, host)) = text.split_once("://") else { return false };
    matches!(scheme, "http" | "https")
        && !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@\\\"'<>,".contains(&byte))
}

#[cfg(test)]
mod example;
#[cfg(test)]
mod tests;
