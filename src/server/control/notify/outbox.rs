//! Notifications that wait to be sent, and who was notified what.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

/// A notification as it is stored: what is notified, the same for every channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotificationRow {
    /// Unique id.
    pub id: String,
    /// The rule's id.
    pub rule_id: String,
    /// The rule's name.
    pub rule_name: String,
    /// The severity's name.
    pub severity: String,
    /// `firing` or `resolved`.
    pub kind: String,
    /// The events as a JSON array.
    pub events: String,
    /// When it was routed, Unix milliseconds.
    pub created_ms: i64,
}

/// Writes a notification and which `(event, agent)` pairs it is about.
pub(crate) fn add_notification<'a>(
    tx: &Transaction<'_>,
    row: &NotificationRow,
    about: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), rusqlite::Error> {
    tx.execute(
        "INSERT INTO notifications (id, rule_id, rule_name, severity, kind, events, created_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            row.id,
            row.rule_id,
            row.rule_name,
            row.severity,
            row.kind,
            row.events,
            row.created_ms
        ],
    )?;
    let mut insert = tx.prepare_cached(
        "INSERT OR IGNORE INTO notification_events (notification_id, event_id, agent_id)
         VALUES (?1, ?2, ?3)",
    )?;
    for (event, agent) in about {
        insert.execute([&row.id, event, agent])?;
    }
    Ok(())
}

/// Queues a notification for a channel.
pub(crate) fn enqueue(
    tx: &Transaction<'_>,
    channel_id: &str,
    notification: &NotificationRow,
    now_ms: i64,
    deadline_ms: i64,
) -> Result<(), rusqlite::Error> {
    tx.execute(
        "INSERT INTO outbox (channel_id, notification_id, rule_id, due_ms, deadline_ms, created_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?4)",
        params![channel_id, notification.id, notification.rule_id, now_ms, deadline_ms],
    )?;
    Ok(())
}

/// Notes that a channel is notified of an alert, so that it hears of the recovery.
pub(crate) fn set_told(
    tx: &Transaction<'_>,
    key: &str,
    channel_id: &str,
) -> Result<(), rusqlite::Error> {
    tx.prepare_cached(
        "INSERT OR IGNORE INTO notification_told (alert_key, channel_id) VALUES (?1, ?2)",
    )?
    .execute([key, channel_id])?;
    Ok(())
}

/// Channels that were notified of an alert.
pub(crate) fn told(db: &Connection, alert_key: &str) -> Result<Vec<String>, rusqlite::Error> {
    let sql = "SELECT channel_id FROM notification_told WHERE alert_key = ?1";
    db.prepare_cached(sql)?.query_map([alert_key], |row| row.get(0))?.collect()
}

/// Forgets who was notified of an alert; of one channel only, where it is named.
pub(crate) fn forget_told(
    tx: &Transaction<'_>,
    alert_key: &str,
    channel_id: Option<&str>,
) -> Result<(), rusqlite::Error> {
    tx.prepare_cached(
        "DELETE FROM notification_told WHERE alert_key = ?1 AND (?2 IS NULL OR channel_id = ?2)",
    )?
    .execute(params![alert_key, channel_id])?;
    Ok(())
}

/// Notes which recipients of a channel missed the firing of an alert.
pub(crate) fn set_missed(
    tx: &Transaction<'_>,
    alert_key: &str,
    channel_id: &str,
    recipient: &str,
) -> Result<(), rusqlite::Error> {
    tx.prepare_cached("INSERT OR IGNORE INTO notification_missed VALUES (?1, ?2, ?3)")?
        .execute([alert_key, channel_id, recipient])?;
    Ok(())
}

/// Recipients of a channel who missed the firing of an alert.
pub(crate) fn missed(
    db: &Connection,
    alert_key: &str,
    channel_id: &str,
) -> Result<Vec<String>, rusqlite::Error> {
    let sql = "SELECT recipient FROM notification_missed WHERE alert_key = ?1 AND channel_id = ?2";
    db.prepare_cached(sql)?.query_map([alert_key, channel_id], |row| row.get(0))?.collect()
}

/// Forgets who missed the firing of an alert: it fires again, or its end was sent.
pub(crate) fn forget_missed(
    tx: &Transaction<'_>,
    alert_key: &str,
    channel_id: &str,
) -> Result<(), rusqlite::Error> {
    tx.prepare_cached("DELETE FROM notification_missed WHERE alert_key = ?1 AND channel_id = ?2")?
        .execute([alert_key, channel_id])?;
    Ok(())
}

