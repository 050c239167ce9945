#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::server::control::Control;
use crate::server::storage::StorageError;

type Done<T> = Result<T, StorageError>;

struct Place {
    control: Control,
    _dir: tempfile::TempDir,
}

impl Place {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path()).unwrap();
        let place = Self { control, _dir: dir };
        let name = name.to_owned();
        place.write(move |tx| Ok(start(tx, &name, "a")?)).unwrap();
        place
    }

    fn write<T: Send + 'static>(
        &self,
        body: impl FnOnce(&rusqlite::Transaction<'_>) -> Done<T> + Send + 'static,
    ) -> Done<T> {
        self.control.write(body)
    }

    fn run(&self, sql: &'static str) -> Done<()> {
        self.write(move |tx| Ok(tx.execute_batch(sql)?))
    }

    fn state(&self) -> State {
        self.control.read(state).unwrap()
    }

    fn texts(&self, sql: &str) -> Vec<String> {
        self.control
            .read(|db| -> Done<_> {
                let mut query = db.prepare(sql)?;
                let rows = query.query_map([], |row| row.get(0))?;
                Ok(rows.collect::<Result<_>>()?)
            })
            .unwrap()
    }

    /// Takes what the home has.
    fn follow(&self, home: &Self, full: bool) -> Done<Applied> {
        let now = self.state();
        let since = (!full && now.of == home.state().of).then_some(now.synced);
        let delta = home.control.read(|db| changes(db, since)).unwrap();
        // As it comes over the wire.
        let text = serde_json::to_string(&delta).unwrap();
        let delta: Delta = serde_json::from_str(&text).unwrap();
        self.write(move |tx| {
            follow(tx, &delta.of)?;
            apply(tx, &delta)
        })
    }
}

const RULE: &str = "INSERT INTO alert_rules VALUES
    ('r1', 'one', 't', 'm', '*', 'info', 1, '{}', 600, 1, 1),
    ('r2', 'two', 't', 'm', '*', 'info', 1, '{}', 600, 1, 1)";
const CHANNEL: &str = "INSERT INTO notification_channels VALUES
    ('c1', 'chat', 'webhook', NULL, 'info', 1, '{\"secret\":\"s\"}', 1, 1);
    INSERT INTO notification_recipients VALUES ('c1', 0, 'x'), ('c1', 1, 'y')";
const AGENT: &str = "INSERT INTO agent_whitelist VALUES ('w1', 'web-01', NULL, x'00ff', 1, 1)";

#[test]
fn the_list_of_columns_is_that_of_the_schema() {
    let place = Place::new("a");
    // State of the server itself, whatever else is in the row.
    let own = [
        ("api_tokens", "last_used_at"),
        ("cert_domains", "state"),
        ("cert_domains", "last_checked_at"),
    ];
    let mut triggers = BTreeSet::new();
    for (table, columns) in rows::columns() {
        let sql = format!("SELECT name FROM pragma_table_info('{table}')");
        let all: BTreeSet<String> = place.texts(&sql).into_iter().collect();
        let own = own.iter().filter(|(name, _)| *name == table);
        let known = columns.iter().copied().chain(own.map(|(_, column)| *column));
        assert_eq!(all, known.map(str::to_owned).collect(), "{table}");
        for what in ["insert", "update", "delete"] {
            triggers.insert(format!("shared_{table}_{what}"));
        }
        // The trigger fires at the same columns, but for the key, which never changes.
        let sql = format!("SELECT sql FROM sqlite_master WHERE name = 'shared_{table}_update'");
        let sql = place.texts(&sql).remove(0);
        let listed = sql.split("UPDATE OF ").nth(1).unwrap().split(" ON ").next().unwrap();
        let listed: Vec<&str> = listed.split(',').map(str::trim).collect();
        let mut sorted = (listed.clone(), columns[1..].to_vec());
        sorted.0.sort_unstable();
        sorted.1.sort_unstable();
        assert_eq!(sorted.0, sorted.1, "{table}");
    }
    let sql = "SELECT name FROM sqlite_master WHERE type = 'trigger'";
    assert_eq!(place.texts(sql).into_iter().collect::<BTreeSet<_>>(), triggers);
}

