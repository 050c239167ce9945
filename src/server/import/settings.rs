//! Users, agents of the whitelist, domains, rules and windows of the first release's `cert.db`.
//! All are written in one transaction; what is there already stays as it is.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::symm::{Cipher, decrypt_aead};
use rusqlite::{Connection, Row, Transaction};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::model::role::Role;
use crate::server::alert::manage::to_row;
use crate::server::alert::rule::{Draft, Origin, Rule};
use crate::server::cert::name::normalise;
use crate::server::config::ServerConfig;
use crate::server::control::alerts::{self as rules, RuleRow};
use crate::server::control::certs::{self, DomainRow};
use crate::server::control::notify::silence::{self as windows, SilenceRow};
use crate::server::control::users::{self, UserRow};
use crate::server::control::whitelist::{self, TokenHash, WhitelistRow};
use crate::server::import::channels::{self, OldChannel};
use crate::server::import::folder::{Folder, rows};
use crate::server::import::report::Report;
use crate::server::import::shapes;

use crate::server::notify::NotifyError;
use crate::server::notify::mute::SilenceWindow;
use crate::server::storage::StorageError;

/// Bytes of an AES-256-GCM nonce and of its tag.
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// An agent of the whitelist, with its token's hash where the token could be read.
type OldAgent = (WhitelistRow, Option<TokenHash>);

/// Everything of `cert.db`, read and checked.
#[derive(Default)]
pub(super) struct Settings {
    users: Vec<UserRow>,
    agents: Vec<OldAgent>,
    domains: Vec<DomainRow>,
    rules: Vec<RuleRow>,
    channels: Vec<OldChannel>,
    windows: Vec<SilenceRow>,
    /// Names of rules by their ids, for events that lack them.
    pub rule_names: HashMap<String, String>,
}

impl Settings {
    /// Reads the first release's `cert.db`. What can't come over is named in `report`.
    ///
    /// # Errors
    ///
    /// When the file can't be read.
    pub(super) fn read(
        folder: &Folder,
        db: &Connection,
        config: &ServerConfig,
        report: &mut Report,
    ) -> Result<Self, StorageError> {
        let mut settings = Self {
            users: rows(db, "users", &USER, user)?,
            agents: Vec::new(),
            domains: Vec::new(),
            rules: Vec::new(),
            channels: channels::read(db, report)?,
            windows: Vec::new(),
            rule_names: HashMap::new(),
        };
        for user in &mut settings.users {
            user.must_change = has_default_password(user, config);
        }
        let key = folder.token_key();
        for (row, token) in rows(db, "agent_whitelist", &AGENT, |row| agent(row, key.as_ref()))? {
            if token.is_none() {
                report.notes.push(format!(
                    "agent `{}` needs a new token: the old one can't be read without token.key",
                    row.agent_id
                ));
            }
            settings.agents.push((row, token));
        }
        for row in rows(db, "cert_domains", &DOMAIN, domain)? {
            match normalise(&row.domain) {
                Ok(named) => settings.domains.push(DomainRow { domain: named.host, ..row }),
                Err(why) => report.skip("domains", &format!("domain `{}`", row.domain), why),
            }
        }
        settings.read_rules(db, report)?;
        for row in rows(db, "notification_silence_windows", &WINDOW, window)? {
            match SilenceWindow::parse(&row) {
                Ok(_) => settings.windows.push(row),
                Err(why) => {
                    let what = format!("silence window {}-{}", row.start_time, row.end_time);
                    report.skip("silence windows", &what, why);
                }
            }
        }
        if let Some(note) = aggregation(db, config)? {
            report.notes.push(note);
        }
        Ok(settings)
    }

    fn read_rules(&mut self, db: &Connection, report: &mut Report) -> Result<(), StorageError> {
        for (id, mut map, times) in rows(db, "alert_rules", &RULE, rule)? {
            let name = map.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            self.rule_names.insert(id.clone(), name.clone());
            let changed = shapes::rule(&mut map);
            let built =
                Draft::from_map(&map).and_then(|draft| Rule::build(id, draft, Origin::Api, times));
            match built {
                Ok(rule) => self.rules.push(to_row(&rule)),
                Err(why) => {
                    let why = format!("{}: {}", why.field, why.message);
                    report.skip("rules", &format!("rule `{name}`"), why);
                    continue;
                }
            }
            report.notes.extend(changed.map(|what| format!("rule `{name}` {what}")));
        }
        Ok(())
    }

