//! `agent.toml`: its keys, their defaults, and the checks that a person's mistakes meet.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use crate::agent::filters::Filters;
use crate::agent::http::Url;
use crate::agent::keys::KEYS;
use crate::base::configfile::{ConfigError, Source};
use crate::base::keys::check_ranges;
use crate::base::limits::{
    AGENT_ID_BYTES_MAX, ENDPOINTS_MAX, SCRAPE_SERIES_MAX, SCRAPE_TARGETS_MAX, WATCHED_NAMES_MAX,
};
use crate::base::{logging, secretfile};

/// The whole of `agent.toml`. `config/agent.example.toml` explains each key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentConfig {
    /// This host's name on the server; the host name where it is not given.
    pub agent_id: String,
    /// The server's gRPC address, `host:port`.
    pub server_endpoint: String,
    /// Several servers, one of which is reported to; then `server_endpoint` counts for nothing.
    pub server_endpoints: Vec<String>,
    /// TLS to the server.
    #[serde(deserialize_with = "tls_or_flag")]
    pub tls: TlsConfig,
    /// The token that the server asks for.
    #[serde(skip_serializing)]
    pub auth_token: Option<String>,
    /// A file that holds the token.
    pub auth_token_file: Option<PathBuf>,
    /// Seconds between two collections.
    pub collection_interval_secs: u64,
    /// Batches kept while the server is away.
    pub buffer_max_size: usize,
    /// Folder of the batches that must survive a restart.
    pub buffer_dir: Option<PathBuf>,
    /// Units of systemd that are watched.
    pub units: Vec<String>,
    /// Names of processes that are watched.
    pub processes: Vec<String>,
    /// Folder of files `*.prom` in Prometheus' text format.
    pub textfile_dir: Option<PathBuf>,
    /// Exporters of this host.
    pub scrape: Vec<ScrapeConfig>,
    /// Which collectors run.
    pub collectors: CollectorsConfig,
    /// Snapshots of processes, for alerts.
    pub snapshot: SnapshotConfig,
    /// What is measured and what is left out.
    pub filters: Filters,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: String,
    /// The root of /proc: another one in a container that is shown the host's.
    pub proc_root: PathBuf,
    /// The root of /sys: another one in a container that is shown the host's.
    pub sys_root: PathBuf,
    /// The root of the mounts: another one in a container that is shown the host's.
    pub root: PathBuf,
    /// What was found that works but should be changed, with file, line and key.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// Every collector's name, in the order of the table of collectors.
pub const COLLECTORS: &[&str] = &[
    "cpu",
    "memory",
    "disk",
    "network",
    "load",
    "diskio",
    "pressure",
    "vm",
    "kernel",
    "tcp",
    "sockets",
    "sensors",
    "frequency",
    "power",
    "wireless",
    "raid",
    "time",
    "containers",
    "units",
    "processes",
    "textfile",
    "scrape",
];

/// An exporter of this host, as `[[scrape]]` names it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrapeConfig {
    /// `http://` and one of this host's own addresses.
    pub url: String,
    /// The target's name in `scrape.success`; its URL where it is not given.
    #[serde(default)]
    pub name: Option<String>,
    /// Seconds between two fetches; at each collection where it is not given.
    #[serde(default)]
    pub interval_secs: Option<u64>,
    /// Seconds that a fetch may take.
    #[serde(default = "scrape_timeout_secs")]
    pub timeout_secs: u64,
    /// Series that are taken at the most.
    #[serde(default = "scrape_series_max")]
    pub series_max: usize,
    /// Metrics to take; empty: all that are not dropped.
    #[serde(default)]
    pub keep: Vec<String>,
    /// Metrics to leave out.
    #[serde(default)]
    pub drop: Vec<String>,
    /// Labels to add, so that two exporters' series stay apart.
    #[serde(default)]
    pub labels: std::collections::BTreeMap<String, String>,
}

fn scrape_timeout_secs() -> u64 {
    5
}

fn scrape_series_max() -> usize {
    2_000
}

/// Which collectors run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectorsConfig {
    /// Collectors to run beside the usual ones.
    pub enable: Vec<String>,
    /// Collectors not to run.
    pub disable: Vec<String>,
}

