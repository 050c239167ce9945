//! `config/server.example.toml` against the code.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::server::config::keys::KEYS;

const EXAMPLE: &str = include_str!("../../../config/server.example.toml");

/// Keys that have no default: the example shows a possible value.
const SHOWN_ONLY: [&str; 20] = [
    "token",
    "token_file",
    "username",
    "password",
    "password_file",
    "bearer_token",
    "bearer_token_file",
    "public_url",
    "time_zone",
    "cert_file",
    "key_file",
    "client_ca_file",
    "hsts_secs",
    "ca_file",
    "jwt_secret",
    "jwt_secret_file",
    "default_password_file",
    "proxy",
    "no_proxy",
    // The table of the files above can't be empty.
    "[tls]",
];

/// The example with every commented key in force.
fn in_force() -> String {
    let is_key = |rest: &str| {
        let word = rest.split(" = ").next().unwrap_or_default();
        rest.starts_with('[')
            || (rest.contains(" = ") && word.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let lines = EXAMPLE.lines().filter_map(|line| line.strip_prefix("# ")).filter(|r| is_key(r));
    let shown_only = |line: &&str| {
        let word = line.split(" = ").next().unwrap_or_default();
        !SHOWN_ONLY.contains(&word)
    };
    lines.filter(shown_only).collect::<Vec<_>>().join("\n")
}

fn load(text: &str) -> ServerConfig {
    ServerConfig::from_source(&Source::embedded("server.example.toml", text)).unwrap()
}

fn shown(config: &ServerConfig) -> serde_json::Value {
    serde_json::to_value(config).unwrap()
}

#[test]
fn the_example_as_it_stands_changes_nothing() {
    assert_eq!(shown(&load(EXAMPLE)), shown(&ServerConfig::default()));
}

#[test]
fn what_the_example_shows_are_the_defaults() {
    let mut config = load(&in_force());
    let rules = std::mem::take(&mut config.alert.rules);
    assert_eq!(shown(&config), shown(&ServerConfig::default()));
    // Secrets are left out of what is shown.
    assert_eq!(config.auth.default_password, Auth::default().default_password);
    let kinds: Vec<&str> =
        rules.iter().filter_map(|rule| rule.get("type")).filter_map(|t| t.as_str()).collect();
    assert_eq!(kinds, ["threshold", "rate_of_change", "trend_prediction", "cert_expiration"]);
}

#[test]
fn the_example_shows_every_key() {
    for key in KEYS {
        let (table, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        let within = match table {
            "" => EXAMPLE.split("\n# [").next(),
            table => EXAMPLE.split(&format!("\n# [{table}]\n")).nth(1),
        };
        let section = within.and_then(|text| text.split("\n# [").next()).unwrap_or_default();
        let line = format!("\n# {name} = ");
        assert!(format!("\n{section}").contains(&line), "{} is not shown", key.path);
    }
}
