//! Agents that may report, and their tokens. `cert.db` holds the hashes; what is in force stands in
//! memory, published after each commit, so that no report waits for the database.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use crate::base::clock::{Clock, DAY_MS, MINUTE_MS};
use crate::base::ids::{new_id, random_hex};
use crate::base::limits::{AUDIT_DAYS_MAX, TEXT_BYTES_MAX};
use crate::model::agent_id::check_agent_id;
use crate::server::control::Control;
use crate::server::control::audit::{self, AuditRow};
use crate::server::control::whitelist::{self as table, TokenHash, WhitelistRow};
use crate::server::storage::{Listing, Page, StorageError};

/// How long an enrolment code can be used.
pub(crate) const CODE_LIFE_MS: i64 = 10 * MINUTE_MS;
/// Random bytes of a token and of a code.
const SECRET_BYTES: usize = 32;

/// Why the whitelist did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum WhitelistError {
    /// Nothing has this id or agent id.
    #[error("no agent `{0}` is on the whitelist")]
    NotFound(String),
    /// The agent is on the list already.
    #[error("the agent `{0}` is on the whitelist already")]
    Exists(String),
    /// An id or a description that can't be taken.
    #[error("{0}")]
    Invalid(String),
    /// A code that is unknown, used, expired or for another agent. The caller does not learn which.
    #[error("the code is not valid for this agent: codes work once, for ten minutes")]
    BadCode,
    /// A code for any agent, and the agent is on the list.
    #[error(
        "the agent `{0}` is on the whitelist already, and this code only adds new agents: make a \
         code with this agent_id to replace its token"
    )]
    Bound(String),
    /// The server that is home does not answer.
    #[error("{0}")]
    Away(String),
    /// The database said no.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<rusqlite::Error> for WhitelistError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// What is in force.
struct Published {
    /// Goes up with each change, so that of two changes the later one stays.
    version: u64,
    hashes: HashMap<Box<str>, TokenHash>,
}

/// The whitelist as it is in force.
pub struct Whitelist {
    control: Control,
    clock: Arc<dyn Clock>,
    published: RwLock<Published>,
    /// Taken inside write transactions, which run one after the other.
    versions: Arc<AtomicU64>,
}

impl Whitelist {
    /// Reads the list.
    pub fn open(control: Control, clock: Arc<dyn Clock>) -> Result<Self, StorageError> {
        let hashes = control.read(table::hashes)?;
        let published = RwLock::new(Published { version: 0, hashes });
        Ok(Self { control, clock, published, versions: Arc::new(AtomicU64::new(0)) })
    }

    /// Agents on the list, newest first.
    pub fn list(&self, page: Page) -> Result<Listing<WhitelistRow>, WhitelistError> {
        self.control.read(|db| Ok(table::list(db, page)?))
    }

    /// The agent with this row id or agent id.
    ///
    /// # Errors
    ///
    /// `NotFound`, or when `cert.db` can't be read.
    pub fn get(&self, id: &str) -> Result<WhitelistRow, WhitelistError> {
        self.control.read(|db| find(db, id))
    }

    /// Puts an agent on the list; gives its row and its token, which is nowhere else.
    ///
    /// # Errors
    ///
    /// `Invalid`, `Exists`, or what the database said.
    pub fn create(
        &self,
        agent_id: &str,
        description: Option<&str>,
    ) -> Result<(WhitelistRow, String), WhitelistError> {
        check_agent_id(agent_id).map_err(WhitelistError::Invalid)?;
        check_description(description)?;
        let (agent, description) = (agent_id.to_owned(), description.map(str::to_owned));
        let token = random_hex(SECRET_BYTES);
        let hash = hash(&token);
        let row = self.change(move |tx, now_ms| {
            let id = new_id();
            if !table::insert(tx, &id, &agent, description.as_deref(), &hash, now_ms)? {
                return Err(WhitelistError::Exists(agent));
            }
            find(tx, &id)
        })?;
        Ok((row, token))
    }