/// A notification that waits for one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Row number.
    pub id: i64,
    /// The channel's id.
    pub channel_id: String,
    /// When it is given up, Unix milliseconds.
    pub deadline_ms: i64,
    /// Attempts that were made.
    pub attempts: u32,
    /// Recipients that have it already.
    pub served: Vec<String>,
    /// Rows of the same alerts before it that some recipients have and others have not.
    pub ahead: Vec<Ahead>,
    /// What is notified.
    pub notification: NotificationRow,
}

/// A row that comes before another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// Recipients that have it already.
    pub served: Vec<String>,
    /// When it is tried next, Unix milliseconds.
    pub due_ms: i64,
}

/// Whether row `p` is of the same channel as row `o`, before it, and about an alert of the same
/// rule and agent: a recovery must not overtake its firing.
macro_rules! comes_before {
    () => {
        "p.channel_id = o.channel_id AND p.rule_id = o.rule_id AND p.id < o.id AND EXISTS (
           SELECT 1 FROM notification_events oe CROSS JOIN notification_events pe
           WHERE oe.notification_id = o.notification_id
             AND pe.agent_id = oe.agent_id AND pe.notification_id = p.notification_id)"
    };
}

/// For each channel the oldest row that is due and waits for no other: of one alert a channel
/// hears in order, and what one alert meets holds up no other. A row that some recipients have
/// lets those go on who have it; see [`Waiting::ahead`]. Rows that were made after `made_to_ms`
/// wait.
pub(crate) fn due_rows(
    db: &Connection,
    now_ms: i64,
    made_to_ms: i64,
) -> Result<Vec<(String, i64)>, rusqlite::Error> {
    // The subquery ends at the first row that fits, so a long queue costs no more than a short one.
    let mut query = db.prepare_cached(concat!(
        "SELECT id, row FROM (
           SELECT c.id, (
             SELECT o.id FROM outbox o
             WHERE o.channel_id = c.id AND +o.due_ms <= ?1 AND +o.created_ms <= ?2
               AND NOT EXISTS (
               SELECT 1 FROM outbox p WHERE p.served = '[]' AND ",
        comes_before!(),
        ")
             ORDER BY o.id LIMIT 1) AS row
           FROM notification_channels c)
         WHERE row IS NOT NULL"
    ))?;
    query.query_map([now_ms, made_to_ms], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// A waiting row with its notification.
pub(crate) fn load(db: &Connection, id: i64) -> Result<Option<Waiting>, rusqlite::Error> {
    let waiting = load_row(db, id)?;
    let Some(mut waiting) = waiting else { return Ok(None) };
    let mut query = db.prepare_cached(concat!(
        "SELECT p.served, p.due_ms FROM outbox o, outbox p WHERE o.id = ?1 AND ",
        comes_before!()
    ))?;
    let ahead = query.query_map([id], |row| {
        let served: String = row.get(0)?;
        Ok(Ahead { served: names(&served), due_ms: row.get(1)? })
    })?;
    waiting.ahead = ahead.collect::<Result<_, _>>()?;
    Ok(Some(waiting))
}

/// Only this program writes it; what can't be read counts as nobody.
fn names(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_default()
}

fn load_row(db: &Connection, id: i64) -> Result<Option<Waiting>, rusqlite::Error> {
    db.prepare_cached(
        "SELECT o.id, o.channel_id, o.deadline_ms, o.attempts, o.served,
                n.id, n.rule_id, n.rule_name, n.severity, n.kind, n.events, n.created_ms
         FROM outbox o JOIN notifications n ON n.id = o.notification_id WHERE o.id = ?1",
    )?
    .query_row([id], |row| {
        let served: String = row.get(4)?;
        Ok(Waiting {
            id: row.get(0)?,
            channel_id: row.get(1)?,
            deadline_ms: row.get(2)?,
            attempts: row.get(3)?,
            served: names(&served),
            ahead: Vec::new(),
            notification: NotificationRow {
                id: row.get(5)?,
                rule_id: row.get(6)?,
                rule_name: row.get(7)?,
                severity: row.get(8)?,
                kind: row.get(9)?,
                events: row.get(10)?,
                created_ms: row.get(11)?,
            },
        })
    })
    .optional()
}

/// Notes that one more recipient has a notification, in the middle of an attempt.
pub(crate) fn set_served(
    tx: &Transaction<'_>,
    id: i64,
    served: &[String],
) -> Result<(), rusqlite::Error> {
    let json = serde_json::to_string(served).unwrap_or_else(|_| "[]".to_owned());
    tx.prepare_cached("UPDATE outbox SET served = ?2 WHERE id = ?1")?.execute(params![id, json])?;
    Ok(())
}

/// Counts an attempt that failed and sets when the next one is due.
pub(crate) fn retry(tx: &Transaction<'_>, id: i64, due_ms: i64) -> Result<(), rusqlite::Error> {
    let sql =
        "UPDATE outbox SET attempts = attempts + 1, due_ms = MIN(?2, deadline_ms) WHERE id = ?1";
    tx.execute(sql, [id, due_ms])?;
    Ok(())
}

/// Says when a row is looked at again, without counting an attempt.
pub(crate) fn put_off(tx: &Transaction<'_>, id: i64, due_ms: i64) -> Result<(), rusqlite::Error> {
    tx.execute("UPDATE outbox SET due_ms = ?2 WHERE id = ?1", [id, due_ms])?;
    Ok(())
}

/// The clock has been put back: no row is due later than `due_ms_max`, and none has more than
/// `deadline_ms_max` left.
pub(crate) fn put_back(
    tx: &Transaction<'_>,
    due_ms_max: i64,
    deadline_ms_max: i64,
) -> Result<(), rusqlite::Error> {
    tx.execute("UPDATE outbox SET due_ms = ?1 WHERE due_ms > ?1", [due_ms_max])?;
    tx.execute("UPDATE outbox SET deadline_ms = ?1 WHERE deadline_ms > ?1", [deadline_ms_max])?;
    Ok(())
}

/// Puts off all that waits for a channel whose endpoint does not answer.
pub(crate) fn hold_channel(
    tx: &Transaction<'_>,
    channel_id: &str,
    until_ms: i64,
) -> Result<(), rusqlite::Error> {
    tx.execute(
        "UPDATE outbox SET due_ms = MAX(due_ms, MIN(?2, deadline_ms)) WHERE channel_id = ?1",
        params![channel_id, until_ms],
    )?;
    Ok(())
}

/// Makes due what was only put off because its channel's endpoint did not answer.
pub(crate) fn release_channel(
    tx: &Transaction<'_>,
    channel_id: &str,
    now_ms: i64,
) -> Result<(), rusqlite::Error> {
    tx.execute(
        "UPDATE outbox SET due_ms = ?2 WHERE channel_id = ?1 AND attempts = 0 AND due_ms > ?2",
        params![channel_id, now_ms],
    )?;
    Ok(())
}

/// Notifications of the firing of an event that wait for a channel: id, and the events as JSON.
pub(crate) fn firings_of(
    db: &Connection,
    event_id: &str,
) -> Result<Vec<(String, String)>, rusqlite::Error> {
    let mut query = db.prepare_cached(
        "SELECT n.id, n.events FROM notification_events e JOIN notifications n
           ON n.id = e.notification_id
         WHERE e.event_id = ?1 AND n.kind = 'firing'
           AND EXISTS (SELECT 1 FROM outbox o WHERE o.notification_id = n.id)",
    )?;
    query.query_map([event_id], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Whether the firing of an event still waits for a channel, or to be routed.
pub(crate) fn is_unsent(
    db: &Connection,
    event_id: &str,
    alert_key: &str,
) -> Result<bool, rusqlite::Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM notices WHERE alert_key = ?1 AND kind = 'firing')";
    let waits: bool = db.prepare_cached(sql)?.query_row([alert_key], |row| row.get(0))?;
    Ok(waits || !firings_of(db, event_id)?.is_empty())
}

/// Takes an event out of a notification that waits: `left` are its other events as JSON, `None`
/// when there are none.
pub(crate) fn take_out(
    tx: &Transaction<'_>,
    notification_id: &str,
    event_id: &str,
    left: Option<&String>,
) -> Result<(), rusqlite::Error> {
    let Some(left) = left else {
        return tx
            .execute("DELETE FROM outbox WHERE notification_id = ?1", [notification_id])
            .map(drop);
    };
    tx.execute("UPDATE notifications SET events = ?2 WHERE id = ?1", [notification_id, left])?;
    tx.execute(
        "DELETE FROM notification_events WHERE notification_id = ?1 AND event_id = ?2",
        [notification_id, event_id],
    )
    .map(drop)
}

/// Removes a row that was sent or given up.
pub(crate) fn remove(tx: &Transaction<'_>, id: i64) -> Result<(), rusqlite::Error> {
    tx.execute("DELETE FROM outbox WHERE id = ?1", [id])?;
    Ok(())
}

/// Rows of the outbox, notices that wait, and when the next of either is due.
pub(crate) fn depth(db: &Connection) -> Result<(i64, i64, Option<i64>), rusqlite::Error> {
    db.query_row(
        "SELECT (SELECT COUNT(*) FROM outbox), (SELECT COUNT(*) FROM notices),
           (SELECT MIN(due) FROM (SELECT MIN(due_ms) AS due FROM outbox
                                  UNION ALL SELECT MIN(due_ms) FROM notices))",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )
}
