//! What several servers share (`[peers]`): the configuration that people change. One server is its
//! home; the others have a copy, which they do not change.
//!
//! Triggers on the shared tables raise the version with each change, in its own transaction and
//! whichever program makes it, and note which row it was; where the home is another server, they
//! refuse it. So no writer has to remember either.
//!
//! Shared, since they count on every server:
//!
//! - `users`, `api_tokens` (but for `last_used_at`), `ended_logins` and the `jwt_secret` of
//!   `settings`: a login works on every server, and ends on every server;
//! - `agent_whitelist`, `enroll_codes`: an agent reports to any of them;
//! - `alert_rules`, `notification_channels`, `notification_recipients`, `silence_windows`: each
//!   evaluates and notifies for the agents that report to it;
//! - `cert_domains` (but for `state` and `last_checked_at`): the home checks them;
//! - `host_profiles`: names, notes and tags.
//!
//! Not shared, since they are about what one server does or has:
//!
//! - `alert_state`, `alert_journal`, `alert_watermark`, `notices`, other `notification*`, `outbox`:
//!   the alerts that it evaluates;
//! - `cert_checks`, `certificates`: results of the home's checks;
//! - `alert_comments`, `audit_log`: with its events, and its calls;
//! - `agent_facts`, `process_snapshots`, `removed_agents`, `remote_*`, other `settings`: what is
//!   stored on this machine.

use rusqlite::{Connection, Result, params};

use crate::base::limits::SHARED_CHANGES_MAX;

mod rows;
#[cfg(test)]
mod tests;

pub(crate) use rows::{Applied, Delta, apply, changes};

/// The triggers of a table: its name, the column by which its rows are known, the columns that are
/// shared, and a condition on the row where not all rows are.
macro_rules! tracked {
    ($table:literal, $key:literal, $columns:literal, $new:literal, $old:literal) => {
        concat!(
            "CREATE TRIGGER shared_", $table, "_insert AFTER INSERT ON ", $table, " ", $new,
            " BEGIN ", tracked!(@note $table, "NEW", $key), " END;\n",
            "CREATE TRIGGER shared_", $table, "_update AFTER UPDATE OF ", $columns, " ON ", $table,
            " ", $new, " BEGIN ", tracked!(@note $table, "NEW", $key), " END;\n",
            "CREATE TRIGGER shared_", $table, "_delete AFTER DELETE ON ", $table, " ", $old,
            " BEGIN ", tracked!(@note $table, "OLD", $key), " END;\n",
        )
    };
    (@note $table:literal, $row:literal, $key:literal) => {
        concat!(
            "SELECT RAISE(ABORT, 'another server is the home of the configuration') ",
            "FROM shared_state WHERE NOT writable; ",
            "UPDATE shared_state SET version = version + 1; ",
            // Not INSERT OR REPLACE: the conflict clause of the outer statement would win.
            "DELETE FROM shared_changes WHERE tbl = '", $table, "' AND key = ", $row, ".", $key, "; ",
            "INSERT INTO shared_changes SELECT '", $table, "', ", $row, ".", $key,
            ", version FROM shared_state;",
        )
    };
    ($table:literal, $key:literal, $columns:literal) => {
        tracked!($table, $key, $columns, "", "")
    };
}