    /// Changes the description of the agent with this row id or agent id.
    ///
    /// # Errors
    ///
    /// `Invalid`, `NotFound`, or what the database said.
    pub fn set_description(
        &self,
        id: &str,
        description: Option<&str>,
    ) -> Result<WhitelistRow, WhitelistError> {
        check_description(description)?;
        let (id, description) = (id.to_owned(), description.map(str::to_owned));
        self.change(move |tx, now_ms| {
            let row = find(tx, &id)?;
            table::set_description(tx, &row.id, description.as_deref(), now_ms)?;
            find(tx, &row.id)
        })
    }

    /// Gives the agent with this row id or agent id a new token; the old one no longer works when
    /// this returns. Gives the agent's id and the token.
    ///
    /// # Errors
    ///
    /// `NotFound`, or what the database said.
    pub fn regenerate(&self, id: &str) -> Result<(String, String), WhitelistError> {
        let id = id.to_owned();
        let token = random_hex(SECRET_BYTES);
        let hash = hash(&token);
        let agent_id = self.change(move |tx, now_ms| {
            let row = find(tx, &id)?;
            table::set_hash(tx, &row.id, &hash, now_ms)?;
            Ok(row.agent_id)
        })?;
        Ok((agent_id, token))
    }

    /// Takes the agent with this row id or agent id off the list; its token no longer works when
    /// this returns.
    ///
    /// # Errors
    ///
    /// `NotFound`, or what the database said.
    pub fn delete(&self, id: &str) -> Result<(), WhitelistError> {
        let id = id.to_owned();
        self.change(move |tx, _| {
            let row = find(tx, &id)?;
            Ok(table::delete(tx, &row.id)?)
        })
    }

    /// Makes a code by which one agent may fetch its token, once, within [`CODE_LIFE_MS`]; with
    /// `agent_id` only the agent of that name. Gives the code and when it ends, Unix milliseconds.
    ///
    /// # Errors
    ///
    /// `Invalid`, or what the database said.
    pub fn create_code(
        &self,
        agent_id: Option<&str>,
        created_by: &str,
    ) -> Result<(String, i64), WhitelistError> {
        if let Some(agent_id) = agent_id {
            check_agent_id(agent_id).map_err(WhitelistError::Invalid)?;
        }
        let (agent, by) = (agent_id.map(str::to_owned), created_by.to_owned());
        let code = random_hex(SECRET_BYTES);
        let hash = hash(&code);
        let now_ms = self.clock.now_ms();
        // The row holds whole seconds, and so does what the caller gets.
        let expires_ms = (now_ms + CODE_LIFE_MS) / 1_000 * 1_000;
        self.control.write(move |tx| -> Result<(), WhitelistError> {
            table::drop_old_codes(tx, now_ms)?;
            Ok(table::insert_code(tx, &hash, agent.as_deref(), &by, now_ms, expires_ms)?)
        })?;
        Ok((code, expires_ms))
    }

    /// Exchanges a code for a token of `agent_id`, which is put on the list where it is not on it;
    /// an earlier token of the agent no longer works when this returns. A code for any agent makes
    /// new ones alone: it takes over none that is on the list. The audit log has who used it, from
    /// which address where that is known.
    ///
    /// # Errors
    ///
    /// `Invalid`, `BadCode`, `Bound`, or what the database said.
    pub fn redeem(
        &self,
        code: &str,
        agent_id: &str,
        address: Option<IpAddr>,
    ) -> Result<String, WhitelistError> {
        check_agent_id(agent_id).map_err(WhitelistError::Invalid)?;
        let agent = agent_id.to_owned();
        let code_hash = hash(code);
        let token = random_hex(SECRET_BYTES);
        let token_hash = hash(&token);
        self.change(move |tx, now_ms| {
            // Where this fails the transaction rolls back, so that the code stays good.
            let code = table::take_code(tx, &code_hash, now_ms)?.ok_or(WhitelistError::BadCode)?;
            if code.agent_id.as_ref().is_some_and(|wanted| *wanted != agent) {
                return Err(WhitelistError::BadCode);
            }
            match table::of_agent(tx, &agent)? {
                Some(_) if code.agent_id.is_none() => return Err(WhitelistError::Bound(agent)),
                Some(row) => table::set_hash(tx, &row.id, &token_hash, now_ms)?,
                None => {
                    table::insert(tx, &new_id(), &agent, None, &token_hash, now_ms)?;
                }
            }
            let entry = redeemed(code.created_by, agent, address, now_ms);
            Ok(audit::insert(tx, &entry, now_ms.saturating_sub(AUDIT_DAYS_MAX * DAY_MS))?)
        })?;
        Ok(token)
    }

