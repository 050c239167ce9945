//! Notices: events that must be notified and wait to be routed.

use rusqlite::{Connection, Transaction, params};

/// A notice: one event that must be notified, until its group is due or a silence window ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Row number: notices are notified in its order.
    pub id: i64,
    /// The alert: rule, agent, metric and labels, hashed.
    pub alert_key: String,
    /// When it is due, Unix milliseconds.
    pub due_ms: i64,
    /// Whether a silence window holds it back already.
    pub suppressed: bool,
    /// The event as JSON.
    pub event: String,
}

/// What is merged into one notification: same rule, same severity, same kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// The rule's id.
    pub rule_id: String,
    /// The severity's name.
    pub severity: String,
    /// `firing` or `resolved`.
    pub kind: String,
}

/// Queues a notice.
pub(crate) fn add(
    tx: &Transaction<'_>,
    group: &Group,
    alert_key: &str,
    due_ms: i64,
    event: &str,
) -> Result<(), rusqlite::Error> {
    tx.prepare_cached(
        "INSERT INTO notices (alert_key, rule_id, severity, kind, state, due_ms, event)
         VALUES (?1, ?2, ?3, ?4, 'waiting', ?5, ?6)",
    )?
    .execute(params![alert_key, group.rule_id, group.severity, group.kind, due_ms, event])?;
    Ok(())
}

/// Removes what still waits about an alert; gives the earliest time at which a firing of it that
/// no window holds back was due.
pub(crate) fn remove_of(
    tx: &Transaction<'_>,
    alert_key: &str,
) -> Result<Option<i64>, rusqlite::Error> {
    let due = firing_due(tx, alert_key)?;
    tx.prepare_cached("DELETE FROM notices WHERE alert_key = ?1")?.execute([alert_key])?;
    Ok(due)
}

/// Removes firings of an alert that a silence window holds back.
pub(crate) fn remove_held(tx: &Transaction<'_>, alert_key: &str) -> Result<(), rusqlite::Error> {
    let sql = "DELETE FROM notices WHERE alert_key = ?1 AND state <> 'waiting' AND kind = 'firing'";
    tx.prepare_cached(sql)?.execute([alert_key])?;
    Ok(())
}

/// Removes recoveries of an alert that fires again.
pub(crate) fn remove_recoveries(
    tx: &Transaction<'_>,
    alert_key: &str,
) -> Result<(), rusqlite::Error> {
    let sql = "DELETE FROM notices WHERE alert_key = ?1 AND kind = 'resolved'";
    tx.prepare_cached(sql)?.execute([alert_key])?;
    Ok(())
}

/// Whether a recovery of the alert is pending.
pub(crate) fn recovers(db: &Connection, alert_key: &str) -> Result<bool, rusqlite::Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM notices WHERE alert_key = ?1 AND kind = 'resolved')";
    db.prepare_cached(sql)?.query_row([alert_key], |row| row.get(0))
}

/// Marks the firing of an alert as held back by its repeat interval.
pub(crate) fn hold(tx: &Transaction<'_>, alert_key: &str) -> Result<(), rusqlite::Error> {
    let sql = "UPDATE notices SET state = 'held' WHERE alert_key = ?1 AND kind = 'firing'";
    tx.prepare_cached(sql)?.execute([alert_key])?;
    Ok(())
}

/// When a firing of the alert that waits for its group is due.
pub(crate) fn firing_due(db: &Connection, alert_key: &str) -> Result<Option<i64>, rusqlite::Error> {
    db.prepare_cached(
        "SELECT MIN(due_ms) FROM notices
         WHERE alert_key = ?1 AND kind = 'firing' AND state = 'waiting'",
    )?
    .query_row([alert_key], |row| row.get(0))
}

/// Groups with something due.
pub(crate) fn due_groups(db: &Connection, now_ms: i64) -> Result<Vec<Group>, rusqlite::Error> {
    // Firings first: a recovery that is due at the same time is notified after them.
    let mut query = db.prepare_cached(
        "SELECT DISTINCT rule_id, severity, kind FROM notices WHERE due_ms <= ?1
         ORDER BY kind, rule_id, severity",
    )?;
    query
        .query_map([now_ms], |row| {
            Ok(Group { rule_id: row.get(0)?, severity: row.get(1)?, kind: row.get(2)? })
        })?
        .collect()
}

/// The notices of a group, oldest first: those that wait for it, and those whose window has ended.
pub(crate) fn group_notices(
    db: &Connection,
    group: &Group,
    now_ms: i64,
    limit: usize,
) -> Result<Vec<Pending>, rusqlite::Error> {
    let mut query = db.prepare_cached(
        "SELECT id, alert_key, due_ms, state = 'silenced', event FROM notices
         WHERE rule_id = ?1 AND severity = ?2 AND kind = ?3 AND (state = 'waiting' OR due_ms <= ?4)
         ORDER BY id LIMIT ?5",
    )?;
    query
        .query_map(
            params![group.rule_id, group.severity, group.kind, now_ms, limit as i64],
            |row| {
                Ok(Pending {
                    id: row.get(0)?,
                    alert_key: row.get(1)?,
                    due_ms: row.get(2)?,
                    suppressed: row.get(3)?,
                    event: row.get(4)?,
                })
            },
        )?
        .collect()
}

/// Puts a notice off, as one that waits (`silenced` false) or that a window holds back.
pub(crate) fn put_off(
    tx: &Transaction<'_>,
    id: i64,
    due_ms: i64,
    silenced: bool,
) -> Result<(), rusqlite::Error> {
    let state = if silenced { "silenced" } else { "waiting" };
    tx.prepare_cached("UPDATE notices SET due_ms = ?2, state = ?3 WHERE id = ?1")?
        .execute(params![id, due_ms, state])?;
    Ok(())
}

/// The clock may have been put back: no group waits longer than until `due_ms_max`, and whether a
/// window holds something back is looked at again.
pub(crate) fn put_back(
    tx: &Transaction<'_>,
    due_ms_max: i64,
    now_ms: i64,
) -> Result<(), rusqlite::Error> {
    let waiting = "UPDATE notices SET due_ms = ?1 WHERE state = 'waiting' AND due_ms > ?1";
    tx.execute(waiting, [due_ms_max])?;
    tx.execute("UPDATE notices SET due_ms = ?1 WHERE state <> 'waiting'", [now_ms])?;
    Ok(())
}

/// Removes a notice that has been routed.
pub(crate) fn remove(tx: &Transaction<'_>, id: i64) -> Result<(), rusqlite::Error> {
    tx.prepare_cached("DELETE FROM notices WHERE id = ?1")?.execute([id])?;
    Ok(())
}
