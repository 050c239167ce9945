//! Rows of shared tables on their way from the home to a server that follows it.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, params, params_from_iter};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{Epoch, Rank, State, epochs, known_to, put_epoch, state};
use crate::base::ids::hex;
use crate::server::storage::StorageError;

/// A shared table.
struct Table {
    name: &'static str,
    /// By which its rows are known.
    key: &'static str,
    /// The columns that are shared, the key first.
    columns: &'static [&'static str],
    /// A column with names that no two rows may have, where it is not the key.
    unique: Option<&'static str>,
    /// Which rows are shared.
    filter: &'static str,
    /// Whether several rows have one key, and are replaced together.
    is_list: bool,
}

impl Table {
    const fn new(name: &'static str, columns: &'static [&'static str]) -> Self {
        Self { name, key: columns[0], columns, unique: None, filter: "1", is_list: false }
    }

    const fn unique(self, column: &'static str) -> Self {
        Self { unique: Some(column), ..self }
    }
}

/// All of them; a table is behind those that its rows refer to.
const TABLES: &[Table] = &[
    Table::new(
        "users",
        &[
            "id",
            "username",
            "password_hash",
            "role",
            "token_epoch",
            "must_change",
            "created_at",
            "updated_at",
        ],
    )
    .unique("username"),
    Table::new(
        "api_tokens",
        &["id", "user_id", "name", "token_hash", "read_only", "expires_at", "created_at"],
    ),
    Table { filter: "name = 'jwt_secret'", ..Table::new("settings", &["name", "value"]) },
    Table::new("ended_logins", &["id", "expires_at"]),
    Table::new(
        "agent_whitelist",
        &["id", "agent_id", "description", "token_hash", "created_at", "updated_at"],
    )
    .unique("agent_id"),
    Table::new(
        "enroll_codes",
        &["code_hash", "agent_id", "created_by", "created_at", "expires_at"],
    ),
    Table::new(
        "alert_rules",
        &[
            "id",
            "name",
            "rule_type",
            "metric",
            "agent_pattern",
            "severity",
            "enabled",
            "config_json",
            "silence_secs",
            "created_at",
            "updated_at",
        ],
    )
    .unique("name"),
    Table::new(
        "notification_channels",
        &[
            "id",
            "name",
            "channel_type",
            "description",
            "min_severity",
            "enabled",
            "config_json",
            "created_at",
            "updated_at",
        ],
    )
    .unique("name"),
    Table {
        is_list: true,
        ..Table::new("notification_recipients", &["channel_id", "position", "recipient"])
    },
    Table::new(
        "silence_windows",
        &[
            "id",
            "start_time",
            "end_time",
            "recurrence",
            "days",
            "date",
            "end_date",
            "time_zone",
            "agent_pattern",
            "metric_pattern",
            "created_at",
            "updated_at",
            "starts_at_ms",
            "ends_at_ms",
            "comment",
            "created_by",
        ],
    ),
    Table::new(
        "cert_domains",
        &[
            "id",
            "domain",
            "port",
            "enabled",
            "check_interval_secs",
            "note",
            "starttls",
            "created_at",
            "updated_at",
        ],
    )
    .unique("domain"),
    Table::new("host_profiles", &["agent_id", "display_name", "note", "tags", "updated_at"]),
];

/// The columns of each shared table, for the test that holds them against the schema.
#[cfg(test)]
pub(super) fn columns() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    TABLES.iter().map(|table| (table.name, table.columns))
}

/// What a server that follows lacks: rows of the home as they are at one version.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Delta {
    /// Whose rows they are.
    pub(crate) of: Rank,
    /// Their version.
    pub(crate) version: i64,
    /// Whether they are all rows: what is not among them is gone.
    pub(crate) full: bool,
    /// By table.
    pub(crate) tables: BTreeMap<String, Changed>,
    /// Every epoch that the home knows.
    pub(crate) epochs: Vec<Epoch>,
}

/// Rows of one table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Changed {
    /// Names of the values in `rows`.
    columns: Vec<String>,
    /// Keys of rows that were changed, made or removed; of a full delta none.
    keys: Vec<Json>,
    /// The rows as they are now.
    rows: Vec<Vec<Json>>,
}

/// What [`apply`] did.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Tables of which a row has changed.
    pub(crate) tables: BTreeSet<&'static str>,
    /// Keys of alert rules that were made or changed.
    pub(crate) rules: Vec<String>,
    /// Rows that were changed here and that the home does not have, as JSON.
    pub(crate) lost: Option<Json>,
}