impl CollectorsConfig {
    /// Whether a collector runs that does (`on`) or does not where nothing is said of it.
    pub fn wants(&self, name: &str, on: bool) -> bool {
        let named = |list: &[String]| list.iter().any(|word| word == name);
        !named(&self.disable) && (on || named(&self.enable))
    }
}

/// What the server may be sent of processes while an alert of this host is pending or firing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotConfig {
    /// Whether snapshots are sent.
    pub enabled: bool,
    /// Whether they hold command lines.
    pub arguments: bool,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self { enabled: true, arguments: false }
    }
}

/// TLS to the server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Whether the connection is encrypted. A `[tls]` table means yes.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// PEM file of the authorities to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the agent's own certificate.
    pub cert_file: Option<PathBuf>,
    /// PEM file of its key.
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate must have, where it differs from the endpoint's.
    pub server_name: Option<String>,
}

fn yes() -> bool {
    true
}

/// `tls = true`, or a `[tls]` table.
fn tls_or_flag<'de, D: Deserializer<'de>>(from: D) -> Result<TlsConfig, D::Error> {
    struct Either;
    impl<'de> serde::de::Visitor<'de> for Either {
        type Value = TlsConfig;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("true, false or a [tls] table")
        }

        fn visit_bool<E>(self, enabled: bool) -> Result<TlsConfig, E> {
            Ok(TlsConfig { enabled, ..TlsConfig::default() })
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<TlsConfig, A::Error> {
            TlsConfig::deserialize(serde::de::value::MapAccessDeserializer::new(map))
        }
    }
    from.deserialize_any(Either)
}

impl std::fmt::Debug for AgentConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.auth_token.as_ref().map(|_| "***");
        f.debug_struct("AgentConfig")
            .field("agent_id", &self.agent_id)
            .field("server_endpoint", &self.server_endpoint)
            .field("tls", &self.tls)
            .field("auth_token", &token)
            .field("collection_interval_secs", &self.collection_interval_secs)
            .field("buffer_max_size", &self.buffer_max_size)
            .field("buffer_dir", &self.buffer_dir)
            .finish_non_exhaustive()
    }
}

impl Default for AgentConfig {
    fn default() -> Self {
        let folder = |name: &str, otherwise: &str| {
            // An empty variable counts as none, as everywhere in a shell.
            let named = std::env::var_os(name).filter(|value| !value.is_empty());
            named.map_or_else(|| PathBuf::from(otherwise), PathBuf::from)
        };
        // systemd names the unit's StateDirectory= (systemd.exec(5)); of several the first counts.
        let state = std::env::var("STATE_DIRECTORY").ok();
        let state = state.and_then(|dirs| dirs.split(':').next().map(PathBuf::from));
        Self {
            agent_id: host_name(),
            server_endpoint: "127.0.0.1:9090".to_owned(),
            server_endpoints: Vec::new(),
            tls: TlsConfig::default(),
            auth_token: None,
            auth_token_file: None,
            collection_interval_secs: 10,
            buffer_max_size: 1_000,
            buffer_dir: state,
            units: Vec::new(),
            processes: Vec::new(),
            textfile_dir: None,
            scrape: Vec::new(),
            collectors: CollectorsConfig::default(),
            snapshot: SnapshotConfig::default(),
            filters: Filters::default(),
            log_level: "info".to_owned(),
            proc_root: folder("OXMON_HOST_PROC", "/proc"),
            sys_root: folder("OXMON_HOST_SYS", "/sys"),
            root: folder("OXMON_HOST_ROOT", "/"),
            warnings: Vec::new(),
        }
    }
}

/// The host's name as the kernel has it (kernel.hostname of sysctl(8)); empty without one.
fn host_name() -> String {
    #[cfg(target_os = "linux")]
    const NAME: &str = "kernel.hostname";
    #[cfg(not(target_os = "linux"))]
    const NAME: &str = "kern.hostname";
    crate::agent::sysctl::text(NAME)
}