/// The schema's step.
pub(crate) const SCHEMA: &str = concat!(
    "
CREATE TABLE shared_state (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  -- Whether changes are made here: 1 at the home, and where there is one server.
  writable INTEGER NOT NULL,
  -- Goes up with each change.
  version INTEGER NOT NULL,
  -- Of changes up to this version, shared_changes does not say which rows they were.
  floor INTEGER NOT NULL,
  -- The home, and its epoch, that the rows are of; 0: of this server before it had sisters.
  epoch INTEGER NOT NULL,
  home TEXT NOT NULL,
  -- The version of the last rows that came from the home; what is above it was changed here.
  synced INTEGER NOT NULL,
  -- Who is home now, as far as is known here.
  lead_epoch INTEGER NOT NULL,
  lead TEXT NOT NULL
);
INSERT INTO shared_state VALUES (1, 1, 1, 1, 0, '', 0, 0, '');
CREATE TABLE shared_changes (
  tbl TEXT NOT NULL,
  key NOT NULL,
  version INTEGER NOT NULL,
  PRIMARY KEY (tbl, key)
) WITHOUT ROWID;
CREATE INDEX shared_changes_version ON shared_changes (version);
-- From which epoch, and which of its versions, each epoch went on.
CREATE TABLE shared_epochs (
  epoch INTEGER NOT NULL,
  home TEXT NOT NULL,
  from_epoch INTEGER NOT NULL,
  from_home TEXT NOT NULL,
  from_version INTEGER NOT NULL,
  PRIMARY KEY (epoch, home)
) WITHOUT ROWID;
",
    tracked!(
        "users",
        "id",
        "username, password_hash, role, token_epoch, must_change, created_at, updated_at"
    ),
    tracked!("api_tokens", "id", "user_id, name, token_hash, read_only, expires_at, created_at"),
    tracked!(
        "settings",
        "name",
        "value",
        "WHEN NEW.name = 'jwt_secret'",
        "WHEN OLD.name = 'jwt_secret'"
    ),
    tracked!("ended_logins", "id", "expires_at"),
    tracked!("agent_whitelist", "id", "agent_id, description, token_hash, created_at, updated_at"),
    tracked!("enroll_codes", "code_hash", "agent_id, created_by, created_at, expires_at"),
    tracked!(
        "alert_rules",
        "id",
        "name, rule_type, metric, agent_pattern, severity, enabled, config_json, silence_secs, \
         created_at, updated_at"
    ),
    tracked!(
        "notification_channels",
        "id",
        "name, channel_type, description, min_severity, enabled, config_json, created_at, updated_at"
    ),
    tracked!("notification_recipients", "channel_id", "position, recipient"),
    tracked!(
        "silence_windows",
        "id",
        "start_time, end_time, recurrence, days, date, end_date, time_zone, agent_pattern, \
         metric_pattern, created_at, updated_at, starts_at_ms, ends_at_ms, comment, created_by"
    ),
    tracked!(
        "cert_domains",
        "id",
        "domain, port, enabled, check_interval_secs, note, starttls, created_at, updated_at"
    ),
    tracked!("host_profiles", "agent_id", "display_name, note, tags, updated_at"),
);

/// A home and its epoch. Of two the higher epoch counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Rank {
    /// Goes up with each promotion; 0: nobody was home yet.
    pub(crate) epoch: i64,
    /// The server's name.
    pub(crate) home: String,
}

/// The row of `shared_state`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Whether changes are made here.
    pub(crate) writable: bool,
    /// The version of the rows here.
    pub(crate) version: i64,
    /// Changes up to this version are not in `shared_changes`.
    pub(crate) floor: i64,
    /// Whose rows they are.
    pub(crate) of: Rank,
    /// The version of the last rows that came from there.
    pub(crate) synced: i64,
    /// Who is home now, as far as is known here.
    pub(crate) lead: Rank,
}

/// From where an epoch went on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Epoch {
    /// The epoch and its home.
    pub(crate) rank: Rank,
    /// The epoch whose rows the home had when it began.
    pub(crate) from: Rank,
    /// Their version.
    pub(crate) from_version: i64,
}

/// Whether an error is that of a trigger that refuses a change, since another server is home.
pub(crate) fn is_refused(error: &rusqlite::Error) -> bool {
    let trigger = rusqlite::ffi::SQLITE_CONSTRAINT_TRIGGER;
    matches!(error, rusqlite::Error::SqliteFailure(code, _) if code.extended_code == trigger)
}

/// Where this server is.
pub(crate) fn state(db: &Connection) -> Result<State> {
    let sql = "SELECT writable, version, floor, epoch, home, synced, lead_epoch, lead
               FROM shared_state";
    db.prepare_cached(sql)?.query_row([], |row| {
        Ok(State {
            writable: row.get(0)?,
            version: row.get(1)?,
            floor: row.get(2)?,
            of: Rank { epoch: row.get(3)?, home: row.get(4)? },
            synced: row.get(5)?,
            lead: Rank { epoch: row.get(6)?, home: row.get(7)? },
        })
    })
}

