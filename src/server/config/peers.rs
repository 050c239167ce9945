//! `[peers]`: several servers with one home for what people configure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::http::bare;
use super::{SECRET_BYTES_MIN, is_base_url};
use crate::base::configfile::{ConfigError, Source};
use crate::base::limits::{PEER_NAME_BYTES_MAX, PEERS_MAX};
use crate::base::secretfile;

/// This server among others, and where these are.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "keys::KEYS documents every key")]
pub struct Peers {
    pub name: String,
    pub home: String,
    pub sisters: BTreeMap<String, String>,
    #[serde(skip_serializing)]
    pub token: Option<String>,
    pub token_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub allow_plain: bool,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers")
            .field("name", &self.name)
            .field("home", &self.home)
            .field("sisters", &self.sisters)
            .finish_non_exhaustive()
    }
}

impl Peers {
    /// Whether there are other servers.
    pub(crate) fn is_on(&self) -> bool {
        !self.name.is_empty()
    }

    /// Checks the table and reads its token. Gives warnings.
    ///
    /// # Errors
    ///
    /// Names file, line and key of the first mistake.
    pub(super) fn complete(&mut self, source: &Source) -> Result<Vec<String>, ConfigError> {
        let mut warnings = Vec::new();
        if !self.is_on() {
            let others = [
                ("home", !self.home.is_empty()),
                ("sisters", !self.sisters.is_empty()),
                ("token", self.token.is_some()),
                ("token_file", self.token_file.is_some()),
                ("ca_file", self.ca_file.is_some()),
            ];
            return match others.iter().find(|(_, is_set)| *is_set) {
                Some((key, _)) => {
                    let message = "needs peers.name, this server's own name, beside it";
                    Err(source.error(&format!("peers.{key}"), message))
                }
                None => Ok(warnings),
            };
        }
        self.check_names(source)?;
        warnings.extend(self.check_urls(source)?);
        warnings.extend(self.read_token(source)?);
        Ok(warnings)
    }

    fn check_names(&mut self, source: &Source) -> Result<(), ConfigError> {
        let fail = |key: &str, message: String| Err(source.error(key, message));
        if !is_name(&self.name) {
            return fail("peers.name", wrong_name(&self.name));
        }
        if let Some(name) = self.sisters.keys().find(|name| !is_name(name)) {
            return fail("peers.sisters", wrong_name(name));
        }
        // The table may be the same on all servers.
        self.sisters.remove(&self.name);
        if self.sisters.is_empty() || self.sisters.len() > PEERS_MAX {
            let message = format!("must name 1 to {PEERS_MAX} servers besides this one");
            return fail("peers.sisters", message);
        }
        if self.home != self.name && !self.sisters.contains_key(&self.home) {
            let message = "must be peers.name or one of peers.sisters, the same on all servers";
            return fail("peers.home", message.to_owned());
        }
        Ok(())
    }

    fn check_urls(&self, source: &Source) -> Result<Vec<String>, ConfigError> {
        let mut warnings = Vec::new();
        for url in self.sisters.values() {
            if !is_base_url(url) {
                let message = format!(
                    "`{url}` must be a URL such as \"https://b.example.com:8080\", without a user"
                );
                return Err(source.error("peers.sisters", message));
            }
            if url.starts_with("https://") || is_loopback(url) {
                continue;
            }
            if !self.allow_plain {
                let message = format!(
                    "`{url}` is not encrypted, and passwords, tokens and secrets of channels pass \
                     there: use https, or set peers.allow_plain where the network is your own"
                );
                return Err(source.error("peers.sisters", message));
            }
            let message = format!("secrets pass to `{url}` without encryption");
            warnings.push(source.error("peers.allow_plain", message).0);
        }
        Ok(warnings)
    }

