//! What agents say of their hosts: the facts, and the snapshots of processes that alerts asked for.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension as _, Result, params};

use crate::base::clock::{MINUTE_MS, SECOND_MS};
use crate::base::limits::{SNAPSHOTS_MAX, SNAPSHOTS_PER_AGENT_MAX};
use crate::model::alert::AlertEvent;
use crate::model::host::{HostFacts, ProcessSnapshot};

/// `facts` and `snapshot` are JSON; `search` is what a search looks through, in lower case.
pub(super) const SCHEMA: &str = "
CREATE TABLE agent_facts (
  agent_id TEXT PRIMARY KEY,
  facts TEXT NOT NULL,
  search TEXT NOT NULL,
  updated_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE process_snapshots (
  id INTEGER PRIMARY KEY,
  agent_id TEXT NOT NULL,
  taken_ms INTEGER NOT NULL,
  snapshot TEXT NOT NULL,
  UNIQUE (agent_id, taken_ms)
);
";

/// A snapshot belongs to an alert that began so much later, where none was taken after it began:
/// one host is not asked again sooner.
const BEFORE_ALERT_MS: i64 = 90 * SECOND_MS;
/// How long after an alert has fired its snapshot may come.
const AFTER_ALERT_MS: i64 = 10 * MINUTE_MS;

/// Writes the facts of an agent; nothing is written where they are those of before.
pub(crate) fn put_facts(
    tx: &Connection,
    agent: &str,
    facts: &HostFacts,
    now_ms: i64,
) -> Result<()> {
    // Plain data always serialises.
    let json = serde_json::to_string(facts).unwrap_or_default();
    tx.prepare_cached(
        "INSERT INTO agent_facts VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (agent_id) DO UPDATE SET facts = ?2, search = ?3, updated_ms = ?4
         WHERE facts <> ?2",
    )?
    .execute(params![agent, json, search_text(facts), now_ms])
    .map(drop)
}

fn search_text(facts: &HostFacts) -> String {
    let words = [
        &facts.hostname,
        &facts.os,
        &facts.kernel,
        &facts.architecture,
        &facts.virtualization,
        &facts.cpu_model,
        &facts.time_zone,
        &facts.agent_version,
    ];
    let words = words.into_iter().chain(&facts.addresses);
    words.map(|word| word.to_lowercase()).collect::<Vec<_>>().join("\n")
}

/// The facts of an agent, and when they last changed, Unix milliseconds.
pub(crate) fn facts(db: &Connection, agent: &str) -> Result<Option<(HostFacts, i64)>> {
    let mut query =
        db.prepare_cached("SELECT facts, updated_ms FROM agent_facts WHERE agent_id = ?1")?;
    let row = query.query_row([agent], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)));
    let row = row.optional()?;
    Ok(row.and_then(|(json, at_ms)| Some((serde_json::from_str(&json).ok()?, at_ms))))
}

/// The agents whose facts hold a text, in any case.
pub(crate) fn with_facts(db: &Connection, text: &str) -> Result<HashSet<String>> {
    let mut query =
        db.prepare_cached("SELECT agent_id FROM agent_facts WHERE instr(search, ?1) > 0")?;
    let rows = query.query_map([text.to_lowercase()], |row| row.get(0))?;
    rows.collect()
}

/// Writes a snapshot, and removes those that are more than may be kept.
pub(crate) fn put_snapshot(tx: &Connection, agent: &str, snapshot: &ProcessSnapshot) -> Result<()> {
    // Plain data always serialises.
    let json = serde_json::to_string(snapshot).unwrap_or_default();
    tx.prepare_cached(
        "INSERT OR IGNORE INTO process_snapshots (agent_id, taken_ms, snapshot)
         VALUES (?1, ?2, ?3)",
    )?
    .execute(params![agent, snapshot.taken_at_ms, json])?;
    tx.prepare_cached(
        "DELETE FROM process_snapshots WHERE agent_id = ?1 AND id NOT IN
           (SELECT id FROM process_snapshots WHERE agent_id = ?1 ORDER BY id DESC LIMIT ?2)",
    )?
    .execute(params![agent, SNAPSHOTS_PER_AGENT_MAX as i64])?;
    tx.prepare_cached(
        "DELETE FROM process_snapshots WHERE id IN
           (SELECT id FROM process_snapshots ORDER BY id DESC LIMIT -1 OFFSET ?1)",
    )?
    .execute([SNAPSHOTS_MAX as i64])
    .map(drop)
}

/// The snapshot of an alert's host: the first one after the alert began, or the last one shortly
/// before.
pub(crate) fn snapshot_of(db: &Connection, event: &AlertEvent) -> Result<Option<ProcessSnapshot>> {
    let began_ms = event.first_triggered_at_ms;
    let after_ms = if event.is_recovery() { 0 } else { AFTER_ALERT_MS };
    let last_ms = event.timestamp_ms.saturating_add(after_ms);
    let mut after = db.prepare_cached(
        "SELECT snapshot FROM process_snapshots
         WHERE agent_id = ?1 AND taken_ms BETWEEN ?2 AND ?3 ORDER BY taken_ms LIMIT 1",
    )?;
    let mut before = db.prepare_cached(
        "SELECT snapshot FROM process_snapshots
         WHERE agent_id = ?1 AND taken_ms BETWEEN ?2 AND ?3 ORDER BY taken_ms DESC LIMIT 1",
    )?;
    let text = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    let found = after.query_row(params![event.agent_id, began_ms, last_ms], text).optional()?;
    let found = match found {
        Some(found) => Some(found),
        None => {
            let from_ms = began_ms.saturating_sub(BEFORE_ALERT_MS);
            before.query_row(params![event.agent_id, from_ms, began_ms], text).optional()?
        }
    };
    Ok(found.and_then(|json| serde_json::from_str(&json).ok()))
}