impl AgentConfig {
    /// Reads and checks a file.
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
        check_ranges(source, KEYS)?;
        if !is_agent_id(&config.agent_id) {
            // A metadata value of gRPC can hold no more than this ("ASCII-Value").
            let message = format!(
                "{:?} cannot be an agent id: it must have 1 to {AGENT_ID_BYTES_MAX} characters of \
                 visible ASCII, with spaces only inside; set agent_id to such a name",
                config.agent_id
            );
            return Err(source.error("agent_id", message));
        }
        config.read_token(source)?;
        check_endpoint(source, "server_endpoint", &config.server_endpoint)?;
        if config.server_endpoints.len() > ENDPOINTS_MAX {
            let message = format!("must name at most {ENDPOINTS_MAX} servers");
            return Err(source.error("server_endpoints", message));
        }
        for endpoint in &config.server_endpoints {
            check_endpoint(source, "server_endpoints", endpoint)?;
        }
        if logging::parse_level(&config.log_level).is_none() {
            return Err(source.error("log_level", "must be error, warn, info, debug or trace"));
        }
        if config.auth_token.as_ref().is_some_and(|token| !is_token(token)) {
            return Err(source.error("auth_token", "must be visible ASCII without spaces"));
        }
        config.check_tls(source)?;
        config.check_collectors(source)?;
        config.check_scrape(source)?;
        config.warn_of_open_files(source)?;
        Ok(config)
    }

    /// Reads the token from `auth_token_file`, or from the credential `auth_token` that the service
    /// manager passed (systemd.exec(5): LoadCredential=), where the configuration has none itself.
    fn read_token(&mut self, source: &Source) -> Result<(), ConfigError> {
        if self.auth_token.is_some() && self.auth_token_file.is_some() {
            return Err(source.error("auth_token_file", "needs no auth_token beside it"));
        }
        let credential = secretfile::credential("auth_token").filter(|_| self.auth_token.is_none());
        let Some(path) = self.auth_token_file.clone().or(credential) else { return Ok(()) };
        let secret = secretfile::read(&path).map_err(|error| {
            source.error("auth_token_file", format!("cannot read {}: {error}", path.display()))
        })?;
        self.auth_token = Some(secret.text);
        self.warnings.extend(secret.warning.map(|why| source.error("auth_token_file", why).0));
        if self.auth_token.as_ref().is_some_and(|token| !is_token(token)) {
            let message = format!("{} must hold visible ASCII without spaces", path.display());
            return Err(source.error("auth_token_file", message));
        }
        Ok(())
    }

    /// Warns of files with secrets that every user can read or change: the private key, and the
    /// configuration itself where it holds the token.
    fn warn_of_open_files(&mut self, source: &Source) -> Result<(), ConfigError> {
        let given: toml::Table = source.parse()?;
        let config = given.contains_key("auth_token").then(|| source.path());
        for (key, path) in [("auth_token", config), ("tls.key_file", self.tls.key_file.as_deref())]
        {
            let open = path.and_then(secretfile::warning);
            self.warnings.extend(open.map(|why| source.error(key, why).0));
        }
        Ok(())
    }

    /// Whether a collector runs. Those that measure what the configuration names do where it names
    /// something.
    pub fn wants(&self, name: &str, on: bool) -> bool {
        let useful = match name {
            "units" => !self.units.is_empty(),
            "processes" => !self.processes.is_empty(),
            "textfile" => self.textfile_dir.is_some(),
            "scrape" => !self.scrape.is_empty(),
            _ => true,
        };
        useful && self.collectors.wants(name, on)
    }

    fn check_scrape(&self, source: &Source) -> Result<(), ConfigError> {
        for (key, list) in [("units", &self.units), ("processes", &self.processes)] {
            let odd = |name: &&String| {
                name.is_empty() || name.len() > 255 || name.contains('/') || *name == ".."
            };
            if list.len() > WATCHED_NAMES_MAX {
                let message = format!("must be {WATCHED_NAMES_MAX} names at most");
                return Err(source.error(key, message));
            }
            if let Some(name) = list.iter().find(odd) {
                return Err(source.error(key, format!("invalid name {name:?}")));
            }
        }
        if self.scrape.len() > SCRAPE_TARGETS_MAX {
            let message = format!("must be {SCRAPE_TARGETS_MAX} targets at most");
            return Err(source.error("scrape", message));
        }
        for (index, scrape) in self.scrape.iter().enumerate() {
            let error = |key: &str, message: String| {
                Err(source.error(&format!("scrape.{index}.{key}"), message))
            };
            if let Err(why) = Url::parse(&scrape.url) {
                return error("url", why);
            }
            if !(1..=60).contains(&scrape.timeout_secs) {
                return error("timeout_secs", "must be 1 to 60 seconds".to_owned());
            }
            if scrape.interval_secs.is_some_and(|secs| !(1..=3_600).contains(&secs)) {
                return error("interval_secs", "must be 1 to 3600 seconds".to_owned());
            }
            if !(1..=SCRAPE_SERIES_MAX).contains(&scrape.series_max) {
                return error("series_max", format!("must be 1 to {SCRAPE_SERIES_MAX} series"));
            }
        }
        Ok(())
    }

    fn check_collectors(&self, source: &Source) -> Result<(), ConfigError> {
        let lists = [
            ("collectors.enable", &self.collectors.enable),
            ("collectors.disable", &self.collectors.disable),
        ];
        for (key, list) in lists {
            if let Some(name) = list.iter().find(|name| !COLLECTORS.contains(&name.as_str())) {
                let all = COLLECTORS.join(", ");
                return Err(source.error(key, format!("no collector {name:?}; there are {all}")));
            }
        }
        let roots =
            [("proc_root", &self.proc_root), ("sys_root", &self.sys_root), ("root", &self.root)];
        for (key, path) in roots {
            if path.as_os_str().is_empty() {
                return Err(source.error(key, "must be a folder, is empty"));
            }
        }
        Ok(())
    }

    fn check_tls(&self, source: &Source) -> Result<(), ConfigError> {
        let tls = &self.tls;
        let files = [
            ("tls.ca_file", &tls.ca_file),
            ("tls.cert_file", &tls.cert_file),
            ("tls.key_file", &tls.key_file),
        ];
        for (key, path) in files {
            let Some(path) = path else { continue };
            if let Err(error) = std::fs::File::open(path) {
                return Err(source.error(key, format!("cannot read {}: {error}", path.display())));
            }
        }
        match (&tls.cert_file, &tls.key_file) {
            (Some(_), None) => Err(source.error("tls.cert_file", "needs key_file beside it")),
            (None, Some(_)) => Err(source.error("tls.key_file", "needs cert_file beside it")),
            _ => Ok(()),
        }
    }
}