/// What has changed since a version; everything, where that is `None` or was too long ago.
///
/// # Errors
///
/// When `cert.db` can't be read.
pub(crate) fn changes(db: &Connection, since: Option<i64>) -> Result<Delta, StorageError> {
    // All reads see one version.
    let tx = db.unchecked_transaction()?;
    let now = state(&tx)?;
    let since = since.filter(|since| (now.floor..=now.version).contains(since));
    let mut tables = BTreeMap::new();
    for table in TABLES {
        let changed = read_table(&tx, table, since)?;
        if since.is_none() || !changed.keys.is_empty() {
            tables.insert(table.name.to_owned(), changed);
        }
    }
    let epochs = epochs(&tx)?;
    Ok(Delta { of: now.of, version: now.version, full: since.is_none(), tables, epochs })
}

fn read_table(db: &Connection, table: &Table, since: Option<i64>) -> rusqlite::Result<Changed> {
    let Table { name, key, columns, filter, .. } = table;
    let list = columns.join(", ");
    let columns = columns.iter().map(|column| (*column).to_owned()).collect();
    let Some(since) = since else {
        let sql = format!("SELECT {list} FROM {name} WHERE {filter} ORDER BY {list}");
        return Ok(Changed { columns, keys: Vec::new(), rows: read_rows(db, &sql, &[])? });
    };
    let changed = "SELECT key FROM shared_changes WHERE tbl = ?1 AND version > ?2";
    let bound: [Value; 2] = [(*name).to_owned().into(), since.into()];
    let keys = read_rows(db, changed, &bound)?.into_iter().flatten().collect();
    let sql = format!("SELECT {list} FROM {name} WHERE {key} IN ({changed}) AND {filter}");
    Ok(Changed { columns, keys, rows: read_rows(db, &sql, &bound)? })
}

fn read_rows(db: &Connection, sql: &str, bound: &[Value]) -> rusqlite::Result<Vec<Vec<Json>>> {
    let mut query = db.prepare_cached(sql)?;
    let width = query.column_count();
    let rows = query.query_map(params_from_iter(bound), |row| {
        (0..width).map(|at| Ok(to_json(row.get_ref(at)?))).collect()
    })?;
    rows.collect()
}

fn to_json(value: ValueRef<'_>) -> Json {
    match value {
        ValueRef::Null => Json::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => json!({ "hex": hex(bytes) }),
    }
}

fn from_json(value: &Json) -> Result<Value, StorageError> {
    let wrong = || StorageError::Invalid("a value of a shared row can't be read".to_owned());
    Ok(match value {
        Json::Null => Value::Null,
        Json::String(text) => Value::Text(text.clone()),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Value::Integer(number),
            None => Value::Real(number.as_f64().ok_or_else(wrong)?),
        },
        Json::Object(_) => {
            let text = value["hex"].as_str().ok_or_else(wrong)?;
            Value::Blob(unhex(text).ok_or_else(wrong)?)
        }
        Json::Bool(_) | Json::Array(_) => return Err(wrong()),
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? * 16 + digit(*pair.get(1)?)?)).collect()
}

/// A row by its key: the key's JSON text, so that all types can be compared.
type ByKey = BTreeMap<String, Vec<Vec<Json>>>;

/// Rows by their key, in the order of their values, so that lists compare.
fn by_key(rows: Vec<Vec<Json>>) -> ByKey {
    let mut found = ByKey::new();
    for row in rows {
        let key = row.first().map(Json::to_string).unwrap_or_default();
        found.entry(key).or_default().push(row);
    }
    for rows in found.values_mut() {
        rows.sort_by_cached_key(|row| Json::from(row.clone()).to_string());
    }
    found
}

/// What a table has here and at the home, of the rows that a delta is about.
struct Sides {
    here: ByKey,
    there: ByKey,
}