    /// Writes everything that is not there yet.
    pub(super) fn write(
        self,
        tx: &Transaction<'_>,
        mut report: Report,
    ) -> Result<Report, NotifyError> {
        for user in self.users {
            put_user(tx, &user, &mut report)?;
        }
        for (row, token) in self.agents {
            let new = match token {
                _ if whitelist::get(tx, &row.agent_id)?.is_some() => false,
                // A hash that no token has, until a new one is made.
                token => whitelist::insert_row(tx, &row, &token.unwrap_or_default())?,
            };
            count(&mut report, "agents", new);
        }
        for row in self.domains {
            let there = certs::get(tx, &row.id)?.or(certs::get(tx, &row.domain)?).is_some();
            let new = !there && certs::insert(tx, &row)?;
            count(&mut report, "domains", new);
        }
        for row in self.rules {
            let there = rules::rules(tx)?.iter().any(|r| r.id == row.id || r.name == row.name);
            if !there {
                rules::put_rule(tx, &row)?;
            }
            count(&mut report, "rules", !there);
        }
        for old in self.channels {
            let new = channels::write(tx, old)?;
            count(&mut report, "channels", new);
        }
        for row in self.windows {
            let new = windows::find(tx, &row.id)?.is_none();
            if new {
                windows::insert(tx, &row)?;
            }
            count(&mut report, "silence windows", new);
        }
        Ok(report)
    }
}

fn count(report: &mut Report, name: &'static str, new: bool) {
    let kind = report.kind(name);
    if new {
        kind.new += 1;
    } else {
        kind.existing += 1;
    }
}

/// Adds a user, or gives the first user of a server that nobody has logged in to the old password.
fn put_user(tx: &Transaction<'_>, user: &UserRow, report: &mut Report) -> Result<(), NotifyError> {
    if users::by_id(tx, &user.id)?.is_some() {
        count(report, "users", false);
        return Ok(());
    }
    let Some(there) = users::by_name(tx, &user.username)? else {
        users::insert(tx, user)?;
        count(report, "users", true);
        return Ok(());
    };
    let fresh = there.must_change && there.password_hash != user.password_hash;
    if fresh && !user.must_change {
        users::set_password(tx, &there.id, &user.password_hash, user.updated_at)?;
        report.notes.push(format!("user `{}` has the password of before", user.username));
    }
    count(report, "users", false);
    Ok(())
}

/// Whether a user still has a password that everybody knows.
fn has_default_password(user: &UserRow, config: &ServerConfig) -> bool {
    let defaults = ["changeme", config.auth.default_password.as_str()];
    defaults
        .iter()
        .enumerate()
        .filter(|(index, word)| !defaults[..*index].contains(word))
        .any(|(_, word)| bcrypt::verify(word, &user.password_hash).unwrap_or(false))
}

const USER: [(&str, &str); 6] = [
    ("id", "username"),
    ("username", "NULL"),
    ("password_hash", "''"),
    ("token_version", "0"),
    ("created_at", "0"),
    ("updated_at", "0"),
];

fn user(row: &Row<'_>) -> rusqlite::Result<UserRow> {
    Ok(UserRow {
        id: row.get(0)?,
        username: row.get(1)?,
        password_hash: row.get(2)?,
        // Every user of the first release could do everything.
        role: Role::Admin,
        token_epoch: row.get(3)?,
        must_change: false,
        created_at: row.get(4)?,
        updated_at: row.get(5)?,
    })
}

const AGENT: [(&str, &str); 6] = [
    ("id", "agent_id"),
    ("agent_id", "NULL"),
    ("description", "NULL"),
    ("encrypted_token", "NULL"),
    ("created_at", "0"),
    ("updated_at", "created_at"),
];

