//! `[remote]`: an engine beyond this machine that gets every sample, and answers for the days that
//! are no longer here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

use crate::base::configfile::{ConfigError, Source};
use crate::base::limits::{REMOTE_LABELS_MAX, REMOTE_URLS_MAX};
use crate::base::secretfile;

/// Where samples are sent on, and where they are read from again.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "keys::KEYS documents every key")]
pub struct Remote {
    pub write_urls: Vec<String>,
    pub read_urls: Vec<String>,
    pub mode: String,
    pub replicas: usize,
    pub ack: String,
    pub hot_days: u32,
    pub promql: String,
    pub audit_after_secs: u64,
    pub shards: usize,
    pub timeout_secs: u64,
    pub ca_file: Option<PathBuf>,
    pub insecure_tls: bool,
    #[serde(serialize_with = "names_alone")]
    pub headers: BTreeMap<String, String>,
    pub username: Option<String>,
    #[serde(skip_serializing)]
    pub password: Option<String>,
    pub password_file: Option<PathBuf>,
    #[serde(skip_serializing)]
    pub bearer_token: Option<String>,
    pub bearer_token_file: Option<PathBuf>,
    pub labels: BTreeMap<String, String>,
    pub name_prefix: String,
}

/// Values of headers may be secrets.
fn names_alone<S: Serializer>(
    headers: &BTreeMap<String, String>,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_map(headers.keys().map(|name| (name, "***")))
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("write_urls", &self.write_urls)
            .field("read_urls", &self.read_urls)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Default for Remote {
    fn default() -> Self {
        Self {
            write_urls: Vec::new(),
            read_urls: Vec::new(),
            mode: "failover".to_owned(),
            replicas: 2,
            ack: "disk".to_owned(),
            hot_days: 0,
            promql: "here".to_owned(),
            audit_after_secs: 300,
            shards: 4,
            timeout_secs: 30,
            ca_file: None,
            insecure_tls: false,
            headers: BTreeMap::new(),
            username: None,
            password: None,
            password_file: None,
            bearer_token: None,
            bearer_token_file: None,
            labels: BTreeMap::new(),
            name_prefix: String::new(),
        }
    }
}

impl Remote {
    /// Whether there is an engine.
    pub(crate) fn is_on(&self) -> bool {
        !self.write_urls.is_empty()
    }

    /// Whether each URL is a node of its own, and not another address of one engine.
    pub(crate) fn is_ring(&self) -> bool {
        self.mode == "ring"
    }

    /// Whether an agent is acknowledged only once the engine has its samples too.
    pub(crate) fn acks_at_engine(&self) -> bool {
        self.ack == "engine"
    }

    /// Whether the engine evaluates PromQL over days that are no longer here.
    pub(crate) fn hands_promql(&self) -> bool {
        self.promql == "engine"
    }

    /// Checks the table and reads its secrets from their files. Gives warnings.
    ///
    /// # Errors
    ///
    /// Names file, line and key of the first mistake.
    pub(super) fn complete(&mut self, source: &Source) -> Result<Vec<String>, ConfigError> {
        self.check_urls(source)?;
        self.check_words(source)?;
        let mut warnings = self.read_secrets(source)?;
        if self.insecure_tls {
            let message = "the engine's certificate is not verified; anyone on the way can read \
                           and change samples. Name its authority in remote.ca_file instead";
            warnings.push(source.error("remote.insecure_tls", message).0);
        }
        Ok(warnings)
    }

    fn check_urls(&self, source: &Source) -> Result<(), ConfigError> {
        for (key, urls) in
            [("remote.write_urls", &self.write_urls), ("remote.read_urls", &self.read_urls)]
        {
            if urls.len() > REMOTE_URLS_MAX {
                let message = format!("must have at most {REMOTE_URLS_MAX} URLs");
                return Err(source.error(key, message));
            }
            for (place, url) in urls.iter().enumerate() {
                if !is_url(url) {
                    let message = format!(
                        "`{url}` must be a URL such as \"http://engine.example.com:8428/api/v1/write\", \
                         without a user, a password or a fragment"
                    );
                    return Err(source.error(key, message));
                }
                if urls[..place].contains(url) {
                    return Err(source.error(key, format!("`{url}` comes twice")));
                }
            }
        }
        if self.write_urls.is_empty() && !self.read_urls.is_empty() {
            return Err(source.error("remote.read_urls", "needs remote.write_urls beside it"));
        }
        Ok(())
    }

    fn check_words(&self, source: &Source) -> Result<(), ConfigError> {
        let fail = |key: &str, message: &str| Err(source.error(&format!("remote.{key}"), message));
        if !["failover", "ring"].contains(&self.mode.as_str()) {
            return fail("mode", "must be failover or ring");
        }
        if !["disk", "engine"].contains(&self.ack.as_str()) {
            return fail("ack", "must be disk or engine");
        }
        if !["here", "engine"].contains(&self.promql.as_str()) {
            return fail("promql", "must be here or engine");
        }
        if self.hands_promql() && self.is_ring() {
            return fail("promql", "must be here in a ring: no node has every agent");
        }
        if self.is_ring() && self.is_on() {
            if self.read_urls.len() != self.write_urls.len() {
                return fail("read_urls", "must name as many nodes as remote.write_urls in a ring");
            }
            if self.replicas > self.write_urls.len() {
                return fail("replicas", "must not exceed the number of remote.write_urls");
            }
        }
        if self.hot_days > 0 && self.is_on() && self.read_urls.is_empty() {
            return fail("hot_days", "needs remote.read_urls: older days are read there");
        }
        if self.labels.len() > REMOTE_LABELS_MAX {
            return fail("labels", &format!("must have at most {REMOTE_LABELS_MAX} labels"));
        }
        let wrong = self.labels.iter().find(|(name, value)| {
            !is_plain(name)
                || name.starts_with("__")
                || name.starts_with("oxmon_")
                || value.is_empty()
        });
        if let Some((name, _)) = wrong {
            let message = format!(
                "`{name}` must be a label of letters, digits and underscores that does not begin \
                 with __ or oxmon_, and have a value"
            );
            return fail("labels", &message);
        }
        if !self.name_prefix.is_empty() && !is_plain(&self.name_prefix) {
            return fail("name_prefix", "must be letters, digits and underscores");
        }
        let bad_header = self.headers.iter().find(|(name, value)| {
            name.is_empty()
                || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                || !value.bytes().all(|b| (0x20..0x7f).contains(&b) || b == b'\t')
        });
        if let Some((name, _)) = bad_header {
            return fail("headers", &format!("`{name}` is not a valid header"));
        }
        Ok(())
    }

    /// Reads the secrets that are in files of their own, or that the service manager passes as the
    /// credentials `remote_password` and `remote_bearer_token`.
    fn read_secrets(&mut self, source: &Source) -> Result<Vec<String>, ConfigError> {
        let mut warnings = Vec::new();
        for (name, value, file) in [
            ("password", &mut self.password, &self.password_file),
            ("bearer_token", &mut self.bearer_token, &self.bearer_token_file),
        ] {
            let key = format!("remote.{name}_file");
            if value.is_some() && file.is_some() {
                return Err(source.error(&key, format!("needs no remote.{name} beside it")));
            }
            let credential = secretfile::credential(&format!("remote_{name}"));
            let credential = credential.filter(|_| value.is_none() && !self.write_urls.is_empty());
            let Some(path) = file.clone().or(credential) else { continue };
            let secret = secretfile::read(&path).map_err(|error| {
                source.error(&key, format!("cannot read {}: {error}", path.display()))
            })?;
            warnings.extend(secret.warning.map(|why| source.error(&key, why).0));
            *value = Some(secret.text);
        }
        if self.bearer_token.is_some() && (self.username.is_some() || self.password.is_some()) {
            let message = "needs no remote.username or remote.password beside it";
            return Err(source.error("remote.bearer_token", message));
        }
        if self.username.is_some() != self.password.is_some() {
            let message = "remote.username and remote.password need each other";
            return Err(source.error("remote.username", message));
        }
        Ok(warnings)
    }
}

/// Letters, digits and underscores, no digit first.
fn is_plain(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(fits) && name.starts_with(|first: char| !first.is_ascii_digit())
}

/// Whether a text is a URL with a host, without credentials or a fragment.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        !host.is_empty()
            && rest.len() <= 1_000
            && rest.bytes().all(|byte| byte.is_ascii_graphic())
            && !rest.contains(['@', '#', '"', '<', '>', '\\'])
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::base::configfile::Source;
    use crate::server::config::ServerConfig;

    fn load(text: &str) -> Result<ServerConfig, String> {
        let text = format!("[remote]\n{text}");
        ServerConfig::from_source(&Source::embedded("s.toml", &text)).map_err(|error| error.0)
    }

    #[test]
    fn mistakes_are_refused_with_line_and_key() {
        let write = "write_urls = ['http://a/w', 'http://b/w']\n";
        for (text, wanted) in [
            ("write_urls = ['a:8428']".to_owned(), "s.toml:2: remote.write_urls: `a:8428` must"),
            ("write_urls = ['http://u:p@a/']".to_owned(), "without a user"),
            ("write_urls = ['http://a/', 'http://a/']".to_owned(), "comes twice"),
            ("read_urls = ['http://a/']".to_owned(), "needs remote.write_urls"),
            ("mode = 'both'".to_owned(), "remote.mode: must be failover or ring"),
            ("ack = 'none'".to_owned(), "remote.ack: must be disk or engine"),
            (format!("{write}mode = 'ring'"), "must name as many nodes"),
            (
                format!("{write}mode='ring'\nread_urls=['http://a','http://b']\nreplicas = 3"),
                "must not exceed",
            ),
            (format!("{write}hot_days = 2"), "needs remote.read_urls"),
            (format!("{write}promql = \"there\""), "must be here or engine"),
            (format!("{write}username = 'u'"), "need each other"),
            (
                format!("{write}username = 'u'\npassword='p'\nbearer_token = 't'"),
                "needs no remote.username",
            ),
            ("labels = { 'a-b' = 'c' }".to_owned(), "`a-b` must be a label"),
            ("labels = { oxmon_x = 'c' }".to_owned(), "`oxmon_x` must be a label"),
            ("name_prefix = '1x'".to_owned(), "remote.name_prefix: must be"),
            ("headers = { 'a b' = 'c' }".to_owned(), "`a b` is not a valid header"),
            ("shards = 0".to_owned(), "must be 1 to 64"),
        ] {
            let said = load(&text).unwrap_err();
            assert!(said.contains(wanted), "{text}: {said}");
        }
    }

    #[test]
    fn secrets_come_from_files_and_stay_out_of_what_is_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let text = format!(
            "write_urls = ['http://a/w']\nbearer_token_file = {:?}\nheaders = {{ X-Key = 'k3y' }}",
            file.path()
        );
        let config = load(&text).unwrap();
        assert_eq!(config.remote.bearer_token.as_deref(), Some("s3cret"));
        let shown = format!("{config:?}{}", serde_json::to_string(&config).unwrap());
        assert!(!shown.contains("s3cret") && !shown.contains("k3y"), "{shown}");
    }
}