    /// Reads the token from its file, or from the credential `peers_token` of the service manager.
    fn read_token(&mut self, source: &Source) -> Result<Option<String>, ConfigError> {
        let key = "peers.token_file";
        if self.token.is_some() && self.token_file.is_some() {
            return Err(source.error(key, "needs no peers.token beside it"));
        }
        let credential = secretfile::credential("peers_token").filter(|_| self.token.is_none());
        let mut warning = None;
        if let Some(path) = self.token_file.clone().or(credential) {
            let secret = secretfile::read(&path).map_err(|error| {
                source.error(key, format!("cannot read {}: {error}", path.display()))
            })?;
            warning = secret.warning.map(|why| source.error(key, why).0);
            self.token = Some(secret.text);
        }
        let token = self.token.as_deref().unwrap_or_default();
        let fits = |byte: u8| byte.is_ascii_graphic();
        if token.len() < SECRET_BYTES_MIN || !token.bytes().all(fits) {
            let message = format!(
                "must be {SECRET_BYTES_MIN} bytes or more of letters, digits and signs, the same \
                 on all servers: `openssl rand -hex 32` makes one"
            );
            return Err(source.error("peers.token", message));
        }
        Ok(warning)
    }
}

/// Whether a text can be a server's name.
pub(crate) fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=PEER_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits)
}

fn wrong_name(name: &str) -> String {
    let shown: String = name.chars().take(PEER_NAME_BYTES_MAX).collect();
    format!("`{shown}` must be 1 to {PEER_NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`")
}

/// Whether a URL leads to this machine alone.
fn is_loopback(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = bare(rest.split('/').next().unwrap_or_default());
    let is_local = |ip: IpAddr| ip.to_canonical().is_loopback();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_local)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::server::config::ServerConfig;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn load(text: &str) -> Result<ServerConfig, String> {
        let text = format!("[peers]\n{text}");
        ServerConfig::from_source(&Source::embedded("s.toml", &text)).map_err(|error| error.0)
    }

    #[test]
    fn mistakes_are_refused_with_line_and_key() {
        let good = format!(
            "name = 'a'\nhome = 'b'\ntoken = '{TOKEN}'\n\
             sisters = {{ b = 'https://b.example.com:8080' }}\n"
        );
        load(&good).unwrap();
        for (from, to, wanted) in [
            ("name = 'a'\n", "", "s.toml:2: peers.home: needs peers.name"),
            ("name = 'a'", "name = 'a b'", "s.toml:2: peers.name: `a b` must be"),
            ("name = 'a'", "name = 'b'", "must name 1 to 16 servers besides"),
            ("home = 'b'", "home = 'c'", "s.toml:3: peers.home: must be peers.name or"),
            (TOKEN, "short", "s.toml:4: peers.token: must be 32 bytes or more"),
            ("b = 'https", "b = 'ftp", "must be a URL such as"),
            ("b = 'https", "b = 'http", "is not encrypted"),
            ("b = 'https://", "b = 'https://u:p@", "must be a URL such as"),
            ("{ b", "{ 'b c' = 'https://c', b", "peers.sisters: `b c` must be"),
        ] {
            let text = good.replacen(from, to, 1);
            let said = load(&text).unwrap_err();
            assert!(said.contains(wanted), "{text}: {said}");
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_it_is_allowed() {
        let with = |url: &str, more: &str| {
            load(&format!(
                "name = 'a'\nhome = 'a'\ntoken = '{TOKEN}'\n{more}\nsisters = {{ b = '{url}' }}"
            ))
        };
        for url in ["http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost/x"] {
            assert_eq!(with(url, "").unwrap().warnings, Vec::<String>::new(), "{url}");
        }
        let url = "http://127.0.0.1.example.com";
        assert!(with(url, "").unwrap_err().contains("is not encrypted"));
        let warned = with(url, "allow_plain = true").unwrap().warnings;
        assert!(warned[0].contains("without encryption"), "{warned:?}");
    }

    #[test]
    fn the_table_may_name_this_server_and_its_token_stays_out_of_what_is_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
        let text = format!(
            "name = 'a'\nhome = 'a'\ntoken_file = {:?}\n\
             sisters = {{ a = 'https://a.example.com', b = 'https://b.example.com' }}",
            file.path()
        );
        let config = load(&text).unwrap();
        assert_eq!(config.peers.sisters.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(config.peers.token.as_deref(), Some(TOKEN));
        let shown = format!("{config:?}{}", serde_json::to_string(&config).unwrap());
        assert!(!shown.contains(TOKEN), "{shown}");
    }
}
