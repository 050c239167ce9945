//! Rows of what people say of hosts: a name to show, a note, tags; and which hosts a pattern of a
//! rule or a silence takes by tag.

use std::collections::{BTreeMap, BTreeSet};

use globset::GlobMatcher;
use parking_lot::RwLock;
use rusqlite::{Connection, Transaction, params};

use crate::server::control::Control;
use crate::server::storage::StorageError;

/// The schema's step.
pub(crate) const SCHEMA: &str = "
CREATE TABLE host_profiles (
  agent_id TEXT PRIMARY KEY,
  display_name TEXT NOT NULL,
  note TEXT NOT NULL,
  tags TEXT NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// What a pattern by tag starts with: `tag:web`.
const TAG_PREFIX: &str = "tag:";

/// Hosts by tag, as the table has them.
static TAGGED: RwLock<BTreeMap<String, BTreeSet<String>>> = RwLock::new(BTreeMap::new());

/// What people say of a host; empty texts where they say nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProfileRow {
    /// The host.
    pub(crate) agent_id: String,
    /// What it is called in lists.
    pub(crate) display_name: String,
    /// A note for people.
    pub(crate) note: String,
    /// Its tags, in order.
    pub(crate) tags: BTreeSet<String>,
    /// When it was last changed, Unix seconds.
    pub(crate) updated_at: i64,
}

/// Every profile, by host.
pub(crate) fn all(db: &Connection) -> rusqlite::Result<BTreeMap<String, ProfileRow>> {
    let mut query = db.prepare_cached(
        "SELECT agent_id, display_name, note, tags, updated_at FROM host_profiles",
    )?;
    let rows = query.query_map([], |row| {
        let tags: String = row.get(3)?;
        Ok(ProfileRow {
            agent_id: row.get(0)?,
            display_name: row.get(1)?,
            note: row.get(2)?,
            tags: tags.split(' ').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
            updated_at: row.get(4)?,
        })
    })?;
    rows.map(|row| row.map(|row| (row.agent_id.clone(), row))).collect()
}

/// Writes a profile.
pub(crate) fn put(tx: &Transaction<'_>, row: &ProfileRow) -> rusqlite::Result<()> {
    let tags: Vec<&str> = row.tags.iter().map(String::as_str).collect();
    tx.execute(
        "INSERT OR REPLACE INTO host_profiles (agent_id, display_name, note, tags, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![row.agent_id, row.display_name, row.note, tags.join(" "), row.updated_at],
    )?;
    Ok(())
}

/// Removes the profile of a host, where there is one.
pub(crate) fn remove(tx: &Transaction<'_>, agent_id: &str) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM host_profiles WHERE agent_id = ?1", [agent_id])?;
    Ok(())
}

/// Reads which hosts have which tags; patterns that are built from then on take them so.
///
/// # Errors
///
/// When `cert.db` can't be read.
pub(crate) fn load_tags(control: &Control) -> Result<(), StorageError> {
    let rows = control.read(|db| -> Result<_, StorageError> { Ok(all(db)?) })?;
    let mut tagged: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows.into_values() {
        for tag in row.tags {
            tagged.entry(tag).or_default().insert(row.agent_id.clone());
        }
    }
    *TAGGED.write() = tagged;
    Ok(())
}

/// Which hosts a pattern takes: those that fit a glob, or those that had a tag when it was built.
#[derive(Debug, Clone)]
pub(crate) enum AgentPattern {
    /// A glob over agent ids.
    Glob(GlobMatcher),
    /// The hosts with a tag.
    Tagged(BTreeSet<String>),
}

impl AgentPattern {
    /// Whether a pattern is by tag.
    pub(crate) fn is_by_tag(pattern: &str) -> bool {
        pattern.starts_with(TAG_PREFIX)
    }

    /// The hosts of a pattern by tag; `None` for a glob.
    pub(crate) fn by_tag(pattern: &str) -> Option<Self> {
        let tag = pattern.strip_prefix(TAG_PREFIX)?;
        Some(Self::Tagged(TAGGED.read().get(tag).cloned().unwrap_or_default()))
    }

    /// Whether it takes this host.
    pub(crate) fn is_match(&self, agent: &str) -> bool {
        match self {
            Self::Glob(glob) => glob.is_match(agent),
            Self::Tagged(agents) => agents.contains(agent),
        }
    }

    /// Whether it takes the same hosts as another pattern of the same text.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tagged(one), Self::Tagged(two)) => one == two,
            (Self::Glob(_), Self::Glob(_)) => true,
            _ => false,
        }
    }
}