/// Removes what is stored of an agent's host.
pub(crate) fn remove(tx: &Connection, agent: &str) -> Result<()> {
    tx.execute("DELETE FROM agent_facts WHERE agent_id = ?1", [agent])?;
    tx.execute("DELETE FROM process_snapshots WHERE agent_id = ?1", [agent]).map(drop)
}

/// Removes what is stored of hosts whose agents are not `known`.
pub(crate) fn remove_unknown(tx: &Connection, known: &HashSet<String>) -> Result<()> {
    let mut query = tx
        .prepare("SELECT agent_id FROM agent_facts UNION SELECT agent_id FROM process_snapshots")?;
    let agents: Vec<String> = query.query_map([], |row| row.get(0))?.collect::<Result<_>>()?;
    agents.iter().filter(|agent| !known.contains(*agent)).try_for_each(|agent| remove(tx, agent))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::alert::AlertStatus;
    use crate::model::host::ProcessUse;
    use crate::model::series::Labels;
    use crate::model::severity::Severity;

    fn db() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(SCHEMA).unwrap();
        db
    }

    fn snapshot(taken_at_ms: i64) -> ProcessSnapshot {
        let process = ProcessUse { pid: 812, name: "python3".to_owned(), ..ProcessUse::default() };
        ProcessSnapshot { taken_at_ms, processes: vec![process], ..ProcessSnapshot::default() }
    }

    fn event(began_ms: i64, fired_ms: i64) -> AlertEvent {
        AlertEvent {
            id: "e1".to_owned(),
            rule_id: "r1".to_owned(),
            rule_name: "hot".to_owned(),
            agent_id: "web-1".to_owned(),
            metric_name: "cpu.usage".to_owned(),
            severity: Severity::Critical,
            message: String::new(),
            labels: Labels::none(),
            value: 97.0,
            threshold: 90.0,
            timestamp_ms: fired_ms,
            predicted_breach_ms: None,
            first_triggered_at_ms: began_ms,
            status: AlertStatus::Firing,
            resolved_at_ms: None,
            facts: None,
        }
    }

    #[test]
    fn facts_are_replaced_and_found_by_any_part_of_them() {
        let db = db();
        let facts = HostFacts {
            os: "Debian GNU/Linux 12".to_owned(),
            addresses: vec!["10.0.0.7".to_owned()],
            ..HostFacts::default()
        };
        put_facts(&db, "web-1", &facts, 1_000).unwrap();
        put_facts(&db, "web-1", &facts, 2_000).unwrap();
        assert_eq!(super::facts(&db, "web-1").unwrap(), Some((facts.clone(), 1_000)), "unchanged");
        let newer = HostFacts { cpu_cores: 8, ..facts };
        put_facts(&db, "web-1", &newer, 3_000).unwrap();
        assert_eq!(super::facts(&db, "web-1").unwrap(), Some((newer, 3_000)));
        let found = |text: &str| with_facts(&db, text).unwrap().into_iter().collect::<Vec<_>>();
        assert_eq!(
            (found("DEBIAN"), found("10.0.0.7")),
            (vec!["web-1".into()], vec!["web-1".into()])
        );
        assert!(found("alpine").is_empty());
        remove_unknown(&db, &HashSet::from(["web-2".to_owned()])).unwrap();
        assert_eq!(super::facts(&db, "web-1").unwrap(), None);
    }

    #[test]
    fn an_alert_has_the_first_snapshot_after_it_began() {
        let db = db();
        for at in [100_000, 210_000, 260_000] {
            put_snapshot(&db, "web-1", &snapshot(at)).unwrap();
        }
        put_snapshot(&db, "web-2", &snapshot(201_000)).unwrap();
        let of = |began_ms, fired_ms| {
            let found = snapshot_of(&db, &event(began_ms, fired_ms)).unwrap();
            found.map(|snapshot| snapshot.taken_at_ms)
        };
        assert_eq!(of(200_000, 230_000), Some(210_000));
        assert_eq!(of(300_000, 300_000), Some(260_000), "one that was taken shortly before");
        assert_eq!(of(400_000, 400_000), None);
        assert_eq!(of(-900_000, -900_000), None);
        let ended = AlertEvent {
            status: AlertStatus::Resolved,
            resolved_at_ms: Some(205_000),
            ..event(200_000, 205_000)
        };
        assert_eq!(snapshot_of(&db, &ended).unwrap(), None, "it ended before");
    }

    #[test]
    fn no_more_snapshots_are_kept_than_may_be() {
        let db = db();
        for at in 0..3 * SNAPSHOTS_PER_AGENT_MAX as i64 {
            put_snapshot(&db, "web-1", &snapshot(at)).unwrap();
        }
        let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        let all = "SELECT count(*) FROM process_snapshots";
        assert_eq!(count(all), SNAPSHOTS_PER_AGENT_MAX as i64);
        for agent in 0..SNAPSHOTS_MAX + 7 {
            put_snapshot(&db, &format!("many-{agent}"), &snapshot(1)).unwrap();
        }
        assert_eq!(count(all), SNAPSHOTS_MAX as i64);
        assert_eq!(count("SELECT count(*) FROM process_snapshots WHERE agent_id = 'web-1'"), 0);
    }
}