impl Sides {
    fn of(
        db: &Connection,
        table: &Table,
        changed: &Changed,
        full: bool,
    ) -> Result<Self, StorageError> {
        let place = |name: &str| changed.columns.iter().position(|column| column == name);
        let places: Vec<Option<usize>> = table.columns.iter().map(|name| place(name)).collect();
        if places.first().copied().flatten().is_none() {
            let message = format!("the rows of `{}` have no `{}`", table.name, table.key);
            return Err(StorageError::Invalid(message));
        }
        let row = |row: &Vec<Json>| {
            // What another release does not know is null; a column that must not be fails.
            let value = |at: &Option<usize>| at.and_then(|at| row.get(at).cloned());
            places.iter().map(|at| value(at).unwrap_or_default()).collect()
        };
        let there = by_key(changed.rows.iter().map(row).collect());
        let list = table.columns.join(", ");
        let (name, filter, key) = (table.name, table.filter, table.key);
        let here = if full {
            let sql = format!("SELECT {list} FROM {name} WHERE {filter}");
            by_key(read_rows(db, &sql, &[])?)
        } else {
            let sql = format!("SELECT {list} FROM {name} WHERE {key} = ?1 AND {filter}");
            let mut rows = Vec::new();
            for key in &changed.keys {
                rows.extend(read_rows(db, &sql, &[from_json(key)?])?);
            }
            by_key(rows)
        };
        Ok(Self { here, there })
    }

    /// Keys of rows that are here and not there.
    fn gone(&self) -> impl Iterator<Item = &Json> {
        let gone = self.here.iter().filter(|(key, _)| !self.there.contains_key(*key));
        gone.filter_map(|(_, rows)| rows.first()?.first())
    }

    /// Rows of there that are not so here, by key.
    fn changed(&self) -> impl Iterator<Item = (&String, &Vec<Vec<Json>>)> {
        self.there.iter().filter(|(key, rows)| self.here.get(*key) != Some(*rows))
    }
}

/// Makes the rows here those of the home, whom this server follows. Rows that were changed here and
/// that nobody else has are given back, once: a server that was home before may have some.
///
/// # Errors
///
/// When another server leads now, a row can't be one, or `cert.db` can't be written.
pub(crate) fn apply(tx: &Connection, delta: &Delta) -> Result<Applied, StorageError> {
    let before = state(tx)?;
    if before.writable || before.lead != delta.of {
        return Err(StorageError::Invalid("another server leads by now".to_owned()));
    }
    if !delta.full && (before.of != delta.of || before.synced > delta.version) {
        return Err(StorageError::Invalid("the changes do not follow the rows here".to_owned()));
    }
    let mut sides = Vec::new();
    for table in TABLES {
        if let Some(changed) = delta.tables.get(table.name) {
            sides.push((table, Sides::of(tx, table, changed, delta.full)?));
        }
    }
    let mut applied = Applied::default();
    if delta.full {
        applied.lost = lost(tx, &before, &delta.epochs, &sides)?;
    }
    tx.execute("UPDATE shared_state SET writable = 1", [])?;
    for (table, sides) in sides.iter().rev() {
        remove(tx, table, sides, &mut applied)?;
    }
    for (table, sides) in &sides {
        write(tx, table, sides, &mut applied)?;
    }
    delta.epochs.iter().try_for_each(|epoch| put_epoch(tx, epoch))?;
    tx.execute("DELETE FROM shared_changes", [])?;
    tx.execute(
        "UPDATE shared_state SET writable = 0, version = ?1, floor = ?1, synced = ?1,
           epoch = ?2, home = ?3",
        params![delta.version, delta.of.epoch, delta.of.home],
    )?;
    Ok(applied)
}

fn remove(
    tx: &Connection,
    table: &Table,
    sides: &Sides,
    applied: &mut Applied,
) -> Result<(), StorageError> {
    let Table { name, key, filter, .. } = table;
    if *name == "settings" {
        // A server can't be without a key; another home may have none that it stored.
        return Ok(());
    }
    let sql = format!("DELETE FROM {name} WHERE {key} = ?1 AND {filter}");
    let mut delete = tx.prepare_cached(&sql)?;
    for key in sides.gone() {
        delete.execute([from_json(key)?])?;
        applied.tables.insert(name);
    }
    Ok(())
}