/// The version of the rows here.
pub(crate) fn version(db: &Connection) -> Result<i64> {
    db.prepare_cached("SELECT version FROM shared_state")?.query_row([], |row| row.get(0))
}

/// Every epoch that is known here.
pub(crate) fn epochs(db: &Connection) -> Result<Vec<Epoch>> {
    let sql = "SELECT epoch, home, from_epoch, from_home, from_version FROM shared_epochs
               ORDER BY epoch, home";
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map([], |row| {
        Ok(Epoch {
            rank: Rank { epoch: row.get(0)?, home: row.get(1)? },
            from: Rank { epoch: row.get(2)?, home: row.get(3)? },
            from_version: row.get(4)?,
        })
    })?;
    rows.collect()
}

/// Notes from where an epoch went on.
pub(crate) fn put_epoch(tx: &Connection, epoch: &Epoch) -> Result<()> {
    let sql = "INSERT OR IGNORE INTO shared_epochs VALUES (?1, ?2, ?3, ?4, ?5)";
    let Epoch { rank, from, from_version } = epoch;
    tx.execute(sql, params![rank.epoch, rank.home, from.epoch, from.home, from_version]).map(drop)
}

/// This server begins without sisters: changes are made here, and nobody asks which they were.
pub(crate) fn start_alone(tx: &Connection) -> Result<()> {
    tx.execute("DELETE FROM shared_changes", [])?;
    let sql = "UPDATE shared_state SET writable = 1, floor = version
               WHERE NOT writable OR floor < version";
    tx.execute(sql, []).map(drop)
}

/// This server begins among sisters as `name`. Where nobody was home yet, `home` is.
pub(crate) fn start(tx: &Connection, name: &str, home: &str) -> Result<State> {
    let now = state(tx)?;
    if now.lead.epoch == 0 {
        if home == name {
            begin_epoch(tx, &Rank { epoch: 1, home: name.to_owned() })?;
        } else {
            follow(tx, &Rank { epoch: 0, home: home.to_owned() })?;
        }
    } else {
        // Rows of an earlier epoch, as of a backup, are not what the others have.
        let writable = now.lead.home == name && now.of == now.lead;
        tx.execute("UPDATE shared_state SET writable = ?1", [writable])?;
    }
    state(tx)
}

/// Makes this server the home of an epoch that begins now.
pub(crate) fn begin_epoch(tx: &Connection, rank: &Rank) -> Result<()> {
    let now = state(tx)?;
    let epoch = Epoch { rank: rank.clone(), from: now.of, from_version: now.version };
    put_epoch(tx, &epoch)?;
    // The others take everything, since it is another home's.
    tx.execute("DELETE FROM shared_changes", [])?;
    tx.execute(
        "UPDATE shared_state SET writable = 1, floor = version, synced = version,
           epoch = ?1, home = ?2, lead_epoch = ?1, lead = ?2",
        params![rank.epoch, rank.home],
    )
    .map(drop)
}

/// Notes that another server is home.
pub(crate) fn follow(tx: &Connection, lead: &Rank) -> Result<()> {
    let sql = "UPDATE shared_state SET writable = 0, lead_epoch = ?1, lead = ?2";
    tx.execute(sql, params![lead.epoch, lead.home]).map(drop)
}

/// Forgets which rows changed, where there are too many of them: who lacks one takes everything.
pub(crate) fn prune(tx: &Connection) -> Result<()> {
    let count: i64 = tx.query_row("SELECT count(*) FROM shared_changes", [], |row| row.get(0))?;
    if count <= SHARED_CHANGES_MAX {
        return Ok(());
    }
    tx.execute("DELETE FROM shared_changes", [])?;
    tx.execute("UPDATE shared_state SET floor = version", []).map(drop)
}

/// The version up to which the rows of this server, as they are of `of`, are known to `epochs`:
/// what was changed here later, nobody else has. `None` where that can't be said.
fn known_to(of: &Rank, epochs: &[Epoch]) -> Option<i64> {
    epochs.iter().find(|epoch| epoch.from == *of).map(|epoch| epoch.from_version)
}
