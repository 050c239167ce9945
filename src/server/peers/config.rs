//! The configuration on its way from the home: what it gives to whoever asks.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::base::limits::PEERS_WAIT_SECS_MAX;
use crate::server::control::shared::{self, Delta, Rank};
use crate::server::peers::Peers;
use crate::server::peers::lead::Role;
use crate::server::storage::StorageError;

/// The path.
pub(crate) const PATH: &str = "/v1/peers/config";
/// How often a request that waits looks for a change, whichever program made it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a server has, and asks with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// Its name.
    pub(crate) name: String,
    /// Whose rows it has.
    pub(crate) of: Rank,
    /// Their version.
    pub(crate) version: i64,
    /// The process that gave them.
    pub(crate) run: String,
    /// Seconds to wait for a change.
    pub(crate) wait_secs: u64,
}

impl Asked {
    /// Path and query of the request. Names of servers need no escape.
    pub(super) fn target(&self) -> String {
        let Self { name, of, version, run, wait_secs } = self;
        format!(
            "{PATH}?name={name}&epoch={}&home={}&version={version}&run={run}&wait_secs={wait_secs}",
            of.epoch, of.home
        )
    }
}

/// What the home gives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Given {
    /// Who is home, as far as the server knows that gives this.
    pub(crate) lead: Rank,
    /// Its process: what another one gave is compared as a whole, since its database may have been
    /// put back from a backup meanwhile.
    pub(crate) run: String,
    /// What is new; `None` where nothing is, or this server is not home.
    pub(crate) delta: Option<Delta>,
}

impl Peers {
    /// What a server that follows lacks. Waits for a change where it lacks nothing.
    ///
    /// # Errors
    ///
    /// When `cert.db` can't be read.
    pub(crate) fn give(
        &self,
        asked: &Asked,
        is_gone: &dyn Fn() -> bool,
    ) -> Result<Given, StorageError> {
        let wait = Duration::from_secs(asked.wait_secs.min(PEERS_WAIT_SECS_MAX));
        let deadline = Instant::now() + wait;
        loop {
            let nothing =
                || Given { lead: self.lead.state().lead, run: self.run.clone(), delta: None };
            if self.lead.role() != Role::Home {
                return Ok(nothing());
            }
            let now =
                self.control.read(|db| -> Result<_, StorageError> { Ok(shared::state(db)?) })?;
            let is_same = asked.of == now.of && asked.run == self.run;
            if !is_same || asked.version != now.version {
                let since = is_same.then_some(asked.version);
                let delta = self.control.read(|db| shared::changes(db, since))?;
                self.metrics.given(delta.full);
                return Ok(Given { delta: Some(delta), ..nothing() });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || is_gone() || self.stop.wait(LOOK_EVERY.min(left)) {
                return Ok(nothing());
            }
        }
    }
}