impl AgentConfig {
    /// The servers, for messages.
    pub(crate) fn servers(&self) -> String {
        match self.server_endpoints.as_slice() {
            [] => self.server_endpoint.clone(),
            several => several.join(" or "),
        }
    }
}

/// Whether an id can be sent with each call.
pub(crate) fn is_agent_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= AGENT_ID_BYTES_MAX
        && id.trim() == id
        && id.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// What a metadata value may hold (gRPC over HTTP/2, "ASCII-Value").
fn is_token(token: &str) -> bool {
    !token.is_empty() && token.len() <= 512 && token.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_endpoint(source: &Source, key: &str, endpoint: &str) -> Result<(), ConfigError> {
    let bad = || {
        let message = format!("must be host:port, such as \"10.0.1.100:9090\", is {endpoint:?}");
        source.error(key, message)
    };
    let (host, port) = endpoint.rsplit_once(':').ok_or_else(bad)?;
    // An IPv6 address is in brackets, so that its colons differ from the port's.
    let host_is_whole = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    let odd = host.chars().any(|c| c.is_whitespace() || c == '/');
    let port = port.parse::<u16>().map_err(|_| bad())?;
    if host.is_empty() || !host_is_whole || odd || port == 0 { Err(bad()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<AgentConfig, ConfigError> {
        AgentConfig::from_source(&Source::embedded("a.toml", text))
    }

    #[test]
    fn an_empty_file_is_all_defaults() {
        let config = parse("").unwrap();
        assert!(!config.agent_id.is_empty());
        assert_eq!(config.server_endpoint, "127.0.0.1:9090");
        assert_eq!((config.collection_interval_secs, config.buffer_max_size), (10, 1_000));
        assert!(!config.tls.enabled);
    }

    #[test]
    fn tls_is_a_flag_or_a_table() {
        assert!(parse("tls = true").unwrap().tls.enabled);
        assert!(!parse("tls = false").unwrap().tls.enabled);
        let config = parse("[tls]\nserver_name = 'x'").unwrap();
        assert!(config.tls.enabled);
        assert!(!parse("[tls]\nenabled = false").unwrap().tls.enabled);
        assert!(parse("tls = 'yes'").unwrap_err().0.contains("a.toml:1: tls:"));
    }

    #[test]
    fn endpoints_are_checked() {
        for good in ["a:1", "10.0.0.1:9090", "[::1]:9090", "mon.example.com:443"] {
            assert!(parse(&format!("server_endpoint = '{good}'")).is_ok(), "{good}");
        }
        for bad in ["", "a", "a:", ":1", "::1:9090", "http://a:1", "a:0", "a:65536", "a b:1"] {
            assert!(parse(&format!("server_endpoint = '{bad}'")).is_err(), "{bad}");
            assert!(parse(&format!("server_endpoints = ['a:1', '{bad}']")).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_token_stays_out_of_debug_output() {
        let config = parse("auth_token = 'very-secret'").unwrap();
        assert!(!format!("{config:?}").contains("very-secret"));
        assert!(parse("auth_token = 'two words'").is_err());
    }

    #[test]
    fn the_token_may_stand_in_a_file_of_its_own() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret-1\n").unwrap();
        let text = format!("auth_token_file = {:?}", file.path().display().to_string());
        assert_eq!(parse(&text).unwrap().auth_token.as_deref(), Some("secret-1"));
        assert!(parse(&format!("auth_token = 'x'\n{text}")).unwrap_err().0.contains("a.toml:2:"));
        std::fs::write(file.path(), "two words").unwrap();
        assert!(parse(&text).unwrap_err().0.contains("must hold visible ASCII"));
        assert!(parse("auth_token_file = '/none'").unwrap_err().0.contains("cannot read /none"));
    }

    #[test]
    fn an_id_that_can_not_be_sent_is_refused_with_what_to_do() {
        for good in ["web-01", "Web 1", "db.example.com", "a/b:c"] {
            assert!(parse(&format!("agent_id = '{good}'")).is_ok(), "{good}");
        }
        let long = "x".repeat(AGENT_ID_BYTES_MAX + 1);
        for bad in ["", "büro-nas", " a", "a ", &long] {
            let error = parse(&format!("agent_id = {bad:?}")).unwrap_err().0;
            assert!(error.contains("set agent_id"), "{error}");
        }
    }

    #[test]
    fn exporters_are_read_on_the_host_itself() {
        let config = parse("[[scrape]]\nurl = 'http://127.0.0.1:9100/metrics'\nlabels = {a = 'b'}");
        let scrape = &config.unwrap().scrape[0];
        assert_eq!((scrape.timeout_secs, scrape.series_max), (5, 2_000));
        for (line, key) in [
            ("url = 'https://a/'", "scrape.0.url"),
            ("url = 'http://a/'\ntimeout_secs = 0", "scrape.0.timeout_secs"),
            ("url = 'http://a/'\nseries_max = 0", "scrape.0.series_max"),
        ] {
            let error = parse(&format!("[[scrape]]\n{line}")).unwrap_err().0;
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!("[tls]\ncert_file = {:?}", file.path().display().to_string());
        assert!(parse(&text).unwrap_err().0.starts_with("a.toml:2: tls.cert_file: needs key_file"));
    }

    #[test]
    fn the_example_is_the_defaults() {
        let text = include_str!("../../config/agent.example.toml");
        // Commented keys (`# key = …`) show the defaults: with them in force, nothing changes.
        let key = |line: &str| {
            let word = line.split(" = ").next().unwrap_or_default();
            line.contains(" = ") && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        };
        let live: String = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.starts_with('[') || key(rest) => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .filter(|line| !line.contains("/etc/oxmon/") && !line.contains("auth_token"))
            .collect();
        let live = live.replace("[tls]\nenabled = true", "[tls]\nenabled = false");
        let (example, defaults) = (parse(&live).unwrap(), AgentConfig::default());
        assert_eq!(example.server_endpoint, defaults.server_endpoint);
        assert_eq!(example.collection_interval_secs, defaults.collection_interval_secs);
        assert_eq!(example.buffer_max_size, defaults.buffer_max_size);
        assert_eq!(example.log_level, defaults.log_level);
        assert_eq!(example.filters.mounts_exclude, defaults.filters.mounts_exclude);
        assert_eq!(example.filters.fs_types_exclude, defaults.filters.fs_types_exclude);
        assert_eq!(example.filters.interfaces_exclude, defaults.filters.interfaces_exclude);
        assert_eq!(example.filters.disks_exclude, defaults.filters.disks_exclude);
        parse(text).unwrap();
    }
}