#[test]
fn every_change_raises_the_version_and_state_does_not() {
    let home = Place::new("a");
    let mut before = home.state().version;
    for sql in [
        RULE,
        CHANNEL,
        AGENT,
        "UPDATE alert_rules SET enabled = 0 WHERE id = 'r1'",
        "DELETE FROM notification_channels",
        "INSERT OR REPLACE INTO settings VALUES ('jwt_secret', x'01')",
        "INSERT OR IGNORE INTO ended_logins VALUES ('s', 5)",
        "INSERT INTO cert_domains (id, domain, created_at, updated_at) VALUES ('d', 'd.example', 1, 1)",
    ] {
        home.run(sql).unwrap();
        let now = home.state().version;
        assert!(now > before, "{sql}");
        before = now;
    }
    for sql in [
        "INSERT INTO settings VALUES ('import:x', x'01')",
        "UPDATE cert_domains SET state = 'seen', last_checked_at = 5",
        "UPDATE api_tokens SET last_used_at = 5",
        "INSERT INTO alert_watermark VALUES (1, 5)",
    ] {
        home.run(sql).unwrap();
        assert_eq!(home.state().version, before, "{sql}");
    }
    home.write(|tx| -> Done<()> {
        tx.execute_batch("DELETE FROM alert_rules")?;
        Err(StorageError::Invalid("no".into()))
    })
    .unwrap_err();
    assert_eq!(home.state().version, before, "a change that is undone raises nothing");
}

#[test]
fn a_follower_gets_everything_then_what_changed_and_refuses_changes_of_its_own() {
    let (home, other) = (Place::new("a"), Place::new("b"));
    assert!(home.state().writable && !other.state().writable);
    for sql in [RULE, CHANNEL, AGENT] {
        home.run(sql).unwrap();
        let refused = other.run(sql).unwrap_err().to_string();
        assert!(refused.contains("home of the configuration"), "{refused}");
    }
    let applied = other.follow(&home, true).unwrap();
    assert_eq!(applied.rules, ["r1", "r2"]);
    assert!(applied.lost.is_none());
    assert_eq!(other.texts("SELECT recipient FROM notification_recipients"), ["x", "y"]);
    assert_eq!(other.texts("SELECT hex(token_hash) FROM agent_whitelist"), ["00FF"]);
    assert!(other.follow(&home, true).unwrap().tables.is_empty(), "nothing changed");
    other.write(|tx| Ok(tx.execute_batch("UPDATE shared_state SET writable = 1")?)).unwrap();
    other.run("INSERT INTO settings VALUES ('jwt_secret', x'02')").unwrap();
    other.follow(&home, true).unwrap();
    assert_eq!(other.texts("SELECT hex(value) FROM settings"), ["02"], "it can't be without one");
    // What belongs to a channel here stays when the channel changes.
    other.run("INSERT INTO notification_told VALUES ('k', 'c1')").unwrap();
    for sql in [
        "UPDATE alert_rules SET name = CASE id WHEN 'r1' THEN 'x' ELSE 'one' END",
        "UPDATE alert_rules SET name = 'two' WHERE id = 'r1'",
        "DELETE FROM notification_recipients WHERE position = 0",
        "UPDATE notification_channels SET name = 'talk'",
        "DELETE FROM agent_whitelist",
        "INSERT INTO agent_whitelist VALUES ('w2', 'web-01', NULL, x'01', 1, 1)",
    ] {
        home.run(sql).unwrap();
    }
    let applied = other.follow(&home, false).unwrap();
    let tables =
        ["agent_whitelist", "alert_rules", "notification_channels", "notification_recipients"];
    assert_eq!(applied.tables.into_iter().collect::<Vec<_>>(), tables);
    assert_eq!(other.texts("SELECT name FROM alert_rules ORDER BY id"), ["two", "one"]);
    assert_eq!(other.texts("SELECT recipient FROM notification_recipients"), ["y"]);
    assert_eq!(other.texts("SELECT id FROM agent_whitelist"), ["w2"]);
    assert_eq!(other.texts("SELECT alert_key FROM notification_told"), ["k"]);
    assert_eq!(other.state().version, home.state().version);
    home.run("DELETE FROM notification_channels; DELETE FROM alert_rules").unwrap();
    other.follow(&home, false).unwrap();
    assert!(other.texts("SELECT id FROM notification_channels").is_empty());
    assert!(other.texts("SELECT recipient FROM notification_recipients").is_empty());
}