fn agent(row: &Row<'_>, key: Option<&[u8; 32]>) -> rusqlite::Result<OldAgent> {
    let seconds = |index: usize| row.get::<_, i64>(index).map(|secs| secs.saturating_mul(1_000));
    let listed = WhitelistRow {
        id: row.get(0)?,
        agent_id: row.get(1)?,
        description: row.get(2)?,
        created_ms: seconds(4)?,
        updated_ms: seconds(5)?,
    };
    let encrypted: Option<String> = row.get(3)?;
    let token = encrypted.and_then(|text| decrypt(key?, &text));
    Ok((listed, token.map(|token| Sha256::digest(token).into())))
}

/// The text that the first release encrypted: base64 of a nonce, the AES-256-GCM cipher text and
/// its tag. `None` when the key is another one.
fn decrypt(key: &[u8; 32], text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text).ok()?;
    let (nonce, rest) = bytes.split_at_checked(NONCE_BYTES)?;
    let (sealed, tag) = rest.split_at_checked(rest.len().checked_sub(TAG_BYTES)?)?;
    decrypt_aead(Cipher::aes_256_gcm(), key, Some(nonce), &[], sealed, tag).ok()
}

const DOMAIN: [(&str, &str); 8] = [
    ("id", "domain"),
    ("domain", "NULL"),
    ("port", "443"),
    ("enabled", "1"),
    ("check_interval_secs", "NULL"),
    ("note", "NULL"),
    ("created_at", "0"),
    ("updated_at", "0"),
];

fn domain(row: &Row<'_>) -> rusqlite::Result<DomainRow> {
    Ok(DomainRow {
        id: row.get(0)?,
        domain: row.get(1)?,
        port: row.get(2)?,
        enabled: row.get(3)?,
        check_interval_secs: row.get(4)?,
        note: row.get(5)?,
        starttls: None,
        last_checked_at: None,
        created_at: row.get(6)?,
        updated_at: row.get(7)?,
    })
}

const RULE: [(&str, &str); 11] = [
    ("id", "name"),
    ("name", "NULL"),
    ("rule_type", "''"),
    ("metric", "''"),
    ("agent_pattern", "'*'"),
    ("severity", "'info'"),
    ("enabled", "1"),
    ("config_json", "'{}'"),
    ("silence_secs", "600"),
    ("created_at", "0"),
    ("updated_at", "0"),
];

type OldRule = (String, Map<String, Value>, (i64, i64));

fn rule(row: &Row<'_>) -> rusqlite::Result<OldRule> {
    let mut map = Map::new();
    for (index, (name, _)) in RULE.iter().enumerate().take(9).skip(1) {
        let value = match *name {
            "enabled" => Value::from(row.get::<_, bool>(index)?),
            "silence_secs" => Value::from(row.get::<_, i64>(index)?),
            "severity" => Value::from(row.get::<_, String>(index)?.to_lowercase()),
            _ => Value::from(row.get::<_, String>(index)?),
        };
        map.insert((*name).to_owned(), value);
    }
    Ok((row.get(0)?, map, (row.get(9)?, row.get(10)?)))
}

const WINDOW: [(&str, &str); 5] = [
    ("id", "NULL"),
    ("start_time", "''"),
    ("end_time", "''"),
    ("created_at", "0"),
    ("updated_at", "0"),
];

/// The first release held every window against the time in UTC, on every day.
fn window(row: &Row<'_>) -> rusqlite::Result<SilenceRow> {
    Ok(SilenceRow {
        id: row.get(0)?,
        start_time: row.get(1)?,
        end_time: row.get(2)?,
        recurrence: Some("daily".to_owned()),
        time_zone: Some("UTC".to_owned()),
        created_at: row.get(3)?,
        updated_at: row.get(4)?,
        ..SilenceRow::default()
    })
}

/// Advice where the first release kept another aggregation window than the configuration has.
fn aggregation(db: &Connection, config: &ServerConfig) -> Result<Option<String>, StorageError> {
    let columns = [("config_key", "''"), ("config_json", "'{}'")];
    let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
    for (key, text) in rows(db, "system_configs", &columns, read)? {
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        let Some(seconds) = value["value"].as_u64() else { continue };
        if key.contains("aggregation_window") && seconds != config.aggregation_window_secs {
            let advice = "set aggregation_window_secs in the configuration to keep that";
            return Ok(Some(format!("notifications were aggregated over {seconds} s: {advice}")));
        }
    }
    Ok(None)
}