fn write(
    tx: &Connection,
    table: &Table,
    sides: &Sides,
    applied: &mut Applied,
) -> Result<(), StorageError> {
    let Table { name, key, columns, .. } = table;
    if let Some(unique) = table.unique {
        // Two rows may have exchanged their names.
        let sql = format!("UPDATE {name} SET {unique} = '~' || {key} WHERE {key} = ?1");
        let mut clear = tx.prepare_cached(&sql)?;
        for (key, rows) in sides.changed() {
            if let (true, Some(key)) = (sides.here.contains_key(key), rows[0].first()) {
                clear.execute([from_json(key)?])?;
            }
        }
    }
    let marks: Vec<String> = (1..=columns.len()).map(|at| format!("?{at}")).collect();
    let sets: Vec<String> =
        columns.iter().skip(1).map(|column| format!("{column} = excluded.{column}")).collect();
    let (list, marks) = (columns.join(", "), marks.join(", "));
    let sql = if table.is_list {
        format!("INSERT INTO {name} ({list}) VALUES ({marks})")
    } else {
        let sets = sets.join(", ");
        format!(
            "INSERT INTO {name} ({list}) VALUES ({marks}) ON CONFLICT ({key}) DO UPDATE SET {sets}"
        )
    };
    let mut insert = tx.prepare_cached(&sql)?;
    let mut delete = tx.prepare_cached(&format!("DELETE FROM {name} WHERE {key} = ?1"))?;
    for (_, rows) in sides.changed() {
        applied.tables.insert(name);
        if table.is_list
            && let Some(key) = rows[0].first()
        {
            delete.execute([from_json(key)?])?;
        }
        for row in rows {
            let values: Result<Vec<Value>, _> = row.iter().map(from_json).collect();
            insert.execute(params_from_iter(values?))?;
            if *name == "cert_domains" {
                // It may have another port: whoever checks it next begins again.
                let sql = "UPDATE cert_domains SET state = 'new' WHERE id = ?1";
                tx.execute(sql, [from_json(&row[0])?])?;
            }
            if *name == "alert_rules" {
                applied.rules.extend(row[0].as_str().map(str::to_owned));
            }
        }
    }
    Ok(())
}

/// Rows that were changed here and that nobody else has: those changed after the version from which
/// the home went on, where that is known, and else all that differ.
fn lost(
    tx: &Connection,
    before: &State,
    epochs: &[Epoch],
    sides: &[(&Table, Sides)],
) -> Result<Option<Json>, StorageError> {
    let known_to = known_to(&before.of, epochs).unwrap_or(before.synced);
    // Which rows changed after a version is known down to the floor.
    let known_to = Some(known_to).filter(|at| before.of.epoch > 0 && *at >= before.floor);
    let mut found = serde_json::Map::new();
    for (table, sides) in sides {
        let mine: Option<BTreeSet<String>> = match known_to {
            None => None,
            Some(version) => {
                let sql = "SELECT key FROM shared_changes WHERE tbl = ?1 AND version > ?2";
                let bound: [Value; 2] = [table.name.to_owned().into(), version.into()];
                let keys = read_rows(tx, sql, &bound)?;
                Some(keys.into_iter().flatten().map(|key| key.to_string()).collect())
            }
        };
        let is_mine = |key: &String| mine.as_ref().is_none_or(|mine| mine.contains(key));
        let kept = |row: &&Vec<Json>| !is_made_by_itself(table, row);
        let rows: Vec<Json> = sides
            .here
            .iter()
            .filter(|(key, rows)| is_mine(key) && sides.there.get(*key) != Some(*rows))
            .flat_map(|(_, rows)| rows)
            .filter(kept)
            .map(|row| {
                let named = table.columns.iter().map(|name| (*name).to_owned());
                Json::Object(named.zip(row.iter().cloned()).collect())
            })
            .collect();
        let removed: Vec<Json> = mine
            .iter()
            .flatten()
            .filter(|key| !sides.here.contains_key(*key) && sides.there.contains_key(*key))
            .filter_map(|key| serde_json::from_str(key).ok())
            .collect();
        if !rows.is_empty() || !removed.is_empty() {
            found.insert(table.name.to_owned(), json!({ "rows": rows, "removed": removed }));
        }
    }
    Ok(Some(found).filter(|found| !found.is_empty()).map(Json::Object))
}

/// Whether nobody misses a row: each server makes it at its first start, or it ends by itself.
fn is_made_by_itself(table: &Table, row: &[Json]) -> bool {
    let value = |name: &str| {
        let at = table.columns.iter().position(|column| *column == name);
        at.and_then(|at| row.get(at)).cloned().unwrap_or_default()
    };
    match table.name {
        "settings" | "ended_logins" | "enroll_codes" => true,
        "users" => value("must_change") == 1 && value("token_epoch") == 0,
        _ => false,
    }
}