    /// Whether `token` is the agent's. Takes the same time whatever the token is.
    pub fn allows(&self, agent_id: &str, token: &str) -> bool {
        self.allows_hash(agent_id, &hash(token))
    }

    /// As [`Self::allows`], for a token whose hash was kept: a long stream asks at each message, so
    /// that a token that is cut off ends it.
    pub fn allows_hash(&self, agent_id: &str, token_hash: &TokenHash) -> bool {
        let published = self.published.read();
        match published.hashes.get(agent_id) {
            Some(stored) => stored.ct_eq(token_hash).into(),
            None => false,
        }
    }

    /// Agents on the list that are not among `known`, sorted.
    pub fn agent_ids_without(&self, known: &HashSet<&str>) -> Vec<String> {
        let published = self.published.read();
        let others = published.hashes.keys().filter(|agent| !known.contains(&***agent));
        let mut others: Vec<String> = others.map(|agent| agent.to_string()).collect();
        others.sort_unstable();
        others
    }

    /// How many agents are on the list.
    pub fn len(&self) -> usize {
        self.published.read().hashes.len()
    }

    /// Whether nobody is on the list.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Publishes the list as it is stored now, by whoever it was written.
    ///
    /// # Errors
    ///
    /// When `cert.db` can't be read.
    pub(crate) fn read_again(&self) -> Result<(), WhitelistError> {
        self.change(|_, _| Ok(()))
    }

    /// Runs `body` in a transaction, then publishes the list as that transaction left it.
    fn change<T, F>(&self, body: F) -> Result<T, WhitelistError>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Transaction<'_>, i64) -> Result<T, WhitelistError> + Send + 'static,
    {
        let now_ms = self.clock.now_ms();
        let versions = Arc::clone(&self.versions);
        let (value, next) = self.control.write(move |tx| -> Result<_, WhitelistError> {
            let value = body(tx, now_ms)?;
            let hashes = table::hashes(tx)?;
            let version = versions.fetch_add(1, Ordering::SeqCst) + 1;
            Ok((value, Published { version, hashes }))
        })?;
        let mut published = self.published.write();
        if next.version > published.version {
            *published = next;
        }
        Ok(value)
    }
}

/// The audit log's entry of a code that was used: the user who made it, the agent, and where from.
fn redeemed(made_by: String, agent_id: String, from: Option<IpAddr>, now_ms: i64) -> AuditRow {
    AuditRow {
        id: new_id(),
        at_ms: now_ms,
        username: made_by,
        address: from.map_or_else(|| "gRPC".to_owned(), |from| from.to_string()),
        action: "gRPC Enroll".to_owned(),
        target: agent_id,
        outcome: 200,
        trace_id: new_id(),
    }
}

/// The hash of a token's or a code's text.
pub(crate) fn hash(secret: &str) -> TokenHash {
    Sha256::digest(secret.as_bytes()).into()
}

fn find(db: &rusqlite::Connection, id: &str) -> Result<WhitelistRow, WhitelistError> {
    table::get(db, id)?.ok_or_else(|| WhitelistError::NotFound(id.chars().take(64).collect()))
}

fn check_description(description: Option<&str>) -> Result<(), WhitelistError> {
    let bytes = description.map_or(0, str::len);
    if bytes > TEXT_BYTES_MAX {
        let message = format!("description must have {TEXT_BYTES_MAX} bytes at most, has {bytes}");
        return Err(WhitelistError::Invalid(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