#[test]
fn an_old_home_follows_and_gives_back_what_nobody_else_has() {
    let (old, new) = (Place::new("a"), Place::new("b"));
    old.run(RULE).unwrap();
    new.follow(&old, true).unwrap();
    // Changes that the other one never gets.
    old.run(CHANNEL).unwrap();
    old.run("DELETE FROM alert_rules WHERE id = 'r1'").unwrap();
    let rank = Rank { epoch: 2, home: "b".to_owned() };
    let begun = rank.clone();
    new.write(move |tx| Ok(begin_epoch(tx, &begun)?)).unwrap();
    new.run("UPDATE alert_rules SET enabled = 0 WHERE id = 'r2'").unwrap();
    let lost = old.follow(&new, true).unwrap().lost.unwrap();
    assert_eq!(lost["notification_channels"]["rows"][0]["config_json"], "{\"secret\":\"s\"}");
    assert_eq!(lost["alert_rules"], json!({"rows": [], "removed": ["r1"]}));
    assert_eq!(old.texts("SELECT id FROM alert_rules ORDER BY id"), ["r1", "r2"]);
    assert_eq!(old.state().of, rank);
    assert!(!old.state().writable);
    assert!(old.follow(&new, true).unwrap().lost.is_none(), "once");
}

#[test]
fn a_server_that_had_rules_before_it_had_sisters_gives_them_back() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(dir.path()).unwrap();
    let alone = Place { control, _dir: dir };
    alone.run(RULE).unwrap();
    alone.write(|tx| Ok(start(tx, "b", "a")?)).unwrap();
    let home = Place::new("a");
    let lost = alone.follow(&home, true).unwrap().lost.unwrap();
    assert_eq!(lost["alert_rules"]["rows"].as_array().unwrap().len(), 2);
    assert!(alone.texts("SELECT id FROM alert_rules").is_empty());
}

#[test]
fn what_can_not_be_applied_changes_nothing() {
    let (home, other) = (Place::new("a"), Place::new("b"));
    home.run(RULE).unwrap();
    other.follow(&home, true).unwrap();
    let delta = home.control.read(|db| changes(db, None)).unwrap();
    let text = serde_json::to_string(&delta).unwrap();
    for (from, to) in [
        ("\"one\"", "null"),
        ("\"one\"", "{\"hex\":\"0\"}"),
        ("\"one\"", "[]"),
        ("\"one\"", "{\"hex\":\"zz\"}"),
        ("\"columns\":[\"id\",\"name\"", "\"columns\":[\"x\",\"name\""),
        ("\"home\":\"a\"},\"version\"", "\"home\":\"c\"},\"version\""),
    ] {
        assert!(text.contains(from), "{from}");
        let delta: Delta = serde_json::from_str(&text.replacen(from, to, 1)).unwrap();
        let outcome = other.write(move |tx| apply(tx, &delta));
        assert!(outcome.is_err(), "{from} as {to}");
        assert_eq!(other.texts("SELECT name FROM alert_rules ORDER BY id"), ["one", "two"]);
        assert!(!other.state().writable);
    }
}

#[test]
fn rows_of_an_earlier_epoch_do_not_make_a_home() {
    let place = Place::new("a");
    place.write(|tx| Ok(follow(tx, &Rank { epoch: 4, home: "a".to_owned() })?)).unwrap();
    place.write(|tx| Ok(start(tx, "a", "a")?)).unwrap();
    assert!(!place.state().writable, "the others have epoch 4, this server has 1");
}

#[test]
fn too_many_changes_are_forgotten_and_everything_is_given() {
    let home = Place::new("a");
    home.run(RULE).unwrap();
    let since = home.state().version;
    home.run("UPDATE shared_state SET floor = version + 5, version = version + 9").unwrap();
    assert!(home.control.read(|db| changes(db, Some(since))).unwrap().full);
    assert!(home.control.read(|db| changes(db, Some(since + 99))).unwrap().full, "ahead");
    assert!(!home.control.read(|db| changes(db, Some(since + 7))).unwrap().full);
}

#[test]
fn what_a_follower_changes_while_it_has_no_sisters_is_given_back_when_it_has() {
    let (home, other) = (Place::new("a"), Place::new("b"));
    home.run(RULE).unwrap();
    other.follow(&home, true).unwrap();
    other.write(|tx| Ok(start_alone(tx)?)).unwrap();
    other.run(CHANNEL).unwrap();
    other.run("UPDATE alert_rules SET severity = 'critical' WHERE id = 'r2'").unwrap();
    other.write(|tx| Ok(start(tx, "b", "a")?)).unwrap();
    assert!(!other.state().writable);
    let lost = other.follow(&home, true).unwrap().lost.unwrap();
    assert_eq!(lost["notification_channels"]["rows"][0]["name"], "chat");
    assert_eq!(lost["alert_rules"]["rows"].as_array().unwrap().len(), 1);
    assert_eq!(lost["alert_rules"]["rows"][0]["severity"], "critical");
    assert_eq!(other.texts("SELECT severity FROM alert_rules"), ["info", "info"]);
}
